//! A certificate, read: who it speaks for, who vouches for it, until when, and what for.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::pem::{self, PemError};
use super::{Names, Validity};

/// A certificate that was read. That says nothing about whether to trust it: see [`verify`](super::verify).
#[derive(Clone, Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    subject: String,
    issuer: String,
    names: Names,
    other_names: Vec<String>,
    authority: Option<Option<u32>>,
    key_usages: Option<Vec<String>>,
    purposes: Option<Vec<String>>,
    validity: Validity,
    serial: Serial,
    public_key: Vec<u8>,
    key: String,
}

impl Certificate {
    /// Reads every certificate in `pem`, in order; there has to be one.
    ///
    /// # Errors
    /// [`PemError`] names the line.
    pub fn read_pem(pem: impl AsRef<[u8]>) -> Result<Vec<Self>, PemError> {
        let sections = pem::sections(pem.as_ref(), pem::CERTIFICATES)?;
        let read = |section: pem::Section<'_>| {
            Self::from_der(section.der.to_vec().into())
                .map_err(|why| PemError::CertificateParseError { line: section.line, why })
        };
        sections.into_iter().map(read).collect()
    }

    /// Reads a certificate as it is shown in a TLS handshake.
    ///
    /// # Errors
    /// [`CertificateParseError`] says what is wrong with it.
    pub fn read_der(der: &CertificateDer<'_>) -> Result<Self, CertificateParseError> {
        Self::from_der(der.clone().into_owned()).map_err(CertificateParseError)
    }

    /// Reads one certificate; the error says what is wrong with it.
    pub(super) fn from_der(der: CertificateDer<'static>) -> Result<Self, String> {
        let (rest, x509) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        let invalid = |what: &str| format!("its {what} cannot be read");
        let constraints = x509.basic_constraints().map_err(|_| invalid("basic constraints"))?;
        let authority = constraints.map(|found| found.value).filter(|found| found.ca);
        let key_usage = x509.key_usage().map_err(|_| invalid("key usage"))?;
        let purposes = x509.extended_key_usage().map_err(|_| invalid("extended key usage"))?;
        let general = x509.subject_alternative_name().map_err(|_| invalid("subject alternative names"))?;
        let general = general.map_or(&[][..], |found| &found.value.general_names);
        let (names, other_names) = read_names(general)?;
        Ok(Self {
            subject: printable(&x509.subject().to_string()),
            issuer: printable(&x509.issuer().to_string()),
            names,
            other_names,
            authority: authority.map(|found| found.path_len_constraint),
            key_usages: key_usage
                .map(|found| found.value.to_string().split(", ").map(str::to_lowercase).collect()),
            purposes: purposes.map(|found| read_purposes(found.value)),
            validity: Validity::read(
                x509.validity().not_before.timestamp(),
                x509.validity().not_after.timestamp(),
            ),
            serial: Serial::new(x509.raw_serial()),
            public_key: x509.public_key().raw.to_vec(),
            key: key(x509.public_key()),
            der,
        })
    }

    /// Its subject, `CN=…`, with whatever a terminal could take for a command replaced.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject of the certificate that vouches for it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom it speaks for.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Names of kinds that nothing here uses: e-mail addresses, other URIs.
    pub fn other_names(&self) -> &[String] {
        &self.other_names
    }

    /// Whether it may vouch for others.
    pub fn is_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// How many authorities may stand between it and a leaf; `None` if it is none itself, or has no limit.
    pub fn path_length(&self) -> Option<u32> {
        self.authority.flatten()
    }

    /// What its key may be used for (`digital signature`, `key cert sign`, …); `None` if it does not say.
    pub fn key_usages(&self) -> Option<&[String]> {
        self.key_usages.as_deref()
    }

    /// Its extended key usages (`server`, `client`, …); `None` if it does not say.
    pub fn purposes(&self) -> Option<&[String]> {
        self.purposes.as_deref()
    }

    /// From when until when it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its number, unique among those of its issuer.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The kind of its key: `ECDSA P-256`, `RSA 2048`, …
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The DER encoding.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its public key (subject public key info) in DER.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

/// Bytes that are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct CertificateParseError(String);

/// A certificate's serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    fn new(der: &[u8]) -> Self {
        // A zero in front keeps a large number positive in DER; it is no part of the number.
        let digits = der.iter().position(|&byte| byte != 0).unwrap_or(der.len());
        Self(der[digits..].to_vec())
    }
}

/// As `openssl x509 -serial` prints it.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// The names that count here, and the others as text.
fn read_names(general: &[GeneralName<'_>]) -> Result<(Names, Vec<String>), String> {
    let (mut names, mut others, mut uris, mut spiffe) = (Names::default(), Vec::new(), 0, None);
    for name in general {
        match name {
            // One that is no host name matches no host; it is only shown.
            GeneralName::DNSName(host) => match names.clone().dns(host) {
                Ok(with_host) => names = with_host,
                Err(_) => others.push(format!("DNS:{}", printable(host))),
            },
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                names = names.ip(address.map_err(|_| format!("an IP address of {} bytes", bytes.len()))?);
            }
            GeneralName::URI(uri) => {
                uris += 1;
                if uri.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe://")) {
                    spiffe = Some(*uri);
                } else {
                    others.push(format!("URI:{}", printable(uri)));
                }
            }
            other => others.push(printable(&other.to_string())),
        }
    }
    if let Some(id) = spiffe {
        // https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#2-spiffe-id: which of two is meant
        // is not for the reader to guess.
        if uris > 1 {
            return Err(format!("a SPIFFE ID has to be the only URI, and there are {uris}"));
        }
        names = names.spiffe(id).map_err(|error| printable(&error.to_string()))?;
    }
    Ok((names, others))
}

fn read_purposes(found: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (found.server_auth, "server"),
        (found.client_auth, "client"),
        (found.any, "any"),
        (found.code_signing, "code signing"),
        (found.email_protection, "e-mail protection"),
        (found.time_stamping, "time stamping"),
        (found.ocsp_signing, "OCSP signing"),
    ];
    let known = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    known.chain(found.other.iter().map(ToString::to_string)).collect()
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = info.algorithm.algorithm.to_id_string();
    match (algorithm.as_str(), info.parsed()) {
        (_, Ok(PublicKey::RSA(key))) => format!("RSA {}", key.key_size()),
        (_, Ok(PublicKey::EC(key))) => format!("ECDSA P-{}", key.key_size()),
        ("1.3.101.112", _) => "Ed25519".to_owned(),
        _ => format!("algorithm {algorithm}"),
    }
}

/// A peer chose this text, and it will stand on a terminal or in a log.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
