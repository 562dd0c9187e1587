#![doc = include_str!("../README.md")]
//!
//! The chain of trust: root, intermediate, leaf, and what makes a chain trusted.
//!
//! ```text
//! Root ── sign_intermediate(self) ──> Intermediate ── issue(&self) ──> Issued ──> chain.pem, key.pem
//!  (its key is gone after that)         (days or weeks)                 (hours or days)
//!
//! chain.pem + Roots + time + Purpose ── verify() ──> Identity, or Untrusted with the reason
//! ```
//!
//! The types carry the rules. A root signs one intermediate and is consumed by that; an intermediate cannot
//! make another authority, and what it issues cannot outlive it; a leaf without a name cannot be asked for.
//! A [`KeyPem`] shows nothing of itself unless [`expose`](KeyPem::expose) is called, which is easy to search for.
//!
//! Connections are in [`mod@tls`]. Certificates live for a short time, because this crate has no revocation.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use mesh_pki::{Names, Purpose, Root, Roots, Usage, Validity, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const DAY: Duration = Duration::from_secs(24 * 60 * 60);
//! let root = Root::generate("example root", Validity::from_now(365 * DAY)?)?;
//! let intermediate = root.sign_intermediate("example intermediate", Validity::from_now(30 * DAY)?)?;
//! let names = Names::default().dns("web.example")?.spiffe("spiffe://example/ns/demo/sa/web")?;
//! let web = intermediate.issue(&names, Usage::Server, Validity::from_now(DAY)?)?;
//!
//! let roots = Roots::from_pem(intermediate.root_pem())?;
//! let identity = verify(&web.chain_pem, &roots, SystemTime::now(), &Purpose::server("web.example")?)?;
//! assert_eq!(identity.serial, web.serial);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod provider;

pub mod tls;

mod validity;

mod names;

mod usage;

mod key;

mod template;

mod authority;

mod pem;

mod certificate;

mod roots;

mod verify;

mod untrusted;

mod files;

mod error;

pub use authority::{Intermediate, Issued, Root};
pub use certificate::{Certificate, CertificateParseError, Serial};
pub use error::PkiError;
pub use files::{Files, FilesError};
pub use key::KeyPem;
pub use names::{BadName, Names, SpiffeId};
pub use pem::PemError;
pub use roots::Roots;
pub use untrusted::Untrusted;
pub use usage::{UnknownUsage, Usage};
pub use validity::Validity;
pub use verify::{Identity, Purpose, verify};
