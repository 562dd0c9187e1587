#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! The idea: Envoy asks one authorizer about every call, so that no service has to decide again who the caller is and what
//! it is allowed to do.
//!
//! 1. [`topology.rs`](topology): the listeners of Envoy, and the authorizer that each of them asks.
//! 2. [`authorizer.rs`](authorizer): one check from the request to the answer.
//! 3. [`policy.rs`](policy): Cedar policies decide what an authenticated caller is allowed to do.
//! 4. [`decision.rs`](decision): the decision as plain values, and its translation for Envoy.
//! 5. [`scenario.rs`](scenario): the steps of a run.
//!
//! After that, [`check_input`] parses what Envoy sends, and [`token`] verifies signatures.

#![forbid(unsafe_code)]

pub mod topology;

pub mod check_input;

pub mod claims;

pub mod cache;

pub mod jwks;

mod crypto;

pub mod token;

pub mod policy;

pub mod decision;

pub mod outcome;

pub mod metrics;

pub mod decision_log;

pub mod authorizer;

pub mod reload;

pub mod server;

pub mod issuer;

pub mod backend;

pub mod client;

pub mod plan;

pub mod scenario;

pub mod lab;
