//! Small topologies for the tests. Resources have a name, and an *edition* that distinguishes their content.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{GenericSecret, Secret, secret::Type};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::{Any, Duration};
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::resource::XdsMessage;
use mesh_xds::{Resource, ResourceType, Snapshot};
use prost::Message as _;

/// What there is, by name and edition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Each has endpoints of its name.
    pub clusters: BTreeMap<String, u32>,
    pub endpoints: BTreeMap<String, u32>,
    pub secrets: BTreeMap<String, u32>,
    /// Each with the route that it uses.
    pub listeners: BTreeMap<String, (u32, String)>,
    /// Each with the clusters that it leads to.
    pub routes: BTreeMap<String, (u32, Vec<String>)>,
    /// Clusters that clients have from elsewhere.
    pub external_clusters: Vec<&'static str>,
}

impl Topology {
    /// With a cluster and its endpoints, which keep their edition if they are there.
    pub fn cluster(mut self, name: &str, edition: u32) -> Self {
        self.clusters.insert(name.to_owned(), edition);
        self.endpoints.entry(name.to_owned()).or_insert(1);
        self
    }

    pub fn endpoints(mut self, name: &str, edition: u32) -> Self {
        self.endpoints.insert(name.to_owned(), edition);
        self
    }

    pub fn secret(mut self, name: &str, edition: u32) -> Self {
        self.secrets.insert(name.to_owned(), edition);
        self
    }

    pub fn listener(mut self, name: &str, edition: u32, route: &str) -> Self {
        self.listeners.insert(name.to_owned(), (edition, route.to_owned()));
        self
    }

    pub fn route(mut self, name: &str, edition: u32, clusters: &[&str]) -> Self {
        let clusters = clusters.iter().map(|name| (*name).to_owned()).collect();
        self.routes.insert(name.to_owned(), (edition, clusters));
        self
    }

    /// With clusters that clients have from elsewhere.
    pub fn external(mut self, clusters: &[&'static str]) -> Self {
        self.external_clusters.extend(clusters);
        self
    }

    /// Without anything of this type and name.
    pub fn without(mut self, kind: ResourceType, name: &str) -> Self {
        match kind {
            ResourceType::Cluster => {
                self.clusters.remove(name);
                self.endpoints.remove(name);
            }
            ResourceType::Endpoints => drop(self.endpoints.remove(name)),
            ResourceType::Secret => drop(self.secrets.remove(name)),
            ResourceType::Listener => drop(self.listeners.remove(name)),
            ResourceType::Route => drop(self.routes.remove(name)),
            other => unreachable!("{other} has no test resources"),
        }
        self
    }

    pub fn resources(&self) -> Vec<Resource> {
        let mut all = Vec::new();
        all.extend(self.clusters.iter().map(|(name, edition)| cluster(name, *edition)));
        all.extend(self.endpoints.iter().map(|(name, edition)| endpoints(name, *edition)));
        all.extend(self.secrets.iter().map(|(name, edition)| secret(name, *edition)));
        all.extend(self.listeners.iter().map(|(name, (edition, route))| listener(name, *edition, route)));
        all.extend(self.routes.iter().map(|(name, (edition, clusters))| route(name, *edition, clusters)));
        all
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot::with_external_clusters(self.resources(), &self.external_clusters).unwrap())
    }
}

/// A topology with these clusters and their endpoints, in their first edition.
pub fn clusters(names: &[&str]) -> Topology {
    names.iter().fold(Topology::default(), |topology, name| topology.cluster(name, 1))
}

/// One listener, route and cluster: `web` uses `paths`, which leads to `be`.
pub fn web() -> Topology {
    Topology::default().cluster("be", 1).route("paths", 1, &["be"]).listener("web", 1, "paths")
}

/// `count` resources of a type, named `a`, `b`, …, with all that they need.
pub fn some(kind: ResourceType, names: &[(&str, u32)]) -> Topology {
    names.iter().fold(Topology::default(), |topology, (name, edition)| match kind {
        ResourceType::Cluster => topology.cluster(name, *edition),
        ResourceType::Endpoints => topology.endpoints(name, *edition),
        ResourceType::Secret => topology.secret(name, *edition),
        ResourceType::Listener => topology.route("paths", 1, &[]).listener(name, *edition, "paths"),
        ResourceType::Route => topology.route(name, *edition, &[]),
        other => unreachable!("{other} has no test resources"),
    })
}

pub fn resource(message: &impl XdsMessage) -> Resource {
    Resource::new(message).unwrap()
}

pub fn cluster(name: &str, edition: u32) -> Resource {
    let mut message = builders::cluster(name);
    message.connect_timeout = Some(Duration { seconds: i64::from(edition), nanos: 0 });
    resource(&message)
}

pub fn endpoints(name: &str, edition: u32) -> Resource {
    let port = u16::try_from(edition).unwrap();
    let place = LocalityEndpoints {
        region: "here".to_owned(),
        weight: 1,
        priority: 0,
        addresses: vec![([127, 0, 0, 1], port).into()],
    };
    resource(&builders::endpoints(name, &[place]))
}

pub fn route(name: &str, edition: u32, clusters: &[String]) -> Resource {
    let weights: Vec<_> = clusters.iter().map(|cluster| (cluster.as_str(), 1)).collect();
    resource(&builders::with_retries(builders::weighted_route(name, &weights), edition))
}

pub fn listener(name: &str, edition: u32, route: &str) -> Resource {
    let port = u16::try_from(edition).unwrap();
    resource(&builders::listener(name, ([127, 0, 0, 1], port).into(), route))
}

/// What a secret of the tests contains, whatever its name.
pub const SECRET_CONTENT: &str = "the-combination-of-the-safe";

pub fn secret(name: &str, edition: u32) -> Resource {
    let content = DataSource {
        specifier: Some(Specifier::InlineString(format!("{SECRET_CONTENT}-{edition}"))),
        ..DataSource::default()
    };
    let generic = GenericSecret { secret: Some(content), ..GenericSecret::default() };
    resource(&Secret { name: name.to_owned(), r#type: Some(Type::GenericSecret(generic)) })
}

/// A resource as a client unpacks it.
pub fn any_of(resource: &Resource) -> Any {
    let mut response = DiscoveryResponse::decode(resource.sotw_field()).unwrap();
    response.resources.remove(0)
}
