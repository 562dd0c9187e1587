//! No decision: what callers get, after how long, and whether anybody gets through.

use std::time::Duration;

use anyhow::Context;
use shared::report::Recorder;

use super::faults::{Fault, SLOW};
use super::mesh::Mesh;
use super::tables::{table, tell};
use crate::client::{Call, Protocol, Wish};
use crate::decision::PRINCIPAL;
use crate::topology::TIMEOUT;

/// Calls of each protocol at each door.
const CALLS: usize = 5;

/// How much sooner than its time a timeout may be seen: clocks tick in milliseconds.
const TICK: Duration = Duration::from_millis(5);

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
    passed: u64,
}

impl Mesh {
    /// The matrix: each fault, at a door that fails closed and at one that fails open.
    pub(super) async fn failures(&self, story: &mut Recorder) -> anyhow::Result<()> {
        story.note(format!("a decision may take {TIMEOUT:?}; every caller has a valid token"));
        let mut shown =
            table(["the authorizer", "failure_mode_allow", "gRPC, HTTP", "through", "p50", "longest"]);
        let mut outcomes = Vec::new();
        for fault in Fault::ALL {
            let closed = self.measure(&format!("closed-{}", fault.name())).await?;
            let open = self.measure(&format!("open-{}", fault.name())).await?;
            for (mode, seen) in [("false", &closed), ("true", &open)] {
                shown.add_row([
                    fault.what().to_owned(),
                    mode.to_owned(),
                    seen.statuses.join(", "),
                    format!("{} of {}", seen.reached, 2 * CALLS),
                    format!("{:.1?}", seen.median),
                    format!("{:.1?}", seen.longest),
                ]);
            }
            outcomes.push((fault, closed, open));
        }
        tell(story, &shown);
        for (fault, closed, open) in &outcomes {
            if *fault == Fault::Empty {
                trusts_every_byte(story, closed);
            } else {
                stays_shut(story, *fault, closed);
                lets_through(story, *fault, open);
            }
        }
        self.counted_as_errors(story).await?;
        self.unattended(story).await
    }

    /// What becomes of headers at an open door, while nobody looks after them.
    async fn unattended(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let caller = self.at(&format!("open-{}", Fault::Down.name()))?;
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Wish::Hello).token(&token).header(PRINCIPAL, "adam");
        let arrived = caller.call(Protocol::Http, &call).await?.arrived.context("an open door was shut")?;
        let has_token = arrived.headers.iter().any(|name| name == "authorization");
        story.claim(
            "open-door-headers",
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

    async fn measure(&self, door: &str) -> anyhow::Result<Measured> {
        let caller = self.at(door)?;
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Wish::Hello).token(&token);
        let before = self.backend.calls();
        let mut statuses = Vec::new();
        let mut took = Vec::new();
        let mut passed = 0;
        for protocol in Protocol::ALL {
            for _ in 0..CALLS {
                let seen =
                    caller.call(protocol, &call).await.with_context(|| format!("at the door {door}"))?;
                passed += u64::from(seen.passed());
                took.push(seen.took);
                statuses.push(seen.status);
            }
        }
        statuses.dedup();
        took.sort_unstable();
        let [shortest, .., longest] = took[..] else { anyhow::bail!("some calls were made") };
        let reached = self.backend.calls() - before;
        Ok(Measured { statuses, median: took[took.len() / 2], longest, shortest, reached, passed })
    }

    /// Envoy's own account of the matrix.
    async fn counted_as_errors(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let stats = self
            .envoy
            .admin()
            .stats("^http\\..*ext_authz\\.(closed|open)-.*\\.(error|failure_mode_allowed)$")
            .await?;
        let sum = |end: &str| {
            stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum::<u64>()
        };
        let (errors, allowed) = (sum(".error"), sum(".failure_mode_allowed"));
        let faults = Fault::ALL.len() as u64 - 1;
        let (both, open) = (faults * 4 * CALLS as u64, faults * 2 * CALLS as u64);
        story.claim(
            "errors-are-counted",
            "Envoy counts each of them as an error, and those that it let through in spite of it",
            format!("{both} errors, {open} let through"),
            format!("{errors} errors, {allowed} let through"),
            errors == both && allowed == open,
        );
        Ok(())
    }
}

impl Measured {
    fn told(&self, fault: Fault) -> String {
        let told = format!("{}; {} through; p50 {:.1?}", self.statuses.join(", "), self.reached, self.median);
        if fault.times_out() && self.gave_up_at_once() {
            return format!("{told}, and one after {:.1?}", self.shortest);
        }
        told
    }

    /// Whether a call ended long before its time. Envoy reckons a timer from when its event loop's turn began, not from
    /// when it was set: in a turn that the machine held up it ends somewhat sooner.
    fn gave_up_at_once(&self) -> bool {
        self.shortest < TIMEOUT / 2
    }
}

fn time(fault: Fault, seen: &Measured) -> (String, bool) {
    if fault.times_out() {
        // Neither sooner than the timeout nor as late as the slow one's answer.
        let well = !seen.gave_up_at_once() && seen.median + TICK >= TIMEOUT && seen.median < SLOW;
        (format!("after {TIMEOUT:?}"), well)
    } else {
        (format!("before {TIMEOUT:?} are over"), seen.median < TIMEOUT)
    }
}

fn stays_shut(story: &mut Recorder, fault: Fault, seen: &Measured) {
    let (when, in_time) = time(fault, seen);
    story.claim(
        &format!("closed-{}", fault.name()),
        &format!("The authorizer {}, failure_mode_allow is false: nobody gets through", fault.what()),
        format!("UNAVAILABLE, 503; 0 of {} through; {when}", 2 * CALLS),
        seen.told(fault),
        seen.statuses == ["UNAVAILABLE", "503"] && seen.reached == 0 && seen.passed == 0 && in_time,
    );
}

fn lets_through(story: &mut Recorder, fault: Fault, seen: &Measured) {
    let (when, in_time) = time(fault, seen);
    let all = 2 * CALLS as u64;
    story.claim(
        &format!("open-{}", fault.name()),
        &format!("The authorizer {}, failure_mode_allow is true: everybody gets through", fault.what()),
        format!("OK, 200; {all} of {all} through; {when}"),
        seen.told(fault),
        seen.statuses == ["OK", "200"] && seen.reached == all && seen.passed == all && in_time,
    );
}

fn trusts_every_byte(story: &mut Recorder, closed: &Measured) {
    let all = 2 * CALLS as u64;
    story.claim(
        "empty-is-a-yes",
        "A limit: an empty message is a valid CheckResponse, and a yes, also where doors fail closed",
        format!("{all} of {all} through"),
        format!("{} of {all} through", closed.reached),
        closed.reached == all,
    );
}
