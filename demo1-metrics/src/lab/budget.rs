//! Exercise 3: an Envoy whose statistics fit a budget of series, and still tell what is to be known.

use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use shared::envoy::Serving;
use shared::poll;

use super::world::service;
use crate::exposition::{Sample, samples, sum};
use crate::service::Fault;
use shared::client::Client;

/// Series that the Envoy may have.
const BUDGET: usize = 150;

/// How long a histogram may take to show what it counted: it is added up ten times a second.
const LATE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

const PAGE: Duration = Duration::from_secs(10);

/// A cluster of the Envoy, the calls that were made, and how many of them failed.
struct Calls {
    cluster: String,
    made: f64,
    failed: f64,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let names = bench.rng.names(2);
    let (first, first_at) = service(bench, &names[0]).await?;
    let (_second, second_at) = service(bench, &names[1]).await?;
    let values = [
        ("FIRST", names[0].clone()),
        ("FIRST_PORT", first_at.port().to_string()),
        ("SECOND", names[1].clone()),
        ("SECOND_PORT", second_at.port().to_string()),
    ];
    let envoy = bench.envoy("envoy.yaml", &values).await?;
    // Half of the calls fail, so an even number of them.
    first.misbehave(Fault { error_percent: 50, ..Fault::default() });
    let mut calls = Vec::new();
    for (cluster, failing) in names.into_iter().zip([true, false]) {
        let made = 2 * bench.rng.number(10..=20);
        let failed = if failing { f64::from(made) / 2.0 } else { 0.0 };
        call(&envoy, &cluster, made).await?;
        calls.push(Calls { cluster, made: f64::from(made), failed });
    }
    let page = settled(&envoy, &calls).await?;
    bench.require(
        "the Envoy is within the budget",
        format!("at most {BUDGET} series"),
        format!("its page has {} series", page.len()),
        page.len() <= BUDGET,
        advice_for(&page),
    );
    for one in &calls {
        tells(bench, one, &page);
    }
    let downstream: f64 = calls.iter().map(|one| one.made).sum();
    same(
        bench,
        "requests that came in",
        "envoy_http_downstream_rq_total",
        &[("envoy_http_conn_manager_prefix", "in")],
        downstream,
        &page,
    );
    Ok(())
}

/// Makes so many calls of a cluster, by its path.
async fn call(envoy: &Serving, cluster: &str, calls: u32) -> anyhow::Result<()> {
    let Some(listener) = envoy.admin().listeners().await?.into_iter().next() else {
        let advice = "Leave the listener as it was given.";
        return Err(Requirement::unmet(
            "envoy.yaml has a listener",
            "one listener",
            "Envoy listens nowhere",
            advice,
        )
        .into());
    };
    let client = Client::new(PAGE);
    for _ in 0..calls {
        let answer = client.get(format!("http://{}/{cluster}", listener.address).parse()?).await;
        answer.map_err(|error| {
            let advice =
                "Leave listener, routes and clusters as they were given; only the statistics are to change.";
            Requirement::unmet("calls are answered", "an answer to each", error, advice)
        })?;
    }
    Ok(())
}

/// The page of statistics, as soon as its histograms have all calls; or as it is after a while, if they never do.
async fn settled(envoy: &Serving, calls: &[Calls]) -> anyhow::Result<Vec<Sample>> {
    let uri: http::Uri = format!("http://{}/stats/prometheus", envoy.admin().address()).parse()?;
    let client = Client::new(PAGE);
    let page = async || {
        let answer = client.get(uri.clone()).await.context("the admin interface answers")?;
        anyhow::Ok(samples(&String::from_utf8_lossy(answer.body())))
    };
    let wanted: f64 = calls.iter().map(|one| one.made).sum();
    let shows_all = poll::wait_until("histograms", LOOK, LATE, || async {
        let page = page().await.map_err(|error| error.to_string())?;
        let shown = sum(&page, "envoy_cluster_upstream_rq_time_count", &[]);
        if shown >= wanted { Ok(page) } else { Err(format!("{shown} of {wanted}")) }
    });
    match shows_all.await {
        Ok(page) => Ok(page),
        Err(_) => page().await,
    }
}

/// What is to be known of a cluster.
fn tells(bench: &mut CheckContext, one: &Calls, page: &[Sample]) {
    let cluster = [("envoy_cluster_name", one.cluster.as_str())];
    let failed = [cluster[0], ("envoy_response_code_class", "5")];
    let name = &one.cluster;
    same(bench, &format!("calls of {name}"), "envoy_cluster_upstream_rq_total", &cluster, one.made, page);
    same(
        bench,
        &format!("failing calls of {name}"),
        "envoy_cluster_upstream_rq_xx",
        &failed,
        one.failed,
        page,
    );
    same(
        bench,
        &format!("durations of calls of {name}"),
        "envoy_cluster_upstream_rq_time_count",
        &cluster,
        one.made,
        page,
    );
}

fn same(
    bench: &mut CheckContext,
    what: &str,
    metric: &str,
    labels: &[(&str, &str)],
    wanted: f64,
    page: &[Sample],
) {
    let is_there = page.iter().any(|sample| sample.name == metric);
    let found = sum(page, metric, labels);
    let seen = if is_there { format!("{metric} says {found}") } else { format!("there is no {metric}") };
    let advice = if page.is_empty() {
        "Nothing is left. The matcher sees names as Envoy itself writes them, which /stats shows: cluster.NAME.upstream_rq_total. \
         What Prometheus reads is written differently afterwards."
    } else if metric.ends_with("_time_count") {
        "Durations are a histogram, cluster.NAME.upstream_rq_time: for a p99 it takes all of its buckets."
    } else {
        "One pattern lets through a name that begins, ends or matches like it; others stay out."
    };
    // A counter of what never happened need not be there.
    let met = (found - wanted).abs() < 0.5 && (is_there || wanted == 0.0);
    bench.require(format!("it tells the {what}"), format!("{wanted} in {metric}"), seen, met, advice);
}

/// Where to look, by what most series are about.
fn advice_for(page: &[Sample]) -> &'static str {
    let of = |begin: &str| page.iter().filter(|sample| sample.name.starts_with(begin)).count();
    if of("envoy_server_") > 0 {
        "Most of it is read by nobody. stats_config has a stats_matcher, and an inclusion_list in it keeps what it names and \
         nothing else."
    } else if of("envoy_cluster_") > BUDGET {
        "Each cluster has more than a hundred by itself. Name the ones that are wanted: their begin is not enough, unless it \
         goes as far as the statistic's own name."
    } else {
        "Which of them does nobody ask for?"
    }
}
