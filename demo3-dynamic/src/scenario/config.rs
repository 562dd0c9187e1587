//! The steps about configuration itself: nothing, everything, weights, and the end of the listener.

use std::time::Duration;

use anyhow::Context;
use mesh_xds::ResourceType;
use mesh_xds::control_plane::{is_ack, is_response};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;
use shared::stats::Shares;
use tokio::task::JoinSet;

use super::{Edge, LIMIT};
use crate::client::{Client, Load, Refusal, sum_up};
use crate::topology::APPS;

/// Requests of the steady load that each weight has to stand, beside those that are measured.
const STEADY: usize = 50;

/// Requests that are in flight when the listener is removed.
const IN_FLIGHT: usize = 8;

/// Requests of a measurement of shares. With 1000, 90/10 and 80/20 are told apart beyond doubt.
const REQUESTS: usize = 1000;

impl Edge {
    /// No listener, and nobody at the address.
    pub(super) async fn knows_nothing(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let listeners = self.envoy.admin().listeners().await?;
        story.claim(
            "starts-empty",
            "Envoy is up and has no listener",
            "0",
            listeners.len(),
            listeners.is_empty(),
        );
        let refusal = Client::plain(self.address).get("/").await;
        story.claim(
            "port-refuses",
            "The port refuses connections",
            Refusal::Closed,
            refusal.as_ref().map_or_else(ToString::to_string, |answer| answer.status.to_string()),
            refusal == Err(Refusal::Closed),
        );
        Ok(())
    }

    /// All four types arrive in the order in which nothing points at what is not there.
    pub(super) async fn is_configured(&mut self, story: &mut Recorder) -> anyhow::Result<()> {
        let event_log = self.control_plane()?.event_log().clone();
        let mark = event_log.mark();
        self.world.listen = Some(self.address);
        self.show().await?;
        let events = event_log.since(mark);
        let order: Vec<_> = events
            .iter()
            .filter(|event| ResourceType::ALL.into_iter().any(|kind| is_response(event, kind)))
            .map(|event| event.type_name.as_str())
            .collect();
        story.claim(
            "make-before-break",
            "Clusters come first, then endpoints, listener, route",
            "CDS, EDS, LDS, RDS",
            order.join(", "),
            order == ["CDS", "EDS", "LDS", "RDS"],
        );
        // Sent in order is not enough: the listener has to wait until the endpoints were accepted.
        let place = |is: &dyn Fn(&_) -> bool| events.iter().position(is);
        let (eds, lds) = (
            place(&|event| is_ack(event, ResourceType::Endpoints)),
            place(&|event| is_response(event, ResourceType::Listener)),
        );
        story.claim(
            "listener-waits",
            "The listener is sent only after Envoy accepted the endpoints",
            "ACK of EDS, then LDS",
            if eds < lds { "ACK of EDS, then LDS" } else { "LDS, then ACK of EDS" },
            eds.is_some() && eds < lds,
        );
        let client = Client::plain(self.address);
        let answer = poll::wait_until("an answer", Duration::from_millis(5), LIMIT, || async {
            client.get("/").await
        });
        let answer = answer.await?;
        story.claim(
            "plain-http-answers",
            "Plain HTTP is answered by blue",
            "200 blue",
            format!("{} {}", answer.status.as_u16(), answer.body),
            answer.status.is_success() && answer.body == APPS[0],
        );
        Ok(())
    }

    /// 100/0, 90/10, 50/50, 0/100: each held to its bound, and no request lost over it.
    pub(super) async fn shifts_traffic(
        &mut self,
        story: &mut Recorder,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let client = self.client()?;
        let load = Load::start(&client, life);
        let steps = [[100, 0], [90, 10], [50, 50], [0, 100]];
        for weights in steps {
            let mark = load.so_far();
            self.world.weights = weights;
            self.show().await?;
            let shares = self.measure(story, &client, weights).await?;
            let expected = APPS.into_iter().zip(weights.map(f64::from));
            let fit = shares.fit(expected);
            let [blue, green] = weights;
            story.claim(
                &format!("weights-{blue}-{green}"),
                &format!("Traffic is split {blue}/{green}"),
                if fit.bound > 0.0 {
                    format!("{REQUESTS} requests, chi² at most {:.2}", fit.bound)
                } else {
                    format!("{REQUESTS} requests, all to one")
                },
                format!("{shares}; chi² {:.2}", fit.statistic),
                fit.holds(),
            );
            load.more(mark, STEADY, LIMIT).await?;
        }
        let least = steps.len() * STEADY;
        self.no_failure(story, "shift-no-failure", "No request fails while traffic shifts", load, least)
            .await;
        Ok(())
    }

    async fn measure(&self, story: &Recorder, client: &Client, weights: [u32; 2]) -> anyhow::Result<Shares> {
        let mut connection = client.connect().await.context("no connection to Envoy")?;
        let bar = story.progress(&format!("requests at {}/{}", weights[0], weights[1]), REQUESTS as u64);
        let mut shares = Shares::default();
        for _ in 0..REQUESTS {
            shares.count(&connection.get("/").await.context("a measured request failed")?.body);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(shares)
    }

    /// Ends a load and claims that nothing in it failed, and that there were at least so many requests.
    pub(super) async fn no_failure(
        &self,
        story: &mut Recorder,
        id: &str,
        claim: &str,
        load: Load,
        least: usize,
    ) {
        let hits = load.stop().await;
        let (_, failures) = sum_up(&hits);
        let first = failures.first().map(|first| format!(", the first: {first}")).unwrap_or_default();
        story.claim(
            id,
            claim,
            format!("0 of {least} or more fail"),
            format!("{} of {} fail{first}", failures.len(), hits.len()),
            failures.is_empty() && hits.len() >= least,
        );
    }

    /// Requests in flight outlive their listener.
    pub(super) async fn drains(&mut self, story: &mut Recorder) -> anyhow::Result<()> {
        let client = self.client()?;
        let mut held = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let mut connection = client.connect().await.context("no connection to Envoy")?;
            held.spawn(async move { connection.get("/held").await });
        }
        // All traffic goes to green by now.
        let arrived = tokio::time::timeout(LIMIT, self.apps[1].holding(IN_FLIGHT)).await;
        arrived.context("the requests did not arrive")?;
        self.world.listen = None;
        self.show().await?;
        let refused = poll::wait_until("the port to close", Duration::from_millis(5), LIMIT, || async {
            match client.get("/").await {
                Err(refusal) => Ok(refusal),
                Ok(answer) => Err(format!("still {}", answer.status)),
            }
        });
        let refused = refused.await?;
        story.claim(
            "removed-port-refuses",
            "New connections are refused",
            Refusal::Closed,
            &refused,
            refused == Refusal::Closed,
        );
        self.apps[1].release();
        let ended = tokio::time::timeout(LIMIT, held.join_all()).await;
        let ended = ended.context("a request in flight hangs")?;
        let (shares, failures) = sum_up(&ended);
        let first = failures.first().map(|first| format!("; {first}")).unwrap_or_default();
        story.claim(
            "in-flight-ends-well",
            "The requests that were in flight end well",
            format!("{} {IN_FLIGHT}", APPS[1]),
            format!("{shares}{first}"),
            shares.of(APPS[1]) == IN_FLIGHT as u64,
        );
        Ok(())
    }
}
