#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! The idea: the kernel sees every connection of an unmodified Envoy, so count 23 known connections there with bpftrace,
//! and compare the counts with the records of the client, Envoy and `/proc`.
//!
//! 1. [`workload.rs`](workload): 23 connections with 4 requests each, and some that end badly.
//! 2. [`program.rs`](program): the bpftrace programs, one question each.
//! 3. [`trace.rs`](trace): bpftrace's JSON output as Rust values.
//! 4. [`runner.rs`](runner): one program's run, with counts taken before and after it.
//! 5. [`compare.rs`](compare): compares a trace with the other counts and makes claims of the result.
//! 6. `compare/connections.rs`: the claims about connections, as an example.
//! 7. [`scenario.rs`](scenario): the steps of a run.

#![forbid(unsafe_code)]

pub mod program;

pub mod trace;

pub mod facts;

pub mod compare;

pub mod draw;

pub mod doctor;

pub mod tracer;

pub mod workload;

pub mod reference;

pub mod container;

pub mod target;

pub mod plan;

pub mod runner;

pub mod scenario;

pub mod lab;
