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

use super::{Demo, LIMIT};
use crate::client::{Client, Load, RequestError, summarize};
use crate::topology::APPS;

/// Requests of the steady load that each weight has to stand, beside those that are measured.
const LOAD_REQUESTS: usize = 50;

/// Requests that are in flight when the listener is removed.
const REQUESTS_IN_FLIGHT: usize = 8;

/// Requests of a measurement of shares. With 1000, 90/10 and 80/20 are told apart beyond doubt.
const REQUESTS: usize = 1000;

impl Demo {
    /// No listener, and nobody at the address.
    pub(super) async fn check_no_configuration(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let listeners = self.envoy.admin().listeners().await?;
        recorder.claim(
            "starts-empty",
            "Envoy is up and has no listener",
            "0",
            listeners.len(),
            listeners.is_empty(),
        );
        let error = Client::plain(self.address).get("/").await;
        recorder.claim(
            "port-closed",
            "The port refuses connections",
            RequestError::ConnectionRefused,
            error.as_ref().map_or_else(ToString::to_string, |answer| answer.status.to_string()),
            error == Err(RequestError::ConnectionRefused),
        );
        Ok(())
    }

    /// All four types arrive in the order in which nothing points at what is not there.
    pub(super) async fn check_first_configuration(&mut self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let event_log = self.control_plane()?.event_log().clone();
        let log_position = event_log.mark();
        self.desired_state.listen = Some(self.address);
        self.publish_and_wait().await?;
        let events = event_log.since(log_position);
        let order: Vec<_> = events
            .iter()
            .filter(|event| ResourceType::ALL.into_iter().any(|kind| is_response(event, kind)))
            .map(|event| event.type_name.as_str())
            .collect();
        recorder.claim(
            "make-before-break",
            "Clusters come first, then endpoints, listener, route",
            "CDS, EDS, LDS, RDS",
            order.join(", "),
            order == ["CDS", "EDS", "LDS", "RDS"],
        );
        // Sent in order is not enough: the listener has to wait until the endpoints were accepted.
        let position = |is: &dyn Fn(&_) -> bool| events.iter().position(is);
        let (eds, lds) = (
            position(&|event| is_ack(event, ResourceType::Endpoints)),
            position(&|event| is_response(event, ResourceType::Listener)),
        );
        recorder.claim(
            "listener-after-endpoints",
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
        recorder.claim(
            "http-ok",
            "Plain HTTP is answered by blue",
            "200 blue",
            format!("{} {}", answer.status.as_u16(), answer.body),
            answer.status.is_success() && answer.body == APPS[0],
        );
        Ok(())
    }

    /// 100/0, 90/10, 50/50, 0/100: each held to its bound, and no request lost over it.
    pub(super) async fn check_traffic_shift(
        &mut self,
        recorder: &mut Recorder,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let client = self.client()?;
        let load = Load::start(&client, life);
        let steps = [[100, 0], [90, 10], [50, 50], [0, 100]];
        for weights in steps {
            let start = load.completed();
            self.desired_state.weights = weights;
            self.publish_and_wait().await?;
            let shares = self.measure_shares(recorder, &client, weights).await?;
            let expected = APPS.into_iter().zip(weights.map(f64::from));
            let fit = shares.fit(expected);
            let [blue, green] = weights;
            recorder.claim(
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
            load.wait_for(start, LOAD_REQUESTS, LIMIT).await?;
        }
        let minimum = steps.len() * LOAD_REQUESTS;
        self.claim_no_failure(
            recorder,
            "shift-no-failure",
            "No request fails while traffic shifts",
            load,
            minimum,
        )
        .await;
        Ok(())
    }

    async fn measure_shares(
        &self,
        recorder: &Recorder,
        client: &Client,
        weights: [u32; 2],
    ) -> anyhow::Result<Shares> {
        let mut connection = client.connect().await.context("no connection to Envoy")?;
        let bar = recorder.progress(&format!("requests at {}/{}", weights[0], weights[1]), REQUESTS as u64);
        let mut shares = Shares::default();
        for _ in 0..REQUESTS {
            shares.count(&connection.get("/").await.context("a measured request failed")?.body);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(shares)
    }

    /// Ends a load and claims that nothing in it failed, and that there were at least so many requests.
    pub(super) async fn claim_no_failure(
        &self,
        recorder: &mut Recorder,
        id: &str,
        claim: &str,
        load: Load,
        minimum: usize,
    ) {
        let results = load.stop().await;
        let (_, failures) = summarize(&results);
        let first = failures.first().map(|first| format!(", the first: {first}")).unwrap_or_default();
        recorder.claim(
            id,
            claim,
            format!("0 of {minimum} or more fail"),
            format!("{} of {} fail{first}", failures.len(), results.len()),
            failures.is_empty() && results.len() >= minimum,
        );
    }

    /// Requests in flight outlive their listener.
    pub(super) async fn check_listener_removal(&mut self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let client = self.client()?;
        let mut in_flight = JoinSet::new();
        for _ in 0..REQUESTS_IN_FLIGHT {
            let mut connection = client.connect().await.context("no connection to Envoy")?;
            in_flight.spawn(async move { connection.get("/held").await });
        }
        // All traffic goes to green by now.
        let arrived = tokio::time::timeout(LIMIT, self.apps[1].wait_for_held(REQUESTS_IN_FLIGHT)).await;
        arrived.context("the requests did not arrive")?;
        self.desired_state.listen = None;
        self.publish_and_wait().await?;
        let error = poll::wait_until("the port to close", Duration::from_millis(5), LIMIT, || async {
            match client.get("/").await {
                Err(error) => Ok(error),
                Ok(answer) => Err(format!("still {}", answer.status)),
            }
        });
        let error = error.await?;
        recorder.claim(
            "removal-port-closed",
            "New connections are refused",
            RequestError::ConnectionRefused,
            &error,
            error == RequestError::ConnectionRefused,
        );
        self.apps[1].release();
        let responses = tokio::time::timeout(LIMIT, in_flight.join_all()).await;
        let responses = responses.context("a request in flight hangs")?;
        let (shares, failures) = summarize(&responses);
        let first = failures.first().map(|first| format!("; {first}")).unwrap_or_default();
        recorder.claim(
            "removal-in-flight-completes",
            "The requests that were in flight end well",
            format!("{} {REQUESTS_IN_FLIGHT}", APPS[1]),
            format!("{shares}{first}"),
            shares.of(APPS[1]) == REQUESTS_IN_FLIGHT as u64,
        );
        Ok(())
    }
}
