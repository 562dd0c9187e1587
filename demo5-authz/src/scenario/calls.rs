//! Calls, and the witnesses of what became of them: the caller, the backend's count, the decision log.

use anyhow::Context;
use serde_json::Value;
use shared::report::Recorder;

use super::limits::{LIMIT, OFTEN};
use super::mesh::Mesh;
use crate::client::{Call, CallError, CallResult, Caller, Protocol};

/// The same call by gRPC and by HTTP.
#[derive(Debug)]
pub(super) struct CallPair {
    pub(super) grpc: CallResult,
    pub(super) http: CallResult,
    /// How many of the two reached the backend, by its own count.
    pub(super) reached: u64,
}

impl CallPair {
    /// Both got these statuses, and the backend saw both of them or none.
    pub(super) fn have_statuses(&self, grpc: &str, http: &str) -> bool {
        let reached = if grpc == "OK" { 2 } else { 0 };
        self.grpc.status == grpc && self.http.status == http && self.reached == reached
    }

    /// Both statuses, and how many reached the backend.
    pub(super) fn summary(&self) -> String {
        format!("{}, {}; {} of 2 reached the backend", self.grpc.status, self.http.status, self.reached)
    }
}

/// What somebody got, or that there was no connection.
pub(super) fn status(seen: &Result<CallResult, CallError>) -> String {
    match seen {
        Ok(seen) => seen.status.clone(),
        Err(_) => "no connection".to_owned(),
    }
}

impl Mesh {
    /// One call by each protocol, at the same door.
    pub(super) async fn call_both(&self, caller: &Caller, call: &Call<'_>) -> anyhow::Result<CallPair> {
        let before = self.backend.calls();
        let grpc = caller.call(Protocol::Grpc, call).await?;
        let http = caller.call(Protocol::Http, call).await?;
        Ok(CallPair { grpc, http, reached: self.backend.calls() - before })
    }

    /// The decision log's line about this call.
    pub(super) async fn log_entry(&self, seen: &CallResult) -> anyhow::Result<Value> {
        let id = seen.request_id().context("the answer has no x-request-id")?;
        let path = self.path("decisions.jsonl");
        let check = || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            std::future::ready(text.and_then(|text| {
                let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.find(|line| line["request_id"] == id).ok_or_else(|| "no line with that id".to_owned())
            }))
        };
        Ok(shared::poll::wait_until("the decision log", OFTEN, LIMIT, check).await?)
    }

    /// The decision log tells who and why, and nothing by which anybody could call in another's name.
    pub(super) async fn check_log_has_no_token(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let text = tokio::fs::read_to_string(self.path("decisions.jsonl")).await?;
        let lines = text.lines().count();
        // Every token, good or bad, begins with the base64 of `{"`, and no other part of a line does.
        let tokens = text.lines().filter(|line| line.contains("eyJ") || line.contains("Bearer")).count();
        let valid = text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        if lines == 0 {
            return Ok(());
        }
        recorder.claim(
            "log-no-token",
            "The decision log is JSON lines, and holds no token",
            "0 lines with a token",
            format!("{tokens} of {lines} lines"),
            tokens == 0 && valid,
        );
        Ok(())
    }
}
