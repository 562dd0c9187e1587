#![doc = include_str!("../README.md")]
//!
//! # Reading order

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
