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

use super::world::app;
use crate::client::{Client, Connection};
use crate::topology::{APPS, World};

const HARNESS: &str = include_str!("canary/harness.rs");

const FILE: &str = "canary.rs";

/// The canary's share while it is held, in per cent.
const PERCENT: u32 = 5;

/// Requests between two questions.
const ROUND: u64 = 50;

/// Requests after the decision.
const AFTER: u64 = 50;

/// What is agreed on before.
struct Plan {
    /// So many requests the canary gets before anything is decided.
    requests: u64,
    /// It is good if at most so many per cent of them fail.
    most_failures: u64,
}

/// How a canary does: whether its nth request, from 0, fails.
type Manner = fn(u64) -> bool;

/// What came of a canary.
struct Course {
    /// All requests while it was held, and the canary's among them.
    held: (u64, u64),
    /// What the rule said when it no longer said [`PERCENT`]; `None` if it never did.
    decision: Option<u32>,
    /// Of [`AFTER`] requests after the decision, those that went to the canary.
    after: u64,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let (requests, most) = (u64::from(bench.rng.number(16..=24)), u64::from(bench.rng.number(15..=25)));
    let plan = Plan { requests, most_failures: most };
    let program = bench.compile(FILE, HARNESS).await?;
    ask(bench, &program, &plan, 0, (0, 0)).await?;
    let told = XdsEnvoy::start(bench).await?;

    let good = play(bench, &told, &program, &plan, |_| false).await?;
    if good.decision.is_none() {
        let what = "the rule decides";
        let expected = format!("a decision after {requests} requests to the canary");
        let seen = format!("after {} requests to the canary it was still at {PERCENT} %", good.held.1);
        let advice = "Two outcomes follow: 100 for a canary that did well, 0 for one that did not.";
        return Err(Requirement::unmet(what, expected, seen, advice).into());
    }
    is_held(bench, "a good canary", &plan, &good);
    bench.require_share(
        "the canary",
        f64::from(PERCENT) / 100.0,
        (good.held.1, good.held.0),
        "Until it is decided the answer is plan.percent.",
    );
    follows(bench, "a good canary", 100, &good, "What did well gets everything.");

    let unlucky = play(bench, &told, &program, &plan, |nth| nth < 2).await?;
    let advice =
        "A few requests say little: the first failure decides nothing. Reckon when there are enough.";
    let seen = seen(&unlucky);
    let well = unlucky.held.1 >= requests && unlucky.decision == Some(100);
    let expected = format!("patience for {requests} requests, and then 100 %");
    bench.require("two failures at the beginning decide nothing", expected, seen, well, advice);

    let sick = play(bench, &told, &program, &plan, |nth| nth % 2 == 0).await?;
    is_held(bench, "a canary that fails", &plan, &sick);
    let advice = "Compare the part of its requests that failed with plan.most_failures.";
    follows(bench, &format!("a canary that fails more than {most} %"), 0, &sick, advice);
    Ok(())
}

fn seen(course: &Course) -> String {
    match course.decision {
        Some(percent) => format!("after {} requests to the canary it got {percent} %", course.held.1),
        None => format!("after {} requests to the canary it was still at {PERCENT} %", course.held.1),
    }
}

fn is_held(bench: &mut CheckContext, who: &str, plan: &Plan, course: &Course) {
    bench.require(
        format!("{who} is held for {} requests", plan.requests),
        format!("no decision before {} of them", plan.requests),
        seen(course),
        course.held.1 >= plan.requests,
        "It is the canary's own requests that count, and not all that there were.",
    );
}

fn follows(bench: &mut CheckContext, who: &str, percent: u32, course: &Course, advice: &str) {
    let wanted = u64::from(percent) * AFTER / 100;
    bench.require(
        format!("{who} then gets {percent} %"),
        format!("{wanted} of {AFTER} requests"),
        format!("{}, which was {} of {AFTER} requests", seen(course), course.after),
        course.decision == Some(percent) && course.after == wanted,
        advice,
    );
}

/// Lets a canary of this manner be watched until the rule has decided, and looks what Envoy does then.
async fn play(
    bench: &mut CheckContext,
    told: &XdsEnvoy,
    program: &Program,
    plan: &Plan,
    fails: Manner,
) -> anyhow::Result<Course> {
    let stable = app("stable", bench).await?;
    let canary = canary(bench, fails).await?;
    let show = async |percent: u32| -> anyhow::Result<Connection> {
        let world = World {
            listen: Some(XdsEnvoy::ANYWHERE),
            certificate: None,
            apps: [stable.address(), canary],
            weights: [100 - percent, percent],
        };
        if let Err(refusal) = told.publish(world.snapshot()?).await {
            anyhow::bail!("Envoy does not take the weights: {refusal}");
        }
        let client = Client::plain(told.listener().await?);
        // Envoy's worker takes new weights up between two requests: after one more it surely has.
        _ = client.get("/").await;
        client.connect().await.context("no connection to Envoy")
    };
    let mut connection = show(PERCENT).await?;
    let (before, mut all) = (counted(told).await?, 0);
    let (held, decision) = loop {
        requests(&mut connection, ROUND).await?;
        all += ROUND;
        let now = counted(told).await?;
        let (got, failed) = (now.0 - before.0, now.1 - before.1);
        let percent = ask(bench, program, plan, all, (got, failed)).await?;
        if percent != PERCENT {
            break ((all, got), Some(percent));
        }
        if got > 2 * plan.requests {
            break ((all, got), None);
        }
    };
    let after = match decision {
        None => 0,
        Some(percent) => {
            let mut connection = show(percent).await?;
            let before = counted(told).await?;
            requests(&mut connection, AFTER).await?;
            counted(told).await?.0 - before.0
        }
    };
    Ok(Course { held, decision, after })
}

async fn ask(
    bench: &mut CheckContext,
    program: &Program,
    plan: &Plan,
    all: u64,
    (got, failed): (u64, u64),
) -> anyhow::Result<u32> {
    let Plan { requests, most_failures } = plan;
    let question = Question {
        line: format!("{requests} {PERCENT} {most_failures} {all} {got} {failed}"),
        description: format!(
            "what comes next, when the canary got {got} of {all} requests and failed {failed}"
        ),
    };
    let answer = bench.ask(program, std::slice::from_ref(&question)).await?.remove(0);
    answer.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        let seen = format!("asked for {}, it returned {answer}", question.description);
        let advice = "It is the canary's part of all requests.";
        Requirement::unmet("the answer is a share", "0 to 100 per cent", seen, advice).into()
    })
}

/// An app that fails now and then.
async fn canary(bench: &CheckContext, fails: Manner) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a canary")?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicU64::new(0));
    web::serve(listener, &bench.life, move |_| {
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
async fn counted(told: &XdsEnvoy) -> anyhow::Result<(u64, u64)> {
    let name = |what: &str| format!("cluster.{}.{what}", APPS[1]);
    let stats = told.envoy.admin().stats(&format!("^cluster\\.{}\\.upstream_rq_", APPS[1])).await?;
    let of = |what: &str| stats.get(&name(what)).copied().unwrap_or(0);
    Ok((of("upstream_rq_total"), of("upstream_rq_5xx")))
}
