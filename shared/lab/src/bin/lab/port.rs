//! Exercise 1: several servers share one port, each a process with a listener that the student's function made.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Program, Requirement};
use shared::child::Running;
use shared::cli::SetupError;
use shared::reuseport::request_instance;
use shared::stats::Shares;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;

const HARNESS: &str = include_str!("port/harness.rs");

const FILE: &str = "listen.rs";

/// Fresh connections.
const CONNECTIONS: u64 = 300;

/// How long a server may take to listen. It takes milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of what a server says against itself is read, in bytes.
const MAX_MESSAGE_CHARS: u64 = 2000;

/// Another system has other numbers for its socket options, and other rules.
#[derive(Debug, thiserror::Error)]
#[error(
    "this exercise needs Linux: elsewhere SO_REUSEPORT does not spread connections, or is another option; \
     use a virtual machine, or a container (rust:1-slim-bookworm)"
)]
struct NotLinux;

/// A server that listens, with what the kernel says about its listener.
struct Server {
    _process: Running,
    /// Held, so that it never writes to a pipe that nobody has.
    _stdout: BufReader<ChildStdout>,
    port: u16,
    shares_port: bool,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(SetupError::new(NotLinux).into());
    }
    let servers = context.rng.number(2..=4) as usize;
    let names = context.rng.names(servers);
    let program = context.compile(FILE, HARNESS).await?;
    let mut up: Vec<Server> = Vec::new();
    for name in &names {
        let port = up.first().map_or(0, |first| first.port);
        let what = format!("{name} listens{}", if port == 0 { "" } else { " on the same port" });
        let wanted = if port == 0 { "a listener".to_owned() } else { format!("a listener on port {port}") };
        let server = match start(context, &program, name, port).await? {
            Ok(server) => server,
            Err(why) => {
                let first = up.first().map(|first| first.shares_port);
                let seen = format!("{name} did not start: {why}");
                return Err(Requirement::unmet(what, wanted, seen, advice_for(first, &why)).into());
            }
        };
        let met = port == 0 || server.port == port;
        let advice = "Clients know one port. Who finds it taken has to share it, and not to go elsewhere.";
        context.require(what, wanted, format!("{name} listens on port {}", server.port), met, advice);
        up.push(server);
    }
    if context.all_met() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, up[0].port));
        shares(context, address, &names).await?;
    }
    Ok(())
}

async fn shares(context: &mut CheckContext, address: SocketAddr, names: &[String]) -> anyhow::Result<()> {
    let (mut shares, mut failed) = (Shares::default(), None);
    for _ in 0..CONNECTIONS {
        match request_instance(address).await {
            Ok(name) => shares.count(&name),
            Err(error) => _ = failed.get_or_insert(error.to_string()),
        }
    }
    let unanswered = CONNECTIONS - shares.total();
    let first = failed.map_or(String::new(), |why| format!(", the first: {why}"));
    context.require(
        "every connection is answered",
        "0 without an answer",
        format!("{unanswered} of {CONNECTIONS} got no answer{first}"),
        unanswered == 0,
        "Does each listener take connections? A backlog of 0 leaves room for hardly any.",
    );
    let fit = shares.fit_evenly(names.iter().map(String::as_str));
    context.require(
        "the servers share the connections evenly",
        format!("1/{} each, chi² up to {:.2}", names.len(), fit.bound),
        format!("{shares} of {CONNECTIONS}, chi² {:.2}", fit.statistic),
        fit.holds(),
        "The kernel picks a listener by a hash of addresses and ports, if each server has one of its own.",
    );
    Ok(())
}

/// Starts a server as a process of its own; the inner error is what it said against that.
async fn start(
    context: &CheckContext,
    program: &Program,
    name: &str,
    port: u16,
) -> anyhow::Result<Result<Server, String>> {
    let mut command = program.long_running_command(name, &format!("{name} {port}"))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Running::start(command, &context.life, ()).await?;
    let stderr = process.stderr().context("stderr is piped")?;
    let mut stdout = BufReader::new(process.stdout().context("stdout is piped")?);
    let told = async {
        // What the function prints itself comes first.
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            if let Some(told) = line.strip_prefix("listens: ") {
                let mut words = told.split_whitespace();
                let port = words.next().and_then(|port| port.parse::<u16>().ok());
                return anyhow::Ok(port.map(|port| (port, words.next() == Some("true"))));
            }
        }
    };
    match tokio::time::timeout(RESPONSE_TIMEOUT, told).await {
        Ok(told) => match told? {
            Some((port, shares_port)) => {
                Ok(Ok(Server { _process: process, _stdout: stdout, port, shares_port }))
            }
            None => {
                let mut said = String::new();
                stderr.take(MAX_MESSAGE_CHARS).read_to_string(&mut said).await.unwrap_or_default();
                Ok(Err(said.lines().find(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned()))
            }
        },
        Err(_) => Ok(Err(format!("it did not listen within {RESPONSE_TIMEOUT:?}"))),
    }
}

/// Where to look, by whether the first listener shares its port, and what the kernel said of the one that failed.
fn advice_for(first_shares: Option<bool>, why: &str) -> &'static str {
    let had = |option: &str| why.contains(&format!("{option} on"));
    match first_shares {
        Some(_) if !why.contains("EADDRINUSE") => {
            "Follow the function from line to line for a port that is given."
        }
        Some(false) if had("SO_REUSEPORT") => {
            "This one was ready to share, and the first one was not. All have to set the option, the first one too: \
             else anybody could take a part of somebody's connections."
        }
        Some(true) if !had("SO_REUSEPORT") => {
            "The option was set after bind. It is at bind that the kernel decides who may have the port."
        }
        Some(_) if had("SO_REUSEADDR") => {
            "SO_REUSEADDR is another matter, in spite of its name: it lets a restarted server have its port back while \
             old connections still time out. Two that listen at once need another option."
        }
        Some(_) => {
            "A port has one owner, unless each of them says beforehand that it shares it. Which option says that?"
        }
        None => {
            "This is the first one, and may have any port that is free. Does the function come to its end?"
        }
    }
}
