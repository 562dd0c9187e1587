//! The rules of the labels: which container is a backend, and at which address. Pure: no engine here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::discovery::discovered::{DiscoveredEndpoint, MAX_WEIGHT};
use crate::topology::{Endpoint, REGION};

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name, for the log.
    pub name: String,
    /// Whether it runs and is not paused.
    pub running: bool,
    /// Whether its health check passes, or it has none.
    pub healthy: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address on each network.
    pub networks: BTreeMap<String, IpAddr>,
    /// Its published TCP ports: inside, outside.
    pub published: BTreeMap<u16, u16>,
}

/// How containers are reached from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Over these networks, because our own container is on them.
    Networks(BTreeSet<String>),
    /// Over ports that are published on this machine.
    Published,
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Networks(names) => {
                write!(f, "networks {}", names.iter().cloned().collect::<Vec<_>>().join(", "))
            }
            Self::Published => f.write_str("published ports"),
        }
    }
}

/// Why a container is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// It has no label `mesh.service`.
    #[error("container {name} has no label mesh.service")]
    NoLabel {
        /// The container.
        name: String,
    },
    /// It belongs to another service.
    #[error("container {name} is of service '{service}'")]
    OtherService {
        /// The container.
        name: String,
        /// Its service.
        service: String,
    },
    /// A label is missing or invalid. No value is guessed.
    #[error("container {name}: label {label} {problem}")]
    InvalidLabel {
        /// The container.
        name: String,
        /// The label.
        label: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// It is not up, or not well yet.
    #[error("container {name} is not up and healthy")]
    NotServing {
        /// The container.
        name: String,
    },
    /// There is no way to it from here.
    #[error("container {name} cannot be reached: {problem}")]
    NoAddress {
        /// The container.
        name: String,
        /// What is missing.
        problem: String,
    },
}

impl Container {
    /// The backend of `service` that this container is.
    ///
    /// # Errors
    /// [`NotAnEndpoint`] if it is none, or not one that can be called.
    pub fn endpoint(
        &self,
        service: &str,
        reachability: &Reachability,
    ) -> Result<DiscoveredEndpoint, NotAnEndpoint> {
        let name = self.name.clone();
        let Some(label) = self.labels.get("mesh.service") else {
            return Err(NotAnEndpoint::NoLabel { name });
        };
        if label != service {
            return Err(NotAnEndpoint::OtherService { name, service: label.clone() });
        }
        let port: u16 = self.number("mesh.port", None, u16::MAX)?;
        let weight: u32 = self.number("mesh.weight", Some(1), MAX_WEIGHT)?;
        let region = match self.labels.get("mesh.locality").map(String::as_str) {
            Some("") => return Err(self.invalid_label("mesh.locality", "is empty".to_owned())),
            Some(region) => region.to_owned(),
            None => REGION.to_owned(),
        };
        if !self.running || !self.healthy {
            return Err(NotAnEndpoint::NotServing { name });
        }
        let address = self.address(port, reachability)?;
        Ok(DiscoveredEndpoint { region, endpoint: Endpoint { address, weight, healthy: true } })
    }

    /// A label that is a number from 1.
    fn number<N>(&self, label: &'static str, default: Option<N>, max: N) -> Result<N, NotAnEndpoint>
    where
        N: Copy + std::str::FromStr + PartialOrd + From<u8> + fmt::Display,
    {
        match (self.labels.get(label), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.invalid_label(label, "is missing".to_owned())),
            (Some(text), _) => {
                match text.parse() {
                    Ok(number) if number >= N::from(1) && number <= max => Ok(number),
                    _ => Err(self
                        .invalid_label(label, format!("is '{text}', and must be a number from 1 to {max}"))),
                }
            }
        }
    }

    fn invalid_label(&self, label: &'static str, problem: String) -> NotAnEndpoint {
        NotAnEndpoint::InvalidLabel { name: self.name.clone(), label, problem }
    }

    fn address(&self, port: u16, reachability: &Reachability) -> Result<SocketAddr, NotAnEndpoint> {
        let no_address = |problem: String| NotAnEndpoint::NoAddress { name: self.name.clone(), problem };
        match reachability {
            // By the networks' order, so that every look finds the same one.
            Reachability::Networks(our_networks) => {
                let shared = self.networks.iter().find(|(network, _)| our_networks.contains(*network));
                let (_, ip) = shared.ok_or_else(|| {
                    let names: Vec<&str> = self.networks.keys().map(String::as_str).collect();
                    no_address(format!("it is on {}, we are on {reachability}", names.join(", ")))
                })?;
                Ok(SocketAddr::new(*ip, port))
            }
            Reachability::Published => {
                let host_port = self.published.get(&port);
                let host_port =
                    host_port.ok_or_else(|| no_address(format!("its port {port} is not published")))?;
                Ok((Ipv4Addr::LOCALHOST, *host_port).into())
            }
        }
    }
}
