//! Makes keys and tokens: what an identity provider would do, for a terminal.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use demo5_authz::claims::{Claims, MAX_ROLES};
use demo5_authz::issuer::{Issuer, KeyType};
use demo5_authz::token::ValidationParams;
use mesh_pki::{Files, FilesError, KeyPem};
use shared::cli::{self, SetupError};
use shared::report::{line_err, line_out};

/// Makes a key pair for tokens, and tokens
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key pair: FOLDER/signing-key.pem, which stays with you, and FOLDER/public/jwks.json for the authorizer
    Keygen {
        /// Where to
        #[arg(long, value_name = "FOLDER", default_value = "keys")]
        out: PathBuf,
        /// Which kind
        #[arg(long, value_enum, default_value_t)]
        algorithm: KeyType,
        /// Replace a key pair that is there; tokens that it signed are then worthless
        #[arg(long)]
        force: bool,
    },
    /// Make a token, and print it and nothing else
    Issue {
        /// The key
        #[arg(long, env = "SIGNING_KEY", value_name = "FILE", default_value = "keys/signing-key.pem")]
        key: PathBuf,
        /// About whom it is
        #[arg(long)]
        sub: String,
        /// What that one is; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// For how many minutes it is valid
        #[arg(long = "minutes", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        /// Who issues it
        #[arg(long, env = "ISSUER", default_value_t = ValidationParams::default().issuer)]
        issuer: String,
        /// For whom it is
        #[arg(long, env = "AUDIENCE", default_value_t = ValidationParams::default().audience)]
        audience: String,
    },
}

const EXAMPLES: &str = "\
Examples:
  demo5-token keygen --out keys
  demo5-token issue --sub ana --role reader > reader.token
  demo5-token issue --sub eve --role admin --minutes 5

A token is as good as a password while it is valid.";

/// The file with the public key.
const JWKS: &str = "jwks.json";

/// A role or a name that no authorizer of ours would believe.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be a name or a role: 1 to 128 visible ASCII characters without a comma, and at most {MAX_ROLES} roles"
)]
struct InvalidName(String);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(0, async |_| match args.command {
        Command::Keygen { out, algorithm, force } => keygen(&out, algorithm, force),
        Command::Issue { key, sub, roles, minutes, issuer, audience } => {
            let expected = ValidationParams { issuer, audience, ..ValidationParams::default() };
            issue(&key, &sub, &roles, minutes, &expected)
        }
    })
    .await
}

fn keygen(out: &Path, algorithm: KeyType, force: bool) -> anyhow::Result<()> {
    let issuer = Issuer::generate(algorithm)?;
    let key = KeyPem::parse(issuer.private_pem().as_bytes())?;
    let (pem, public) = ("signing-key.pem", out.join("public"));
    // Both or none: half of an old pair with half of a new one is none.
    let existing =
        [out.join(pem), public.join(JWKS)].into_iter().find(|path| path.symlink_metadata().is_ok());
    if let (Some(path), false) = (existing, force) {
        return Err(SetupError::new(FilesError::Exists { path }).into());
    }
    let private = Files::default().secret(pem, &key).write(out, force).map_err(SetupError::new)?;
    let jwks = issuer.jwks();
    let public = Files::default().public(JWKS, &jwks).write(&public, force).map_err(SetupError::new)?;
    for path in private.iter().chain(&public) {
        line_err(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn issue(
    key: &Path,
    sub: &str,
    roles: &[String],
    minutes: u64,
    expected: &ValidationParams,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(key).map_err(SetupError::new);
    let text = text.with_context(|| {
        format!("cannot read the signing key {}: make one with `demo5-token keygen`", key.display())
    })?;
    let issuer = Issuer::from_pem(&zeroize::Zeroizing::new(text)).map_err(SetupError::new)?;
    let names: Vec<&str> = roles.iter().map(String::as_str).collect();
    let claims = Claims::new(expected, sub, &names, Duration::from_secs(60 * minutes));
    if let Some(invalid) = claims.invalid_name() {
        return Err(SetupError::new(InvalidName(invalid.to_owned())).into());
    }
    line_out(&issuer.sign(&claims)?);
    Ok(())
}
