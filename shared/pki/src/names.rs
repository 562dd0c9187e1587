//! Whom a certificate speaks for: host names, addresses, and one SPIFFE identity.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::DnsName;

/// A name that cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a host name.
    #[error("{given:?} is no DNS name ({why})")]
    Dns {
        /// What was given, at most 80 characters of it.
        given: String,
        /// What is wrong with it, and what to write instead.
        why: &'static str,
    },
    /// Not a SPIFFE ID.
    #[error(
        "{given:?} is no SPIFFE ID ({why}): write spiffe://TRUST-DOMAIN/PATH, such as spiffe://mesh/ns/demo/sa/web"
    )]
    Spiffe {
        /// What was given, at most 80 characters of it.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Whom a certificate speaks for (its subject alternative names).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    spiffe: Option<SpiffeId>,
}

impl Names {
    /// Adds a host name, `web.example` or `*.example.org`; it is kept in lower case.
    ///
    /// # Errors
    /// [`BadName::Dns`] for what is not one; an IP address is not, see [`ip`](Self::ip).
    pub fn dns(mut self, name: &str) -> Result<Self, BadName> {
        let bad = |why| Err(BadName::Dns { given: shortened(name), why });
        let name = name.to_ascii_lowercase();
        if name.parse::<IpAddr>().is_ok() {
            return bad("it is an IP address: add it as one (--ip)");
        }
        if name.ends_with('.') {
            return bad("certificates name hosts without the final dot");
        }
        let host = name.strip_prefix("*.").unwrap_or(&name);
        if host.len() < name.len() && !host.contains('.') {
            return bad("a wildcard needs two labels after it, as in *.example.org");
        }
        if DnsName::try_from(host).is_err() {
            return bad("letters, digits and hyphens in labels of 1 to 63, joined by dots, 253 in all");
        }
        if !self.dns.contains(&name) {
            self.dns.push(name);
        }
        Ok(self)
    }

    /// Adds an address.
    #[must_use]
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        if !self.ips.contains(&address) {
            self.ips.push(address);
        }
        self
    }

    /// Sets the SPIFFE identity; a certificate has one at most
    /// (<https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#2-spiffe-id>).
    ///
    /// # Errors
    /// [`BadName::Spiffe`] for what is not one.
    pub fn spiffe(mut self, id: &str) -> Result<Self, BadName> {
        self.spiffe = Some(SpiffeId::parse(id)?);
        Ok(self)
    }

    /// The host names.
    pub fn dns_names(&self) -> &[String] {
        &self.dns
    }

    /// The addresses.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.ips
    }

    /// The SPIFFE identity.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe.as_ref()
    }

    /// Whether there is no name at all.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.spiffe.is_none()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ips = self.ips.iter().map(ToString::to_string);
        let all: Vec<_> =
            self.dns.iter().cloned().chain(ips).chain(self.spiffe.iter().map(|id| id.0.clone())).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// The identity of a workload, `spiffe://TRUST-DOMAIN/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Reads one, by the rules of
    /// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md#2-spiffe-identity>.
    ///
    /// # Errors
    /// [`BadName::Spiffe`] with the rule that is broken.
    pub fn parse(id: &str) -> Result<Self, BadName> {
        let bad = |why| Err(BadName::Spiffe { given: shortened(id), why });
        let Some(rest) = id.strip_prefix("spiffe://") else {
            return bad("it does not begin with spiffe://");
        };
        if id.len() > 2048 {
            return bad("it is longer than 2048 bytes");
        }
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        if domain.is_empty() || domain.len() > 255 {
            return bad("the trust domain has 1 to 255 characters");
        }
        if !domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)) {
            return bad("the trust domain has lower case letters, digits, and - . _ only: no port, no user");
        }
        for segment in path.iter().flat_map(|path| path.split('/')) {
            if segment.is_empty() || segment == "." || segment == ".." {
                return bad("a part of its path is empty, or is . or ..");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
                return bad("the path has letters, digits, and - . _ only: no query, no escapes");
            }
        }
        Ok(Self(id.to_owned()))
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who vouches for the name: `mesh` in `spiffe://mesh/ns/demo/sa/web`.
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.trim_start_matches("spiffe://");
        rest.split('/').next().unwrap_or(rest)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn shortened(given: &str) -> String {
    given.chars().take(80).collect()
}
