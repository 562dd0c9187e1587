//! Whether to believe a certificate, and whom one is talking to then.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::validity::seconds;
use super::{BadName, Certificate, Names, Roots, Serial, SpiffeId, Untrusted, Validity};

/// What the certificate is to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That a server has this name.
    Server {
        /// The host name or address that the client asked for.
        name: ServerName<'static>,
    },
    /// That a client is who it says; which names it may have is for the caller to decide.
    Client,
}

impl Purpose {
    /// That a server is `name`, a host name or an IP address.
    ///
    /// # Errors
    /// [`BadName::Dns`] if it is neither.
    pub fn server(name: &str) -> Result<Self, BadName> {
        let bad = |_| BadName::Dns {
            given: name.chars().take(80).collect(),
            why: "give the host name or the IP address that clients connect to",
        };
        Ok(Self::Server { name: ServerName::try_from(name.to_owned()).map_err(bad)? })
    }

    /// The extended key usage that a leaf needs for it.
    fn required_usage(&self) -> &'static str {
        match self {
            Self::Server { .. } => "server",
            Self::Client => "client",
        }
    }
}

/// Who the peer is: what its certificate says, after it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its subject, for people.
    pub subject: String,
    /// Whom it speaks for.
    pub names: Names,
    /// Its number.
    pub serial: Serial,
    /// From when until when it counts.
    pub validity: Validity,
}

impl Identity {
    /// The workload's name in the mesh, which is what authorization should look at.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.names.spiffe_id()
    }
}

/// Decides whether `chain_pem` (the leaf first, then intermediates) proves at the time `at` what `purpose` asks.
///
/// Stricter than a TLS handshake with rustls in four points: the root's own dates count; authorities that
/// state a key usage must state "key cert sign", and a leaf "digital signature"; a leaf must state what it is
/// for; and whoever has a SPIFFE ID has one, and it is well formed.
///
/// # Errors
/// [`Untrusted`] says why not.
pub fn verify(
    chain_pem: impl AsRef<[u8]>,
    roots: &Roots,
    at: SystemTime,
    purpose: &Purpose,
) -> Result<Identity, Untrusted> {
    let chain = Certificate::read_pem(chain_pem)?;
    let (leaf, authorities) =
        chain.split_first().ok_or(Untrusted::Rejected { what: "it is empty".into() })?;
    let explain = |error| Untrusted::explain(&error, leaf, authorities);
    let end_entity = EndEntityCert::try_from(leaf.der()).map_err(explain)?;
    let anchors = roots.certificates().iter().map(|root| anchor_from_trusted_cert(root.der()));
    let anchors = anchors.collect::<Result<Vec<_>, _>>().map_err(explain)?;
    let others: Vec<CertificateDer<'_>> = authorities.iter().map(|found| found.der().clone()).collect();
    let algorithms = crate::provider::provider().signature_verification_algorithms;
    let usage = match purpose {
        Purpose::Server { .. } => KeyUsage::server_auth(),
        Purpose::Client => KeyUsage::client_auth(),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds(at)).unwrap_or(0)));
    // No revocation lists: see the module.
    let path = end_entity
        .verify_for_usage(algorithms.all, &anchors, &others, time, usage, None, None)
        .map_err(explain)?;
    if let Purpose::Server { name } = purpose {
        end_entity.verify_is_valid_for_subject_name(name).map_err(explain)?;
    }
    check_leaf(leaf, purpose)?;
    check_authorities(&path, authorities, roots, at)?;
    Ok(Identity {
        subject: leaf.subject().to_owned(),
        names: leaf.names().clone(),
        serial: leaf.serial().clone(),
        validity: leaf.validity(),
    })
}

/// A leaf has to say what it is for. (webpki takes one that says nothing for one that may do all.)
fn check_leaf(leaf: &Certificate, purpose: &Purpose) -> Result<(), Untrusted> {
    let required_usage = purpose.required_usage();
    if !leaf.purposes().is_some_and(|has| has.iter().any(|purpose| purpose == required_usage)) {
        return Err(Untrusted::wrong_usage(leaf, required_usage, leaf.purposes()));
    }
    check_key_usage(leaf, "digital signature")
}

/// What webpki leaves to others: authorities' key usage, and the root's dates.
fn check_authorities(
    path: &VerifiedPath<'_>,
    authorities: &[Certificate],
    roots: &Roots,
    at: SystemTime,
) -> Result<(), Untrusted> {
    for used in path.intermediate_certificates() {
        let used = authorities.iter().find(|authority| *authority.der() == used.der());
        used.map_or(Ok(()), |authority| check_key_usage(authority, "key cert sign"))?;
    }
    let anchor = path.anchor();
    let key = webpki::spki_for_anchor(anchor);
    let is = |root: &Certificate| {
        root.public_key() == key.as_ref()
            && anchor_from_trusted_cert(root.der()).is_ok_and(|this| this.subject == anchor.subject)
    };
    roots.of(is, at).map_or(Ok(()), |root| {
        check_key_usage(root, "key cert sign")?;
        Untrusted::check_dates(root, at)
    })
}

fn check_key_usage(certificate: &Certificate, required_usage: &'static str) -> Result<(), Untrusted> {
    match certificate.key_usages() {
        Some(has) if !has.iter().any(|usage| usage == required_usage) => {
            Err(Untrusted::wrong_usage(certificate, required_usage, Some(has)))
        }
        _ => Ok(()),
    }
}
