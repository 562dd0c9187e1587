//! The experiment from start to end: start, ask, count, claim.

mod limits;
mod shares;
mod sharing;

use std::net::{Ipv4Addr, SocketAddr};

use shared::cli::LiveEnvironment;
use shared::lifecycle::Lifecycle;
use shared::ports;
use shared::report::Recorder;

use crate::instance::Instance;

/// Two servers that stay up.
pub(crate) struct Up {
    address: SocketAddr,
    _servers: [Instance; 2],
}

impl LiveEnvironment for Up {
    fn instructions(&self) -> String {
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
pub(crate) async fn tell(stay: bool, story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Up> {
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
