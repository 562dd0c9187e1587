#![doc = include_str!("../README.md")]
//!
//! # Reading order

pub mod topology;

pub mod inquiry;

pub mod token;

pub mod jwks;

mod crypto;

pub mod cache;

pub mod policy;

pub mod decision;

pub mod authorizer;

pub mod decision_log;

pub mod metrics;

pub mod reload;

pub mod server;

pub mod issuer;

pub mod backend;

pub mod client;

pub mod scenario;

pub mod lab;
