//! What several steps claim, and how they wait.

use std::time::Duration;

use shared::poll;
use shared::report::Recorder;
use shared::stats::{Fit, Shares};

use super::limits::LIMIT;
use crate::caller::{Call, Tally};

/// No call of these failed.
pub(super) fn no_call_failed(recorder: &mut Recorder, id: &str, claim: &str, calls: &[Call]) {
    let seen: Tally = calls.iter().collect();
    recorder.claim(
        id,
        claim,
        format!("0 of {} fail", calls.len()),
        failures(&seen),
        seen.failed() == 0 && !calls.is_empty(),
    );
}

/// How many calls failed, and with what.
pub(super) fn failures(seen: &Tally) -> String {
    let why = seen
        .first_failure
        .as_ref()
        .map(|(_, status)| format!(", the first with {:?}: {}", status.code(), status.message()));
    format!("{} fail{}", seen.failed(), why.unwrap_or_default())
}

/// Every call was answered, and the shares fit.
pub(super) fn shares_fit(
    recorder: &mut Recorder,
    id: &str,
    claim: &str,
    expected: &str,
    seen: &Tally,
    fit: Fit,
) {
    let mut seen_text = format!("{}; chi² {:.2}", seen.shares, fit.statistic);
    if seen.failed() > 0 {
        seen_text += &format!("; {}", failures(seen));
    }
    recorder.claim(
        id,
        claim,
        format!("{expected} of {} calls, chi² at most {:.2}", fit.n, fit.bound),
        seen_text,
        fit.holds() && seen.failed() == 0,
    );
}

/// The same calls counted by region, which is the part of a backend's name before the last dash.
pub(crate) fn by_region(shares: &Shares) -> Shares {
    let mut regions = Shares::default();
    for (name, calls) in shares.iter() {
        let region = name.rsplit_once('-').map_or(name, |(region, _)| region);
        (0..calls).for_each(|_| regions.count(region));
    }
    regions
}

/// Waits for a fact that can be looked up at once.
pub(super) async fn wait_for(
    what: &str,
    mut check: impl FnMut() -> Result<(), String>,
) -> anyhow::Result<()> {
    Ok(poll::wait_until(what, Duration::from_millis(5), LIMIT, || std::future::ready(check())).await?)
}

/// Milliseconds, for people.
pub(super) fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}
