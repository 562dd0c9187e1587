//! Steady load: a few connections, a request on each every few milliseconds, nothing left out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::poll::{self, TimedOut};
use shared::stats::Shares;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Client, Connection, RequestError, Response};

/// How many connections share the load.
const CONNECTIONS: usize = 4;

/// The pause between two requests of a connection: about 100 requests a second in all.
const INTERVAL: Duration = Duration::from_millis(40);

/// Load in the background.
#[derive(Debug)]
pub struct Load {
    results: Arc<Mutex<Vec<Result<Response, RequestError>>>>,
    stop: CancellationToken,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts sending `GET /`, until it is stopped or `life` ends.
    pub fn start(client: &Client, life: &Lifecycle) -> Self {
        let stop = life.token().child_token();
        let results = Arc::new(Mutex::new(Vec::new()));
        let worker = |_| {
            let (client, stop, results) = (client.clone(), stop.clone(), Arc::clone(&results));
            life.spawn(async move {
                let mut connection = None;
                let mut ticks = tokio::time::interval(INTERVAL);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    let result = request(&client, &mut connection).await;
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            })
        };
        let workers = (0..CONNECTIONS).map(worker).collect();
        Self { results, stop, workers }
    }

    /// How many requests have ended.
    pub fn completed(&self) -> usize {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What the requests got that ended after the first `start` of them.
    pub fn since(&self, start: usize) -> Vec<Result<Response, RequestError>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(start).cloned().collect()
    }

    /// Waits until `count` more requests have ended than `start`, for at most `limit`.
    ///
    /// # Errors
    /// If they take longer.
    pub async fn wait_for(&self, start: usize, count: usize, limit: Duration) -> Result<(), TimedOut> {
        poll::wait_until("steady load", Duration::from_millis(5), limit, || {
            let since = self.completed() - start;
            std::future::ready(if since >= count { Ok(()) } else { Err(format!("{since} requests")) })
        })
        .await
    }

    /// Stops, waits for the requests in flight, and returns what all of them got.
    pub async fn stop(self) -> Vec<Result<Response, RequestError>> {
        self.stop.cancel();
        for worker in self.workers {
            // A worker that panicked is a defect; its hits are there all the same.
            if let Err(error) = worker.await {
                tracing::error!(%error, "a load worker broke off");
            }
        }
        std::mem::take(&mut *self.results.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request on the kept connection, or on a new one if the other side closed it in good order.
async fn request(
    client: &Client,
    connection_slot: &mut Option<Connection>,
) -> Result<Response, RequestError> {
    let open = match connection_slot.take() {
        Some(open) => open.if_open().await,
        None => None,
    };
    let mut connection = match open {
        Some(open) => open,
        None => client.connect().await?,
    };
    let response = tokio::time::timeout(super::DEADLINE, connection.get("/"))
        .await
        .unwrap_or(Err(RequestError::Timeout))?;
    *connection_slot = Some(connection);
    Ok(response)
}

/// What many requests add up to: who answered, and all that went wrong, in order.
pub fn summarize(results: &[Result<Response, RequestError>]) -> (Shares, Vec<String>) {
    let mut shares = Shares::default();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(response) if response.status.is_success() => shares.count(&response.body),
            Ok(response) => failures.push(format!("{}: {}", response.status, response.body.trim())),
            Err(error) => failures.push(error.to_string()),
        }
    }
    (shares, failures)
}
