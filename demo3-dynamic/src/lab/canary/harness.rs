//! Asks the student's rule what comes next.

use crate::student::{Plan, Seen, next};

/// `REQUESTS PERCENT MOST ALL GOT FAILED` in; the canary's share in per cent out.
pub fn answer(question: &str) -> String {
    let numbers: Vec<u64> = question.split(' ').map(|one| one.parse().expect("a number")).collect();
    let [requests, percent, most_failures, all, got, failed] = numbers[..] else { unreachable!() };
    let percent = u32::try_from(percent).expect("a share");
    let plan = Plan { requests, percent, most_failures };
    next(&plan, &Seen { all, canary: got, failed }).to_string()
}
