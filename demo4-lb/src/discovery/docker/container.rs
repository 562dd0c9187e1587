//! The rules of the labels: which container is a backend, and at which address. Pure: no engine here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::discovery::found::{Found, MOST_WEIGHT};
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
pub enum Reach {
    /// Over these networks, because our own container is on them.
    Networks(BTreeSet<String>),
    /// Over ports that are published on this machine.
    Published,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Networks(names) => {
                write!(f, "networks {}", names.iter().cloned().collect::<Vec<_>>().join(", "))
            }
            Self::Published => f.write_str("published ports"),
        }
    }
}

/// Why a container is no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInMesh {
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
    /// A label does not say what it should. Nothing is guessed.
    #[error("container {name}: label {label} {what}")]
    BadLabel {
        /// The container.
        name: String,
        /// The label.
        label: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It is not up, or not well yet.
    #[error("container {name} is not up and healthy")]
    NotServing {
        /// The container.
        name: String,
    },
    /// There is no way to it from here.
    #[error("container {name} cannot be reached: {what}")]
    NoAddress {
        /// The container.
        name: String,
        /// What is missing.
        what: String,
    },
}

impl Container {
    /// The backend of `service` that this container is.
    ///
    /// # Errors
    /// [`NotInMesh`] if it is none, or not one that can be called.
    pub fn endpoint(&self, service: &str, reach: &Reach) -> Result<Found, NotInMesh> {
        let name = self.name.clone();
        let Some(belongs) = self.labels.get("mesh.service") else { return Err(NotInMesh::NoLabel { name }) };
        if belongs != service {
            return Err(NotInMesh::OtherService { name, service: belongs.clone() });
        }
        let port: u16 = self.number("mesh.port", None, u16::MAX)?;
        let weight: u32 = self.number("mesh.weight", Some(1), MOST_WEIGHT)?;
        let region = match self.labels.get("mesh.locality").map(String::as_str) {
            Some("") => return Err(self.bad("mesh.locality", "is empty".to_owned())),
            Some(region) => region.to_owned(),
            None => REGION.to_owned(),
        };
        if !self.running || !self.healthy {
            return Err(NotInMesh::NotServing { name });
        }
        let address = self.address(port, reach)?;
        Ok(Found { region, endpoint: Endpoint { address, weight, healthy: true } })
    }

    /// A label that is a number from 1.
    fn number<N>(&self, label: &'static str, default: Option<N>, most: N) -> Result<N, NotInMesh>
    where
        N: Copy + std::str::FromStr + PartialOrd + From<u8> + fmt::Display,
    {
        match (self.labels.get(label), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.bad(label, "is missing".to_owned())),
            (Some(text), _) => match text.parse() {
                Ok(number) if number >= N::from(1) && number <= most => Ok(number),
                _ => Err(self.bad(label, format!("is '{text}', and must be a number from 1 to {most}"))),
            },
        }
    }

    fn bad(&self, label: &'static str, what: String) -> NotInMesh {
        NotInMesh::BadLabel { name: self.name.clone(), label, what }
    }

    fn address(&self, port: u16, reach: &Reach) -> Result<SocketAddr, NotInMesh> {
        let refuse = |what: String| NotInMesh::NoAddress { name: self.name.clone(), what };
        match reach {
            // By the networks' order, so that every look finds the same one.
            Reach::Networks(ours) => {
                let shared = self.networks.iter().find(|(network, _)| ours.contains(*network));
                let (_, ip) = shared.ok_or_else(|| {
                    let names: Vec<&str> = self.networks.keys().map(String::as_str).collect();
                    refuse(format!("it is on {}, we are on {reach}", names.join(", ")))
                })?;
                Ok(SocketAddr::new(*ip, port))
            }
            Reach::Published => {
                let outside = self.published.get(&port);
                let outside = outside.ok_or_else(|| refuse(format!("its port {port} is not published")))?;
                Ok((Ipv4Addr::LOCALHOST, *outside).into())
            }
        }
    }
}
