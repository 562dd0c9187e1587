//! A caller, for a terminal or a container: makes each call by gRPC and by HTTP, and shows what it got.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use comfy_table::{LineStyle, Table, presets};
use demo5_authz::client::{Call, Caller, Operation, Protocol};
use serde_json::json;
use shared::cli::{self, SetupError};
use shared::report::line_out;
use zeroize::Zeroizing;

/// Calls the greeter, and shows what gRPC callers and HTTP callers get
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Envoy's host and port; a name is looked up
    #[arg(long, env = "TARGET", value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    target: String,
    /// A file that holds the token to show; - reads it from stdin. No token unless given
    #[arg(long, env = "TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What is wanted; everything unless given
    #[arg(long, value_enum, value_name = "OPERATION")]
    operation: Vec<Operation>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  demo5-client                                        without a token
  demo5-client --token-file reader.token
  demo5-token issue --sub ana --role admin | demo5-client --token-file - --operation delete

The token is not a flag, because others see a command's flags. The exit code is 0 if every call got an answer, also
if that was a no; 1 if there was no answer; 2 for wrong usage.";

/// There is nobody.
#[derive(Debug, thiserror::Error)]
#[error(
    "no answer from {target}: {why}\nIs Envoy up? `demo5-authz --stay` or `docker compose up` start it; --target \
     calls another address"
)]
struct NoAnswer {
    target: String,
    why: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |_| call(&args).await).await
}

async fn call(args: &Args) -> anyhow::Result<()> {
    let no_answer = |why: String| NoAnswer { target: args.target.clone(), why };
    let mut found =
        tokio::net::lookup_host(&args.target).await.map_err(|error| no_answer(error.to_string()))?;
    let address: SocketAddr = found.next().ok_or_else(|| no_answer("the name has no address".to_owned()))?;
    let token = args.token_file.as_deref().map(read).transpose()?;
    let caller = Caller::plain(address)?;
    let operations = if args.operation.is_empty() { Operation::value_variants() } else { &args.operation };
    let mut table = Table::new();
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header([
        "operation",
        "protocol",
        "status",
        "message",
        "principal",
        "duration",
    ]);
    for operation in operations {
        for protocol in Protocol::ALL {
            let mut call = Call::new(*operation);
            call.token = token.as_deref().map(|token| token.trim());
            let seen = caller.call(protocol, &call).await.map_err(|error| no_answer(error.to_string()))?;
            let principal = seen.seen_by_backend.as_ref().map(|arrived| arrived.principal.as_str());
            let (operation, protocol) = (name(operation), name(&protocol));
            let duration = format!("{:.1?}", seen.duration);
            if args.json {
                let line = json!({
                    "operation": operation, "protocol": protocol, "status": seen.status, "message": seen.message.trim_end(),
                    "principal": principal, "reached_backend": seen.reached_backend(), "request_id": seen.request_id(),
                });
                line_out(&line.to_string());
            } else {
                // Of a page only its text; the rest is for programs.
                let page = serde_json::from_str::<serde_json::Value>(&seen.message).ok();
                let said = page.and_then(|page| Some(page["text"].as_str()?.to_owned()));
                let said = said.unwrap_or_else(|| seen.message.trim_end().to_owned());
                table.add_row([
                    &operation,
                    &protocol,
                    &seen.status,
                    &said,
                    principal.unwrap_or("-"),
                    &duration,
                ]);
            }
        }
    }
    if !args.json {
        table.to_string().lines().for_each(|line| line_out(line.trim_end()));
    }
    Ok(())
}

/// A token out of a file. Where it is, may be told; what it is, never.
fn read(file: &std::path::Path) -> anyhow::Result<Zeroizing<String>> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text
        .map_err(SetupError::new)
        .with_context(|| format!("cannot read a token from {}", file.display()))?;
    Ok(Zeroizing::new(text))
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
