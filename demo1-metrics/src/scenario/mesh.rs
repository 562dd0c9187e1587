//! The mesh of the story: who runs, and how its counters are read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use shared::cli;
use shared::envoy::{Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::ports::{self, ReservedPort};
use shared::tools;

use super::load::Load;
use super::values::{self, NO_PROMETHEUS};
use crate::exposition::{self, Sample};
use crate::plan::Plan;
use crate::prometheus::{self, ALERTS, Api, EVERY, Prometheus, Target, Watch};
use crate::service::Service;
use crate::topology::{self, ENVOYS, Keep, Own, Place, Places, SERVICES};
use shared::client::Client;

const READY: Duration = Duration::from_secs(60);

/// How long a page of metrics may take.
const PAGE: Duration = Duration::from_secs(10);

/// Four Envoys, three services, and whoever watches them.
#[derive(Debug)]
pub struct Mesh {
    program: tools::Program,
    envoys: BTreeMap<&'static str, Serving>,
    places: Places,
    own: BTreeMap<&'static str, Own>,
    /// What there is to scrape.
    targets: Vec<Target>,
    front: SocketAddr,
    prometheus: Option<Prometheus>,
    pub(super) client: Client,
    /// The Envoys' ports are theirs, also while they are not there.
    _held: Vec<ReservedPort>,
}

impl Mesh {
    /// Starts everything.
    pub(super) async fn start(
        plan: &Plan,
        program: tools::Program,
        watcher: Option<&prometheus::Program>,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if plan.stay { port } else { 0 }));
        let mut held = Vec::new();
        let mut hold = async |lab: SocketAddr| -> anyhow::Result<SocketAddr> {
            // Tried as a listener first: its error says what to do about a port that is taken.
            drop(cli::listen_on_lab_port(lab).await?);
            let one = ReservedPort::new(lab)?;
            let address = one.address();
            held.push(one);
            Ok(address)
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let front = hold(loopback(ports::DEMO1_FRONT)).await?;
        let at_prometheus = hold(loopback(ports::DEMO1_PROMETHEUS)).await?;
        let (mut own, mut targets) = (BTreeMap::new(), Vec::new());
        for (name, lab) in ENVOYS.into_iter().zip(ports::DEMO1_ADMINS) {
            let admin = hold(loopback(lab)).await?;
            targets.push(Target { job: "envoy", instance: name.to_owned(), address: admin });
            let inbound = if name == "front" { front } else { hold(any).await? };
            let outbound = hold(any).await?.into();
            own.insert(name, Own { admin: admin.into(), inbound: inbound.into(), outbound });
        }
        let (mut listeners, mut at) = (Vec::new(), BTreeMap::new());
        for (name, lab) in SERVICES.into_iter().zip(ports::DEMO1_SERVICES) {
            let listener = cli::listen_on_lab_port(loopback(lab)).await?;
            let address = listener.local_addr()?;
            targets.push(Target { job: "service", instance: name.to_owned(), address });
            listeners.push((name, listener));
            at.insert(name, Place::from(address));
        }
        let inbound = SERVICES.map(|name| (name, own[name].inbound.clone())).into();
        let places = Places { inbound, services: at };
        for (name, listener) in listeners {
            let calls = topology::calls(name).iter().map(|to| (*to, topology::by_sidecar(&own[name], to)));
            Service::start(name, calls, listener, life)?;
        }
        let mut started = Vec::new();
        for name in ENVOYS {
            let config = topology::envoy(name, &own[name], &places, Keep::All);
            started.push((name, Envoy::new(&program, config).start(life).await?));
        }
        let mut envoys = BTreeMap::new();
        for (name, started) in started {
            envoys.insert(name, started.ready(READY).await.with_context(|| format!("the Envoy {name}"))?);
        }
        let mut mesh = Self {
            program,
            envoys,
            places,
            own,
            targets,
            front,
            prometheus: None,
            client: Client::new(PAGE),
            _held: held,
        };
        if let Some(watcher) = watcher {
            let watch = Watch { targets: &mesh.targets, rules: ALERTS, every: EVERY };
            mesh.prometheus = Some(Prometheus::start(watcher, at_prometheus, &watch, life).await?);
            mesh.catch_up().await?;
        }
        Ok(mesh)
    }

    /// Prometheus, if there is one.
    pub fn prometheus(&self) -> Option<&Api> {
        self.prometheus.as_ref().map(Prometheus::api)
    }

    /// The Prometheus to ask about what such a load did to durations, or why that makes no sense.
    pub(super) fn ask_about<'a>(&'a self, load: &'a Load) -> Result<&'a Api, &'a str> {
        match &load.disturbed {
            Some(why) => Err(why),
            None => self.prometheus().ok_or(NO_PROMETHEUS),
        }
    }

    /// Waits until Prometheus, if there is one, has scraped everybody anew.
    pub(super) async fn catch_up(&self) -> anyhow::Result<()> {
        match self.prometheus() {
            Some(prometheus) => Ok(prometheus.catch_up(self.targets.len()).await?),
            None => Ok(()),
        }
    }

    /// Where requests come in.
    pub fn front(&self) -> SocketAddr {
        self.front
    }

    /// Where the page of one target is served.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn target(&self, job: &str, instance: &str) -> anyhow::Result<&Target> {
        let found = self.targets.iter().find(|target| target.job == job && target.instance == instance);
        found.with_context(|| format!("no target {job} {instance}"))
    }

    /// Tells a service to misbehave; zeros end it.
    pub(super) async fn fault(&self, service: &str, delay_ms: u16, error_percent: u8) -> anyhow::Result<()> {
        let body = json!({ "delay_ms": delay_ms, "error_percent": error_percent }).to_string();
        let uri = format!("http://{}/fault", self.target("service", service)?.address);
        let answer = self.client.send(Request::put(uri).body(Full::<Bytes>::from(body))?).await?;
        anyhow::ensure!(answer.status().is_success(), "{service} refused the fault: {}", answer.status());
        Ok(())
    }

    /// Kills an Envoy, as a crash would. It is gone when this returns.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let envoy = self.envoys.remove(name).with_context(|| format!("no Envoy {name} runs"))?;
        envoy.kill().await;
        Ok(())
    }

    /// Starts it again, with such statistics.
    pub(super) async fn revive(
        &mut self,
        name: &'static str,
        keep: Keep,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let config = topology::envoy(name, &self.own[name], &self.places, keep);
        let envoy = Envoy::new(&self.program, config).start(life).await?.ready(READY).await?;
        self.envoys.insert(name, envoy);
        Ok(())
    }

    /// The sum of a counter over the series with these labels: as Prometheus has scraped it, or, where there is
    /// none, as the page says now.
    pub(super) async fn sum(
        &self,
        job: &str,
        instance: &str,
        metric: &str,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<f64> {
        let Some(prometheus) = self.prometheus() else {
            return Ok(exposition::sum(&self.page(job, instance, "").await?, metric, labels));
        };
        let more: String = labels.iter().map(|(label, value)| format!(",{label}=\"{value}\"")).collect();
        // The last sample, also if the scrape after it failed.
        let query =
            format!("sum(last_over_time({metric}{{job=\"{job}\",instance=\"{instance}\"{more}}}[10s]))");
        values::given(prometheus.value(&query, SystemTime::now()).await?, &query)
    }

    /// A page of metrics, asked for with this query.
    pub(super) async fn page(&self, job: &str, instance: &str, query: &str) -> anyhow::Result<Vec<Sample>> {
        let target = self.target(job, instance)?;
        let uri = format!("http://{}{}{query}", target.address, target.path()).parse()?;
        let answer = self.client.get(uri).await?;
        Ok(exposition::samples(&String::from_utf8_lossy(answer.body())))
    }
}
