//! A sidecar dies, an alert fires; it returns with fewer statistics.

use std::time::{Duration, Instant, SystemTime};

use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::mesh::Mesh;
use super::values::{NO_PROMETHEUS, given, same};
use crate::topology::Keep;

/// How long an alert may take. It has a `for` of a second, and its rule is evaluated twice a second.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// How much work the sidecar gets once it is back.
const SHORT: Duration = Duration::from_secs(2);

/// The maximum number of series of one Envoy whose statistics are filtered to the series that the dashboard uses.
pub const BUDGET: usize = 200;

const UP: &str = r#"up{job="envoy",instance="c"}"#;
const FIRING: &str = r#"count(ALERTS{alertname="EnvoyDown",instance="c",alertstate="firing"}) or vector(0)"#;

impl Mesh {
    /// An Envoy dies: its target is down, and an alert fires.
    pub(super) async fn loses_a_sidecar(&mut self, story: &mut Recorder) -> anyhow::Result<()> {
        let questions = [
            ("down", "Prometheus notices", UP, "up of c's Envoy falls from 1 to 0", (1.0, 0.0)),
            ("alert", "An alert fires that did not before", FIRING, "EnvoyDown of c: 0, then 1", (0.0, 1.0)),
        ];
        let mut before = Vec::new();
        if let Some(prometheus) = self.prometheus() {
            for (_, _, query, ..) in questions {
                before.push(given(prometheus.value(query, SystemTime::now()).await?, query)?);
            }
        }
        self.kill("c").await?;
        let killed = Instant::now();
        for (at, (id, claim, query, expected, (was, becomes))) in questions.into_iter().enumerate() {
            let Some(prometheus) = self.prometheus() else {
                story.not_checked(id, claim, expected, NO_PROMETHEUS);
                continue;
            };
            let changed = poll::wait_until(expected, LOOK, LIMIT, || async {
                match prometheus.value(query, SystemTime::now()).await {
                    Ok(Some(value)) if same(value, becomes) => Ok(()),
                    Ok(value) => Err(format!("{value:?}")),
                    Err(error) => Err(error.to_string()),
                }
            });
            let (seen, holds) = match changed.await {
                Ok(()) => {
                    let seen =
                        format!("{}, then {becomes} after {} ms", before[at], killed.elapsed().as_millis());
                    (seen, same(before[at], was))
                }
                Err(error) => (error.to_string(), false),
            };
            story.claim(id, claim, expected, seen, holds);
        }
        let claim = "The service behind it is well, by its own metrics";
        let Some(prometheus) = self.prometheus() else {
            story.not_checked("service-up", claim, "up of the service c is 1", NO_PROMETHEUS);
            return Ok(());
        };
        let up = prometheus.value(r#"up{job="service",instance="c"}"#, SystemTime::now()).await?;
        let holds = up.is_some_and(|up| same(up, 1.0));
        story.claim(
            "service-up",
            claim,
            "up of the service c is 1",
            up.map_or_else(|| "no data".to_owned(), |up| up.to_string()),
            holds,
        );
        Ok(())
    }

    /// Series cost memory: how many an Envoy has, and how many it needs.
    pub(super) async fn is_cut_down(&mut self, story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<()> {
        // b's Envoy has the same configuration as c's, except for the statistics that it leaves out.
        let all = self.page("envoy", "b", "").await?.len();
        let used = self.page("envoy", "b", "?usedonly").await?.len();
        self.revive("c", Keep::Needed, life).await?;
        let load = self.load(story, "requests", SHORT).await?;
        let kept = self.page("envoy", "c", "").await?.len();
        story
            .note(format!("series of an Envoy: {all}; with ?usedonly {used}; with an inclusion list {kept}"));
        story.claim(
            "usedonly",
            "Statistics that never changed can be left out of a scrape",
            format!("fewer than {all}"),
            used,
            used < all && used > 0,
        );
        story.claim(
            "budget",
            "An inclusion list holds an Envoy under the budget",
            format!("at most {BUDGET}, of {all}"),
            kept,
            kept <= BUDGET && kept > 0 && kept < all,
        );
        let calls = [("envoy_http_conn_manager_prefix", "in")];
        let counted = self.sum("envoy", "c", "envoy_http_downstream_rq_total", &calls).await?;
        story.claim(
            "cut-down-counts",
            "What is read is still there",
            format!("{} requests counted by c's Envoy", load.sent),
            counted,
            same(counted, load.sent),
        );
        Ok(())
    }
}
