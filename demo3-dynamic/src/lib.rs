#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! The idea: Envoy starts with nothing but the address of its control plane, receives everything else over xDS, and applies
//! every change without a restart and without a lost request.
//!
//! 1. [`topology.rs`](topology): the desired state as data: one listener, two apps, and their weights.
//! 2. [`certificate_authority.rs`](certificate_authority): the certificates: root, intermediate, leaf.
//! 3. [`scenario.rs`](scenario): the steps of a run, and the claims that they check.
//! 4. `scenario/config.rs`: from no configuration to a first answer; then weights change.
//! 5. `scenario/certificates.rs`: TLS is added, and a certificate rotates.
//! 6. `scenario/faults.rs`: Envoy rejects a mistake (NACK), and the control plane goes away and returns.

#![forbid(unsafe_code)]

pub mod topology;

pub mod app;

pub mod certificate_authority;

pub mod client;

pub mod scenario;

pub mod admin;

pub mod lab;
