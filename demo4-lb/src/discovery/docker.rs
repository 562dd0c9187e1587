//! Backends as containers: a label makes one part of the mesh, its start and end are heard as events.
//!
//! ```text
//!   engine ──events──> something started, fell ill, was told to stop …
//!     └──list, inspect──> Container ──label rules──> Found, or a line in the log
//! ```
//!
//! An event says only that it is worth to look again; what counts is what the engine then tells. One event
//! means more: a container that received a stop signal is terminating and gets no new calls while it drains
//! ([`TerminationTracker`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, EventMessage, HealthStatusEnum, PortBinding};
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptions};
use futures::{FutureExt, StreamExt};

use super::discovered::DiscoveredEndpoint;

mod container;

mod termination;

pub use container::{Container, NotAnEndpoint, Reachability};
pub use termination::TerminationTracker;

/// The events that cause a rescan. Each health check alone is three more events.
const WATCHED_EVENTS: [&str; 7] = ["start", "health_status", "kill", "die", "destroy", "pause", "unpause"];

/// How long to wait before an engine that was lost, or did not answer, is asked again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The engine cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reach the Docker engine ({0}): is it running, may this user use its socket (in a container: is it \
     mounted, and is the socket's group given with group_add)? DOCKER_HOST names another engine"
)]
pub struct EngineUnavailable(bollard::errors::Error);

