//! The statistics that claims are held to: shares against a chi-square bound, latencies as percentiles.
//!
//! A claim about shares must not raise false alarms, and must not pass by luck: [`Fit`] compares the
//! chi-square statistic with the value that a true hypothesis exceeds once in a million times, so that
//! a story with fifty such claims is wrongly called broken at most once in 10,000 runs, even though the
//! chi-square distribution is an approximation: by the exact one it is 2 in a million where a name expects 50 calls,
//! and 34 in a million where it expects three.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use hdrhistogram::Histogram;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF};

/// How often a single [`acceptance_interval`] may be missed though the share is right: a run with ten of them raises a false alarm
/// at most once in 10,000 times.
pub const FALSE_ALARM_RATE: f64 = 1e-5;

/// How often a single [`Fit`] may be called broken though it holds. A story has more of them than ten.
pub const FIT_FALSE_ALARM_RATE: f64 = 1e-6;

/// How many calls each name answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(BTreeMap<String, u64>);

/// Shares measured against shares expected (Pearson's chi-square test).
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Calls in all.
    pub n: u64,
    /// Pearson's statistic: the sum of (seen - expected)^2 / expected. Infinite if a name answered
    /// that was expected to have no share.
    pub statistic: f64,
    /// What the statistic may be at most.
    pub bound: f64,
}

impl Shares {
    /// Counts one call that `name` answered.
    pub fn count(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(calls) => *calls += 1,
            None => drop(self.0.insert(name.to_owned(), 1)),
        }
    }

    /// Shares that were counted before: names, and the calls that each answered.
    pub fn from_counts<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        Self(counts.into_iter().map(|(name, calls)| (name.to_owned(), calls)).collect())
    }

    /// Calls that `name` answered.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Calls in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The names with their calls, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, calls)| (name.as_str(), *calls))
    }

    /// Tests these shares against `weights`: what share each name should have, in any unit.
    ///
    /// Send enough calls for an expected count of 50 or more for each name: with fewer the test calls what holds
    /// broken more often than it promises (see the module's documentation). How small a difference is seen is a
    /// matter of `n` too: of 600 calls over three equal names, one that truly gets half or one and a half of its share
    /// is missed once in 1,900 times; of 300 once in five. Fewer than two names leave nothing to test: the bound is then 0, which
    /// only a perfect match meets.
    pub fn fit<'a>(&self, weights: impl IntoIterator<Item = (&'a str, f64)>) -> Fit {
        let weights: BTreeMap<&str, f64> = weights.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        let whole: f64 = weights.values().sum();
        let n = self.total();
        let stranger = self.0.iter().any(|(name, calls)| *calls > 0 && !weights.contains_key(name.as_str()));
        let statistic = if stranger || n == 0 {
            f64::INFINITY
        } else {
            weights
                .iter()
                .map(|(name, weight)| {
                    let expected = n as f64 * weight / whole;
                    (self.of(name) as f64 - expected).powi(2) / expected
                })
                .sum()
        };
        let freedom = weights.len().saturating_sub(1);
        let bound = match ChiSquared::new(freedom as f64) {
            Ok(distribution) => distribution.inverse_cdf(1.0 - FIT_FALSE_ALARM_RATE),
            // No degree of freedom.
            Err(_) => 0.0,
        };
        Fit { n, statistic, bound }
    }

    /// Tests these shares against equal shares for `names`.
    pub fn fit_evenly<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Fit {
        self.fit(names.into_iter().map(|name| (name, 1.0)))
    }
}

impl<'a> FromIterator<&'a str> for Shares {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut shares = Self::default();
        names.into_iter().for_each(|name| shares.count(name));
        shares
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no calls");
        }
        for (at, (name, calls)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {calls}")?;
        }
        Ok(())
    }
}

impl Fit {
    /// Whether the statistic is within the bound.
    pub fn holds(&self) -> bool {
        self.statistic <= self.bound
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chi² {:.2}, bound {:.2}, n {}", self.statistic, self.bound, self.n)
    }
}

/// How many of `n` calls may go to a name whose share (0 to 1) is this: the counts that chance leaves with a
/// probability of [`FALSE_ALARM_RATE`] at most, by the binomial distribution.
///
/// ```
/// assert_eq!(shared::stats::acceptance_interval(300, 0.7), 174..=244);
/// ```
pub fn acceptance_interval(n: u64, share: f64) -> RangeInclusive<u64> {
    match Binomial::new(share.clamp(0.0, 1.0), n) {
        Ok(calls) => {
            calls.inverse_cdf(FALSE_ALARM_RATE / 2.0)..=calls.inverse_cdf(1.0 - FALSE_ALARM_RATE / 2.0)
        }
        // A share that is no number.
        Err(_) => 0..=n,
    }
}

/// How far a measured share may be from this one in `n` calls, as a share: the wider side of its [`acceptance_interval`].
pub fn reach(n: u64, share: f64) -> f64 {
    let (acceptance_interval, all) = (acceptance_interval(n, share), n.max(1) as f64);
    (share - *acceptance_interval.start() as f64 / all).max(*acceptance_interval.end() as f64 / all - share)
}

/// The longest duration that is told apart from longer ones: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Durations, kept in microseconds with three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are constants, and in order"))
    }
}

impl Latencies {
    /// Adds one duration.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The duration that `percent` of those recorded do not exceed; zero if none was recorded.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.0.value_at_percentile(percent))
    }

    /// How many took at most this long.
    pub fn count_at_most(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        self.0.count_between(0, limit)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50.0), self.percentile(99.0));
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, max {:.1?}", self.max())
    }
}
