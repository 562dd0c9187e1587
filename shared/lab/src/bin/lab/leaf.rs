//! Exercise 2: a script issues a certificate that a server is believed with, and one that it is not.

use std::time::SystemTime;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_pki::tls::{Credentials, TlsError};
use mesh_pki::{KeyPem, Purpose, Roots, verify};
use shared::child;
use tokio::process::Command;

use super::certificates::{LIMIT, authority, curl, greeter, made, run};

const FILE: &str = "issue.sh";

/// How much of what the script says is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 400;

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let host = format!("{}.{}.test", context.rng.names(1)[0], context.rng.number(10..=99));
    let mesh = context.rng.names(1).remove(0);
    authority(context, &mesh)?;
    issue(context, &host).await?;
    let root = std::fs::read(context.path("ca/root.pem")).context("the root was just written")?;
    for role in ["server", "client"] {
        fits(context, role)?;
    }
    is_believed(context, &host, &Roots::from_pem(root)?).await?;
    is_not_believed(context, &host).await
}

/// Runs the student's script.
async fn issue(context: &mut CheckContext, host: &str) -> anyhow::Result<()> {
    context.text(FILE)?;
    let mut command = Command::new("sh");
    command.arg(FILE).current_dir(context.folder()).env("HOST", host);
    let (what, wanted) = (format!("{FILE} comes to its end"), "exit code 0");
    let (seen, advice) = match child::output(command, LIMIT).await {
        Ok(output) if output.status.success() => {
            context.require(what, wanted, "it ended with exit code 0", true, "");
            return Ok(());
        }
        Ok(output) => {
            let said: String =
                String::from_utf8_lossy(&output.stderr).trim().chars().take(MAX_MESSAGE_CHARS).collect();
            (
                format!("it ended with {}: {said}", output.status),
                "The script stops at the first command that fails, with `set -e`.",
            )
        }
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            (format!("it was still running after {LIMIT:?}"), "Does a command in it wait for an answer?")
        }
        Err(error) => return Err(error).context("sh cannot be run"),
    };
    Err(Requirement::unmet(what, wanted, seen, advice).into())
}

/// Chain and key belong together, and the chain begins with the leaf.
fn fits(context: &mut CheckContext, role: &str) -> anyhow::Result<()> {
    let (chain, key) =
        (made(context, &format!("{role}/chain.pem"))?, made(context, &format!("{role}/key.pem"))?);
    let what = format!("{role}/chain.pem and {role}/key.pem belong together");
    let wanted = "a leaf, what vouches for it, and the leaf's key";
    let credentials =
        KeyPem::parse(&key).map_err(Into::into).and_then(|key| Credentials::from_pem(&chain, &key));
    match credentials {
        Ok(_) => context.require(what, wanted, "they fit", true, ""),
        Err(error) => {
            let alone =
                matches!(error, TlsError::NotALeaf { .. }) && chain.matches("BEGIN CERTIFICATE").count() == 1;
            let advice = if alone {
                "It vouches for itself, as if it were an authority, and nobody trusts it. Make a request (openssl req \
                 -new), and have the intermediate sign it (openssl x509 -req -CA … -CAkey …)."
            } else {
                "In a chain the leaf comes first, then who vouches for it; the key is the leaf's."
            };
            return Err(Requirement::unmet(what, wanted, error, advice).into());
        }
    }
    Ok(())
}

/// What `openssl verify` says of a chain for this purpose; the root is what it trusts.
async fn openssl(context: &CheckContext, role: &str, purpose: &[&str]) -> anyhow::Result<Result<(), String>> {
    let chain = format!("{role}/chain.pem");
    let mut args = vec!["verify", "-x509_strict", "-CAfile", "ca/root.pem", "-untrusted", &chain];
    args.extend(purpose);
    args.push(&chain);
    let output = run("openssl", args, context).await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let error = said.lines().find(|line| line.starts_with("error ")).unwrap_or("it said nothing");
    Ok(if output.status.success() { Ok(()) } else { Err(error.to_owned()) })
}

