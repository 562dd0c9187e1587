//! Exercise 3: a function that turns backends and their capacities into weights; a real Envoy goes by them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use mesh_lab::{CheckContext, Question, Requirement};
use mesh_lab_xds::XdsEnvoy;
use mesh_xds::{Resource, Snapshot, builders};
use shared::stats::Shares;

use super::environment::{by_region, connect, require_no_failures, start_backends};
use crate::backend::Backend;
use crate::caller::Tally;
use crate::topology::{CLUSTER, LISTENER};

const HARNESS: &str = include_str!("weights/harness.rs");

const FILE: &str = "endpoints.rs";

/// Enough to tell a sixth of a quarter from a third of it.
const CALLS: usize = 1200;

/// A backend and what it can take.
struct KnownBackend {
    backend: Backend,
    region: String,
    capacity: u32,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let known = start_known_backends(context).await?;
    let encode = |one: &KnownBackend| format!("{},{},{}", one.region, one.backend.address(), one.capacity);
    let program = context.compile(FILE, HARNESS).await?;
    let shown = known.iter().map(|one| format!("{} {}", one.backend.name(), one.capacity));
    let question = Question {
        line: known.iter().map(encode).collect::<Vec<_>>().join(";"),
        description: format!("endpoints of [{}]", shown.collect::<Vec<_>>().join(", ")),
    };
    let answer = context.ask(&program, &[question]).await?.remove(0);
    let assignment = assignment(&answer)?;

    let mesh = XdsEnvoy::start(context).await?;
    if let Err(refusal) = mesh.publish(snapshot(&assignment)?).await {
        let what = "Envoy accepts the endpoints";
        let advice =
            "Weights begin at 1, for endpoints and for localities: what is to get nothing is left out.";
        return Err(Requirement::unmet(what, "an ACK", refusal, advice).into());
    }
    context.require("Envoy accepts the endpoints", "an ACK", "Envoy sent an ACK", true, "");
    check_regions(context, &mesh, &known).await?;
    let calls = connect(&mesh).await?.calls(CALLS, 8).await;
    require_no_failures(
        context,
        "every call is answered",
        &calls,
        "Are all addresses those that you were given?",
    );
    check_shares(context, &known, &calls.iter().collect::<Tally>().shares);
    Ok(())
}

/// One region with a large backend, one with three small ones of unequal size, and one that is just now emptied.
/// Names, capacities and the order differ from check to check.
async fn start_known_backends(context: &mut CheckContext) -> anyhow::Result<Vec<KnownBackend>> {
    let regions = context.rng.names(3);
    let mut small = [4, 8, 12];
    context.rng.shuffle(&mut small);
    let capacities = [vec![context.rng.number(60..=90)], small.to_vec(), vec![0]];
    let mut known = Vec::new();
    for (region, capacities) in regions.into_iter().zip(capacities) {
        let here = start_backends(&region, capacities.len(), &context.life).await?;
        let here = here.into_iter().zip(capacities);
        known.extend(here.map(|(backend, capacity)| KnownBackend {
            backend,
            region: region.clone(),
            capacity,
        }));
    }
    context.rng.shuffle(&mut known);
    Ok(known)
}

/// The answer as Envoy's message, just as it is.
fn assignment(answer: &str) -> Result<ClusterLoadAssignment, Requirement> {
    let weight = |text: &str| text.parse().ok().map(|value| UInt32Value { value });
    let endpoint = |text: &str| {
        let (address, number) = text.rsplit_once('=')?;
        let address: SocketAddr = address.parse().ok()?;
        let endpoint = Endpoint { address: Some(builders::address(address)), ..Endpoint::default() };
        Some(LbEndpoint {
            load_balancing_weight: weight(number),
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..LbEndpoint::default()
        })
    };
    let locality = |text: &str| {
        let (head, endpoints) = text.rsplit_once('|')?;
        let (region, number) = head.rsplit_once('|')?;
        let endpoints = endpoints.split(',').filter(|one| !one.is_empty()).map(endpoint);
        Some(LocalityLbEndpoints {
            locality: Some(Locality { region: region.to_owned(), ..Locality::default() }),
            load_balancing_weight: weight(number),
            lb_endpoints: endpoints.collect::<Option<_>>()?,
            ..LocalityLbEndpoints::default()
        })
    };
    let localities = answer.split(';').filter(|one| !one.is_empty()).map(locality);
    let endpoints = localities.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let advice = "Take addresses and regions over as they are.";
        Requirement::unmet("the addresses are addresses", "IP:PORT", format!("it returned {answer}"), advice)
    })?;
    Ok(ClusterLoadAssignment {
        cluster_name: CLUSTER.to_owned(),
        endpoints,
        ..ClusterLoadAssignment::default()
    })
}

