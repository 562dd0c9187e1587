//! What this machine needs for watching the kernel, what it has, and what to do about the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::process::Command;

use crate::program::Program;

/// Where tracepoints are listed, on kernels of different age.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where the kernel tells what its structs look like.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the kernel must have been built with.
const CONFIG: [&str; 4] =
    ["CONFIG_BPF_SYSCALL", "CONFIG_BPF_EVENTS", "CONFIG_FTRACE_SYSCALLS", "CONFIG_DEBUG_INFO_BTF"];

/// Locked memory that is enough for our maps, in bytes.
const MEMLOCK: u64 = 64 << 20;

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(20);

/// The oldest bpftrace that these programs were run with.
const BPFTRACE: (u32, u32) = (0, 17);

/// What cannot be done without a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No program can run.
    All,
    /// Some programs cannot.
    Some,
    /// All can.
    None,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether all is well.
    pub well: bool,
    /// Which programs need it.
    pub needed: Need,
    /// What was seen.
    pub seen: String,
    /// What to do if it is not well.
    pub remedy: &'static str,
}

/// What is said of a thing that only root may look at.
const UNSEEN: &str = "cannot be seen without root";

impl Check {
    /// Its state in a word.
    pub fn mark(&self) -> &'static str {
        match (self.well, self.needed) {
            (true, _) => "ok",
            _ if self.seen == UNSEEN => "unseen",
            (false, Need::None) => "absent",
            (false, _) => "MISSING",
        }
    }
}

/// Looks at everything. Mounts tracefs if this user may and nobody has: bpftrace cannot do without.
pub async fn run_check(bpftrace: &Path) -> Vec<Check> {
    mount_tracefs().await;
    let version = bpftrace_version(bpftrace).await;
    let root = rustix::process::geteuid().is_root();
    let tracefs = tracefs();
    // Root alone may look into it, so that it seems to be absent to others.
    let unseen = tracefs.is_none() && hidden();
    let missing = missing_tracepoints(tracefs.as_deref());
    let old = version.as_deref().is_some_and(too_old);
    let btf = Path::new(BTF).exists();
    let docker = said(Command::new("docker"), &["version", "--format", "{{.Server.Version}}"]).await;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let check = |name, well, needed, seen: String, remedy| Check { name, well, needed, seen, remedy };
    vec![
        check(
            "Linux",
            cfg!(target_os = "linux"),
            Need::All,
            kernel.clone(),
            "run it on Linux, or look at a recorded run: --replay",
        ),
        check(
            "root",
            root,
            Need::All,
            format!("user {}", rustix::process::geteuid().as_raw()),
            "sudo cargo run -p demo2-bpf, or sudo target/debug/demo2-bpf",
        ),
        check(
            "bpftrace",
            version.is_some() && !old,
            Need::All,
            version.map_or_else(
                || format!("{} does not run", bpftrace.display()),
                |version| {
                    if old { format!("{version}, older than {}.{}", BPFTRACE.0, BPFTRACE.1) } else { version }
                },
            ),
            "apt-get install bpftrace, dnf install bpftrace, or --bpftrace PATH; 0.17 or later",
        ),
        check(
            "tracefs",
            tracefs.is_some(),
            Need::All,
            match &tracefs {
                Some(at) => at.display().to_string(),
                None if unseen => UNSEEN.to_owned(),
                None => "not mounted".to_owned(),
            },
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        check(
            "tracepoints",
            missing.is_empty(),
            Need::Some,
            if missing.is_empty() {
                "all that are used".to_owned()
            } else if unseen {
                UNSEEN.to_owned()
            } else {
                format!("without {}", missing.join(", "))
            },
            "a kernel with CONFIG_FTRACE_SYSCALLS and the tcp and sock tracepoints (4.16 or later)",
        ),
        check(
            "BTF",
            btf,
            Need::Some,
            if btf { "/sys/kernel/btf/vmlinux" } else { "no /sys/kernel/btf/vmlinux" }.to_owned(),
            "a kernel with CONFIG_DEBUG_INFO_BTF: some programs read a struct by its name",
        ),
        memlock(&kernel),
        config(&kernel).await,
        check(
            "Docker",
            docker.is_some(),
            Need::None,
            docker.unwrap_or_else(|| "does not answer".to_owned()),
            "only --container and --attach need it: start the daemon",
        ),
    ]
}

/// Whether something is missing that a program needs.
pub fn missing(checks: &[Check]) -> bool {
    checks.iter().any(|check| !check.well && check.needed != Need::None)
}

/// What this machine lacks for one program, if others can run.
pub fn lack(program: Program) -> Option<String> {
    lack_in(program, &tracefs()?, Path::new(BTF).exists())
}

/// The same of a machine with this tracefs, and with BTF or not.
pub fn lack_in(program: Program, tracefs: &Path, btf: bool) -> Option<String> {
    let missing = without(program.tracepoints(), tracefs);
    match (missing.as_slice(), btf || !program.needs_btf()) {
        ([], true) => None,
        ([], false) => Some(format!("this kernel has no {BTF}")),
        (missing, _) => Some(format!("this kernel has no tracepoint {}", missing.join(", "))),
    }
}

/// The first thing that all programs need and that is missing, as a sentence.
pub fn obstacle(checks: &[Check]) -> Option<String> {
    let check = checks.iter().find(|check| check.needed == Need::All && !check.well)?;
    Some(format!("{}: {} ({})", check.name, check.seen, check.remedy))
}

/// bpftrace's version by its own words: `0.17.0`.
pub async fn bpftrace_version(bpftrace: &Path) -> Option<String> {
    let said = said(Command::new(bpftrace), &["--version"]).await?;
    said.strip_prefix("bpftrace v").map(str::to_owned)
}

fn too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    // One that names no numbers may be any; it is tried.
    numbers.next().flatten().zip(numbers.next().flatten()).is_some_and(|version| version < BPFTRACE)
}

