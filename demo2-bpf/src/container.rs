//! An Envoy in a container of ours, and what Docker tells of containers that run already.
//!
//! Knows Docker's command line, and nothing of what the Envoy is for. Our containers carry a label with the process
//! that made them; so whoever comes next can take away what a run that was killed has left half made.
//!
//! ```text
//!   we ── pipe ──> docker run --interactive ──> container: a shell that waits for the pipe's end ── kill 1 ──> Envoy
//! ```
//!
//! Docker's daemon is no child of ours, so nothing ends a container together with us. But a pipe does end then.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use shared::child::{self, Child};
use shared::cli::SetupError;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::line_err;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, Command};
use tokio::sync::oneshot;

/// The image of `--container`.
pub const IMAGE: &str = "envoyproxy/envoy:v1.40.0";

/// The label of our containers; its value is the process that made them.
const LABEL: &str = "mesh.demo2";

/// How long Docker may take for one command.
const LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to bring the image.
const PULL_LIMIT: Duration = Duration::from_secs(600);

/// How often Docker is asked whether a container runs.
const LOOK: Duration = Duration::from_millis(50);

/// Envoy stays the container's first process, and gets SIGTERM when nobody holds the other end of its input. Docker
/// passes that on only if the container ran already; so a first line has to say that somebody is there.
/// And to a first process a signal that it has no handler for is as good as none: so it is told until it hears.
const UNTIL_THE_END: &str = r#"(read -r -t 30 && while read -r; do :; done; while kill 1; do sleep 1; done) <&0 & exec /usr/local/bin/envoy "$@""#;

/// There is no such container, or it does not run.
#[derive(Debug, thiserror::Error)]
#[error("container {container} cannot be watched ({why}): `docker ps` lists those that run")]
pub struct NoContainer {
    /// What was asked for.
    container: String,
    /// What Docker says.
    why: String,
}

/// Our container could not be started.
#[derive(Debug, thiserror::Error)]
#[error("no container could be started from {IMAGE} ({0}): `docker pull {IMAGE}` may tell more")]
pub struct NotStarted(String);

/// Starts an Envoy with this configuration on the host's network, and returns its process. It goes with `life`.
///
/// # Errors
/// [`SetupError`] if Docker does not start it; nothing is left of it then.
pub async fn start(config: String, workers: u16, life: &Lifecycle) -> anyhow::Result<u32> {
    let not_started = |why| SetupError::new(NotStarted(why));
    if docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE], LIMIT).await.is_err() {
        line_err(&format!("docker brings {IMAGE}, once ..."));
        docker(&["pull", "--quiet", IMAGE], PULL_LIMIT).await.map_err(not_started)?;
    }
    let (tell, started) = oneshot::channel();
    let stop = life.token();
    let us = std::process::id();
    // One of this number is of another process that had it before us.
    sweep(us).await.map_err(not_started)?;
    // A task of its own, because Ctrl-C must not cut it short: Docker may have started the container before it tells.
    life.spawn(async move {
        let (run, kept) = match run(&config, workers, us).await {
            Ok((pid, kept)) => (Ok(pid), Some(kept)),
            Err(why) => (Err(why), None),
        };
        // Nobody listens any more after Ctrl-C, and then it is time to clean up.
        if tell.send(run).is_ok() && kept.is_some() {
            stop.cancelled().await;
        }
        if let Err(why) = sweep(us).await {
            tracing::warn!("a container labelled {LABEL}={us} may still run: {why}");
        }
    });
    Ok(started.await?.map_err(not_started)?)
}

/// Runs it, and returns its first process, and what has to be kept for as long as it shall run.
async fn run(config: &str, workers: u16, us: u32) -> Result<(u32, (Child, ChildStdin)), String> {
    let (name, label, workers) = (format!("mesh-demo2-{us}"), format!("{LABEL}={us}"), workers.to_string());
    let mut command = Command::new("docker");
    #[rustfmt::skip]
    command.args([
        "run", "--interactive", "--rm", "--network", "host", "--name", &name, "--label", &label, "--user", "101:101",
        "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pull", "never",
        "--entrypoint", "bash", IMAGE, "-c", UNTIL_THE_END, "envoy",
        "--config-yaml", config, "--concurrency", &workers, "--disable-hot-restart", "--log-level", "warning",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut docker = child::spawn(command).await.map_err(|error| error.to_string())?;
    let (Some(mut stdin), Some(stderr)) = (docker.stdin(), docker.stderr()) else {
        return Err("docker was started without its pipes".to_owned());
    };
    let said = tokio::spawn(last_line(stderr));
    let started = poll::wait_until("the container to run", LOOK, LIMIT, || pid(&name));
    tokio::select! {
        biased;
        _ = docker.wait() => Err(said.await.unwrap_or_default()),
        started = started => {
            let pid = started.map_err(|error| error.to_string())?;
            stdin.write_all(b"\n").await.map_err(|error| error.to_string())?;
            Ok((pid, (docker, stdin)))
        }
    }
}

/// Reads everything, so that Envoy never waits for us, and keeps the last line. What is no text ends it.
async fn last_line(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = "docker ended".to_owned();
    while let Ok(Some(line)) = lines.next_line().await {
        last = line;
    }
    last
}

/// A container's first process, as this machine counts.
///
/// # Errors
/// [`NoContainer`] if there is none.
pub async fn pid(container: &str) -> Result<u32, NoContainer> {
    let refuse = |why| NoContainer { container: container.to_owned(), why };
    let inspect = ["inspect", "--type", "container", "--format", "{{.State.Pid}}", container];
    match docker(&inspect, LIMIT).await.map_err(refuse)?.parse() {
        Ok(0) | Err(_) => Err(refuse("it does not run".to_owned())),
        Ok(pid) => Ok(pid),
    }
}

/// Takes away containers of runs that were killed and could not, and those of process `us`.
async fn sweep(us: u32) -> Result<(), String> {
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let filter = format!("label={LABEL}");
    let listed = docker(&["ps", "--all", "--filter", &filter, "--format", &format], LIMIT).await?;
    for (id, owner) in listed.lines().filter_map(|line| line.split_once(' ')) {
        let ended = !Path::new(&format!("/proc/{owner}")).exists();
        let ours = owner == us.to_string();
        if (ended || ours)
            && let Err(why) = docker(&["rm", "--force", id], LIMIT).await
        {
            tracing::warn!("container {id} may still run: {why}");
        }
    }
    Ok(())
}

async fn docker(arguments: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    let output = shared::child::output(command, limit).await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("docker failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
