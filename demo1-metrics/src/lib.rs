#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! The idea: send work whose numbers are known, break one service on purpose, and check that the metrics of Envoy and
//! of the services show exactly that.
//!
//! 1. [`topology.rs`](topology): which service calls which, through which Envoy, at which port.
//! 2. [`service.rs`](service): a service that counts its calls, and that can be made slow or faulty.
//! 3. [`load.rs`](load): the load generator; it sends each request at its time, however slow the answers are.
//! 4. [`scenario.rs`](scenario): the steps of a run, and the claims that they check.
//! 5. `scenario/traffic.rs`: rate, errors and duration of each edge, compared with what was sent.
//! 6. `scenario/errors.rs`: one service fails, retries hide it, and the metrics still show it.

#![forbid(unsafe_code)]

pub mod topology;

pub mod service;

pub mod load;

pub mod exposition;

pub mod prometheus;

pub mod plot;

pub mod dashboard;

pub mod pictures;

pub mod plan;

pub mod scenario;

pub mod lab;
