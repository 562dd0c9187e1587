//! What this machine needs for watching the kernel, what it has, and what to do about the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::process::Command;

use crate::program::Program;

/// Where tracepoints are listed, on kernels of different age.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What the kernel must have been built with.
const CONFIG: [&str; 4] =
    ["CONFIG_BPF_SYSCALL", "CONFIG_BPF_EVENTS", "CONFIG_FTRACE_SYSCALLS", "CONFIG_DEBUG_INFO_BTF"];

/// Locked memory that is enough for our maps, in bytes.
const MEMLOCK: u64 = 64 << 20;

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(20);

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether all is well.
    pub well: bool,
    /// Whether the programs cannot run without.
    pub needed: bool,
    /// What was seen.
    pub seen: String,
    /// What to do if it is not well.
    pub remedy: &'static str,
}

/// Looks at everything. Mounts tracefs if this user may and nobody has: bpftrace cannot do without.
pub async fn examine(bpftrace: &Path) -> Vec<Check> {
    mount_tracefs().await;
    let version = bpftrace_version(bpftrace).await;
    let root = rustix::process::geteuid().is_root();
    let tracefs = tracefs();
    let missing = missing_tracepoints(tracefs.as_deref());
    let btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let docker = said(Command::new("docker"), &["version", "--format", "{{.Server.Version}}"]).await;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let check = |name, well, needed, seen: String, remedy| Check { name, well, needed, seen, remedy };
    vec![
        check(
            "Linux",
            cfg!(target_os = "linux"),
            true,
            kernel.clone(),
            "run it on Linux, or look at a recorded run: --replay",
        ),
        check(
            "root",
            root,
            true,
            format!("user {}", rustix::process::geteuid().as_raw()),
            "sudo cargo run -p demo2-bpf, or sudo target/debug/demo2-bpf",
        ),
        check(
            "bpftrace",
            version.is_some(),
            true,
            version.unwrap_or_else(|| format!("{} does not run", bpftrace.display())),
            "apt-get install bpftrace, dnf install bpftrace, or --bpftrace PATH",
        ),
        check(
            "tracefs",
            tracefs.is_some(),
            true,
            tracefs.as_ref().map_or_else(|| "not mounted".to_owned(), |at| at.display().to_string()),
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        check(
            "tracepoints",
            missing.is_empty(),
            true,
            if missing.is_empty() {
                "all that are used".to_owned()
            } else {
                format!("without {}", missing.join(", "))
            },
            "a kernel with CONFIG_FTRACE_SYSCALLS and the tcp and sock tracepoints (4.16 or later)",
        ),
        check(
            "BTF",
            btf,
            true,
            if btf { "/sys/kernel/btf/vmlinux" } else { "no /sys/kernel/btf/vmlinux" }.to_owned(),
            "a kernel with CONFIG_DEBUG_INFO_BTF: requests.bt reads a struct by its name",
        ),
        memlock(&kernel),
        config(&kernel).await,
        check(
            "Docker",
            docker.is_some(),
            false,
            docker.unwrap_or_else(|| "does not answer".to_owned()),
            "only --container and --attach need it: start the daemon",
        ),
    ]
}

/// The first thing that is needed and missing, as a sentence.
pub fn obstacle(checks: &[Check]) -> Option<String> {
    let check = checks.iter().find(|check| check.needed && !check.well)?;
    Some(format!("{}: {} ({})", check.name, check.seen, check.remedy))
}

/// bpftrace's version by its own words: `0.17.0`.
pub async fn bpftrace_version(bpftrace: &Path) -> Option<String> {
    let said = said(Command::new(bpftrace), &["--version"]).await?;
    said.strip_prefix("bpftrace v").map(str::to_owned)
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
        needed: false,
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
        needed: false,
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

async fn mount_tracefs() {
    if cfg!(target_os = "linux") && tracefs().is_none() && rustix::process::geteuid().is_root() {
        // If it fails the check below says so.
        said(Command::new("mount"), &["-t", "tracefs", "tracefs", TRACEFS[0]]).await;
    }
}

fn missing_tracepoints(tracefs: Option<&Path>) -> Vec<String> {
    let Some(tracefs) = tracefs else { return vec!["tracefs".to_owned()] };
    let mut used: Vec<&str> = Program::ALL.into_iter().flat_map(Program::tracepoints).collect();
    used.sort_unstable();
    used.dedup();
    let there =
        |point: &&str| fs::exists(tracefs.join("events").join(point.replace(':', "/"))).unwrap_or(false);
    used.into_iter().filter(|point| !there(point)).map(str::to_owned).collect()
}
