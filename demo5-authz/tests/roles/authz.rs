//! An authorizer as a process, with keys, policies and a log of its own. Does not know what it is asked.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use demo5_authz::client::Caller;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use rustix::process::{Pid, Signal, kill_process};
use shared::poll::wait_until;
use tempfile::TempDir;

use super::common::{LIMIT, OFTEN, file};
use super::{SERVER, command, keys};

/// A running authorizer of its own.
pub(crate) struct Authz {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
    pub(crate) keys: TempDir,
}

impl Authz {
    pub(crate) fn start(args: &[&str]) -> Self {
        let keys = keys();
        let policies = keys.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for name in ["greeter.cedar", "clearance.cedar"] {
            std::fs::copy(file("policies").join(name), policies.join(name)).unwrap();
        }
        let decisions = keys.path().join("decisions.jsonl");
        let log = if args.contains(&"--decision-log") {
            vec![]
        } else {
            vec!["--decision-log".as_ref(), decisions.as_os_str()]
        };
        let mut child = command(SERVER)
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .arg("--jwks")
            .arg(keys.path().join("public/jwks.json"))
            .arg("--policies")
            .arg(&policies)
            .args(log)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut address = |of: &str| {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended early: {:?}", child.try_wait());
            assert!(line.contains(of), "{line}");
            line.trim().rsplit(' ').next().unwrap().parse().unwrap()
        };
        let (metrics, address) = (address("serves metrics on"), address("listens on"));
        Self { child, address, metrics, keys }
    }

    pub(crate) async fn client(&self) -> AuthorizationClient<tonic::transport::Channel> {
        let client = AuthorizationClient::connect(format!("http://{}", self.address)).await.unwrap();
        client.max_encoding_message_size(64 << 20)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.keys.path().join("decisions.jsonl")).unwrap()
    }

    pub(crate) async fn page(&self) -> String {
        let caller = Caller::plain(self.metrics).unwrap();
        let page =
            caller.http(http::Method::GET, "/metrics", http::HeaderMap::new(), bytes::Bytes::new()).await;
        page.unwrap().message
    }

    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let ended = || {
            std::future::ready(match self.child.try_wait() {
                Ok(Some(status)) => Ok(status.code()),
                other => Err(format!("{other:?}")),
            })
        };
        wait_until("its end", OFTEN, LIMIT, ended).await.unwrap()
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }
}

impl Drop for Authz {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
