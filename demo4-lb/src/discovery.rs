//! Where the backends are: told once, or looked up again and again.
//!
//! Knows how to find addresses. Does not know what is done with them.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio::net::lookup_host;

/// How often a name is looked up. Docker's own DNS follows its containers at once.
const LOOKUP_EVERY: Duration = Duration::from_secs(1);

/// A source of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// These, for good.
    Static(Vec<SocketAddr>),
    /// Every address that a name has, followed as it changes.
    Dns {
        /// The name, such as a compose service.
        host: String,
        /// The port of each backend.
        port: u16,
    },
}

/// Text that names no source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no endpoints: write static:IP:PORT,IP:PORT or dns:NAME:PORT")]
pub struct NoEndpoints(String);

impl FromStr for Endpoints {
    type Err = NoEndpoints;

    fn from_str(text: &str) -> Result<Self, NoEndpoints> {
        let refuse = || NoEndpoints(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(refuse)?;
        match kind {
            "static" => {
                let addresses = rest.split(',').map(|address| address.trim().parse().map_err(|_| refuse()));
                Ok(Self::Static(addresses.collect::<Result<_, _>>()?))
            }
            "dns" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(refuse)?;
                let port = port.parse().map_err(|_| refuse())?;
                if host.is_empty() || port == 0 {
                    return Err(refuse());
                }
                Ok(Self::Dns { host: host.to_owned(), port })
            }
            _ => Err(refuse()),
        }
    }
}

impl Endpoints {
    /// Calls `found` with all addresses now and whenever they change, sorted; for a static source once.
    ///
    /// A look-up that fails or finds nothing changes nothing: it is no proof that every backend is gone,
    /// and endpoints that do answer are worth more than an empty list.
    pub async fn follow(self, mut found: impl FnMut(Vec<SocketAddr>)) {
        match self {
            Self::Static(addresses) => {
                found(addresses);
                std::future::pending::<()>().await;
            }
            Self::Dns { host, port } => {
                let mut known = Vec::new();
                let mut every = tokio::time::interval(LOOKUP_EVERY);
                loop {
                    every.tick().await;
                    match lookup_host((host.as_str(), port)).await {
                        Ok(addresses) => {
                            let mut now: Vec<SocketAddr> = addresses.collect();
                            now.sort_unstable();
                            now.dedup();
                            if !now.is_empty() && now != known {
                                known.clone_from(&now);
                                found(now);
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%error, %host, "the name was not found; keeping what is known");
                        }
                    }
                }
            }
        }
    }
}
