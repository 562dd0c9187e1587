//! The experiment from start to end: start, ask, count, claim.

mod limits;
mod sharing;

use std::net::{Ipv4Addr, SocketAddr};

use shared::cli::Stays;
use shared::lifecycle::Lifecycle;
use shared::ports;
use shared::report::Story;
use shared::reuseport::{SPREADS, ask};
use shared::stats::Shares;

use crate::instance::Instance;

/// Fresh connections, as in the experiment that this one repeats.
const REQUESTS: u64 = 300;

/// Why shares are not checked on this system.
const ALL_TO_ONE: &str =
    "this system gives all connections of a shared port to one process: macOS to the last one that came";

/// Two servers that stay up.
pub(crate) struct Up {
    address: SocketAddr,
    _servers: [Instance; 2],
}

impl Stays for Up {
    fn invitation(&self) -> String {
        let (address, port) = (self.address, self.address.port());
        format!(
            "foo and bar listen on {address}. Try\n  \
             for i in $(seq 300); do curl -s http://{address}/; done | sort | uniq -c\n  \
             ss -ltnp 'sport = :{port}'\n  \
             cargo run -p shared --bin reuseport -- serve --instance baz --port {port}\n\
             Ctrl-C ends it."
        )
    }
}

/// Tells the story.
pub(crate) async fn tell(stay: bool, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Up> {
    let port = if stay { ports::REUSEPORT } else { 0 };
    let first = Instance::start("foo", (Ipv4Addr::LOCALHOST, port).into(), life).await?;
    let address = first.address;
    let second = sharing::two(address, story, life).await?;
    limits::without(address, story).await?;
    sharing::kept(address, story).await?;
    sharing::joins(address, story, life).await?;
    limits::dies(story, life).await?;
    limits::stranger(address, story).await?;
    sharing::listeners(story, life).await?;
    Ok(Up { address, _servers: [first, second] })
}

/// Asks on so many fresh connections.
async fn shares(address: SocketAddr) -> anyhow::Result<Shares> {
    let mut shares = Shares::default();
    for _ in 0..REQUESTS {
        shares.count(&ask(address).await?);
    }
    Ok(shares)
}

/// Claims that these share evenly, where the system spreads connections.
fn claim_even(story: &mut Story, id: &str, claim: &str, names: &[&str], shares: &Shares) {
    let fit = shares.fit_evenly(names.iter().copied());
    let expected = format!("1/{} each, chi² up to {:.2}", names.len(), fit.bound);
    if SPREADS {
        story.claim(id, claim, expected, format!("{shares}; chi² {:.2}", fit.statistic), fit.holds());
    } else {
        story.not_checked(id, claim, expected, format!("{ALL_TO_ONE}; seen: {shares}"));
    }
}
