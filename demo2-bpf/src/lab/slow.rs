//! Exercise 3: which backend is slow?

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use mesh_lab::{CheckContext, Requirement};
use serde_json::{Value, json};
use shared::envoy::Envoy;
use shared::lifecycle::Lifecycle;
use shared::web;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::watch::{all_ended, can_watch, watch};
use crate::workload;

const FILE: &str = "slow.bt";

/// Backends.
const BACKENDS: usize = 3;

/// Requests at once, and how many times.
const AT_ONCE: usize = 4;
const ROUNDS: usize = 8;

const READY: Duration = Duration::from_secs(30);

/// A backend that answers after so long, and counts.
struct Backend {
    address: SocketAddr,
    delay: Duration,
    answered: Arc<AtomicU64>,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    can_watch().await?;
    let program = bench.envoy_program().await?;
    let slow_one = bench.rng.number(0..=BACKENDS as u32 - 1) as usize;
    let delay = Duration::from_millis(bench.rng.number(150..=220).into());
    let mut backends = Vec::new();
    for number in 0..BACKENDS {
        let delay = if number == slow_one { delay } else { Duration::ZERO };
        backends.push(Backend::start(delay, &bench.life).await?);
    }
    let envoy = Envoy::new(&program, config(&backends).to_string()).concurrency(2);
    let envoy = envoy.start(&bench.life).await?.ready(READY).await?;
    let listens = envoy.admin().listeners().await?.first().context("our Envoy has no listener")?.address;
    let watching = watch(bench, FILE, &[envoy.pid().to_string()]).await?;
    for _ in 0..ROUNDS {
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            running.spawn(workload::once(listens));
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
    }
    all_ended(envoy.admin()).await?;
    let trace = watching.maps().await?;

    let none = BTreeMap::new();
    let slow = trace.maps.get("slow").unwrap_or(&none);
    known_ports(bench, slow, &backends)?;
    judge(bench, slow, &backends, slow_one);
    Ok(())
}

/// The keys have to be ports, or nothing more can be said.
fn known_ports(
    bench: &mut CheckContext,
    slow: &BTreeMap<String, i64>,
    backends: &[Backend],
) -> Result<(), Requirement> {
    let is_backend = |port: u16| backends.iter().any(|backend| backend.address.port() == port);
    let is_known = |key: &&String| key.parse().is_ok_and(is_backend);
    let strange = slow.keys().find(|key| !is_known(key));
    let seen = match (slow.is_empty(), strange) {
        (true, _) => "@slow names no port at all".to_owned(),
        (false, None) => format!("All {} keys of @slow are ports of backends", slow.len()),
        (false, Some(key)) => format!("@slow has the key {key:?}, which is no backend's port"),
    };
    let swapped = strange.and_then(|key| key.parse::<u16>().ok()).map(u16::swap_bytes);
    let advice = if slow.is_empty() {
        "A backend has a request from the time it was written to its socket; its answer comes with a read of that \
         socket. connect() says which socket goes to which port."
    } else if swapped.is_some_and(is_backend) {
        "It is one with its two bytes swapped: an address is written in the order of the network, the larger byte first."
    } else {
        "The key is the port of the backend, as a number: what connect() was given for that socket."
    };
    let met = !slow.is_empty() && strange.is_none();
    if !met {
        return Err(Requirement::unmet("@slow counts by port", "ports of backends", seen, advice));
    }
    bench.require("@slow counts by port", "ports of backends", seen, true, advice);
    Ok(())
}

fn judge(bench: &mut CheckContext, slow: &BTreeMap<String, i64>, backends: &[Backend], slow_one: usize) {
    let counted = |backend: &Backend| slow.get(&backend.address.port().to_string()).copied().unwrap_or(0);
    let the_slow = &backends[slow_one];
    let (answered, found) = (the_slow.answered(), counted(the_slow));
    let (mut fast, mut of) = (0, 0);
    for backend in backends.iter().filter(|backend| backend.delay.is_zero()) {
        fast += counted(backend);
        of += backend.answered();
    }
    bench.require(
        "each answer of the slow backend counts",
        answered,
        format!("{found} of the {answered} answers of the slow backend count as slow"),
        found == answered,
        if found > answered {
            "More than there were: an answer that comes in two reads is one answer."
        } else {
            "Some were missed. A worker waits for several backends at once: what you keep, keep by socket."
        },
    );
    // On a machine that is busy with other things a fast one may be late, now and then.
    let most = of / 3;
    bench.require(
        "answers of the others do not",
        format!("at most {most}"),
        format!("{fast} of {of} answers of fast backends count as slow"),
        fast <= most,
        if fast >= of {
            "Every answer is counted. Which ones took longer than 100 ms?"
        } else {
            "The clock runs from something earlier than the request: connections are used again and again. It begins \
             when the request is written."
        },
    );
}

impl Backend {
    async fn start(delay: Duration, life: &Lifecycle) -> anyhow::Result<Self> {
        let listener = uneven().await?;
        let address = listener.local_addr()?;
        let answered = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&answered);
        web::serve(listener, life, move |_| {
            let counting = Arc::clone(&counting);
            async move {
                // The slowness itself.
                tokio::time::sleep(delay).await;
                counting.fetch_add(1, Ordering::Relaxed);
                web::text(StatusCode::OK, "hello\n")
            }
        });
        Ok(Self { address, delay, answered })
    }

    fn answered(&self) -> i64 {
        self.answered.load(Ordering::Relaxed).cast_signed()
    }
}

/// A free port whose two bytes differ, so that it matters in which order they are read. The others are held
/// meanwhile, or the system might give the same one again.
async fn uneven() -> anyhow::Result<TcpListener> {
    let mut even = Vec::new();
    loop {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = bound.context("no free port for a backend")?;
        let port = listener.local_addr()?.port();
        if port != port.swap_bytes() {
            return Ok(listener);
        }
        even.push(listener);
    }
}

/// One listener, and the backends in turn.
fn config(backends: &[Backend]) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let endpoint = |backend: &Backend| json!({ "endpoint": { "address": address(backend.address.port()) } });
    let endpoints: Vec<Value> = backends.iter().map(endpoint).collect();
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "backends" } }]);
    let filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": manager,
            "stat_prefix": "slow",
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": router } }],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        },
    });
    json!({
        "admin": { "address": address(0) },
        "static_resources": {
            "listeners": [{ "name": "slow", "address": address(0), "filter_chains": [{ "filters": [filter] }] }],
            "clusters": [{
                "name": "backends",
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": { "cluster_name": "backends", "endpoints": [{ "lb_endpoints": endpoints }] },
            }],
        },
    })
}
