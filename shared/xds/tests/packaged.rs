//! The crate as its users get it: packaged, unpacked in another project, compiled there, and used with a real Envoy.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use shared::child;
use shared::child::Running;
use shared::envoy::Envoy;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::{health, poll, tools};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// A first compilation takes minutes on a machine with two busy cores.
const COMPILES: Duration = Duration::from_secs(20 * 60);

const LIMIT: Duration = Duration::from_secs(60);

/// The last line of the bootstrap that the example prints.
const LAST_LINE: &str = "endpoint: { address:";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A target folder for this test alone, kept from run to run.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaged")
}

async fn cargo(folder: &Path, arguments: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).arg("--target-dir").arg(target()).current_dir(folder);
    // What Cargo told this test about its own crate is not for another one.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            cargo.env_remove(name);
        }
    }
    let output = child::output(cargo, COMPILES).await.unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Packages the crate and unpacks it in `folder`; returns where it is.
async fn unpacked(folder: &Path) -> PathBuf {
    cargo(&workspace(), &["package", "-p", "mesh-xds", "--no-verify", "--allow-dirty", "--offline"]).await;
    let name = concat!("mesh-xds-", env!("CARGO_PKG_VERSION"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(target().join("package").join(format!("{name}.crate"))).arg("-C").arg(folder);
    assert!(child::output(tar, LIMIT).await.unwrap().status.success(), "the package does not unpack");
    folder.join(name)
}

/// A project outside of the workspace whose program is the example `your_service`.
async fn project(folder: &Path) {
    let library = unpacked(folder).await;
    let manifest = format!(
        r#"
[package]
name = "scratch"
version = "0.0.0"
edition = "2024"

[dependencies]
mesh-xds = {{ path = "{}" }}
tokio = {{ version = "1", features = ["full"] }}
tokio-stream = {{ version = "0.1", features = ["net"] }}
tokio-util = "0.7"
tonic = "0.14"
tonic-health = "0.14"

[workspace]
"#,
        library.display()
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The versions that this workspace is tested with, all of which are on this machine.
    fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    fs::create_dir(folder.join("src")).unwrap();
    fs::copy(library.join("examples/your_service.rs"), folder.join("src/main.rs")).unwrap();
    cargo(folder, &["build", "--offline"]).await;
}

#[tokio::test]
#[ignore = "slow: compiles the packaged crate in another project"]
async fn the_packaged_crate_configures_a_real_envoy_from_another_project() {
    let (folder, life) = (tempfile::tempdir().unwrap(), Lifecycle::default());
    project(folder.path()).await;
    let mut service = Command::new(target().join("debug/scratch"));
    service.args(["127.0.0.1:0", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut service = Running::start(service, &life, folder).await.unwrap();

    let mut lines = BufReader::new(service.stdout().unwrap()).lines();
    let mut bootstrap = String::new();
    while !bootstrap.contains(LAST_LINE) {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.expect("the bootstrap is printed");
        bootstrap += &(line.unwrap().expect("the service runs") + "\n");
    }

    let program = tools::envoy(None).await.unwrap();
    let envoy = Envoy::new(&program, bootstrap).start(&life).await.unwrap().ready(LIMIT).await.unwrap();
    let listener = poll::wait_until("Envoy's listener", Duration::from_millis(20), LIMIT, || async {
        let listeners = envoy.admin().listeners().await.map_err(|error| error.to_string())?;
        listeners.first().map(|one| one.address).ok_or_else(|| "no listener yet".to_owned())
    });
    let listener = listener.await.unwrap();
    // The service behind Envoy is gRPC health: its answer comes through the listener, the route and the cluster.
    poll::wait_until("an answer through Envoy", Duration::from_millis(20), LIMIT, || health::probe(listener))
        .await
        .unwrap();
    life.shut_down(GRACE).await.unwrap();
}
