//! `pki chain`: from nothing to a key and a chain that a server can use.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use mesh_pki::{Files, Names, PkiError, Root, SpiffeId, Usage, Validity};

use super::failure::Failure;

const ROOT_KEY: &str = "root-key.pem";

/// At most a hundred years, so that the sum stays in a certificate's calendar.
const MAX_DAYS: i64 = 36_500;

/// What to make, and where.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  pki chain --out certs --dns localhost --ip 127.0.0.1 --spiffe spiffe://mesh/ns/demo/sa/web --days 1

Only root.pem is for those who are to trust the leaf. The root's key signs the intermediate and is gone; the
intermediate's key is never written, so that a new leaf needs a new chain.")]
pub(crate) struct Args {
    /// The folder to write to; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A host name of the leaf, such as localhost or *.example.org; may be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// An address of the leaf; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// The leaf's name in the mesh, spiffe://TRUST-DOMAIN/PATH
    #[arg(long, value_name = "ID", value_parser = SpiffeId::parse)]
    spiffe: Option<SpiffeId>,
    /// What the leaf is for
    #[arg(long, default_value = "both", value_parser = usage())]
    usage: Usage,
    /// How long the leaf is valid
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = days())]
    days: u32,
    /// How long the intermediate is valid
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = days())]
    intermediate_days: u32,
    /// How long the root is valid
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = days())]
    root_days: u32,
    /// Write the root's key too, as root-key.pem: take it to a safe place
    #[arg(long)]
    keep_root_key: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// A root's key that would lie beside another root's certificate.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is there, and would not fit the new root.pem: move it away if you need it, delete it if not, or replace \
     it with --keep-root-key",
    .0.display()
)]
struct OldRootKey(PathBuf);

pub(crate) fn run(args: &Args) -> Result<String, Failure> {
    let old_key = args.out.join(ROOT_KEY);
    if !args.keep_root_key && old_key.symlink_metadata().is_ok() {
        return Err(Failure::unusable(OldRootKey(old_key)));
    }
    let made = generation_error(args).map_err(Failure::unusable)?;
    let mut files = Files::default()
        .public("root.pem", &made.root)
        .public("intermediate.pem", &made.intermediate)
        .public("leaf.pem", &made.leaf.leaf_pem)
        .public("chain.pem", &made.leaf.chain_pem)
        .secret("key.pem", &made.leaf.key_pem);
    if let Some(key) = &made.root_key {
        files = files.secret(ROOT_KEY, key);
    }
    let paths = files.write(&args.out, args.force).map_err(Failure::unusable)?;
    Ok(paths.iter().map(|path| format!("{}\n", path.display())).collect())
}

struct Chain {
    root: String,
    root_key: Option<mesh_pki::KeyPem>,
    intermediate: String,
    leaf: mesh_pki::Issued,
}

fn generation_error(args: &Args) -> Result<Chain, PkiError> {
    let life = |days: u32| Validity::from_now(Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let names = args.ip.iter().fold(Names::default(), |names, ip| names.ip(*ip));
    let mut names = args.dns.iter().try_fold(names, |names, dns| names.dns(dns))?;
    if let Some(id) = &args.spiffe {
        names = names.spiffe(id.as_str())?;
    }
    let root = Root::generate("mesh root", life(args.root_days)?)?;
    let root_key = args.keep_root_key.then(|| root.key_pem());
    let intermediate = root.sign_intermediate("mesh intermediate", life(args.intermediate_days)?)?;
    let leaf = intermediate.issue(&names, args.usage, life(args.days)?)?;
    Ok(Chain { root: intermediate.root_pem(), root_key, intermediate: intermediate.pem(), leaf })
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=MAX_DAYS)
}

fn usage() -> impl TypedValueParser<Value = Usage> {
    PossibleValuesParser::new(Usage::NAMES).try_map(|name| name.parse())
}
