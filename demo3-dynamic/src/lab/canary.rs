//! Exercise 4: a rule that holds a canary at 5 % until enough requests have said how it does.
//!
//! ```text
//!   requests ──> Envoy ──95──> stable        Envoy's statistics: how many went to the canary, how many failed
//!                  ^   └──5──> canary                                          │
//!                  └── weights (RDS) <── the student's rule <──────────────────┘
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use http::StatusCode;
use mesh_lab::{CheckContext, Program, Question, Requirement};
use mesh_lab_xds::XdsEnvoy;
use shared::web::{self, text};
use tokio::net::TcpListener;

use super::environment::start_app;
use crate::client::{Client, Connection};
use crate::topology::{APPS, DesiredState};

const HARNESS: &str = include_str!("canary/harness.rs");

const FILE: &str = "canary.rs";

/// The canary's share while it is held, in per cent.
const CANARY_PERCENT: u32 = 5;

/// Requests between two questions.
const REQUESTS_PER_ROUND: u64 = 50;

/// Requests after the decision.
const REQUESTS_AFTER_DECISION: u64 = 50;

/// What is agreed on before.
struct Plan {
    /// So many requests the canary gets before anything is decided.
    requests: u64,
    /// It is good if at most so many per cent of them fail.
    max_failure_percent: u64,
}

/// How a canary does: whether its nth request, from 0, fails.
type FailureRule = fn(u64) -> bool;

/// What came of a canary.
struct CanaryResult {
    /// All requests while it was held, and the canary's among them.
    observed: (u64, u64),
    /// What the rule said when it no longer said [`CANARY_PERCENT`]; `None` if it never did.
    decision: Option<u32>,
    /// Of [`REQUESTS_AFTER_DECISION`] requests after the decision, those that went to the canary.
    after: u64,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let (requests, most) = (u64::from(context.rng.number(16..=24)), u64::from(context.rng.number(15..=25)));
    let plan = Plan { requests, max_failure_percent: most };
    let program = context.compile(FILE, HARNESS).await?;
    ask_rule(context, &program, &plan, 0, (0, 0)).await?;
    let xds_envoy = XdsEnvoy::start(context).await?;

    let good = run_canary(context, &xds_envoy, &program, &plan, |_| false).await?;
    if good.decision.is_none() {
        let what = "the rule decides";
        let expected = format!("a decision after {requests} requests to the canary");
        let seen =
            format!("after {} requests to the canary it was still at {CANARY_PERCENT} %", good.observed.1);
        let advice = "Two outcomes follow: 100 for a canary that did well, 0 for one that did not.";
        return Err(Requirement::unmet(what, expected, seen, advice).into());
    }
    require_observation(context, "a good canary", &plan, &good);
    context.require_share(
        "the canary",
        f64::from(CANARY_PERCENT) / 100.0,
        (good.observed.1, good.observed.0),
        "Until it is decided the answer is plan.percent.",
    );
    require_decision(context, "a good canary", 100, &good, "What did well gets everything.");

    let unlucky_start = run_canary(context, &xds_envoy, &program, &plan, |nth| nth < 2).await?;
    let advice =
        "A few requests say little: the first failure decides nothing. Reckon when there are enough.";
    let seen = describe_decision(&unlucky_start);
    let valid = unlucky_start.observed.1 >= requests && unlucky_start.decision == Some(100);
    let expected = format!("patience for {requests} requests, and then 100 %");
    context.require("two failures at the beginning decide nothing", expected, seen, valid, advice);

    let failing = run_canary(context, &xds_envoy, &program, &plan, |nth| nth % 2 == 0).await?;
    require_observation(context, "a canary that fails", &plan, &failing);
    let advice = "Compare the part of its requests that failed with plan.max_failure_percent.";
    require_decision(context, &format!("a canary that fails more than {most} %"), 0, &failing, advice);
    Ok(())
}

fn describe_decision(result: &CanaryResult) -> String {
    match result.decision {
        Some(percent) => format!("after {} requests to the canary it got {percent} %", result.observed.1),
        None => {
            format!("after {} requests to the canary it was still at {CANARY_PERCENT} %", result.observed.1)
        }
    }
}

fn require_observation(context: &mut CheckContext, canary_name: &str, plan: &Plan, result: &CanaryResult) {
    context.require(
        format!("{canary_name} is held for {} requests", plan.requests),
        format!("no decision before {} of them", plan.requests),
        describe_decision(result),
        result.observed.1 >= plan.requests,
        "It is the canary's own requests that count, and not all that there were.",
    );
}

