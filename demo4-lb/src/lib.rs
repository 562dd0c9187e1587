#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! The idea: one control plane publishes one desired state, and both an Envoy and gRPC clients without a proxy balance
//! every call by it.
//!
//! 1. [`topology.rs`](topology): the desired state as data: backends, regions, weights.
//! 2. `topology/render.rs`: the same state as xDS resources for each kind of client.
//! 3. [`balance.rs`](balance): how much each region should get, computed from demand and capacity.
//! 4. [`scenario.rs`](scenario): the steps of a run.
//! 5. `scenario/calls.rs`: calls are spread over equal backends.
//! 6. `scenario/localities.rs`: traffic is split between three regions by weight.
//! 7. `scenario/priorities.rs`: a region fails, traffic fails over, the region recovers.

#![forbid(unsafe_code)]

pub mod topology;

pub mod balance;

pub mod discovery;

pub mod health;

pub mod backend;

pub mod caller;

pub mod plan;

pub mod scenario;

pub mod lab;
