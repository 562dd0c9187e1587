//! No decision: what callers get, after how long, and whether anybody gets through.

use std::time::Duration;

use anyhow::Context;
use shared::report::Recorder;

use super::faults::{Fault, SLOW_DELAY};
use super::mesh::Mesh;
use super::tables::{print_table, table};
use crate::client::{Call, Operation, Protocol};
use crate::decision::PRINCIPAL_HEADER;
use crate::topology::EXT_AUTHZ_TIMEOUT;

/// Calls of each protocol at each door.
const CALLS: usize = 5;

/// How much sooner than its time a timeout may be seen: clocks tick in milliseconds.
const TIMER_RESOLUTION: Duration = Duration::from_millis(5);

/// What came of the calls at one door.
struct Measured {
    statuses: Vec<String>,
    /// The middle one, and the longest.
    median: Duration,
    longest: Duration,
    shortest: Duration,
    /// How many reached the backend, by its own count.
    reached: u64,
    /// What the callers saw: how many got an answer of the backend.
    answered_by_backend: u64,
}

impl Mesh {
    /// The matrix: each fault, at a door that fails closed and at one that fails open.
    pub(super) async fn failures(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        recorder.note(format!("a decision may take {EXT_AUTHZ_TIMEOUT:?}; every caller has a valid token"));
        let mut table_rows =
            table(["the authorizer", "failure_mode_allow", "gRPC, HTTP", "through", "p50", "longest"]);
        let mut outcomes = Vec::new();
        for fault in Fault::ALL {
            let closed = self.measure(&format!("fail-closed-{}", fault.name())).await?;
            let open = self.measure(&format!("fail-open-{}", fault.name())).await?;
            for (mode, seen) in [("false", &closed), ("true", &open)] {
                table_rows.add_row([
                    fault.description().to_owned(),
                    mode.to_owned(),
                    seen.statuses.join(", "),
                    format!("{} of {}", seen.reached, 2 * CALLS),
                    format!("{:.1?}", seen.median),
                    format!("{:.1?}", seen.longest),
                ]);
            }
            outcomes.push((fault, closed, open));
        }
        print_table(recorder, &table_rows);
        for (fault, closed, open) in &outcomes {
            if *fault == Fault::EmptyResponse {
                claim_empty_response_allows(recorder, closed);
            } else {
                claim_fail_closed(recorder, *fault, closed);
                claim_fail_open(recorder, *fault, open);
            }
        }
        self.check_error_stats(recorder).await?;
        self.check_fail_open_headers(recorder).await
    }

    /// What becomes of headers at an open door, while nobody looks after them.
    async fn check_fail_open_headers(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.caller_at(&format!("fail-open-{}", Fault::Down.name()))?;
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Operation::Hello).with_token(&token).with_header(PRINCIPAL_HEADER, "adam");
        let arrived =
            caller.call(Protocol::Http, &call).await?.seen_by_backend.context("an open door was shut")?;
        let has_token = arrived.headers.iter().any(|name| name == "authorization");
        recorder.claim(
            "fail-open-headers",
            "A limit: through an open door the token goes on to the backend; a forged name still does not",
            "a token, and no name",
            format!(
                "{}, and \"{}\" as name",
                if has_token { "a token" } else { "no token" },
                arrived.principal
            ),
            has_token && arrived.principal.is_empty(),
        );
        Ok(())
    }

    async fn measure(&self, listener: &str) -> anyhow::Result<Measured> {
        let caller = self.caller_at(listener)?;
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Operation::Hello).with_token(&token);
        let before = self.backend.calls();
        let mut statuses = Vec::new();
        let mut duration = Vec::new();
        let mut answered_by_backend = 0;
        for protocol in Protocol::ALL {
            for _ in 0..CALLS {
                let seen =
                    caller.call(protocol, &call).await.with_context(|| format!("at the door {listener}"))?;
                answered_by_backend += u64::from(seen.reached_backend());
                duration.push(seen.duration);
                statuses.push(seen.status);
            }
        }
        statuses.dedup();
        duration.sort_unstable();
        let [shortest, .., longest] = duration[..] else { anyhow::bail!("some calls were made") };
        let reached = self.backend.calls() - before;
        Ok(Measured {
            statuses,
            median: duration[duration.len() / 2],
            longest,
            shortest,
            reached,
            answered_by_backend,
        })
    }

    /// Envoy's own account of the matrix.
    async fn check_error_stats(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let stats = self
            .envoy
            .admin()
            .stats("^http\\..*ext_authz\\.fail-(closed|open)-.*\\.(error|failure_mode_allowed)$")
            .await?;
        let sum = |end: &str| {
            stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum::<u64>()
        };
        let (errors, allowed) = (sum(".error"), sum(".failure_mode_allowed"));
        let faults = Fault::ALL.len() as u64 - 1;
        let (both, open) = (faults * 4 * CALLS as u64, faults * 2 * CALLS as u64);
        recorder.claim(
            "errors-counted",
            "Envoy counts each of them as an error, and those that it let through in spite of it",
            format!("{both} errors, {open} let through"),
            format!("{errors} errors, {allowed} let through"),
            errors == both && allowed == open,
        );
        Ok(())
    }
}

