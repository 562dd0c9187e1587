//! When a value is published. Does not know what a source reads.

use std::time::Duration;

use super::source::{Reading, Source};

/// How long a changed file must stay the same before it is published. An editor or `cp` writes a file in a few
/// milliseconds.
pub const CONFIRM_AFTER: Duration = Duration::from_millis(250);

/// How often a source is read, and whether a change must be seen twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollTiming {
    /// The time between two looks.
    pub every: Duration,
    /// The time between a change and the look that confirms it. `None` publishes after one look, for sources that
    /// change as a whole.
    pub confirm: Option<Duration>,
}

/// The result of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome<V> {
    /// The content is what was published last.
    Unchanged,
    /// The content changed, and the next look must confirm it.
    Unconfirmed,
    /// A new value.
    Value(V),
}

/// What [`Follower::follow`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// A new value.
    Value(V),
    /// The source cannot be read or parsed. Reported once for each message.
    Failed(String),
    /// After an error, the content is again what was published last.
    Restored,
}

/// Reads a source again and again, and publishes the values that are complete and valid.
#[derive(Debug)]
pub struct Follower<S: Source> {
    source: S,
    pace: PollTiming,
    published: Option<S::Content>,
    /// The look before, if it found a change.
    unconfirmed: Option<Reading<S::Content>>,
    wait: Duration,
}

impl<S: Source> Follower<S> {
    /// Follows a source that has not been read yet.
    pub fn new(source: S, pace: PollTiming) -> Self {
        Self { source, pace, published: None, unconfirmed: None, wait: Duration::ZERO }
    }

    /// Returns the source, to change how it is read.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Reads the source once.
    ///
    /// A change is a value only if the look before found the same content and the same times: half of a file may well
    /// parse. An error in between means that two more looks have to agree.
    ///
    /// # Errors
    /// If the source cannot be read or parsed. The value published last is still the valid one.
    pub fn poll(&mut self) -> Result<PollOutcome<S::Value>, S::Error> {
        self.wait = self.pace.every;
        let before = self.unconfirmed.take();
        let reading = self.source.read()?;
        if self.published.as_ref() == Some(&reading.content) {
            return Ok(PollOutcome::Unchanged);
        }
        if let Some(confirm) = self.pace.confirm
            && before.as_ref() != Some(&reading)
        {
            self.wait = confirm;
            self.unconfirmed = Some(reading);
            return Ok(PollOutcome::Unconfirmed);
        }
        match self.source.parse(&reading.content) {
            Ok(value) => {
                self.published = Some(reading.content);
                Ok(PollOutcome::Value(value))
            }
            Err(error) => {
                // The same content fails again at the next look, so that the error lasts as long as its cause.
                self.unconfirmed = Some(reading);
                Err(error)
            }
        }
    }

    /// Looks until there is a value, on this thread: for the start, when nothing else can run yet.
    ///
    /// # Errors
    /// The first error, because no earlier value can be kept.
    pub async fn first(&mut self) -> Result<S::Value, S::Error> {
        loop {
            if let PollOutcome::Value(value) = self.poll()? {
                return Ok(value);
            }
            tokio::time::sleep(self.wait).await;
        }
    }

    /// Looks for as long as it is polled, and reports what changes. Logs each error once, followed by `kept`: a few words
    /// that say what stays in use.
    pub async fn follow(mut self, kept: &str, mut report: impl FnMut(Change<S::Value>))
    where
        S::Content: 'static,
        S::Value: 'static,
        S::Error: 'static,
    {
        let mut failure = String::new();
        loop {
            tokio::time::sleep(self.wait).await;
            // A disk or a name server can take long.
            let looked = tokio::task::spawn_blocking(move || (self.poll(), self)).await;
            let look = match looked {
                Ok((look, follower)) => {
                    self = follower;
                    look
                }
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime shuts down.
                    Err(_) => return,
                },
            };
            match look {
                Ok(PollOutcome::Unconfirmed) => {}
                Ok(PollOutcome::Unchanged) if failure.is_empty() => {}
                Ok(PollOutcome::Unchanged) => {
                    failure.clear();
                    report(Change::Restored);
                }
                Ok(PollOutcome::Value(value)) => {
                    failure.clear();
                    report(Change::Value(value));
                }
                Err(error) => {
                    let message = error.to_string();
                    if message != failure {
                        tracing::warn!("{message}; {kept}");
                        failure.clone_from(&message);
                        report(Change::Failed(message));
                    }
                }
            }
        }
    }
}
