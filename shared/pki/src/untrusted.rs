//! Why a chain is not believed, in words that say what to do.

use std::time::SystemTime;

use webpki::Error;

use super::validity::utc;
use super::{Certificate, PemError};

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It was valid once.
    #[error("the certificate of {subject:?} expired at {}: issue a new one, and look at why that did not happen", utc(*not_after))]
    Expired {
        /// Whose certificate; it may be the leaf, an intermediate or the root.
        subject: String,
        /// Its last second.
        not_after: SystemTime,
    },
    /// It will be valid later.
    #[error("the certificate of {subject:?} is not valid before {}: compare the clocks of both machines", utc(*not_before))]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// Its first second.
        not_before: SystemTime,
    },
    /// It belongs to another host.
    #[error(
        "the certificate is not for {asked}; it has these names: {names}. Connect to one of those, or issue it with that one"
    )]
    WrongHost {
        /// Who was asked for.
        asked: String,
        /// Whom it speaks for.
        names: String,
    },
    /// It may not be used for this.
    #[error(
        "the certificate of {subject:?} is not for use as {required_usage:?}, but for: {has}. Issue one with the right usage"
    )]
    WrongUsage {
        /// Whose certificate.
        subject: String,
        /// The use that is asked for.
        required_usage: &'static str,
        /// The uses that it states.
        has: String,
    },
    /// The chain does not end at anybody who is trusted.
    #[error(
        "nobody trusted vouches for {subject:?}; its issuer says to be {issuer:?}. Add that one's root if you trust it; \
         if you do already, the chain lacks an intermediate"
    )]
    UntrustedIssuer {
        /// The last certificate that was sent, seen from the leaf.
        subject: String,
        /// Who issued that one, by its own account.
        issuer: String,
    },
    /// A certificate names a trusted issuer, but that one's key did not sign it.
    #[error(
        "a signature in the chain of {subject:?} is not by the key of the issuer that it names: it is forged or damaged, or another key has the same name"
    )]
    Forged {
        /// Whose chain: the leaf's subject.
        subject: String,
    },
    /// An authority made another authority, and had no right to.
    #[error(
        "{authority:?} may have {limit} authorities below it, and the chain has more: it must issue leaves only"
    )]
    PathTooLong {
        /// The authority.
        authority: String,
        /// Its path length.
        limit: u32,
    },
    /// A leaf was used to issue a certificate.
    #[error(
        "{subject:?} issued a certificate, but is no authority: the chain is wrong, or somebody misuses that key"
    )]
    LeafAsAuthority {
        /// The certificate that is no authority's, or the chain's first if it is not known which.
        subject: String,
    },
    /// An authority's certificate stands where a server's or client's should.
    #[error(
        "the first certificate, of {subject:?}, is an authority's: put the server's or client's own one first"
    )]
    AuthorityAsLeaf {
        /// Its subject.
        subject: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] PemError),
    /// A rule that certificates here never meet: name constraints, unknown algorithms, or more work than a chain is worth.
    #[error("the chain breaks a rule of X.509 ({what}): show it with `pki show`, and ask its issuer")]
    Rejected {
        /// What webpki calls it.
        what: String,
    },
}

impl Untrusted {
    /// Adds to webpki's verdict what it does not say: whose certificate it is about.
    pub(super) fn explain(error: &Error, leaf: &Certificate, authorities: &[Certificate]) -> Self {
        let path = path(leaf, authorities);
        let last = path.last().copied().unwrap_or(leaf);
        let whose =
            |is: &dyn Fn(&Certificate) -> bool| path.iter().copied().find(|one| is(one)).unwrap_or(leaf);
        let subject = leaf.subject().to_owned();
        let at = |time: &rustls::pki_types::UnixTime| {
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs())
        };
        match error {
            Error::CertExpired { not_after, .. } => Self::Expired {
                subject: whose(&|one| one.validity().not_after() == at(not_after)).subject().to_owned(),
                not_after: at(not_after),
            },
            Error::CertNotValidYet { not_before, .. } => Self::NotYetValid {
                subject: whose(&|one| one.validity().not_before() == at(not_before)).subject().to_owned(),
                not_before: at(not_before),
            },
            Error::CertNotValidForName(context) => Self::WrongHost {
                asked: context.expected.to_str().into_owned(),
                names: leaf.names().to_string(),
            },
            Error::RequiredEkuNotFoundContext(context) => {
                let required = context.required.oid_values().collect::<Vec<_>>();
                let required_usage =
                    if required == webpki::KeyUsage::CLIENT_AUTH_REPR { "client" } else { "server" };
                let lacks = |one: &Certificate| {
                    one.purposes().is_some_and(|has| !has.iter().any(|purpose| purpose == required_usage))
                };
                let found = whose(&lacks);
                Self::wrong_usage(found, required_usage, found.purposes())
            }
            Error::UnknownIssuer => {
                Self::UntrustedIssuer { subject: last.subject().to_owned(), issuer: last.issuer().to_owned() }
            }
            Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => {
                Self::Forged { subject }
            }
            Error::PathLenConstraintViolated => path_length_error(&path).unwrap_or_else(|| rejected(error)),
            Error::EndEntityUsedAsCa => Self::LeafAsAuthority {
                subject: path[1..]
                    .iter()
                    .find(|one| !one.is_authority())
                    .unwrap_or(&leaf)
                    .subject()
                    .to_owned(),
            },
            Error::CaUsedAsEndEntity => Self::AuthorityAsLeaf { subject },
            other => rejected(other),
        }
    }

    /// A certificate that states other uses than the one that is needed, or none.
    pub(super) fn wrong_usage(
        certificate: &Certificate,
        required_usage: &'static str,
        has: Option<&[String]>,
    ) -> Self {
        let has = has.unwrap_or_default().join(", ");
        let has = if has.is_empty() { "nothing that it states".to_owned() } else { has };
        Self::WrongUsage { subject: certificate.subject().to_owned(), required_usage, has }
    }

    /// Refuses a certificate out of its time.
    pub(super) fn check_dates(certificate: &Certificate, at: SystemTime) -> Result<(), Self> {
        let (validity, subject) = (certificate.validity(), certificate.subject().to_owned());
        if validity.contains(at) {
            Ok(())
        } else if at < validity.not_before() {
            Err(Self::NotYetValid { subject, not_before: validity.not_before() })
        } else {
            Err(Self::Expired { subject, not_after: validity.not_after() })
        }
    }
}

/// The leaf and its issuers as far as they were sent, found by their names.
fn path<'a>(leaf: &'a Certificate, authorities: &'a [Certificate]) -> Vec<&'a Certificate> {
    let mut path = vec![leaf];
    let mut left: Vec<_> = authorities.iter().collect();
    while let Some(next) =
        left.iter().position(|one| path.last().is_some_and(|last| one.subject() == last.issuer()))
    {
        path.push(left.swap_remove(next));
    }
    path
}

/// The authority that has more authorities below it than it may; they stand in `path` between it and the leaf.
fn path_length_error(path: &[&Certificate]) -> Option<Untrusted> {
    path.iter().skip(1).zip(0u32..).find_map(|(authority, max_path_length)| {
        let limit = authority.path_length().filter(|limit| *limit < max_path_length)?;
        Some(Untrusted::PathTooLong { authority: authority.subject().to_owned(), limit })
    })
}

fn rejected(error: &Error) -> Untrusted {
    Untrusted::Rejected { what: format!("{error:?}").chars().take(200).collect() }
}
