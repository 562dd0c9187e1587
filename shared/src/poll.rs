//! Waiting for a fact, never for a duration: look often, give up late, say what was seen last.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// The fact did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:.1?} for {what}; last seen: {last}")]
pub struct TimedOut {
    what: String,
    waited: Duration,
    last: String,
}

/// Calls `check` every `every` until it returns `Ok`, for at most `limit`.
///
/// An `Err` is what was seen instead of the fact; the last one ends up in the error. A check that
/// hangs is cut off at the limit too.
///
/// ```
/// # tokio_test(async {
/// use std::time::Duration;
/// let mut looks = 0;
/// let found = shared::poll::wait_until("the third look", Duration::from_millis(1), Duration::from_secs(5), || {
///     looks += 1;
///     std::future::ready(if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) })
/// });
/// assert_eq!(found.await.unwrap(), 3);
/// # });
/// # fn tokio_test<F: std::future::Future<Output = ()>>(f: F) {
/// #     tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f);
/// # }
/// ```
///
/// # Errors
/// [`TimedOut`] with what was seen last.
pub async fn wait_until<T, E, F, Fut>(
    what: &str,
    every: Duration,
    limit: Duration,
    mut check: F,
) -> Result<T, TimedOut>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut last = "nothing".to_owned();
    let looking = async {
        loop {
            match check().await {
                Ok(found) => return found,
                Err(seen) => last = seen.to_string(),
            }
            tokio::time::sleep(every).await;
        }
    };
    let found = tokio::time::timeout(limit, looking).await;
    found.map_err(|_| TimedOut { what: what.to_owned(), waited: start.elapsed(), last })
}