async fn is_believed(context: &mut CheckContext, host: &str, roots: &Roots) -> anyhow::Result<()> {
    let said = openssl(context, "server", &["-purpose", "sslserver", "-verify_hostname", host]).await?;
    let advice = said.as_ref().err().map_or("", |why| advice_for(why));
    let seen = said
        .as_ref()
        .map_or_else(|why| format!("openssl verify says: {why}"), |()| "openssl verify says OK".to_owned());
    context.require("openssl believes the server", "OK", seen, said.is_ok(), advice);
    if said.is_err() {
        return Ok(());
    }
    let chain = made(context, "server/chain.pem")?;
    let strict = verify(&chain, roots, SystemTime::now(), &Purpose::server(host)?);
    context.require(
        "so does a client that looks for names only where they count",
        format!("a certificate for {host}"),
        strict.as_ref().map_or_else(ToString::to_string, |_| "it is believed".to_owned()),
        strict.is_ok(),
        "Clients of today, gRPC's among them, read the subject alternative names, and not the subject: \
         subjectAltName=DNS:… in the file of -extfile.",
    );
    let (_envoy, address) = greeter(context, &context.path("server")).await?;
    let answer = curl(context, (host, address), &["--cacert", "ca/root.pem"]).await?;
    let seen = answer.as_ref().map_or_else(
        |why| format!("curl says: {why}"),
        |code| format!("curl got {code} from an Envoy with it"),
    );
    let met = answer.is_ok_and(|code| code == "200");
    context.require("curl believes the server", "200", seen, met, "curl -v tells where it stops.");
    Ok(())
}

async fn is_not_believed(context: &mut CheckContext, host: &str) -> anyhow::Result<()> {
    let client = openssl(context, "client", &["-purpose", "sslclient"]).await?;
    context.require(
        "openssl believes the client, as a client",
        "OK",
        client.as_ref().map_or_else(
            |why| format!("openssl verify says: {why}"),
            |()| "openssl verify says OK".to_owned(),
        ),
        client.is_ok(),
        "It is a good certificate, by the same authority; only not a server's.",
    );
    let server = openssl(context, "client", &["-purpose", "sslserver", "-verify_hostname", host]).await?;
    context.require(
        "openssl does not believe that it is a server's",
        "error 26, unsuitable certificate purpose",
        server.as_ref().map_or_else(|why| format!("openssl verify says: {why}"), |()| "openssl verify accepts the client's certificate as a server's".to_owned()),
        server.as_ref().is_err_and(|why| why.starts_with("error 26 ")),
        "What a certificate is for stands in its extendedKeyUsage: serverAuth, clientAuth. One that does not say may do all.",
    );
    if server.is_ok() {
        return Ok(());
    }
    let (_envoy, address) = greeter(context, &context.path("client")).await?;
    let answer = curl(context, (host, address), &["--cacert", "ca/root.pem"]).await?;
    context.require(
        "nor does curl",
        "no answer",
        answer.as_ref().map_or_else(|why| format!("curl says: {why}"), |code| format!("curl got {code}")),
        answer.is_err(),
        "Compare extendedKeyUsage: openssl x509 -in client/chain.pem -noout -ext extendedKeyUsage",
    );
    Ok(())
}

/// Where to look, by what openssl says.
fn advice_for(why: &str) -> &'static str {
    let says = |words: &str| why.contains(words);
    if says("self-signed") || says("self signed") {
        "It vouches for itself, and nobody trusts it. Make a request (openssl req -new), and have the intermediate sign it \
         (openssl x509 -req -CA … -CAkey …)."
    } else if says("unable to get") {
        "Clients have the root and nothing else. chain.pem is what the server sends: the leaf, and the intermediate below it."
    } else if says("ostname mismatch") {
        "The name that clients ask for is $HOST."
    } else if says("purpose") {
        "extendedKeyUsage has to name serverAuth."
    } else {
        "openssl x509 -in server/chain.pem -noout -text shows all that is in it."
    }
}
