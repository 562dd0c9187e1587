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
pub(crate) struct RunningServers {
    address: SocketAddr,
    _servers: [Instance; 2],
}

impl LiveEnvironment for RunningServers {
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
pub(crate) async fn run(
    stay: bool,
    recorder: &mut Recorder,
    life: &Lifecycle,
) -> anyhow::Result<RunningServers> {
    let port = if stay { ports::REUSEPORT } else { 0 };
    let first = Instance::start("foo", (Ipv4Addr::LOCALHOST, port).into(), life).await?;
    let address = first.address;
    let second = sharing::two_servers(address, recorder, life).await?;
    limits::without_reuseport(address, recorder).await?;
    sharing::persistent_connections(address, recorder).await?;
    sharing::third_server(address, recorder, life).await?;
    limits::killed_process(recorder, life).await?;
    limits::other_user(address, recorder).await?;
    sharing::listener_per_task(recorder, life).await?;
    Ok(RunningServers { address, _servers: [first, second] })
}
