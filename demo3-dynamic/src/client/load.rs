//! Steady load: a few connections, a request on each every few milliseconds, nothing left out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::poll::{self, TimedOut};
use shared::stats::Shares;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Answer, Client, Connection, Refusal};

/// How many connections share the load.
const CONNECTIONS: usize = 4;

/// The pause between two requests of a connection: about 100 requests a second in all.
const PAUSE: Duration = Duration::from_millis(40);

/// Load in the background.
#[derive(Debug)]
pub struct Load {
    hits: Arc<Mutex<Vec<Result<Answer, Refusal>>>>,
    stop: CancellationToken,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts sending `GET /`, until it is stopped or `life` ends.
    pub fn start(client: &Client, life: &Lifecycle) -> Self {
        let stop = life.token().child_token();
        let hits = Arc::new(Mutex::new(Vec::new()));
        let worker = |_| {
            let (client, stop, hits) = (client.clone(), stop.clone(), Arc::clone(&hits));
            life.spawn(async move {
                let mut connection = None;
                let mut pace = tokio::time::interval(PAUSE);
                while stop.run_until_cancelled(pace.tick()).await.is_some() {
                    let hit = request(&client, &mut connection).await;
                    hits.lock().unwrap_or_else(PoisonError::into_inner).push(hit);
                }
            })
        };
        let workers = (0..CONNECTIONS).map(worker).collect();
        Self { hits, stop, workers }
    }

    /// How many requests have ended.
    pub fn so_far(&self) -> usize {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What the requests got that ended after the first `mark` of them.
    pub fn since(&self, mark: usize) -> Vec<Result<Answer, Refusal>> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(mark).cloned().collect()
    }

    /// Waits until `count` more requests have ended than `mark`, for at most `limit`.
    ///
    /// # Errors
    /// If they take longer.
    pub async fn more(&self, mark: usize, count: usize, limit: Duration) -> Result<(), TimedOut> {
        poll::wait_until("steady load", Duration::from_millis(5), limit, || {
            let since = self.so_far() - mark;
            std::future::ready(if since >= count { Ok(()) } else { Err(format!("{since} requests")) })
        })
        .await
    }

    /// Stops, waits for the requests in flight, and returns what all of them got.
    pub async fn stop(self) -> Vec<Result<Answer, Refusal>> {
        self.stop.cancel();
        for worker in self.workers {
            // A worker that panicked is a defect; its hits are there all the same.
            if let Err(error) = worker.await {
                tracing::error!(%error, "a load worker broke off");
            }
        }
        std::mem::take(&mut *self.hits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request on the kept connection, or on a new one if the other side closed it in good order.
async fn request(client: &Client, kept: &mut Option<Connection>) -> Result<Answer, Refusal> {
    let kept_open = match kept.take() {
        Some(open) => open.still_open().await,
        None => None,
    };
    let mut connection = match kept_open {
        Some(open) => open,
        None => client.connect().await?,
    };
    let answer =
        tokio::time::timeout(super::DEADLINE, connection.get("/")).await.unwrap_or(Err(Refusal::Late))?;
    *kept = Some(connection);
    Ok(answer)
}

/// What many requests add up to: who answered, and all that went wrong, in order.
pub fn sum_up(hits: &[Result<Answer, Refusal>]) -> (Shares, Vec<String>) {
    let mut shares = Shares::default();
    let mut failures = Vec::new();
    for hit in hits {
        match hit {
            Ok(answer) if answer.status.is_success() => shares.count(&answer.body),
            Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.body.trim())),
            Err(refusal) => failures.push(refusal.to_string()),
        }
    }
    (shares, failures)
}