/// Follows the containers of `service`.
pub(super) async fn watch(
    service: &str,
    mut on_change: impl FnMut(Vec<DiscoveredEndpoint>),
) -> Result<(), EngineUnavailable> {
    let engine = Docker::connect_with_defaults().map_err(EngineUnavailable)?;
    let mut watcher = ContainerWatcher {
        reachability: detect_reachability(&engine).await.map_err(EngineUnavailable)?,
        engine,
        service: service.to_owned(),
        terminations: TerminationTracker::default(),
        logged: HashSet::new(),
    };
    tracing::info!(reachability = %watcher.reachability, %service, "following containers");
    let mut previous = None;
    loop {
        // First listen, then look: what happens in between is looked at again.
        let filters = [("type", vec!["container"]), ("event", WATCHED_EVENTS.to_vec())].into();
        let mut events =
            Box::pin(watcher.engine.events(Some(EventsOptionsBuilder::default().filters(&filters).build())));
        loop {
            let listed = watcher.list_backends().await;
            let next_event = match listed {
                Ok(current) => {
                    if previous.as_ref() != Some(&current) {
                        previous = Some(current.clone());
                        on_change(current);
                    }
                    Ok(events.next().await)
                }
                // What was not seen may be the last change for hours: nobody is going to call us again for it.
                Err(error) => {
                    tracing::warn!(%error, "the engine did not answer; keeping what is known");
                    tokio::time::timeout(RETRY_DELAY, events.next()).await
                }
            };
            let Ok(next_event) = next_event else { continue };
            match next_event {
                Some(Ok(event)) => {
                    watcher.on_event(&event);
                    // Looking takes a while when the engine is busy: news must not queue up behind it.
                    while let Some(Some(Ok(event))) = events.next().now_or_never() {
                        watcher.on_event(&event);
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the engine's events broke off; keeping what is known");
                    break;
                }
                None => break,
            }
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

struct ContainerWatcher {
    engine: Docker,
    service: String,
    reachability: Reachability,
    terminations: TerminationTracker,
    /// Containers about which the log has a line already, and which.
    logged: HashSet<(String, String)>,
}

impl ContainerWatcher {
    fn on_event(&mut self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let Some(id) = &actor.id else { return };
        match event.action.as_deref() {
            Some("kill") => {
                let signal = actor.attributes.as_ref().and_then(|all| all.get("signal"));
                self.terminations.record_signal(id, signal.map_or("", String::as_str));
            }
            Some("start" | "destroy") => self.terminations.remove(id),
            _ => {}
        }
    }

    /// Lists all backends of the service that serve now.
    async fn list_backends(&mut self) -> Result<Vec<DiscoveredEndpoint>, bollard::errors::Error> {
        let running = self.engine.list_containers(None::<ListContainersOptions>).await?;
        let running: BTreeSet<String> = running.into_iter().filter_map(|summary| summary.id).collect();
        // Not by events alone: those that end a container may be missed.
        self.terminations.retain(&running);
        self.logged.retain(|(about, _)| running.contains(about));
        let mut backends = Vec::new();
        for id in running {
            let inspection = match self.engine.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(inspection) => inspection,
                // Gone since it was listed.
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => continue,
                Err(error) => return Err(error),
            };
            let started = inspection.state.as_ref().and_then(|state| state.started_at.as_deref());
            let stop_signal = inspection.config.as_ref().and_then(|config| config.stop_signal.as_deref());
            if self.terminations.observe(&id, started.unwrap_or_default(), stop_signal) {
                continue;
            }
            match container_from_inspect(&inspection).endpoint(&self.service, &self.reachability) {
                Ok(one) => backends.push(one),
                Err(reason) => self.log_skipped(&id, &reason),
            }
        }
        backends.sort_unstable();
        Ok(backends)
    }

    /// Logs once why a container is skipped.
    fn log_skipped(&mut self, id: &str, reason: &NotAnEndpoint) {
        if self.logged.insert((id.to_owned(), reason.to_string())) {
            match reason {
                NotAnEndpoint::InvalidLabel { .. } | NotAnEndpoint::NoAddress { .. } => {
                    tracing::warn!("left out: {reason}");
                }
                _ => tracing::info!("left out: {reason}"),
            }
        }
    }
}

/// Converts the engine's inspection to the data that the label rules need.
fn container_from_inspect(inspection: &ContainerInspectResponse) -> Container {
    let state = inspection.state.as_ref();
    let health = state.and_then(|state| state.health.as_ref()).and_then(|health| health.status);
    let config = inspection.config.as_ref();
    let labels = config.and_then(|config| config.labels.clone()).unwrap_or_default();
    let settings = inspection.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.clone()).unwrap_or_default();
    let networks =
        networks.into_iter().filter_map(|(name, network)| Some((name, network.ip_address?.parse().ok()?)));
    let ports = settings.and_then(|settings| settings.ports.clone()).unwrap_or_default();
    let published = ports.into_iter().filter_map(|(container_port, bindings)| {
        let container_port = container_port.strip_suffix("/tcp")?.parse().ok()?;
        // Of a port that is published twice, the one that loopback leads to.
        let reached = |binding: &PortBinding| {
            matches!(binding.host_ip.as_deref(), None | Some("" | "0.0.0.0" | "127.0.0.1"))
        };
        let host_port =
            bindings?.into_iter().filter(reached).find_map(|binding| binding.host_port?.parse().ok())?;
        Some((container_port, host_port))
    });
    Container {
        name: inspection.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
        running: state.and_then(|state| state.running).unwrap_or(false)
            && !state.and_then(|state| state.paused).unwrap_or(false),
        // Without a health check being up is all that is known.
        healthy: matches!(
            health,
            None | Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY | HealthStatusEnum::HEALTHY)
        ),
        labels: labels.into_iter().collect(),
        networks: networks.collect(),
        published: published.collect(),
    }
}

/// Detects how containers are reachable: over the networks that our own container is on, or, outside of containers, over
/// published ports.
async fn detect_reachability(engine: &Docker) -> Result<Reachability, bollard::errors::Error> {
    // A container's host name is its id unless somebody chose another.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match engine.inspect_container(&host, None::<InspectContainerOptions>).await {
        Ok(ours) => {
            let networks: BTreeMap<_, _> = container_from_inspect(&ours).networks;
            Ok(Reachability::Networks(networks.into_keys().collect::<BTreeSet<_>>()))
        }
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
            Ok(Reachability::Published)
        }
        Err(error) => Err(error),
    }
}
