//! What the admin interface's JSON about listeners, statistics and clusters means. Pure functions: bytes in, values out.
//!
//! Envoy leaves out fields that are zero, writes 64-bit numbers as strings, and may add fields in any release; so
//! all fields have a default, and unknown ones are ignored.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Result, Value};

/// A listener and where it is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A cluster with the hosts that Envoy knows now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Whether a control plane gave it (it does not stand in the bootstrap).
    pub added_via_api: bool,
    /// Its hosts, healthy or not.
    pub hosts: Vec<Host>,
}

/// One endpoint, as the load balancer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share among the hosts of its locality; at least 1.
    pub weight: u32,
    /// 0 is used first; higher numbers are for when too few of the lower are healthy.
    pub priority: u32,
    /// Where it stands.
    pub locality: Locality,
    /// What Envoy thinks of its health.
    pub health: Health,
    /// Its own counters and gauges: `rq_total`, `rq_error`, `cx_active` and so on. Zeros are there, too.
    pub stats: BTreeMap<String, u64>,
}

/// Where a host stands; parts that were not configured are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct Locality {
    /// The largest part.
    pub region: String,
    /// A part of the region.
    pub zone: String,
    /// A part of the zone: a rack, say.
    pub sub_zone: String,
}

/// What speaks against a host; nothing, if all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The control plane's word: `HEALTHY`, `UNHEALTHY`, `DRAINING`, `DEGRADED`, `TIMEOUT`; empty if it gave none.
    pub eds_health_status: String,
    /// Envoy's own health checks fail.
    pub failed_active_health_check: bool,
    /// Outlier detection has ejected it.
    pub failed_outlier_check: bool,
    /// The control plane has removed it, but it still passes health checks and so stays for now.
    pub pending_dynamic_removal: bool,
    /// Its first health check is not done yet.
    pub pending_active_hc: bool,
}

