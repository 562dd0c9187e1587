//! What the exercises on certificates have in common: an authority whose key is at hand, and others who judge.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement, envoy_error_summary};
use mesh_pki::{Files, KeyPem};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use shared::child;
use shared::cli::SetupError;
use shared::envoy::{Envoy, EnvoyError, Serving};
use tokio::process::Command;

/// How long a program may take that a check or a student calls.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// How long an Envoy may take to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A program is missing.
#[derive(Debug, thiserror::Error)]
#[error("this exercise needs {program} ({why}): apt-get install {program}, or brew install {program}")]
struct Missing {
    program: &'static str,
    why: std::io::Error,
}

/// Runs openssl or curl in the bench's folder, with a limit of time.
pub(super) async fn run(
    program: &'static str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    context: &CheckContext,
) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(args).current_dir(context.folder());
    child::output(command, LIMIT).await.map_err(|why| SetupError::new(Missing { program, why }).into())
}

/// Writes `ca/root.pem`, `ca/intermediate.pem` and `ca/intermediate.key` to the bench. Our own `pki` gives nobody an
/// intermediate's key; here it is what a student signs with.
pub(super) fn authority(context: &CheckContext, name: &str) -> anyhow::Result<()> {
    let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let root = params(&format!("{name} root"), 1);
    let root_pem = root.self_signed(&root_key)?.pem();
    let issuer = Issuer::new(root, root_key);
    let intermediate = params(&format!("{name} intermediate"), 0).signed_by(&key, &issuer)?.pem();
    let key = KeyPem::parse(key.serialize_pem())?;
    let files = Files::default().public("root.pem", &root_pem).public("intermediate.pem", &intermediate);
    files.secret("intermediate.key", &key).write(&context.path("ca"), true)?;
    Ok(())
}

fn params(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// An Envoy that answers "hello" by TLS, with the chain and the key in this folder, and its address.
pub(super) async fn greeter(context: &CheckContext, folder: &Path) -> anyhow::Result<(Serving, SocketAddr)> {
    let file = |name: &str| json!({ "filename": folder.join(name) });
    let certificate = json!({ "certificate_chain": file("chain.pem"), "private_key": file("key.pem") });
    let program = context.envoy_program().await?;
    let started = Envoy::new(&program, config(&certificate).to_string()).start(&context.life).await?;
    let envoy = match started.ready(READY_TIMEOUT).await {
        Ok(envoy) => envoy,
        Err(EnvoyError::ExitedEarly { log, .. }) => {
            let seen = format!("Envoy refuses it: {}", envoy_error_summary(&log));
            let advice = "ECDSA keys of the curve P-256, and RSA ones of 2048 bits, are known to everybody.";
            return Err(
                Requirement::unmet("Envoy serves with it", "a key that Envoy takes", seen, advice).into()
            );
        }
        Err(other) => return Err(other.into()),
    };
    let address = address(&envoy).await?.context("an Envoy of ours listens")?;
    Ok((envoy, address))
}

/// Where an Envoy's first listener is.
pub(super) async fn address(envoy: &Serving) -> anyhow::Result<Option<SocketAddr>> {
    Ok(envoy.admin().listeners().await?.into_iter().next().map(|listener| listener.address))
}

fn config(certificate: &Value) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    let any = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let hello = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": "hello" } } });
    json!({
        "admin": { "address": any },
        "static_resources": { "listeners": [{
            "name": "hello",
            "address": any,
            "filter_chains": [{
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {
                        "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                        "common_tls_context": { "tls_certificates": [certificate] },
                    },
                },
                "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                        "stat_prefix": "hello",
                        "route_config": { "virtual_hosts": [{ "name": "hello", "domains": ["*"], "routes": [hello] }] },
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
                        }],
                    },
                }],
            }],
        }] },
    })
}

/// What curl says of `https://HOST/` at this address: the status, or why there is none.
pub(super) async fn curl(
    context: &CheckContext,
    (host, address): (&str, SocketAddr),
    args: &[&str],
) -> anyhow::Result<Result<String, String>> {
    let port = address.port();
    let (resolve, url) = (format!("{host}:{port}:{}", address.ip()), format!("https://{host}:{port}/"));
    let mut all =
        vec!["--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--output", "/dev/null"];
    all.extend(["--write-out", "%{http_code}", "--resolve", &resolve]);
    all.extend(args);
    all.push(&url);
    let output = run("curl", all, context).await?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Err(said.lines().next().unwrap_or("curl said nothing").trim_start_matches("curl: ").to_owned()))
}

/// What a checker's own file operation needs to be told as the student's: a file that should have been made.
pub(super) fn made(context: &CheckContext, file: &str) -> Result<String, Requirement> {
    std::fs::read_to_string(context.path(file)).map_err(|error| {
        let advice = "The script runs in a folder of its own, and leaves its files there.";
        Requirement::unmet(format!("{file} is made"), "that file", format!("{file}: {error}"), advice)
    })
}
