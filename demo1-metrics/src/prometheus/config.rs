//! What Prometheus is told: whom to scrape, how often, and which rules to watch. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

/// How often everything is scraped, and rules are evaluated. For a story of half a minute; in earnest 15 s or more.
pub const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);

/// Something to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its job: `envoy`, `service`.
    pub job: &'static str,
    /// Its name.
    pub instance: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl Target {
    /// The path of its page.
    pub fn path(&self) -> &'static str {
        if self.job == "envoy" { "/stats/prometheus" } else { "/metrics" }
    }
}

/// What a Prometheus watches.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeConfig<'a> {
    /// Whom to scrape.
    pub targets: &'a [Target],
    /// The rules, as a rule file holds them.
    pub rules: &'a str,
    /// How often everything is scraped, and rules are evaluated.
    pub interval: Duration,
}

/// The configuration file: JSON, which is YAML too.
pub(super) fn config(scrape: &ScrapeConfig<'_>) -> String {
    let mut jobs: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for target in scrape.targets {
        // Named by who it is, and not by an address that changes.
        let labels = json!({ "instance": target.instance });
        let one = json!({ "targets": [target.address.to_string()], "labels": labels });
        jobs.entry((target.job, target.path())).or_default().push(one);
    }
    let job = |((job, path), targets): (&(&str, &str), &Vec<Value>)| json!({ "job_name": job, "metrics_path": path, "static_configs": targets });
    let jobs: Vec<Value> = jobs.iter().map(job).collect();
    let interval = format!("{}ms", scrape.interval.as_millis());
    json!({
        "global": { "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval },
        "rule_files": ["alerts.yaml"],
        "scrape_configs": jobs,
    })
    .to_string()
}
