//! The statistics that claims are held to: they catch what is wrong, and let pass what is chance.

use std::time::Duration;

use shared::stats::{Latencies, Shares};

fn shares(counts: &[(&str, usize)]) -> Shares {
    counts.iter().flat_map(|(name, calls)| std::iter::repeat_n(*name, *calls)).collect()
}

#[test]
fn the_bound_matches_the_chi_square_table() {
    // From any table of the chi-square distribution: 2 degrees of freedom, p = 0.000001.
    let fit = shares(&[("a", 100), ("b", 100), ("c", 100)]).fit_evenly(["a", "b", "c"]);
    assert!((fit.bound - 27.631).abs() < 0.001, "{fit}");
    assert_eq!((fit.n, fit.statistic), (300, 0.0));
    assert!(fit.holds());
}

#[test]
fn counts_within_sampling_error_hold() {
    // Two standard deviations off: chance does that once in twenty times.
    assert!(shares(&[("a", 167), ("b", 133)]).fit_evenly(["a", "b"]).holds());
}

#[test]
fn counts_outside_sampling_error_are_broken() {
    assert!(!shares(&[("a", 200), ("b", 100)]).fit_evenly(["a", "b"]).holds());
    assert!(!shares(&[("a", 300)]).fit_evenly(["a", "b"]).holds());
}

/// Goes through every outcome of `n` calls that truly have the shares `truth`, and adds up how probable those are
/// that the test against `claimed` calls broken.
fn false_alarm_rate(n: usize, claimed: [f64; 3], truth: [f64; 3]) -> f64 {
    let mut factorials = vec![0.0];
    (1..=n).for_each(|k| factorials.push(factorials[k - 1] + (k as f64).ln()));
    let names = ["a", "b", "c"];
    let bound = shares(&[("a", n)]).fit(names.into_iter().zip(claimed)).bound;
    let mut sum = 0.0;
    for a in 0..=n {
        for b in 0..=n - a {
            let counts = [a, b, n - a - b];
            let expected = claimed.map(|share| share * n as f64);
            let off = |(count, expected): (&usize, f64)| (*count as f64 - expected).powi(2) / expected;
            if counts.iter().zip(expected).map(off).sum::<f64>() > bound {
                let ways = factorials[n] - counts.iter().map(|count| factorials[*count]).sum::<f64>();
                let odds: f64 =
                    counts.iter().zip(truth).map(|(count, share)| *count as f64 * share.ln()).sum();
                sum += (ways + odds).exp();
            }
        }
    }
    sum
}

#[test]
fn a_correct_split_raises_a_false_alarm_as_rarely_as_documented() {
    let alike = [1.0 / 3.0; 3];
    assert!(false_alarm_rate(600, alike, alike) < 1.2e-6);
    // The smallest of them expects 50.
    let split = [0.7, 0.2, 0.1];
    assert!(false_alarm_rate(500, split, split) < 2.5e-6);
    // Why not fewer: three.
    let few = false_alarm_rate(30, [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]);
    assert!((3e-5..4e-5).contains(&few), "{few}");
}

#[test]
fn a_wrong_split_is_detected_with_enough_calls() {
    let alike = [1.0 / 3.0; 3];
    for one in [0.5, 1.5] {
        let other = (1.0 - one / 3.0) / 2.0;
        let seen = false_alarm_rate(600, alike, [one / 3.0, other, other]);
        assert!(seen > 0.9994, "{one}: {seen}");
        assert!(false_alarm_rate(300, alike, [one / 3.0, other, other]) < 0.9);
    }
    assert!(false_alarm_rate(500, [0.7, 0.2, 0.1], alike) > 0.999_999);
}

#[test]
fn weights_are_relative() {
    let seen = shares(&[("a", 210), ("b", 60), ("c", 30)]);
    assert!(seen.fit([("a", 70.0), ("b", 20.0), ("c", 10.0)]).holds());
    assert!(seen.fit([("a", 7.0), ("b", 2.0), ("c", 1.0)]).holds());
    assert!(!seen.fit_evenly(["a", "b", "c"]).holds());
}

#[test]
fn a_call_to_a_name_with_no_share_is_broken() {
    let seen = shares(&[("a", 150), ("b", 150), ("c", 1)]);
    assert!(!seen.fit([("a", 1.0), ("b", 1.0), ("c", 0.0)]).holds());
    assert!(!seen.fit_evenly(["a", "b"]).holds());
}

#[test]
fn zero_calls_do_not_hold() {
    assert!(!Shares::default().fit_evenly(["a", "b"]).holds());
    assert_eq!(Shares::default().to_string(), "no calls");
}

#[test]
fn percentiles_match_the_recorded_durations() {
    let mut latencies = Latencies::default();
    assert!(latencies.is_empty());
    (1..=1000).for_each(|n| latencies.record(Duration::from_micros(n * 10)));
    let near = |seen: Duration, expected: u64| {
        let off = seen.as_micros().abs_diff(u128::from(expected));
        assert!(off * 500 <= u128::from(expected), "{seen:?}, not {expected} µs");
    };
    near(latencies.percentile(50.0), 5_000);
    near(latencies.percentile(99.0), 9_900);
    near(latencies.max(), 10_000);
    assert_eq!(latencies.len(), 1000);
    latencies.record(Duration::from_secs(86_400));
    near(latencies.max(), 3_600_000_000);
}
