//! The mesh of the story: who runs, and how its counters are read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Uri;
use shared::cli;
use shared::envoy::{Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::ports::{self, Held};
use shared::tools;
use tokio::net::TcpListener;

use super::Plan;
use crate::client::Client;
use crate::exposition::{self, Sample};
use crate::prometheus::{self, Prometheus, Target};
use crate::service::Service;
use crate::topology::{self, ENVOYS, Keep, Places, SERVICES};

const READY: Duration = Duration::from_secs(60);

/// How long a page of metrics may take.
const PAGE: Duration = Duration::from_secs(10);

/// Four Envoys, three services, and whoever watches them.
#[derive(Debug)]
pub struct Mesh {
    program: tools::Program,
    envoys: BTreeMap<&'static str, Serving>,
    services: BTreeMap<&'static str, Arc<Service>>,
    places: Places,
    admins: BTreeMap<&'static str, SocketAddr>,
    prometheus: Option<Prometheus>,
    client: Client,
    /// The Envoys' ports are theirs, also while they are not there.
    _held: Vec<Held>,
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
            drop(cli::listen_lab(lab).await?);
            let one = Held::new(lab)?;
            let address = one.address();
            held.push(one);
            Ok(address)
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let front = hold(loopback(ports::DEMO1_FRONT)).await?;
        let outbound = hold(any).await?;
        let at_prometheus = hold(loopback(ports::DEMO1_PROMETHEUS)).await?;
        let mut inbound = BTreeMap::new();
        for name in SERVICES {
            inbound.insert(name, hold(any).await?);
        }
        let mut admins = BTreeMap::new();
        for (name, lab) in ENVOYS.into_iter().zip(ports::DEMO1_ADMINS) {
            admins.insert(name, hold(loopback(lab)).await?);
        }
        let mut listeners = BTreeMap::new();
        for (name, lab) in SERVICES.into_iter().zip(ports::DEMO1_SERVICES) {
            listeners.insert(name, cli::listen(loopback(lab)).await?);
        }
        let addresses = listeners.iter().map(|(name, listener)| Ok((*name, listener.local_addr()?)));
        let addresses = addresses.collect::<std::io::Result<BTreeMap<_, _>>>()?;
        let places = Places { front, inbound, outbound, services: addresses };
        let services = services(listeners, &places, life)?;
        let mut envoys = BTreeMap::new();
        for name in ENVOYS {
            let config = topology::envoy(name, admins[name], &places, Keep::All);
            let started = Envoy::new(&program, config).start(life).await?;
            envoys.insert(name, started.ready(READY).await.with_context(|| format!("the Envoy {name}"))?);
        }
        let mut mesh = Self {
            program,
            envoys,
            services,
            places,
            admins,
            prometheus: None,
            client: Client::new(PAGE),
            _held: held,
        };
        if let Some(watcher) = watcher {
            let prometheus = Prometheus::start(watcher, at_prometheus, &mesh.targets(), life).await?;
            prometheus.catch_up().await?;
            mesh.prometheus = Some(prometheus);
        }
        Ok(mesh)
    }

    /// What there is to scrape.
    fn targets(&self) -> Vec<Target> {
        let envoys = self.admins.iter().map(|(name, address)| Target {
            job: "envoy",
            instance: name,
            address: *address,
        });
        let services = self.places.services.iter();
        let services =
            services.map(|(name, address)| Target { job: "service", instance: name, address: *address });
        envoys.chain(services).collect()
    }

    /// Prometheus, if there is one.
    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.prometheus.as_ref()
    }

    /// Where everything is.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The Envoys' admin interfaces.
    pub fn admins(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.admins
    }

    /// The services' own addresses.
    pub fn services(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.places.services
    }

    pub(super) fn service(&self, name: &str) -> &Service {
        &self.services[name]
    }

    pub(super) fn front(&self) -> anyhow::Result<Uri> {
        Ok(format!("http://{}/", self.places.front).parse()?)
    }

    /// Kills an Envoy, as a crash would.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let envoy = self.envoys.remove(name).with_context(|| format!("no Envoy {name} runs"))?;
        drop(envoy);
        Ok(())
    }

    /// Starts it again, with such statistics.
    pub(super) async fn revive(
        &mut self,
        name: &'static str,
        keep: Keep,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let config = topology::envoy(name, self.admins[name], &self.places, keep);
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
        if let Some(prometheus) = &self.prometheus {
            let more: String = labels.iter().map(|(label, value)| format!(",{label}=\"{value}\"")).collect();
            let query = format!("sum({metric}{{job=\"{job}\",instance=\"{instance}\"{more}}})");
            return super::given(prometheus.value(&query).await?, &query);
        }
        Ok(exposition::sum(&self.page(job, instance, "").await?, metric, labels))
    }

    /// A page of metrics, asked for with this query.
    pub(super) async fn page(&self, job: &str, instance: &str, query: &str) -> anyhow::Result<Vec<Sample>> {
        let targets = self.targets();
        let target = targets.iter().find(|target| target.job == job && target.instance == instance);
        let target = target.with_context(|| format!("no target {job} {instance}"))?;
        let uri = format!("http://{}{}{query}", target.address, target.path()).parse()?;
        let answer = self.client.get(uri).await?;
        Ok(exposition::samples(&String::from_utf8_lossy(answer.body())))
    }
}

fn services(
    mut listeners: BTreeMap<&'static str, TcpListener>,
    places: &Places,
    life: &Lifecycle,
) -> anyhow::Result<BTreeMap<&'static str, Arc<Service>>> {
    let mut services = BTreeMap::new();
    for name in SERVICES {
        let listener = listeners.remove(name).with_context(|| format!("no port for {name}"))?;
        let whom: &[&str] = if name == "a" { &["b", "c"] } else { &[] };
        let calls = whom.iter().map(|other| {
            Ok(((*other).to_owned(), format!("http://{}/{other}", places.outbound).parse::<Uri>()?))
        });
        let calls = calls.collect::<anyhow::Result<Vec<_>>>()?;
        services.insert(name, Service::start(name, calls, listener, life)?);
    }
    Ok(services)
}
