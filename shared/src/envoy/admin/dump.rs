//! What a control plane gave to this Envoy, read from its configuration dump. Pure: bytes in, values out.
//!
//! The dump holds the whole of each resource. Its bulk is skipped here: name, version and state are what
//! tells whether an update has arrived.

use serde_json::{Result, Value};

/// The kinds of dynamic resources, in the order in which a control plane adds them so that no request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
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
pub enum State {
    /// Waits for what it needs: a cluster for its endpoints, a listener for its routes.
    Warming,
    /// In use.
    Active,
    /// Replaced or removed; serves out its last connections.
    Draining,
}

/// A resource that a control plane gave to this Envoy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dynamic {
    /// Its kind.
    pub kind: Kind,
    /// Its name; for endpoints, their cluster's.
    pub name: String,
    /// How far it has come. `None` if Envoy has refused the first and only version that it was given.
    pub state: Option<State>,
    /// The version that it had when Envoy took it; always empty for endpoints, about which Envoy does not tell it.
    pub version: String,
    /// Why Envoy has refused a newer version, if it has.
    pub refused: Option<String>,
}

/// Reads `/config_dump?include_eds`. Sorted.
pub(super) fn dynamic(json: &[u8]) -> Result<Vec<Dynamic>> {
    let dump: Value = serde_json::from_slice(json)?;
    let mut all = Vec::new();
    for section in list(&dump, "configs") {
        for cluster in list(section, "dynamic_active_clusters") {
            all.push(one(Kind::Cluster, Some(State::Active), &cluster["cluster"]["name"], cluster));
        }
        for cluster in list(section, "dynamic_warming_clusters") {
            all.push(one(Kind::Cluster, Some(State::Warming), &cluster["cluster"]["name"], cluster));
        }
        for endpoints in list(section, "dynamic_endpoint_configs") {
            let name = &endpoints["endpoint_config"]["cluster_name"];
            all.push(one(Kind::Endpoints, Some(State::Active), name, endpoints));
        }
        for route in list(section, "dynamic_route_configs") {
            all.push(one(Kind::Route, Some(State::Active), &route["route_config"]["name"], route));
        }
        for secret in list(section, "dynamic_active_secrets") {
            all.push(one(Kind::Secret, Some(State::Active), &secret["name"], secret));
        }
        for secret in list(section, "dynamic_warming_secrets") {
            all.push(one(Kind::Secret, Some(State::Warming), &secret["name"], secret));
        }
        for listener in list(section, "dynamic_listeners") {
            all.extend(states_of(listener));
        }
    }
    all.sort();
    Ok(all)
}

/// A listener can be there in several versions at once: the old one serves while the new one warms.
fn states_of(listener: &Value) -> Vec<Dynamic> {
    let states = [
        ("warming_state", State::Warming),
        ("active_state", State::Active),
        ("draining_state", State::Draining),
    ];
    let there = states.iter().filter(|(field, _)| listener[*field].is_object());
    let mut all: Vec<Dynamic> = there
        .map(|(field, state)| Dynamic {
            version: text(&listener[*field]["version_info"]),
            ..one(Kind::Listener, Some(*state), &listener["name"], listener)
        })
        .collect();
    if all.is_empty() {
        all.push(one(Kind::Listener, None, &listener["name"], listener));
    }
    all
}

fn one(kind: Kind, state: Option<State>, name: &Value, resource: &Value) -> Dynamic {
    Dynamic {
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
        let all = dynamic(RECORDED).unwrap();
        let seen: Vec<_> =
            all.iter().map(|one| (one.kind, one.name.as_str(), one.version.as_str())).collect();
        assert_eq!(
            seen,
            [(Kind::Cluster, "echo", "c7"), (Kind::Endpoints, "echo", ""), (Kind::Listener, "ingress", "l2"),]
        );
        assert!(all.iter().all(|one| one.state == Some(State::Active) && one.refused.is_none()));
    }

    #[test]
    fn a_refused_update_shows_beside_the_version_that_still_serves() {
        let dump = br#"{"configs":[{"dynamic_listeners":[
            {"name":"a","active_state":{"version_info":"1"},"error_state":{"details":"no such filter"}},
            {"name":"b","error_state":{"details":"bad address"}}]}]}"#;
        let all = dynamic(dump).unwrap();
        assert_eq!((all[0].version.as_str(), all[0].state), ("1", Some(State::Active)));
        assert_eq!(all[0].refused.as_deref(), Some("no such filter"));
        assert_eq!((all[1].state, all[1].refused.as_deref()), (None, Some("bad address")));
    }

    #[test]
    fn an_envoy_without_dynamic_resources_has_an_empty_list() {
        assert!(dynamic(b"{}").unwrap().is_empty());
    }
}
