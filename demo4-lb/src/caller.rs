//! A client that keeps notes: who answered each call, when, after how long, or what went wrong.
//!
//! It calls over a [`Transport`], and does not know what is behind: one backend, an Envoy that picks one
//! for each call, or a gRPC client that speaks xDS itself and picks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use shared::proto::echo::EchoRequest;
use shared::proto::echo::echo_client::EchoClient;
use shared::stats::{Latencies, Shares};
use tonic::{Code, Request, Status};

mod transport;
pub use transport::{CallerError, NODE_ID_PREFIX, Transport};

mod kinds;
pub use kinds::{Kind, Replies};

mod load;
pub use load::Load;

/// How long one call may take, connecting included.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// A client of the echo service. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Caller {
    client: EchoClient<Transport>,
}

/// One call and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was sent.
    pub started: Instant,
    /// The time from start to end.
    pub duration: Duration,
    /// The name of the backend that answered, or why none did.
    pub result: Result<String, Status>,
}

impl Caller {
    /// A caller of `target` (`http://HOST:PORT`), which connects with its first call.
    ///
    /// # Errors
    /// [`CallerError::Target`] if the target is of another form.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(target: &str) -> Result<Self, CallerError> {
        Ok(Self { client: EchoClient::new(Transport::direct(target)?) })
    }

    /// A caller that asks the control plane at this address (`HOST:PORT`) itself how to reach `xds:///service`.
    ///
    /// # Errors
    /// [`CallerError::Proxyless`] if the client library refuses the names.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn proxyless(control_plane: impl std::fmt::Display, service: &str) -> Result<Self, CallerError> {
        Ok(Self { client: EchoClient::new(Transport::proxyless(control_plane, service)?) })
    }

    /// Makes one call and waits for its end, at most [`DEADLINE`].
    pub async fn call(&self) -> Call {
        let mut request = Request::new(EchoRequest { text: "hello".to_owned() });
        // The server learns the deadline; the timer here holds where no server answers.
        request.set_timeout(DEADLINE);
        let mut client = self.client.clone();
        let started = Instant::now();
        let result = match tokio::time::timeout(DEADLINE, client.say(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner().backend),
            Ok(Err(status)) if status.code() != Code::Cancelled || started.elapsed() < DEADLINE => {
                Err(status)
            }
            // tonic's own timer, if it rings first, calls its end a cancellation.
            Ok(Err(_)) | Err(_) => Err(Status::deadline_exceeded(format!("no answer within {DEADLINE:?}"))),
        };
        Call { started, duration: started.elapsed(), result }
    }

    /// Makes `n` calls, at most `concurrency` of them at once, as fast as they are answered.
    ///
    /// A closed loop: a slow answer delays the calls after it. [`Load`] does not wait.
    pub async fn calls(&self, n: usize, concurrency: usize) -> Vec<Call> {
        self.call_stream(n, concurrency).collect().await
    }

    /// Like [`calls`](Self::calls), but yields each call when it ends, so that the receiver can stop early.
    pub fn call_stream(&self, n: usize, concurrency: usize) -> impl futures::Stream<Item = Call> {
        futures::stream::iter(0..n).map(|_| self.call()).buffer_unordered(concurrency.max(1))
    }
}

impl Call {
    /// When it ended.
    pub fn ended(&self) -> Instant {
        self.started + self.duration
    }

    /// Whether the backend of this name answered it.
    pub fn answered_by(&self, backend: &str) -> bool {
        self.result.as_ref().is_ok_and(|name| name == backend)
    }
}

/// What many calls add up to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls answered, by backend.
    pub shares: Shares,
    /// How long the answered ones took. Failed ones are left out: a fast refusal is no fast answer.
    pub latencies: Latencies,
    /// Failed calls, by status.
    pub failures: BTreeMap<String, u64>,
    /// The failure that ended first.
    pub first_failure: Option<(Instant, Status)>,
}

impl Tally {
    /// How many calls failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl<'a> FromIterator<&'a Call> for Tally {
    fn from_iter<I: IntoIterator<Item = &'a Call>>(calls: I) -> Self {
        let mut tally = Self::default();
        for call in calls {
            match &call.result {
                Ok(backend) => {
                    tally.shares.count(backend);
                    tally.latencies.record(call.duration);
                }
                Err(status) => {
                    *tally.failures.entry(code_name(status.code())).or_default() += 1;
                    if tally.first_failure.as_ref().is_none_or(|(at, _)| call.ended() < *at) {
                        tally.first_failure = Some((call.ended(), status.clone()));
                    }
                }
            }
        }
        tally
    }
}

/// The code as the gRPC specification writes it: `DEADLINE_EXCEEDED`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
