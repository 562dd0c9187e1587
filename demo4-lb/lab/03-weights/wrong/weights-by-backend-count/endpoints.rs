//! Backends in, endpoints for Envoy out.

use std::collections::BTreeMap;

/// A backend as discovery knows it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where it listens, as IP:PORT.
    pub address: String,
    /// Where it stands.
    pub region: String,
    /// Calls a second that it can take; 0 while it is being emptied.
    pub capacity: u32,
}

/// Endpoints at one place: Envoy's `LocalityLbEndpoints`.
#[derive(Clone, Debug)]
pub struct Locality {
    /// The place.
    pub region: String,
    /// Its part of the calls, relative to the other localities.
    pub load_balancing_weight: u32,
    /// Who is there.
    pub endpoints: Vec<Endpoint>,
}

/// One backend as Envoy is told of it: its `LbEndpoint`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens, as IP:PORT.
    pub address: String,
    /// Its part of its locality's calls, relative to the others there.
    pub load_balancing_weight: u32,
}

/// What Envoy is told: calls in proportion to capacity.
pub fn endpoints(backends: &[Backend]) -> Vec<Locality> {
    let mut regions: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
    for backend in backends.iter().filter(|backend| backend.capacity > 0) {
        let endpoint = Endpoint { address: backend.address.clone(), load_balancing_weight: backend.capacity };
        regions.entry(&backend.region).or_default().push(endpoint);
    }
    let locality = |(region, endpoints): (&str, Vec<Endpoint>)| Locality {
        region: region.to_owned(),
        load_balancing_weight: endpoints.len() as u32,
        endpoints,
    };
    regions.into_iter().map(locality).collect()
}
