//! The role: one server of several.

use std::io;
use std::net::{IpAddr, SocketAddr};

use shared::cli::SetupError;
use shared::lifecycle::Lifecycle;
use shared::report::line_out;
use shared::reuseport::{self, Sharing};

/// How many fresh connections a health check opens before it says that this instance gets none: with
/// three servers all of them miss one that is well once in 10^17 checks.
const TRIES: u32 = 100;

/// Who answers where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
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
    place: Place,
    /// Do not set SO_REUSEPORT
    #[arg(long)]
    alone: bool,
    /// Become this user first, which takes root (Linux)
    #[arg(long, value_name = "UID")]
    user: Option<u32>,
}

impl Place {
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
    let sharing = if args.alone { Sharing::Exclusive } else { Sharing::Shared };
    let listener = reuseport::listen(args.place.address(), sharing).map_err(SetupError::new)?;
    let address = listener.local_addr()?;
    reuseport::serve(listener, &args.place.instance, life);
    line_out(&format!("{} listens on {address}", args.place.instance));
    life.token().cancelled().await;
    Ok(())
}

/// Asks until this instance has answered; another one may, since the port is theirs too.
pub(crate) async fn healthcheck(place: &Place) -> anyhow::Result<()> {
    let mut address = place.address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    for _ in 0..TRIES {
        if reuseport::request_instance(address).await? == place.instance {
            return Ok(());
        }
    }
    anyhow::bail!("{} did not answer on {address} in {TRIES} tries", place.instance)
}