impl Measured {
    fn summary(&self, fault: Fault) -> String {
        let summary =
            format!("{}; {} through; p50 {:.1?}", self.statuses.join(", "), self.reached, self.median);
        if fault.times_out() && self.timed_out_early() {
            return format!("{summary}, and one after {:.1?}", self.shortest);
        }
        summary
    }

    /// Whether a call ended long before its time. Envoy reckons a timer from when its event loop's turn began, not from
    /// when it was set: in a turn that the machine held up it ends somewhat sooner.
    fn timed_out_early(&self) -> bool {
        self.shortest < EXT_AUTHZ_TIMEOUT / 2
    }
}

fn expected_time(fault: Fault, seen: &Measured) -> (String, bool) {
    if fault.times_out() {
        // Neither sooner than the timeout nor as late as the slow one's answer.
        let valid = !seen.timed_out_early()
            && seen.median + TIMER_RESOLUTION >= EXT_AUTHZ_TIMEOUT
            && seen.median < SLOW_DELAY;
        (format!("after {EXT_AUTHZ_TIMEOUT:?}"), valid)
    } else {
        (format!("before {EXT_AUTHZ_TIMEOUT:?} are over"), seen.median < EXT_AUTHZ_TIMEOUT)
    }
}

fn claim_fail_closed(recorder: &mut Recorder, fault: Fault, seen: &Measured) {
    let (when, in_time) = expected_time(fault, seen);
    recorder.claim(
        &format!("fail-closed-{}", fault.name()),
        &format!("The authorizer {}, failure_mode_allow is false: nobody gets through", fault.description()),
        format!("UNAVAILABLE, 503; 0 of {} through; {when}", 2 * CALLS),
        seen.summary(fault),
        seen.statuses == ["UNAVAILABLE", "503"]
            && seen.reached == 0
            && seen.answered_by_backend == 0
            && in_time,
    );
}

fn claim_fail_open(recorder: &mut Recorder, fault: Fault, seen: &Measured) {
    let (when, in_time) = expected_time(fault, seen);
    let all = 2 * CALLS as u64;
    recorder.claim(
        &format!("fail-open-{}", fault.name()),
        &format!(
            "The authorizer {}, failure_mode_allow is true: everybody gets through",
            fault.description()
        ),
        format!("OK, 200; {all} of {all} through; {when}"),
        seen.summary(fault),
        seen.statuses == ["OK", "200"] && seen.reached == all && seen.answered_by_backend == all && in_time,
    );
}

fn claim_empty_response_allows(recorder: &mut Recorder, closed: &Measured) {
    let all = 2 * CALLS as u64;
    recorder.claim(
        "empty-response-allows",
        "A limit: an empty message is a valid CheckResponse, and a yes, also where doors fail closed",
        format!("{all} of {all} through"),
        format!("{} of {all} through", closed.reached),
        closed.reached == all,
    );
}
