//! The whole demo; see the crate's README.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::{Parser, Subcommand};
use demo2_bpf::doctor;
use demo2_bpf::plan::Plan;
use demo2_bpf::program::Program;
use demo2_bpf::scenario;
use demo2_bpf::target::Source;
use shared::cli::{self, CommonArgs};

use shared::report::line_out;

/// Watches an Envoy from the kernel with bpftrace, and holds every count against a second witness
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  sudo target/debug/demo2-bpf                    start an Envoy, watch it with all programs
  sudo target/debug/demo2-bpf --container        the same with an Envoy in Docker
  sudo target/debug/demo2-bpf --program accept   one program
  sudo target/debug/demo2-bpf --pid 4711 --admin 127.0.0.1:9901
  sudo target/debug/demo2-bpf --attach envoy-1 --admin 127.0.0.1:12001 --target 127.0.0.1:12000
  cargo run -p demo2-bpf -- --replay             judge a recorded run; needs neither root nor bpftrace
  cargo run -p demo2-bpf -- doctor               what this machine has, and what it lacks
  sudo target/debug/demo2-bpf lab                exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The bpftrace to use
    #[arg(long, env = "BPFTRACE", value_name = "PATH", default_value = "bpftrace", global = true, value_parser = bpftrace())]
    bpftrace: PathBuf,
    /// Start the Envoy in a container, on the host's network
    #[arg(long, conflicts_with_all = ["running", "replay"])]
    container: bool,
    /// Watch the Envoy of this process; needs --admin
    #[arg(long, value_name = "PID", group = "running", requires = "admin", conflicts_with = "replay")]
    pid: Option<u32>,
    /// Watch the Envoy that is this container's first process; needs --admin
    #[arg(long, value_name = "CONTAINER", group = "running", requires = "admin", conflicts_with = "replay")]
    attach: Option<String>,
    /// Its admin interface, as this machine reaches it
    #[arg(long, value_name = "ADDR", requires = "running")]
    admin: Option<SocketAddr>,
    /// Where to send requests; its first listener unless said
    #[arg(long, value_name = "ADDR", requires = "running")]
    target: Option<SocketAddr>,
    /// Judge a recorded run, and start nothing
    #[arg(long, conflicts_with = "stay")]
    replay: bool,
    /// Run this program only
    #[arg(long, value_name = "NAME", value_parser = program)]
    program: Option<Program>,
    /// Keep what was seen in this folder, as recorded/ was made
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what this machine has and lacks for watching its kernel: exit 0 if nothing is missing, 1 if something is
    Doctor,
    #[command(flatten)]
    Lab(mesh_lab::Command),
}

fn bpftrace() -> impl TypedValueParser<Value = PathBuf> {
    // `BPFTRACE= …` chooses none.
    cli::optional_path().map(|path| if path.as_os_str().is_empty() { "bpftrace".into() } else { path })
}

fn program(name: &str) -> Result<Program, String> {
    let known = || Program::ALL.map(Program::name).join(", ");
    Program::ALL
        .into_iter()
        .find(|one| one.name() == name)
        .ok_or_else(|| format!("the programs are {}", known()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match &args.command {
        Some(Command::Doctor) => return doctor(&args).await,
        Some(Command::Lab(mesh_lab::Command::Lab(work))) => {
            return mesh_lab::run(&demo2_bpf::lab::lab(&args.bpftrace), work).await;
        }
        None => {}
    }
    let plan = Plan {
        envoy: args.common.envoy.clone(),
        bpftrace: args.bpftrace.clone(),
        source: source(&args),
        stay: args.common.stay,
        replay: args.replay,
        program: args.program,
        record: args.record.clone(),
    };
    let idea = "an Envoy seen from the kernel, and every count held against a second witness";
    let tell = async |story: &mut _, life: &_| scenario::run(&plan, story, life).await;
    cli::run(&args.common, "demo2-bpf", idea, tell).await
}

fn source(args: &Args) -> Source {
    let target = args.target;
    match (args.pid, &args.attach, args.admin) {
        (Some(pid), _, Some(admin)) => Source::Pid { pid, admin, target },
        (_, Some(container), Some(admin)) => Source::Attach { container: container.clone(), admin, target },
        _ if args.container => Source::Container,
        _ => Source::Process,
    }
}

async fn doctor(args: &Args) -> ExitCode {
    let checks = doctor::run_check(&args.bpftrace).await;
    for check in &checks {
        line_out(&format!("{:>8}  {:<12} {}", check.mark(), check.name, check.seen));
        if !check.well && check.mark() != "unseen" {
            line_out(&format!("          {:<12} -> {}", "", check.remedy));
        }
    }
    if !doctor::missing(&checks) {
        return ExitCode::SUCCESS;
    }
    line_out("\nUntil then: cargo run -p demo2-bpf -- --replay");
    ExitCode::FAILURE
}
