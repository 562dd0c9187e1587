//! What a control plane gave to this Envoy, read from its configuration dump. Pure: bytes in, values out.
//!
//! The dump holds the whole of each resource. Its bulk is skipped here: name, version and state are what
//! tells whether an update has arrived.

use serde_json::{Result, Value};

/// The kinds of dynamic resources, in the order in which a control plane adds them so that no request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// TLS certificates and keys (SDS). Their contents are never here.
    Secret,
    /// Clusters (CDS).
    Cluster,
    /// A cluster's endpoints (EDS).
    Endpoints,
    /// Listeners (LDS).
    Listener,
    /// Route configurations (RDS).
    Route,
}

/// How far a dynamic resource has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceState {
    /// Waits for what it needs: a cluster for its endpoints, a listener for its routes.
    Warming,
    /// In use.
    Active,
    /// Replaced or removed; serves out its last connections.
    Draining,
}

/// A resource that a control plane gave to this Envoy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DynamicResource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name; for endpoints, their cluster's.
    pub name: String,
    /// How far it has come. `None` if Envoy has refused the first and only version that it was given.
    pub state: Option<ResourceState>,
    /// The version that it had when Envoy took it; always empty for endpoints, about which Envoy does not tell it.
    pub version: String,
    /// Why Envoy has refused a newer version, if it has.
    pub refused: Option<String>,
}

/// Reads `/config_dump?include_eds`. Sorted.
pub(super) fn dynamic_resources(json: &[u8]) -> Result<Vec<DynamicResource>> {
    let dump: Value = serde_json::from_slice(json)?;
    let mut all = Vec::new();
    for section in list(&dump, "configs") {
        for cluster in list(section, "dynamic_active_clusters") {
            all.push(one(
                ResourceKind::Cluster,
                Some(ResourceState::Active),
                &cluster["cluster"]["name"],
                cluster,
            ));
        }
        for cluster in list(section, "dynamic_warming_clusters") {
            all.push(one(
                ResourceKind::Cluster,
                Some(ResourceState::Warming),
                &cluster["cluster"]["name"],
                cluster,
            ));
        }
        for endpoints in list(section, "dynamic_endpoint_configs") {
            let name = &endpoints["endpoint_config"]["cluster_name"];
            all.push(one(ResourceKind::Endpoints, Some(ResourceState::Active), name, endpoints));
        }
        for route in list(section, "dynamic_route_configs") {
            all.push(one(
                ResourceKind::Route,
                Some(ResourceState::Active),
                &route["route_config"]["name"],
                route,
            ));
        }
        for secret in list(section, "dynamic_active_secrets") {
            all.push(one(ResourceKind::Secret, Some(ResourceState::Active), &secret["name"], secret));
        }
        for secret in list(section, "dynamic_warming_secrets") {
            all.push(one(ResourceKind::Secret, Some(ResourceState::Warming), &secret["name"], secret));
        }
        for listener in list(section, "dynamic_listeners") {
            all.extend(states_of(listener));
        }
    }
    all.sort();
    Ok(all)
}

/// A listener can be there in several versions at once: the old one serves while the new one warms.
fn states_of(listener: &Value) -> Vec<DynamicResource> {
    let states = [
        ("warming_state", ResourceState::Warming),
        ("active_state", ResourceState::Active),
        ("draining_state", ResourceState::Draining),
    ];
    let there = states.iter().filter(|(field, _)| listener[*field].is_object());
    let mut all: Vec<DynamicResource> = there
        .map(|(field, state)| DynamicResource {
            version: text(&listener[*field]["version_info"]),
            ..one(ResourceKind::Listener, Some(*state), &listener["name"], listener)
        })
        .collect();
    if all.is_empty() {
        all.push(one(ResourceKind::Listener, None, &listener["name"], listener));
    }
    all
}

fn one(kind: ResourceKind, state: Option<ResourceState>, name: &Value, resource: &Value) -> DynamicResource {
    DynamicResource {
        kind,
        name: text(name),
        state,
        version: text(&resource["version_info"]),
        refused: resource["error_state"]["details"].as_str().map(str::to_owned),
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Envoy 1.40 with one cluster and one listener.
    const RECORDED: &[u8] = include_bytes!("../../../tests/data/config_dump.json");

    #[test]
    fn dynamic_resources_are_listed_with_their_versions_in_the_order_of_their_kinds() {
        let all = dynamic_resources(RECORDED).unwrap();
        let seen: Vec<_> =
            all.iter().map(|one| (one.kind, one.name.as_str(), one.version.as_str())).collect();
        assert_eq!(
            seen,
            [
                (ResourceKind::Cluster, "echo", "c7"),
                (ResourceKind::Endpoints, "echo", ""),
                (ResourceKind::Listener, "ingress", "l2"),
            ]
        );
        assert!(all.iter().all(|one| one.state == Some(ResourceState::Active) && one.refused.is_none()));
    }

    #[test]
    fn a_refused_update_shows_beside_the_version_that_still_serves() {
        let dump = br#"{"configs":[{"dynamic_listeners":[
            {"name":"a","active_state":{"version_info":"1"},"error_state":{"details":"no such filter"}},
            {"name":"b","error_state":{"details":"bad address"}}]}]}"#;
        let all = dynamic_resources(dump).unwrap();
        assert_eq!((all[0].version.as_str(), all[0].state), ("1", Some(ResourceState::Active)));
        assert_eq!(all[0].refused.as_deref(), Some("no such filter"));
        assert_eq!((all[1].state, all[1].refused.as_deref()), (None, Some("bad address")));
    }

    #[test]
    fn an_envoy_without_dynamic_resources_has_an_empty_list() {
        assert!(dynamic_resources(b"{}").unwrap().is_empty());
    }
}
