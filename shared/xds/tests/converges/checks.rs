//! What has to hold of a client: on its way, and when it came to rest. Does not know how it got there.

use mesh_xds::Resource;
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};

use super::model::Model;
use super::steps::BAD;
use super::topology::Topology;

impl Model {
    /// Make before break: each route that the client accepted leads to clusters that it holds.
    pub(crate) fn check_routes(&self) {
        if self.shaky || !self.envoy {
            return;
        }
        let clusters = &self.client.types[Cluster].held;
        for (name, (_, any)) in &self.client.types[Route].held {
            for to in Resource::from_any(any).unwrap().references() {
                let has = clusters.contains_key(&*to.name) || self.spoiled.contains(&*to.name);
                assert!(has, "route {name} leads to {}, which the client does not hold", to.name);
            }
        }
    }

    /// The client holds what it subscribes to and the topology has. With bad resources about, those that
    /// are bad, or that need such, may be missing or old.
    pub(crate) fn check_holds(&self, clean: bool) {
        let snapshot = self.topology.snapshot();
        for kind in ResourceType::ALL {
            let side = &self.client.types[kind];
            let wants = |name: &str| side.is_wildcard() || side.names.contains(name);
            for resource in snapshot.of(kind).iter().filter(|one| side.begun && wants(one.name())) {
                if clean || self.is_sound(resource) {
                    assert!(
                        self.client.has(resource),
                        "it lacks {resource:?}, and holds {:?}",
                        self.client.holds(kind)
                    );
                }
            }
            for name in side.held.keys() {
                let is_told = kind.is_root() || !self.client.is_sotw();
                let there = snapshot.get(kind, name).is_some();
                // What a refused listener or route would have replaced is kept for the old one.
                assert!(there || !is_told || !clean, "{kind} {name} is gone, and it still holds it");
            }
        }
    }

    /// Neither bad itself nor in need of something that is.
    fn is_sound(&self, resource: &Resource) -> bool {
        let (name, topology) = (&**resource.name(), &self.topology);
        match resource.kind() {
            Cluster => topology.clusters[name] != BAD,
            Endpoints => true,
            Secret => topology.secrets[name] != BAD,
            Listener => topology.listeners[name].0 != BAD,
            Route => {
                let (edition, clusters) = &topology.routes[name];
                *edition != BAD
                    && clusters
                        .iter()
                        .all(|cluster| topology.clusters[cluster] != BAD && !self.spoiled.contains(cluster))
            }
            other => unreachable!("{other} has no test resources"),
        }
    }
}

/// The topology with nothing bad in it.
pub(crate) fn cleaned(mut topology: Topology) -> Topology {
    let editions = topology.clusters.values_mut().chain(topology.secrets.values_mut());
    let editions = editions.chain(topology.listeners.values_mut().map(|(edition, _)| edition));
    for edition in editions.chain(topology.routes.values_mut().map(|(edition, _)| edition)) {
        if *edition == BAD {
            *edition = BAD + 1;
        }
    }
    topology
}
