//! Backends as containers: a label makes one part of the mesh, its start and end are heard as events.
//!
//! ```text
//!   engine ──events──> something started, fell ill, was told to stop …
//!     └──list, inspect──> Container ──label rules──> Found, or a line in the log
//! ```
//!
//! An event says only that it is worth to look again; what counts is what the engine then tells. One event
//! means more: a container that was told to stop is on its way out, and gets no new calls while it drains
//! ([`Leaving`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, EventMessage, HealthStatusEnum, PortBinding};
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptions};
use futures::{FutureExt, StreamExt};

use super::found::Found;

mod container;

mod leaving;

pub use container::{Container, NotInMesh, Reach};
pub use leaving::Leaving;

/// What is worth another look. Each health check alone is three more events.
const EVENTS: [&str; 7] = ["start", "health_status", "kill", "die", "destroy", "pause", "unpause"];

/// How long to wait before an engine that was lost, or did not answer, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The engine cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reach the Docker engine ({0}): is it running, may this user use its socket (in a container: is it \
     mounted, and is the socket's group given with group_add)? DOCKER_HOST names another engine"
)]
pub struct NoEngine(bollard::errors::Error);

/// Follows the containers of `service`.
pub(super) async fn follow(service: &str, mut found: impl FnMut(Vec<Found>)) -> Result<(), NoEngine> {
    let engine = Docker::connect_with_defaults().map_err(NoEngine)?;
    let mut follower = Follower {
        reach: reach(&engine).await.map_err(NoEngine)?,
        engine,
        service: service.to_owned(),
        leaving: Leaving::default(),
        told: HashSet::new(),
    };
    tracing::info!(reach = %follower.reach, %service, "following containers");
    let mut known = None;
    loop {
        // First listen, then look: what happens in between is looked at again.
        let filters = [("type", vec!["container"]), ("event", EVENTS.to_vec())].into();
        let mut events =
            Box::pin(follower.engine.events(Some(EventsOptionsBuilder::default().filters(&filters).build())));
        loop {
            let looked = follower.look().await;
            let news = match looked {
                Ok(now) => {
                    if known.as_ref() != Some(&now) {
                        known = Some(now.clone());
                        found(now);
                    }
                    Ok(events.next().await)
                }
                // What was not seen may be the last change for hours: nobody is going to call us again for it.
                Err(error) => {
                    tracing::warn!(%error, "the engine did not answer; keeping what is known");
                    tokio::time::timeout(AGAIN, events.next()).await
                }
            };
            let Ok(news) = news else { continue };
            match news {
                Some(Ok(event)) => {
                    follower.heard(&event);
                    // Looking takes a while when the engine is busy: news must not queue up behind it.
                    while let Some(Some(Ok(event))) = events.next().now_or_never() {
                        follower.heard(&event);
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the engine's events broke off; keeping what is known");
                    break;
                }
                None => break,
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Follower {
    engine: Docker,
    service: String,
    reach: Reach,
    leaving: Leaving,
    /// Containers about which the log has a line already, and which.
    told: HashSet<(String, String)>,
}

impl Follower {
    fn heard(&mut self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let Some(id) = &actor.id else { return };
        match event.action.as_deref() {
            Some("kill") => {
                let signal = actor.attributes.as_ref().and_then(|all| all.get("signal"));
                self.leaving.told(id, signal.map_or("", String::as_str));
            }
            Some("start" | "destroy") => self.leaving.forget(id),
            _ => {}
        }
    }

    /// All backends of the service that serve now.
    async fn look(&mut self) -> Result<Vec<Found>, bollard::errors::Error> {
        let running = self.engine.list_containers(None::<ListContainersOptions>).await?;
        let running: BTreeSet<String> = running.into_iter().filter_map(|summary| summary.id).collect();
        // Not by events alone: those that end a container may be missed.
        self.leaving.keep(&running);
        self.told.retain(|(about, _)| running.contains(about));
        let mut found = Vec::new();
        for id in running {
            let inspected = match self.engine.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(inspected) => inspected,
                // Gone since it was listed.
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => continue,
                Err(error) => return Err(error),
            };
            let started = inspected.state.as_ref().and_then(|state| state.started_at.as_deref());
            let stop = inspected.config.as_ref().and_then(|config| config.stop_signal.as_deref());
            if self.leaving.look(&id, started.unwrap_or_default(), stop) {
                continue;
            }
            match seen(&inspected).endpoint(&self.service, &self.reach) {
                Ok(one) => found.push(one),
                Err(why) => self.tell(&id, &why),
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Says once why a container is left out.
    fn tell(&mut self, id: &str, why: &NotInMesh) {
        if self.told.insert((id.to_owned(), why.to_string())) {
            match why {
                NotInMesh::BadLabel { .. } | NotInMesh::NoAddress { .. } => tracing::warn!("left out: {why}"),
                _ => tracing::info!("left out: {why}"),
            }
        }
    }
}

/// What the rules need to know of a container, out of all that the engine tells.
fn seen(inspected: &ContainerInspectResponse) -> Container {
    let state = inspected.state.as_ref();
    let health = state.and_then(|state| state.health.as_ref()).and_then(|health| health.status);
    let config = inspected.config.as_ref();
    let labels = config.and_then(|config| config.labels.clone()).unwrap_or_default();
    let settings = inspected.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.clone()).unwrap_or_default();
    let networks =
        networks.into_iter().filter_map(|(name, network)| Some((name, network.ip_address?.parse().ok()?)));
    let ports = settings.and_then(|settings| settings.ports.clone()).unwrap_or_default();
    let published = ports.into_iter().filter_map(|(inside, bindings)| {
        let inside = inside.strip_suffix("/tcp")?.parse().ok()?;
        // Of a port that is published twice, the one that loopback leads to.
        let reached = |binding: &PortBinding| {
            matches!(binding.host_ip.as_deref(), None | Some("" | "0.0.0.0" | "127.0.0.1"))
        };
        let outside =
            bindings?.into_iter().filter(reached).find_map(|binding| binding.host_port?.parse().ok())?;
        Some((inside, outside))
    });
    Container {
        name: inspected.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
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

/// How we reach containers: over the networks that our own container is on, or, outside of containers, over
/// published ports.
async fn reach(engine: &Docker) -> Result<Reach, bollard::errors::Error> {
    // A container's host name is its id unless somebody chose another.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match engine.inspect_container(&host, None::<InspectContainerOptions>).await {
        Ok(ours) => {
            let networks: BTreeMap<_, _> = seen(&ours).networks;
            Ok(Reach::Networks(networks.into_keys().collect::<BTreeSet<_>>()))
        }
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
            Ok(Reach::Published)
        }
        Err(error) => Err(error),
    }
}
