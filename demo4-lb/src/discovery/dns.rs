//! Every address of a name, looked up again and again.

use std::net::SocketAddr;

use tokio::net::lookup_host;

use super::found::{Found, LOOK_EVERY};

pub(super) async fn follow<E>(host: &str, port: u16, mut found: impl FnMut(Vec<Found>)) -> Result<(), E> {
    let mut known = Vec::new();
    let mut complaint = String::new();
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        match lookup_host((host, port)).await {
            Ok(addresses) => {
                complaint.clear();
                let mut now: Vec<SocketAddr> = addresses.collect();
                now.sort_unstable();
                now.dedup();
                if !now.is_empty() && now != known {
                    known.clone_from(&now);
                    found(now.into_iter().map(Found::from).collect());
                }
            }
            Err(error) => {
                // Told once, and not twice a second.
                let told = error.to_string();
                if told != complaint {
                    tracing::warn!(%error, %host, "the name was not found; keeping what is known");
                    complaint = told;
                }
            }
        }
    }
}
