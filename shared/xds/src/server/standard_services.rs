//! The standard gRPC services beside the discovery services: health and reflection.

#[cfg(feature = "health")]
use tonic_health::{ServingStatus, server::HealthReporter};

#[cfg(feature = "health")]
use super::service::SERVICE_NAMES;

/// The encoded `FileDescriptorSet` of the discovery services, with the fields that the control plane uses.
#[cfg(feature = "reflection")]
const DISCOVERY_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/discovery.bin"));

/// Adds the health service.
#[cfg(feature = "health")]
pub(super) async fn with_health(routes: tonic::service::Routes) -> (HealthReporter, tonic::service::Routes) {
    let (health, service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    (health, routes.add_service(service))
}

/// Sets the health of each service, and of the whole server (the empty name).
#[cfg(feature = "health")]
pub(super) async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICE_NAMES.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

/// Adds server reflection, in both versions.
#[cfg(feature = "reflection")]
pub(super) fn with_reflection(routes: tonic::service::Routes) -> tonic::service::Routes {
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DISCOVERY_DESCRIPTORS);
        #[cfg(feature = "health")]
        let builder = builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        builder
    };
    routes
        .add_service(reflection().build_v1().expect("our own descriptors decode"))
        // Older versions of grpcurl use this one.
        .add_service(reflection().build_v1alpha().expect("our own descriptors decode"))
}
