//! A load with an open loop: a request starts at its time, whether or not those before it were answered.
//!
//! Latency counts from when a request was *due*. Counted from when it was sent, a stall of the client or of the
//! server would hide itself: the requests that it held up would not count it ("coordinated omission").

use std::time::{Duration, Instant};

use http::Uri;
use shared::stats::Latencies;
use tokio::task::JoinSet;

use shared::client::Client;

/// The most requests in flight. With none left the load waits: the machine cannot carry what was asked for.
const IN_FLIGHT: usize = 1000;

/// How long a request may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub uri: Uri,
    /// Requests a second.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests that were sent.
    pub sent: u64,
    /// Of these, answered with a status of success.
    pub succeeded: u64,
    /// Why the first other one was not.
    pub first_failure: Option<String>,
    /// How long they took, successful or not, from when they were due.
    pub latencies: Latencies,
    /// How long the whole took.
    pub took: Duration,
}

impl Outcome {
    /// How many were not answered with success.
    pub fn failed(&self) -> u64 {
        self.sent - self.succeeded
    }

    /// How many took up to so long, and longer than the one before: 1, 2, 5, 10, ... ms, from the first that has any to
    /// the last.
    pub fn buckets(&self) -> Vec<(Duration, u64)> {
        let ends = (0..6).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
        let (mut buckets, mut before) = (Vec::new(), 0);
        for end in ends.map(Duration::from_millis) {
            let until = self.latencies.count_at_most(end);
            buckets.push((end, until - before));
            before = until;
        }
        let has = |bucket: &(Duration, u64)| bucket.1 > 0;
        let first = buckets.iter().position(has).unwrap_or(buckets.len());
        let last = buckets.iter().rposition(has).map_or(first, |last| last + 1);
        buckets[first..last].to_vec()
    }

    fn count(&mut self, ended: Result<(Duration, Result<(), String>), tokio::task::JoinError>) {
        // The tasks neither panic nor are they aborted.
        let Ok((took, answer)) = ended else { return };
        self.latencies.record(took);
        match answer {
            Ok(()) => self.succeeded += 1,
            Err(why) => _ = self.first_failure.get_or_insert(why),
        }
    }
}

impl Plan {
    /// How many requests this makes.
    pub fn requests(&self) -> u64 {
        u64::from(self.rate) * u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX) / 1000
    }

    /// Sends it all, and waits for every answer. `tick` is called with each request that is sent.
    pub async fn run(&self, mut tick: impl FnMut()) -> Outcome {
        let client = Client::new(LIMIT);
        let mut outcome = Outcome::default();
        let mut flying = JoinSet::new();
        let begun = Instant::now();
        let every = Duration::from_secs(1) / self.rate.max(1);
        for number in 0..self.requests() {
            let due = begun + every.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            tokio::time::sleep_until(due.into()).await;
            while let Some(ended) = flying.try_join_next() {
                outcome.count(ended);
            }
            if flying.len() >= IN_FLIGHT
                && let Some(ended) = flying.join_next().await
            {
                outcome.count(ended);
            }
            let (client, uri) = (client.clone(), self.uri.clone());
            flying.spawn(async move {
                let answer = match client.get(uri).await {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    Ok(answer) => Err(answer.status().to_string()),
                    Err(error) => Err(error.to_string()),
                };
                (due.elapsed(), answer)
            });
            outcome.sent += 1;
            tick();
        }
        while let Some(ended) = flying.join_next().await {
            outcome.count(ended);
        }
        outcome.took = begun.elapsed();
        outcome
    }
}
