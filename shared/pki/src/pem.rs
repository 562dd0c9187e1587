//! PEM, read strictly: the armour around keys and certificates (<https://www.rfc-editor.org/rfc/rfc7468>).
//!
//! Most readers skip whatever they do not expect, so that half a file reads as a shorter chain, and a key in
//! the place of a certificate as no certificate. Here each of those is an error with its line. Text between the
//! sections is allowed, as in the output of `openssl x509 -text`. No error quotes what a section holds.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// The labels of certificates.
pub(super) const CERTIFICATES: &[&str] = &["CERTIFICATE"];
/// The labels of private keys that are not encrypted.
pub(super) const PRIVATE_KEYS: &[&str] = &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What is wrong with a PEM file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no section at all.
    #[error("there is no PEM in it: expected a line \"-----BEGIN {wanted}-----\"")]
    Empty {
        /// The label that is needed.
        wanted: &'static str,
    },
    /// A section of another kind.
    #[error("line {line} begins a {found}, where a {wanted} is needed: is it the right file?")]
    WrongLabel {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A key that needs a password.
    #[error(
        "line {line} begins an encrypted key: decrypt it first, with `openssl pkey -in FILE -out key.pem`"
    )]
    Encrypted {
        /// Counted from 1.
        line: usize,
    },
    /// A section that does not end, or not before the next one begins.
    #[error("the {label} that begins in line {line} has no end: the file is cut off, copy it again")]
    Truncated {
        /// Where it begins, counted from 1.
        line: usize,
        /// What it is.
        label: String,
    },
    /// A section's end that does not match its beginning, or has none.
    #[error("line {line} ends a {label} that did not begin: a part of the file is missing, copy it again")]
    StrayEnd {
        /// Counted from 1.
        line: usize,
        /// What it ends.
        label: String,
    },
    /// What a section holds is not base64.
    #[error("the {label} that begins in line {line} is not base64: the file is damaged, copy it again")]
    NotBase64 {
        /// Where it begins, counted from 1.
        line: usize,
        /// What it is.
        label: String,
    },
    /// More sections than one.
    #[error("line {line} begins a second {label}, where one is needed: which one is meant?")]
    Second {
        /// Counted from 1.
        line: usize,
        /// What it is.
        label: String,
    },
    /// What a section holds is no certificate.
    #[error("what begins in line {line} is no certificate that can be read ({why})")]
    CertificateParseError {
        /// Where it begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// What stands between a BEGIN and its END.
pub(super) struct Section<'a> {
    /// The line of its BEGIN, counted from 1.
    pub(super) line: usize,
    /// What it says to be.
    pub(super) label: String,
    /// What it holds; it may be a key.
    pub(super) der: Zeroizing<Vec<u8>>,
    /// All of it, from BEGIN to END.
    pub(super) text: &'a [u8],
}

/// The one section that `pem` has to have, with one of the labels `wanted`.
pub(super) fn one<'a>(pem: &'a [u8], wanted: &[&'static str]) -> Result<Section<'a>, PemError> {
    let mut sections = sections(pem, wanted)?;
    if sections.len() > 1 {
        let Section { line, label, .. } = sections.swap_remove(1);
        return Err(PemError::Second { line, label });
    }
    sections.pop().ok_or(PemError::Empty { wanted: name(wanted) })
}

/// All sections, one at least; each has to have one of the labels `wanted`.
pub(super) fn sections<'a>(pem: &'a [u8], wanted: &[&'static str]) -> Result<Vec<Section<'a>>, PemError> {
    let mut sections = Vec::new();
    let mut open: Option<(usize, String, usize)> = None;
    let mut offset = 0;
    for (index, bytes) in pem.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let (line, start) = (index + 1, offset);
        offset += bytes.len();
        if let Some(found) = label(bytes, BEGIN) {
            if let Some((line, label, _)) = open {
                return Err(PemError::Truncated { line, label });
            }
            if found == "ENCRYPTED PRIVATE KEY" && wanted == PRIVATE_KEYS {
                return Err(PemError::Encrypted { line });
            }
            if !wanted.contains(&found.as_str()) {
                return Err(PemError::WrongLabel { line, found, wanted: name(wanted) });
            }
            open = Some((line, found, start));
        } else if let Some(found) = label(bytes, END) {
            let Some((line, label, start)) = open.take().filter(|(_, label, _)| *label == found) else {
                return Err(PemError::StrayEnd { line, label: found });
            };
            let text = &pem[start..offset];
            let Ok((_, der)) = <(SectionKind, Vec<u8>)>::from_pem_slice(text) else {
                return Err(PemError::NotBase64 { line, label });
            };
            sections.push(Section { line, label, der: Zeroizing::new(der), text });
        }
    }
    match open {
        Some((line, label, _)) => Err(PemError::Truncated { line, label }),
        None if sections.is_empty() => Err(PemError::Empty { wanted: name(wanted) }),
        None => Ok(sections),
    }
}

/// Puts the armour on a certificate. (Keys come as PEM from where they are made.)
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new(CERTIFICATES[0], certificate.as_ref()), config)
}

/// The label of a line that begins or ends a section.
fn label(line: &[u8], mark: &str) -> Option<String> {
    let line = line.trim_ascii_end().strip_prefix(mark.as_bytes())?;
    let label = line.strip_suffix(DASHES.as_bytes()).unwrap_or(line);
    // It is quoted in errors, and anything may stand in a file.
    Some(
        label
            .iter()
            .take(40)
            .map(|&byte| char::from(byte))
            .filter(|c| c.is_ascii_graphic() || *c == ' ')
            .collect(),
    )
}

/// The label to name in errors.
fn name(wanted: &[&'static str]) -> &'static str {
    wanted.first().copied().unwrap_or("PEM")
}
