//! An authorizer that serves: its answers, its log and counts, its files when they change, its end.
//!
//! Knows nothing of Envoy: the tests ask it themselves.

use futures::StreamExt;
use shared::poll::wait_until;

use super::authz::Authz;
use super::common::{HELLO, LIMIT, OFTEN, hello, status};
use super::{SERVER, TOKEN, issue_token, run};

#[tokio::test]
async fn the_authorizer_decides_logs_counts_and_drains() {
    let mut authz = Authz::start(&["--shutdown-delay", "1000"]);
    let mut client = authz.client().await;
    let token = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let allowed = client.check(hello(&token)).await.unwrap().into_inner();
    assert_eq!(status(&allowed), 200);
    let denied = client.check(hello("nonsense")).await.unwrap().into_inner();
    assert_eq!(status(&denied), 401);
    let lines = || {
        let log = authz.log();
        std::future::ready(if log.lines().count() == 2 { Ok(log) } else { Err(log) })
    };
    let log = wait_until("two lines", OFTEN, LIMIT, lines).await.unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: usize, name: &str| lines[line][name].clone();
    assert_eq!(
        (of(0, "principal"), of(0, "decision"), of(0, "action")),
        ("ana".into(), "allow".into(), format!("POST {HELLO}").into())
    );
    assert_eq!(of(0, "policies"), serde_json::json!(["readers-say-hello"]));
    assert_eq!(
        (of(1, "decision"), of(1, "reason")),
        ("deny".into(), "it is no token, or not one of our kind".into())
    );
    assert!(of(0, "latency_us").is_u64() && of(0, "time").as_str().unwrap().ends_with('Z'), "{lines:?}");
    assert!(!log.contains(&token) && !log.contains("nonsense"), "{log}");
    let page = authz.page().await;
    for line in [
        "authz_allowed_total 1",
        "authz_denied_total{reason=\"token_malformed\"} 1",
        "authz_check_duration_seconds_count 2",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }

    let address = authz.address.to_string();
    let healthy = || run(SERVER, &["healthcheck", "--listen", &address]).status.success();
    assert!(healthy());
    authz.terminate();
    let look = || std::future::ready(if healthy() { Err("it serves") } else { Ok(()) });
    wait_until("NOT_SERVING", OFTEN, LIMIT, look).await.unwrap();
    // While it lingers it still answers, and what it answered is written when it has ended.
    let last = client.check(hello(&token)).await.unwrap().into_inner();
    assert_eq!(status(&last), 200);
    drop(client);
    assert_eq!(authz.ended().await, Some(0));
    assert_eq!(authz.log().lines().count(), 3);
}

#[tokio::test]
async fn valid_file_changes_are_applied_and_invalid_ones_are_not() {
    let authz = Authz::start(&[]);
    let mut client = authz.client().await;
    let token = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
    let more = authz.keys.path().join("policies/more.cedar");
    let wait_for_metric = async |what: &str| {
        let look = || async {
            let page = authz.page().await;
            if page.contains(what) { Ok(()) } else { Err(page) }
        };
        wait_until(what, OFTEN, LIMIT, look).await.unwrap();
    };
    std::fs::write(&more, "permit (").unwrap();
    wait_for_metric("authz_reloads_total{kind=\"policies\",result=\"failure\"} 1").await;
    assert_eq!(
        status(&client.check(hello(&token)).await.unwrap().into_inner()),
        200,
        "the last good ones stay"
    );
    std::fs::write(&more, "@id(\"nobody\") forbid (principal, action, resource);").unwrap();
    wait_for_metric("authz_reloads_total{kind=\"policies\",result=\"success\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 403);
    std::fs::remove_file(&more).unwrap();
    wait_for_metric("authz_reloads_total{kind=\"policies\",result=\"success\"} 2").await;
    // Keys that cannot be read change nothing; a new pair ends the old tokens.
    let jwks = authz.keys.path().join("public/jwks.json");
    std::fs::write(&jwks, "{").unwrap();
    wait_for_metric("authz_reloads_total{kind=\"keys\",result=\"failure\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
    let folder = authz.keys.path().to_str().unwrap();
    assert!(run(TOKEN, &["keygen", "--force", "--out", folder]).status.success());
    wait_for_metric("authz_reloads_total{kind=\"keys\",result=\"success\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 401);
    let token = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_concurrent_checks_get_the_right_response() {
    let authz = Authz::start(&["--decision-log", "none"]);
    let client = authz.client().await;
    let good = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let answers: Vec<(usize, i32)> = futures::stream::iter(0..10_000)
        .map(|number| {
            let (mut client, good) = (client.clone(), good.clone());
            async move {
                let token = if number % 2 == 0 { good } else { format!("{good}{number}") };
                let answer = client.check(hello(&token)).await.unwrap().into_inner();
                (number, status(&answer))
            }
        })
        .buffer_unordered(10_000)
        .collect()
        .await;
    assert_eq!(answers.len(), 10_000);
    for (number, status) in answers {
        assert_eq!(status, if number % 2 == 0 { 200 } else { 401 }, "{number}");
    }
}
