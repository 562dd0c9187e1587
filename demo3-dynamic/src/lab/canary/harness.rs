//! Asks the student's rule what comes next.

use crate::student::{Plan, Counts, next_percent};

/// `REQUESTS PERCENT MOST ALL GOT FAILED` in; the canary's share in per cent out.
pub fn answer(question: &str) -> String {
    let numbers: Vec<u64> = question.split(' ').map(|one| one.parse().expect("a number")).collect();
    let [requests, percent, max_failure_percent, all, canary, failed] = numbers[..] else { unreachable!() };
    let percent = u32::try_from(percent).expect("a share");
    let plan = Plan { requests, percent, max_failure_percent };
    next_percent(&plan, &Counts { all, canary, failed }).to_string()
}
