#![doc = include_str!("../README.md")]
//!
//! # Reading order

pub mod program;

pub mod trace;

pub mod facts;

pub mod judge;

pub mod draw;

pub mod doctor;

pub mod tracer;

pub mod workload;

pub mod witness;

pub mod container;

pub mod target;

pub mod plan;

pub mod watch;

pub mod scenario;

pub mod lab;