impl Health {
    /// Whether new requests may go there in normal times.
    pub fn is_healthy(&self) -> bool {
        let listed = matches!(self.eds_health_status.as_str(), "" | "UNKNOWN" | "HEALTHY");
        listed && !self.failed_active_health_check && !self.failed_outlier_check
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAddress {
    socket_address: Option<RawSocket>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSocket {
    address: String,
    port_value: u16,
}

impl RawAddress {
    /// `None` for pipes and Envoy's internal addresses: no demo has any.
    fn socket(&self) -> Option<SocketAddr> {
        let socket = self.socket_address.as_ref()?;
        Some(SocketAddr::new(socket.address.parse().ok()?, socket.port_value))
    }
}

/// Reads `/listeners?format=json`. Listeners on something other than an IP address are left out.
pub(super) fn listeners(json: &[u8]) -> Result<Vec<Listener>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Raw {
        listener_statuses: Vec<RawListener>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawListener {
        name: String,
        local_address: RawAddress,
    }
    let raw: Raw = serde_json::from_slice(json)?;
    let listener = |raw: RawListener| {
        let address = raw.local_address.socket()?;
        Some(Listener { name: raw.name, address })
    };
    Ok(raw.listener_statuses.into_iter().filter_map(listener).collect())
}

/// Reads `/stats?format=json`. Histograms and texts among them are left out.
pub(super) fn stats(json: &[u8]) -> Result<BTreeMap<String, u64>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Raw {
        stats: Vec<RawStat>,
    }
    let raw: Raw = serde_json::from_slice(json)?;
    let number = |raw: RawStat| Some((raw.name?, raw.value.as_u64()?));
    Ok(raw.stats.into_iter().filter_map(number).collect())
}

/// One bar of a histogram. Envoy keeps two digits of each value: an integer below 100 is its bar's lower bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// The smallest value that it counts.
    pub lower_bound: f64,
    /// From there to the first value that it counts no more.
    pub width: f64,
    /// How many values it counts.
    pub count: u64,
}

/// Reads the histograms of `/stats?format=json&histogram_buckets=detailed`, all that was counted since the start.
pub(super) fn histograms(json: &[u8]) -> Result<BTreeMap<String, Vec<Bucket>>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Raw {
        stats: Vec<RawHistograms>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawHistograms {
        histograms: RawDetails,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawDetails {
        details: Vec<RawHistogram>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawHistogram {
        name: String,
        totals: Vec<Bucket>,
    }
    let raw: Raw = serde_json::from_slice(json)?;
    let details = raw.stats.into_iter().flat_map(|raw| raw.histograms.details);
    Ok(details.map(|raw| (raw.name, raw.totals)).collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStat {
    name: Option<String>,
    value: Value,
}

/// Reads `/clusters?format=json`. Hosts on something other than an IP address are left out.
pub(super) fn clusters(json: &[u8]) -> Result<Vec<Cluster>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Raw {
        cluster_statuses: Vec<RawCluster>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawCluster {
        name: String,
        added_via_api: bool,
        host_statuses: Vec<RawHost>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawHost {
        address: RawAddress,
        weight: u32,
        priority: u32,
        locality: Locality,
        health_status: Health,
        stats: Vec<RawStat>,
    }
    let host = |raw: RawHost| {
        Some(Host {
            address: raw.address.socket()?,
            weight: raw.weight,
            priority: raw.priority,
            locality: raw.locality,
            health: raw.health_status,
            stats: raw.stats.into_iter().filter_map(host_stat).collect(),
        })
    };
    let cluster = |raw: RawCluster| Cluster {
        name: raw.name,
        added_via_api: raw.added_via_api,
        hosts: raw.host_statuses.into_iter().filter_map(host).collect(),
    };
    let raw: Raw = serde_json::from_slice(json)?;
    Ok(raw.cluster_statuses.into_iter().map(cluster).collect())
}

/// Unlike in `/stats`, the value is a string here, and left out if it is zero.
fn host_stat(raw: RawStat) -> Option<(String, u64)> {
    let value = match &raw.value {
        Value::Null => 0,
        Value::String(digits) => digits.parse().ok()?,
        other => other.as_u64()?,
    };
    Some((raw.name?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from Envoy 1.40 with one cluster of three endpoints, one of them marked unhealthy.
    const LISTENERS: &[u8] = include_bytes!("../../../tests/data/listeners.json");
    const STATS: &[u8] = include_bytes!("../../../tests/data/stats.json");
    const CLUSTERS: &[u8] = include_bytes!("../../../tests/data/clusters.json");

    #[test]
    fn a_listener_shows_the_port_that_it_got() {
        let listeners = listeners(LISTENERS).unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].name, "ingress");
        assert_ne!(listeners[0].address.port(), 0);
    }

    #[test]
    fn counters_and_gauges_are_read_and_histograms_are_left_out() {
        let stats = stats(STATS).unwrap();
        assert_eq!(stats["cluster.echo.membership_total"], 3);
        assert_eq!(stats["cluster.echo.upstream_rq_5xx"], 3);
        assert_eq!(stats["cluster.echo.membership_degraded"], 0);
        assert!(!stats.keys().any(|name| name.ends_with("_ms")));
    }

    #[test]
    fn hosts_are_read_with_what_envoy_left_out_because_it_is_zero() {
        let clusters = clusters(CLUSTERS).unwrap();
        assert!(clusters[0].added_via_api);
        let [first, second, third] = clusters[0].hosts.as_slice() else {
            panic!("three hosts: {clusters:?}");
        };
        assert_eq!((first.weight, first.priority, first.locality.zone.as_str()), (8, 0, "a"));
        assert_eq!((first.stats["cx_total"], first.stats["rq_total"], first.stats["cx_active"]), (1, 0, 0));
        assert!(first.health.is_healthy());
        assert!(!second.health.is_healthy());
        assert_eq!((third.priority, third.locality.sub_zone.as_str()), (1, "rack1"));
    }

    #[test]
    fn empty_answers_are_empty_lists() {
        assert!(listeners(b"{}").unwrap().is_empty());
        assert!(clusters(b"{}").unwrap().is_empty());
        assert!(stats(b"{}").unwrap().is_empty());
    }
}
