//! The generated gRPC types of `proto/`, and their descriptors for the reflection service.

/// `mesh.echo.v1`: the service that says who answered.
pub mod echo {
    #![allow(missing_docs, clippy::all, reason = "generated code; its documentation is echo.proto")]
    tonic::include_proto!("mesh.echo.v1");
}

/// `mesh.hello.v1`: the service that says what reached it.
pub mod hello {
    #![allow(missing_docs, clippy::all, reason = "generated code; its documentation is hello.proto")]
    tonic::include_proto!("mesh.hello.v1");
}

/// The encoded `FileDescriptorSet` of our own services.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mesh.bin"));