fn require_decision(
    context: &mut CheckContext,
    canary_name: &str,
    percent: u32,
    result: &CanaryResult,
    advice: &str,
) {
    let expected = u64::from(percent) * REQUESTS_AFTER_DECISION / 100;
    context.require(
        format!("{canary_name} then gets {percent} %"),
        format!("{expected} of {REQUESTS_AFTER_DECISION} requests"),
        format!(
            "{}, which was {} of {REQUESTS_AFTER_DECISION} requests",
            describe_decision(result),
            result.after
        ),
        result.decision == Some(percent) && result.after == expected,
        advice,
    );
}

/// Lets a canary of this manner be watched until the rule has decided, and looks what Envoy does then.
async fn run_canary(
    context: &mut CheckContext,
    xds_envoy: &XdsEnvoy,
    program: &Program,
    plan: &Plan,
    fails: FailureRule,
) -> anyhow::Result<CanaryResult> {
    let stable = start_app("stable", context).await?;
    let canary = canary(context, fails).await?;
    let publish_weights = async |percent: u32| -> anyhow::Result<Connection> {
        let desired_state = DesiredState {
            listen: Some(XdsEnvoy::ANYWHERE),
            certificate: None,
            apps: [stable.address(), canary],
            weights: [100 - percent, percent],
        };
        if let Err(error) = xds_envoy.publish(desired_state.snapshot()?).await {
            anyhow::bail!("Envoy does not take the weights: {error}");
        }
        let client = Client::plain(xds_envoy.listener().await?);
        // Envoy's worker takes new weights up between two requests: after one more it surely has.
        _ = client.get("/").await;
        client.connect().await.context("no connection to Envoy")
    };
    let mut connection = publish_weights(CANARY_PERCENT).await?;
    let (before, mut total) = (canary_counts(xds_envoy).await?, 0);
    let (observed, decision) = loop {
        requests(&mut connection, REQUESTS_PER_ROUND).await?;
        total += REQUESTS_PER_ROUND;
        let current = canary_counts(xds_envoy).await?;
        let (canary_requests, failed) = (current.0 - before.0, current.1 - before.1);
        let percent = ask_rule(context, program, plan, total, (canary_requests, failed)).await?;
        if percent != CANARY_PERCENT {
            break ((total, canary_requests), Some(percent));
        }
        if canary_requests > 2 * plan.requests {
            break ((total, canary_requests), None);
        }
    };
    let after = match decision {
        None => 0,
        Some(percent) => {
            let mut connection = publish_weights(percent).await?;
            let before = canary_counts(xds_envoy).await?;
            requests(&mut connection, REQUESTS_AFTER_DECISION).await?;
            canary_counts(xds_envoy).await?.0 - before.0
        }
    };
    Ok(CanaryResult { observed, decision, after })
}

async fn ask_rule(
    context: &mut CheckContext,
    program: &Program,
    plan: &Plan,
    total: u64,
    (canary_requests, failed): (u64, u64),
) -> anyhow::Result<u32> {
    let Plan { requests, max_failure_percent } = plan;
    let question = Question {
        line: format!("{requests} {CANARY_PERCENT} {max_failure_percent} {total} {canary_requests} {failed}"),
        description: format!(
            "what comes next, when the canary got {canary_requests} of {total} requests and failed {failed}"
        ),
    };
    let answer = context.ask(program, std::slice::from_ref(&question)).await?.remove(0);
    answer.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        let seen = format!("asked for {}, it returned {answer}", question.description);
        let advice = "It is the canary's part of all requests.";
        Requirement::unmet("the answer is a share", "0 to 100 per cent", seen, advice).into()
    })
}

/// An app that fails now and then.
async fn canary(context: &CheckContext, fails: FailureRule) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a canary")?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicU64::new(0));
    web::serve(listener, &context.life, move |_| {
        let failed = fails(count.fetch_add(1, Ordering::Relaxed));
        async move {
            if failed {
                text(StatusCode::INTERNAL_SERVER_ERROR, "no")
            } else {
                text(StatusCode::OK, "canary")
            }
        }
    });
    Ok(address)
}

/// Makes requests one after the other. What they got is in Envoy's statistics.
async fn requests(connection: &mut Connection, n: u64) -> anyhow::Result<()> {
    for _ in 0..n {
        connection.get("/").await.context("a request through Envoy got no answer at all")?;
    }
    Ok(())
}

/// What Envoy counted so far: requests to the canary, and those of them that failed.
async fn canary_counts(xds_envoy: &XdsEnvoy) -> anyhow::Result<(u64, u64)> {
    let name = |what: &str| format!("cluster.{}.{what}", APPS[1]);
    let stats = xds_envoy.envoy.admin().stats(&format!("^cluster\\.{}\\.upstream_rq_", APPS[1])).await?;
    let of = |what: &str| stats.get(&name(what)).copied().unwrap_or(0);
    Ok((of("upstream_rq_total"), of("upstream_rq_5xx")))
}
