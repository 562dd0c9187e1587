//! The role: one server of several.

use std::io;
use std::net::{IpAddr, SocketAddr};

use shared::cli::SetupError;
use shared::lifecycle::Lifecycle;
use shared::report::line_out;
use shared::reuseport::{self, Sharing};

/// How many fresh connections a health check opens before it says that this instance gets none: with
/// three servers all of them miss one that is well once in 10^17 checks.
const MAX_ATTEMPTS: u32 = 100;

/// Who answers where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerAddress {
    /// The name to answer with
    #[arg(long, env = "INSTANCE", value_name = "NAME")]
    instance: String,
    /// The address to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_name = "IP")]
    host: IpAddr,
    /// The port to listen on; 0 takes any free one
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerAddress,
    /// Do not set SO_REUSEPORT
    #[arg(long)]
    no_reuseport: bool,
    /// Become this user first, which takes root (Linux)
    #[arg(long, value_name = "UID")]
    user: Option<u32>,
}

impl ServerAddress {
    fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }
}

impl Args {
    /// Gives up being who started us, if told to.
    pub(crate) fn become_user(&self) -> io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        #[cfg(target_os = "linux")]
        {
            use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};
            // The other way round there would be no right left to do the second.
            set_thread_groups(&[])?;
            set_thread_gid(Gid::from_raw(user))?;
            set_thread_uid(Uid::from_raw(user))?;
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::Error::other(format!("--user {user} is for Linux")))
    }
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    let sharing = if args.no_reuseport { Sharing::Exclusive } else { Sharing::Shared };
    let listener = reuseport::listen(args.server.address(), sharing).map_err(SetupError::new)?;
    let address = listener.local_addr()?;
    reuseport::serve(listener, &args.server.instance, life);
    line_out(&format!("{} listens on {address}", args.server.instance));
    life.token().cancelled().await;
    Ok(())
}

/// Asks until this instance has answered; another one may, since the port is theirs too.
pub(crate) async fn healthcheck(server: &ServerAddress) -> anyhow::Result<()> {
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    for _ in 0..MAX_ATTEMPTS {
        if reuseport::request_instance(address).await? == server.instance {
            return Ok(());
        }
    }
    anyhow::bail!("{} did not answer on {address} in {MAX_ATTEMPTS} tries", server.instance)
}
