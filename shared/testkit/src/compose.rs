//! A demo's `compose.yaml`, brought up for a test under its own project name, and removed whatever happens.
//!
//! ```text
//! Plan ──up()──> Stack ──containers(), port(), kill()──> facts
//!                  └── down(), or drop (a panic too) ──> no container and no network of it is left
//! ```
//!
//! On a person's machine images are pulled and built as the file says. With `CI=true` nothing is
//! pulled, and the image gets the programs that were just compiled (`BINS=prebuilt`, by way of `dist/`):
//! the base image there is made of the very machine that compiled them, so they fit.
//!
//! It knows Docker's and Compose's command line, and nothing of what runs in the containers.

mod command;

mod dist;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use command::{COMMAND_TIMEOUT, Compose, docker, program};

pub use command::ComposeError;
pub use dist::install_programs;

/// How long an image may take to be built and a stack to be up; a first build compiles the workspace.
const UP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The demo's compose.yaml.
    pub file: PathBuf,
    /// The compiled roles, for an image that takes them as they are.
    pub programs: Vec<PathBuf>,
    /// The variables in the file that choose published ports; each gets a free one.
    pub ports: Vec<String>,
}

/// A stack that is up, with all of its containers healthy.
#[derive(Debug)]
pub struct Stack {
    compose: Compose,
    ports: BTreeMap<String, u16>,
    is_up: bool,
}

/// One container of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its full id; the first twelve digits are its host name.
    pub id: String,
    /// Its state: `running`, `exited`.
    pub state: String,
}

impl Plan {
    /// Builds the image and brings everything up, and returns once all of it is healthy.
    ///
    /// # Errors
    /// [`ComposeError`]; what was started is taken down again.
    pub async fn up(&self) -> Result<Stack, ComposeError> {
        self.up_with(&[]).await
    }

    /// As [`up`](Self::up), with further variables for the file.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub async fn up_with(&self, more: &[(&str, &str)]) -> Result<Stack, ComposeError> {
        if is_ci() {
            let root = self.file.parent().and_then(Path::parent).unwrap_or(Path::new(""));
            install_programs(root, &self.programs).await?;
        }
        let program = program().await?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_up(&program, more).await {
                // Another program took the port between our choice and Docker's use of it.
                Err(ComposeError::Failed { output, .. }) if tries < 3 && is_port_in_use(&output) => {}
                up => return up,
            }
        }
    }

    async fn try_up(&self, program: &[String], more: &[(&str, &str)]) -> Result<Stack, ComposeError> {
        static STACKS: AtomicU32 = AtomicU32::new(0);
        let number = STACKS.fetch_add(1, Ordering::Relaxed);
        let ports = free_ports(&self.ports)
            .map_err(|why| ComposeError::NotRun { command: "bind".to_owned(), why })?;
        let mut variables = variables();
        variables.extend(ports.iter().map(|(variable, port)| (variable.clone(), port.to_string())));
        variables.extend(more.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let stack = Stack {
            compose: Compose {
                program: program.to_vec(),
                file: self.file.clone(),
                project: format!("mesh-test-{}-{number}", std::process::id()),
                variables,
            },
            ports,
            is_up: true,
        };
        let mut up = vec!["up", "--detach", "--build", "--wait"];
        if is_ci() {
            up.extend(["--pull", "never"]);
        }
        match stack.compose.run(&up, UP_TIMEOUT).await {
            Ok(_) => Ok(stack),
            Err(ComposeError::Failed { command, output }) => {
                let logs = stack.logs().await;
                stack.down().await?;
                let output = format!("{output}\n{logs}");
                Err(ComposeError::Failed { command, output })
            }
            // Dropped, and so taken down.
            Err(error) => Err(error),
        }
    }
}

/// Whether images get the programs of this machine, and nothing is pulled.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// What our compose files ask the environment for, apart from ports.
pub fn variables() -> Vec<(String, String)> {
    let (bins, tools) = if is_ci() { ("prebuilt", Some("mesh-bpftrace:stand-in")) } else { ("build", None) };
    let mut variables = vec![("BINS".to_owned(), bins.to_owned())];
    variables.extend(tools.map(|image| ("TOOLS".to_owned(), image.to_owned())));
    // For stacks that follow the engine: who may use its socket.
    if let Ok(socket) = std::fs::metadata(SOCKET) {
        variables.push(("DOCKER_GID".to_owned(), socket.gid().to_string()));
    }
    variables
}

impl Stack {
    /// The port of this machine's loopback that stands for the variable.
    ///
    /// # Panics
    /// If the plan names no such variable.
    pub fn port(&self, variable: &str) -> u16 {
        self.ports[variable]
    }

    /// The containers of a service, running or not.
    ///
    /// # Errors
    /// If Docker cannot be asked.
    pub async fn containers(&self, service: &str) -> Result<Vec<Container>, ComposeError> {
        self.with_labels(&[format!("com.docker.compose.service={service}")]).await
    }

    /// Kills a container as a crash would.
    ///
    /// # Errors
    /// If Docker cannot, because it has ended already.
    pub async fn kill(&self, container: &Container) -> Result<(), ComposeError> {
        docker(&["kill", &container.id]).await.map(drop)
    }

    /// Runs a compose command on this stack: `["run", "--rm", "client"]`, and returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, ComposeError> {
        self.compose.run(arguments, UP_TIMEOUT).await
    }

    /// What the containers logged last; for people.
    pub async fn logs(&self) -> String {
        let logs = self.compose.run(&["logs", "--no-color", "--tail", "30"], COMMAND_TIMEOUT).await;
        logs.unwrap_or_else(|error| error.to_string())
    }

    /// Takes everything down, and returns what is left of it, which should be nothing.
    ///
    /// # Errors
    /// If Compose fails at it.
    pub async fn down(mut self) -> Result<Vec<Container>, ComposeError> {
        self.compose.run(&DOWN, COMMAND_TIMEOUT).await?;
        self.is_up = false;
        self.with_labels(&[]).await
    }

    async fn with_labels(&self, more: &[String]) -> Result<Vec<Container>, ComposeError> {
        let mut arguments = vec!["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.State}}"];
        let project = format!("label=com.docker.compose.project={}", self.compose.project);
        let filters: Vec<String> = more.iter().map(|label| format!("label={label}")).collect();
        for filter in std::iter::once(&project).chain(&filters) {
            arguments.extend(["--filter", filter]);
        }
        let listed = docker(&arguments).await?;
        let containers = listed.lines().filter_map(|line| line.split_once(' '));
        Ok(containers.map(|(id, state)| Container { id: id.to_owned(), state: state.to_owned() }).collect())
    }
}

/// The engine's socket, where compose files mount it from.
const SOCKET: &str = "/var/run/docker.sock";

/// All profiles, so that a container of an optional service goes too.
const DOWN: [&str; 7] = ["--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5"];

impl Drop for Stack {
    fn drop(&mut self) {
        if self.is_up {
            // A test that failed. Blocking is right here: the test must not continue before this is done.
            let mut down = self.compose.command(&DOWN).into_std();
            _ = down.stdin(std::process::Stdio::null()).output();
        }
    }
}

fn is_port_in_use(output: &str) -> bool {
    output.contains("port is already allocated") || output.contains("address already in use")
}

fn free_ports(variables: &[String]) -> io::Result<BTreeMap<String, u16>> {
    // All held until all are chosen, so that they differ.
    let held: Vec<TcpListener> =
        variables.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    variables
        .iter()
        .zip(&held)
        .map(|(variable, listener)| Ok((variable.clone(), listener.local_addr()?.port())))
        .collect()
}
