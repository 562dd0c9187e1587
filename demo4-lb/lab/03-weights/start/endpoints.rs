//! Backends in, endpoints for Envoy out.

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

/// What Envoy is told. Round robin: one place, everybody weighs the same.
pub fn endpoints(backends: &[Backend]) -> Vec<Locality> {
    let endpoint =
        |backend: &Backend| Endpoint { address: backend.address.clone(), load_balancing_weight: 1 };
    let endpoints = backends.iter().map(endpoint).collect();
    vec![Locality { region: String::new(), load_balancing_weight: 1, endpoints }]
}
