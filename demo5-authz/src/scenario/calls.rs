//! Calls, and the witnesses of what became of them: the caller, the backend's count, the decision log.

use anyhow::Context;
use serde_json::Value;
use shared::report::Recorder;

use super::limits::{LIMIT, OFTEN};
use super::mesh::Mesh;
use crate::client::{Call, Caller, Failed, Protocol, Seen};

/// The same call by gRPC and by HTTP.
#[derive(Debug)]
pub(super) struct Both {
    pub(super) grpc: Seen,
    pub(super) http: Seen,
    /// How many of the two reached the backend, by its own count.
    pub(super) reached: u64,
}

impl Both {
    /// Both got these statuses, and the backend saw both of them or none.
    pub(super) fn are(&self, grpc: &str, http: &str) -> bool {
        let reached = if grpc == "OK" { 2 } else { 0 };
        self.grpc.status == grpc && self.http.status == http && self.reached == reached
    }

    /// Both statuses, and how many reached the backend.
    pub(super) fn told(&self) -> String {
        format!("{}, {}; {} of 2 reached the backend", self.grpc.status, self.http.status, self.reached)
    }
}

/// What somebody got, or that there was no connection.
pub(super) fn status(seen: &Result<Seen, Failed>) -> String {
    match seen {
        Ok(seen) => seen.status.clone(),
        Err(_) => "no connection".to_owned(),
    }
}

impl Mesh {
    /// One call by each protocol, at the same door.
    pub(super) async fn both(&self, caller: &Caller, call: &Call<'_>) -> anyhow::Result<Both> {
        let before = self.backend.calls();
        let grpc = caller.call(Protocol::Grpc, call).await?;
        let http = caller.call(Protocol::Http, call).await?;
        Ok(Both { grpc, http, reached: self.backend.calls() - before })
    }

    /// The decision log's line about this call.
    pub(super) async fn logged(&self, seen: &Seen) -> anyhow::Result<Value> {
        let id = seen.request_id().context("the answer has no x-request-id")?;
        let path = self.path("decisions.jsonl");
        let look = || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            std::future::ready(text.and_then(|text| {
                let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.find(|line| line["request_id"] == id).ok_or_else(|| "no line with that id".to_owned())
            }))
        };
        Ok(shared::poll::wait_until("the decision log", OFTEN, LIMIT, look).await?)
    }

    /// The decision log tells who and why, and nothing by which anybody could call in another's name.
    pub(super) async fn log_holds_no_token(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let text = tokio::fs::read_to_string(self.path("decisions.jsonl")).await?;
        let lines = text.lines().count();
        // Every token, good or bad, begins with the base64 of `{"`, and no other part of a line does.
        let tokens = text.lines().filter(|line| line.contains("eyJ") || line.contains("Bearer")).count();
        let well = text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        if lines == 0 {
            return Ok(());
        }
        story.claim(
            "log-holds-no-token",
            "The decision log is JSON lines, and holds no token",
            "0 lines with a token",
            format!("{tokens} of {lines} lines"),
            tokens == 0 && well,
        );
        Ok(())
    }
}
