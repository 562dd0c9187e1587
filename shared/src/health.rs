//! Asking a role of ours whether it serves: what a container's health check runs, without a curl.
//!
//! The role's own binary asks its own gRPC health service (`grpc.health.v1`), or a page of it, over loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::Unready;
use crate::client::{Client, root_cause};

/// How long the answer may take; a container engine starts the next check some seconds later.
const LIMIT: Duration = Duration::from_secs(2);

/// Why a role does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// Port 0 means any free port, and the one that was taken is not known here.
    #[error("port 0 cannot be asked: give --listen (or LISTEN) the port that the server listens on")]
    NoPort,
    /// Nothing answers there, or not in time.
    #[error("{address} does not answer: {why}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// What was seen instead of an answer.
        why: String,
    },
    /// It answers, and says that it does not serve (it is starting, or draining).
    #[error("{address} answers {status}")]
    NotServing {
        /// Who was asked.
        address: SocketAddr,
        /// What it said.
        status: &'static str,
    },
}

/// Asks the server that was started with `--listen listen` whether it serves.
///
/// # Errors
/// [`Unhealthy`] if it does not, or does not say so within 2 s.
pub async fn ask(listen: SocketAddr) -> Result<(), Unhealthy> {
    let address = reachable(listen);
    if address.port() == 0 {
        return Err(Unhealthy::NoPort);
    }
    let silent = |why: String| Unhealthy::Silent { address, why };
    let asking = async {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|e| silent(e.to_string()))?;
        let channel = endpoint.connect().await.map_err(|e| silent(root_cause(&e)))?;
        let mut health = HealthClient::new(channel);
        let answer = health.check(HealthCheckRequest::default()).await;
        answer.map_err(|status| silent(status.message().to_owned()))
    };
    let answer = tokio::time::timeout(LIMIT, asking)
        .await
        .map_err(|_| silent(format!("nothing came within {LIMIT:?}")))??;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(Unhealthy::NotServing { address, status: other.as_str_name() }),
    }
}

/// What a gRPC role's `healthcheck` does: [`ask`], where a port that cannot be asked is wrong usage.
///
/// # Errors
/// [`Unhealthy`], or [`Unready`] around [`Unhealthy::NoPort`].
pub async fn check(listen: SocketAddr) -> anyhow::Result<()> {
    match ask(listen).await {
        Err(wrong_use @ Unhealthy::NoPort) => Err(Unready::new(wrong_use).into()),
        answer => Ok(answer?),
    }
}

/// The same for a role that speaks HTTP: it serves if `GET path` is answered with success.
///
/// # Errors
/// As [`check`].
pub async fn check_http(listen: SocketAddr, path: &str) -> anyhow::Result<()> {
    let address = reachable(listen);
    if address.port() == 0 {
        return Err(Unready::new(Unhealthy::NoPort).into());
    }
    let response = Client::new(LIMIT).get(format!("http://{address}{path}").parse()?).await;
    let status = response.map_err(|error| Unhealthy::Silent { address, why: error.why() })?.status();
    anyhow::ensure!(status.is_success(), "{address} answers {status}");
    Ok(())
}

/// Where to ask: a server on all addresses is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
