//! The gRPC library for Python as a client that asks the control plane itself: installed once, and talked to
//! over its standard streams.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "in a test a panic is a finding")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use shared::child;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::Command;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The version that was tried. Another one may demand more of a resource.
const GRPCIO: &str = "grpcio==1.85.1";

/// Installs the library beside the compiled tests, once.
async fn grpcio() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    let installed = folder.join(GRPCIO.replace("==", "-"));
    if !installed.exists() {
        let fresh = tempfile::tempdir_in(folder).unwrap();
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"]);
        pip.arg(fresh.path()).arg(GRPCIO);
        let output = child::output(pip, LIMIT).await.unwrap();
        assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
        // Two tests may have installed it; either result will do.
        if std::fs::rename(fresh.path(), &installed).is_err() {
            assert!(installed.exists());
        }
    }
    installed
}

/// The client, and the two ends of its conversation.
pub struct Client {
    child: child::Child,
    requests: tokio::process::ChildStdin,
    responses: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Client {
    /// Starts it with this target and control plane.
    pub async fn start(target: &str, control_plane: SocketAddr) -> Self {
        let bootstrap = serde_json::json!({
            "xds_servers": [{
                "server_uri": control_plane.to_string(),
                "channel_creds": [{ "type": "insecure" }],
                "server_features": ["xds_v3"],
            }],
            "node": { "id": "proxyless-under-test" },
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/proxyless_client.py");
        let mut python = Command::new("python3");
        python.arg(script).arg(target);
        python.env("PYTHONPATH", grpcio().await).env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = child::spawn(python).await.unwrap();
        let requests = child.stdin().unwrap();
        let responses = BufReader::new(child.stdout().unwrap()).lines();
        Self { child, requests, responses }
    }

    /// Makes this many calls; who answered how often, failures by their status code.
    pub async fn calls(&mut self, count: usize) -> BTreeMap<String, usize> {
        self.requests.write_all(format!("{count}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(LIMIT, self.responses.next_line()).await.expect("an answer");
        serde_json::from_str(&answer.unwrap().expect("the client still runs")).unwrap()
    }

    /// Calls until only these backends answer, and nothing fails on the way.
    pub async fn until_only(&mut self, backends: &[&str]) {
        let start = tokio::time::Instant::now();
        loop {
            let seen = self.calls(20).await;
            let names: Vec<&str> = seen.keys().map(String::as_str).collect();
            assert!(names.iter().all(|name| ["blue", "green"].contains(name)), "{seen:?}");
            if names == backends {
                return;
            }
            assert!(start.elapsed() < LIMIT, "still {seen:?}");
        }
    }

    /// Ends it.
    pub async fn end(mut self) {
        drop(self.requests);
        assert!(self.child.wait().await.unwrap().success());
    }
}
