//! `pki verify`: whether a chain proves what it has to, and if not, why.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_pki::{Purpose, Roots, verify};

use super::failure::Failure;

/// What to decide.
#[derive(clap::Args)]
#[command(
    after_help = "\
Examples:
  pki verify --roots certs/root.pem --host localhost certs/chain.pem
  pki verify --roots certs/root.pem --client certs/chain.pem
  pki verify --roots certs/root.pem --host localhost --in-days 2 certs/chain.pem",
    group = clap::ArgGroup::new("purpose").required(true)
)]
pub(crate) struct Args {
    /// The file with the certificates of those who are trusted
    #[arg(long, value_name = "FILE")]
    roots: PathBuf,
    /// It has to prove that a server has this name or address
    #[arg(long, value_name = "NAME", group = "purpose", value_parser = Purpose::server)]
    host: Option<Purpose>,
    /// It has to prove who a client is
    #[arg(long, group = "purpose")]
    client: bool,
    /// Decide as if it were so many days later
    #[arg(long, value_name = "N", default_value_t = 0)]
    in_days: u16,
    /// The chain: the leaf, then intermediates
    chain: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<String, Failure> {
    let bad = |error| Failure::unusable(NotReadable::pem(&args.roots, &error));
    let roots = Roots::from_pem(read(&args.roots)?).map_err(bad)?;
    let purpose = args.host.clone().unwrap_or(Purpose::Client);
    let at = SystemTime::now() + Duration::from_secs(u64::from(args.in_days) * 24 * 60 * 60);
    let identity = verify(read(&args.chain)?, &roots, at, &purpose).map_err(Failure::NotTrusted)?;
    Ok(format!("trusted: {}\nserial {}, valid {}\n", identity.names, identity.serial, identity.validity))
}

/// A file that is missing, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {why}", path.display())]
pub(crate) struct NotReadable {
    path: PathBuf,
    why: String,
}

impl NotReadable {
    pub(crate) fn pem(path: &Path, why: &impl ToString) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::unusable(NotReadable::pem(path, &error)))
}