fn snapshot(assignment: &ClusterLoadAssignment) -> anyhow::Result<Snapshot> {
    let resources = vec![
        Resource::new(&builders::with_locality_weights(builders::cluster(CLUSTER)))?,
        Resource::new(assignment)?,
        Resource::new(&builders::route(LISTENER, CLUSTER))?,
        Resource::new(&builders::listener(LISTENER, XdsEnvoy::ANYWHERE, LISTENER))?,
    ];
    Ok(Snapshot::new(resources)?)
}

/// Envoy's own account of where the backends are.
async fn check_regions(
    context: &mut CheckContext,
    mesh: &XdsEnvoy,
    known: &[KnownBackend],
) -> anyhow::Result<()> {
    let clusters = mesh.envoy.admin().clusters().await?;
    let hosts = clusters.into_iter().filter(|cluster| cluster.name == CLUSTER).flat_map(|one| one.hosts);
    let region_of: BTreeMap<_, _> = hosts.map(|host| (host.address, host.locality.region)).collect();
    let expected = || known.iter().filter(|one| one.capacity > 0);
    let correct = expected().filter(|one| region_of.get(&one.backend.address()) == Some(&one.region)).count();
    context.require(
        "each backend is in its region",
        format!("all {}", expected().count()),
        format!("Envoy has {correct} backends with calls to get in their regions"),
        correct == expected().count(),
        "One locality for each region, with the endpoints that are there.",
    );
    Ok(())
}

fn check_shares(context: &mut CheckContext, known: &[KnownBackend], seen: &Shares) {
    let total = f64::from(known.iter().map(|one| one.capacity).sum::<u32>());
    let emptied: u64 =
        known.iter().filter(|one| one.capacity == 0).map(|one| seen.of(one.backend.name())).sum();
    context.require(
        "a backend of capacity 0 gets no call",
        "none",
        format!("{emptied} of {CALLS} calls went to a backend of capacity 0"),
        emptied == 0,
        "Weights begin at 1, so a backend that is to get nothing is left out of the list.",
    );
    let mut regions: BTreeMap<&str, Vec<&KnownBackend>> = BTreeMap::new();
    for one in known.iter().filter(|one| one.capacity > 0) {
        regions.entry(&one.region).or_default().push(one);
    }
    let got = by_region(seen);
    let advice = if got.fit_evenly(regions.keys().copied()).holds() {
        "Every region got the same: their localities weigh the same."
    } else if got.fit(regions.iter().map(|(region, here)| (*region, here.len() as f64))).holds() {
        "Regions got their part by the number of their backends, and not by what these can take together."
    } else {
        "A locality's weight is what its backends can take together."
    };
    for (region, here) in &regions {
        let capacity: u32 = here.iter().map(|one| one.capacity).sum();
        context.require_share(region, f64::from(capacity) / total, (got.of(region), CALLS as u64), advice);
    }
    for (region, here) in regions.iter().filter(|(_, here)| here.len() > 1) {
        let within: Shares =
            Shares::from_counts(here.iter().map(|one| (one.backend.name(), seen.of(one.backend.name()))));
        let fit = within.fit(here.iter().map(|one| (one.backend.name(), f64::from(one.capacity))));
        let capacities = here.iter().map(|one| format!("{} {}", one.backend.name(), one.capacity));
        context.require(
            format!("inside of {region} each backend gets its part"),
            format!("parts like {}", capacities.collect::<Vec<_>>().join(", ")),
            format!("inside of {region} it was {within} ({fit})"),
            fit.holds(),
            "An endpoint's weight is relative to the others of its locality: what the backend can take.",
        );
    }
}
