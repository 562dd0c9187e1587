//! From when until when a certificate counts.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::PkiError;

/// How far [`Validity::from_now`] dates back: a peer whose clock is a little slow must not take a new
/// certificate for one from the future.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// 9999-12-31 23:59:59 UTC, the last second that a certificate can name.
const MAX_TIMESTAMP: i64 = 253_402_300_799;

/// From when until when a certificate counts, both ends included, in whole seconds as certificates have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    /// From five minutes ago (clocks differ) until `length` from now.
    ///
    /// # Errors
    /// [`PkiError::BadValidity`] if the end is past the year 9999.
    pub fn from_now(length: Duration) -> Result<Self, PkiError> {
        let now = SystemTime::now();
        let end =
            now.checked_add(length).ok_or(PkiError::BadValidity { why: "it ends after the year 9999" })?;
        Self::between(now - CLOCK_SKEW, end)
    }

    /// Just from `not_before` until `not_after`, fractions of a second dropped.
    ///
    /// # Errors
    /// [`PkiError::BadValidity`] if it ends before it begins, or lies outside of the years 1970 to 9999.
    pub fn between(not_before: SystemTime, not_after: SystemTime) -> Result<Self, PkiError> {
        let (not_before, not_after) = (seconds(not_before), seconds(not_after));
        let bad = |why| Err(PkiError::BadValidity { why });
        match () {
            () if not_after < not_before => bad("it ends before it begins"),
            () if not_before < 0 => bad("it begins before the year 1970"),
            () if not_after > MAX_TIMESTAMP => bad("it ends after the year 9999"),
            () => Ok(Self { not_before, not_after }),
        }
    }

    /// What a certificate of somebody else says; it may well make no sense.
    pub(super) fn read(not_before: i64, not_after: i64) -> Self {
        Self { not_before, not_after }
    }

    /// The first second.
    pub fn not_before(self) -> SystemTime {
        system_time(self.not_before)
    }

    /// The last second.
    pub fn not_after(self) -> SystemTime {
        system_time(self.not_after)
    }

    /// Whether a certificate counts at this time.
    #[must_use]
    pub fn contains(self, at: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&seconds(at))
    }

    /// Both ends, for rcgen.
    pub(super) fn dates(self) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
        let date = |second| {
            OffsetDateTime::from_unix_timestamp(second)
                .map_err(|_| PkiError::BadValidity { why: "there is no such date" })
        };
        Ok((date(self.not_before)?, date(self.not_after)?))
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", utc(self.not_before()), utc(self.not_after()))
    }
}

/// A point in time for people: `2026-01-31 08:00:00 UTC`.
pub(super) fn utc(at: SystemTime) -> String {
    let second = seconds(at);
    match OffsetDateTime::from_unix_timestamp(second) {
        Ok(at) => {
            let (year, month, day) = at.to_calendar_date();
            let (hour, minute, second) = at.to_hms();
            format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC", u8::from(month))
        }
        Err(_) => format!("second {second} of 1970"),
    }
}

/// Whole seconds since 1970, rounded down also before that.
pub(super) fn seconds(at: SystemTime) -> i64 {
    let whole = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => {
            let before = before.duration();
            (-whole(before)).saturating_sub(i64::from(before.subsec_nanos() > 0))
        }
    }
}

fn system_time(second: i64) -> SystemTime {
    let length = Duration::from_secs(second.unsigned_abs());
    let time = if second < 0 { UNIX_EPOCH.checked_sub(length) } else { UNIX_EPOCH.checked_add(length) };
    // Only a date that no certificate can hold is out of the system's range.
    time.unwrap_or(UNIX_EPOCH)
}
