#![doc = include_str!("../README.md")]
//!
//! # Reading order

pub mod topology;

pub mod inquiry;

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