async fn said(mut command: Command, arguments: &[&str]) -> Option<String> {
    command.args(arguments);
    let output = shared::child::output(command, LIMIT).await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Before Linux 5.11 maps count as locked memory of the user.
fn memlock(kernel: &str) -> Check {
    let limit = getrlimit(Resource::Memlock).current;
    let mut numbers = kernel.split('.').map(|number| number.parse::<u32>().ok());
    let counted = numbers.next().flatten().zip(numbers.next().flatten()).is_some_and(|at| at < (5, 11));
    let seen = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    Check {
        name: "memlock",
        well: !counted || limit.is_none_or(|bytes| bytes >= MEMLOCK),
        needed: Need::None,
        seen: if counted { seen } else { format!("{seen}, which this kernel does not count for maps") },
        remedy: "ulimit -l unlimited",
    }
}

/// What the kernel was built with, where it tells.
async fn config(kernel: &str) -> Check {
    let text = match said(Command::new("zcat"), &["/proc/config.gz"]).await {
        Some(text) => Some(text),
        None => fs::read_to_string(format!("/boot/config-{kernel}")).ok(),
    };
    let without = |text: &String| -> Vec<&str> {
        let has = |option: &&str| text.lines().any(|line| line == format!("{option}=y"));
        CONFIG.into_iter().filter(|option| !has(option)).collect()
    };
    let missing = text.as_ref().map(without);
    Check {
        name: "config",
        well: missing.as_ref().is_none_or(Vec::is_empty),
        needed: Need::None,
        seen: match missing {
            // Nothing follows from that: the checks above looked at what counts.
            None => "the kernel does not tell".to_owned(),
            Some(missing) if missing.is_empty() => CONFIG.join(", "),
            Some(missing) => format!("without {}", missing.join(", ")),
        },
        remedy: "a kernel that was built with them; those of the large distributions are",
    }
}

fn tracefs() -> Option<PathBuf> {
    TRACEFS.map(PathBuf::from).into_iter().find(|at| at.join("events").is_dir())
}

/// Whether a tracefs is there that this user may not look into.
fn hidden() -> bool {
    let denied = |at| fs::metadata(at).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    TRACEFS.iter().any(|at| denied(Path::new(at).join("events")))
}

async fn mount_tracefs() {
    if cfg!(target_os = "linux") && tracefs().is_none() && rustix::process::geteuid().is_root() {
        // If it fails the check below says so.
        said(Command::new("mount"), &["-t", "tracefs", "tracefs", TRACEFS[0]]).await;
    }
}

fn missing_tracepoints(tracefs: Option<&Path>) -> Vec<String> {
    let Some(tracefs) = tracefs else { return vec!["tracefs".to_owned()] };
    without(Program::ALL.into_iter().flat_map(Program::tracepoints).collect(), tracefs)
}

/// Those of these tracepoints that are not in this tracefs.
fn without(mut used: Vec<&str>, tracefs: &Path) -> Vec<String> {
    used.sort_unstable();
    used.dedup();
    let there =
        |point: &&str| fs::exists(tracefs.join("events").join(point.replace(':', "/"))).unwrap_or(false);
    used.into_iter().filter(|point| !there(point)).map(str::to_owned).collect()
}
