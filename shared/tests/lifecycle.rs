//! Everything stops together, in time, and says so if it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::poll::wait_until;

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn shutting_down_waits_for_tasks_that_watch_the_token() {
    let (life, ended) = (Lifecycle::default(), Arc::new(AtomicBool::new(false)));
    let (token, flag) = (life.token(), Arc::clone(&ended));
    life.spawn(async move {
        token.cancelled().await;
        tokio::task::yield_now().await;
        flag.store(true, Ordering::SeqCst);
    });
    life.shut_down(GRACE).await.unwrap();
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_task_that_ignores_its_token_is_counted_in_the_error() {
    let life = Lifecycle::default();
    life.spawn(std::future::pending::<()>());
    let overdue = life.shut_down(Duration::from_millis(20)).await.unwrap_err();
    assert!(overdue.to_string().starts_with("1 tasks still run"), "{overdue}");
}

#[tokio::test]
async fn a_child_scope_stops_without_its_parent() {
    let life = Lifecycle::default();
    let child = life.child();
    let token = child.token();
    child.spawn(async move { token.cancelled().await });
    child.shut_down(GRACE).await.unwrap();
    assert!(!life.token().is_cancelled());
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_parent_waits_for_its_childrens_tasks() {
    let (life, ended) = (Lifecycle::default(), Arc::new(AtomicBool::new(false)));
    let child = life.child();
    let (token, flag) = (child.token(), Arc::clone(&ended));
    child.spawn(async move {
        token.cancelled().await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        flag.store(true, Ordering::SeqCst);
    });
    life.shut_down(GRACE).await.unwrap();
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_timeout_reports_the_last_state_even_if_the_check_hangs() {
    let mut looks = 0;
    let waiting = wait_until("the sea to part", Duration::from_millis(1), Duration::from_millis(50), || {
        looks += 1;
        let hang = looks > 3;
        async move {
            if hang {
                std::future::pending::<()>().await;
            }
            Err::<(), _>("waves")
        }
    });
    let error = waiting.await.unwrap_err().to_string();
    assert!(error.contains("the sea to part") && error.contains("waves"), "{error}");
}
