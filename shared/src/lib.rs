//! What the five demos share, in the order a newcomer should read it.
//!
//! ```text
//! how a program lives      lifecycle, poll
//! how it says what it saw  report, stats, cli
//! what it stands on        ports, proto, health, web, child, tools
//! the mesh itself          xds (the control plane), envoy (the data plane)
//! ```
//!
//! An arrow never runs back: the first two rows import nothing below them, and
//! `xds` and `envoy` do not know each other (Envoy's bootstrap is given an address).

pub mod lifecycle;

pub mod poll;

pub mod stats;

pub mod report;

pub mod cli;

pub mod ports;

pub mod proto;

pub mod health;

pub mod web;

pub mod child;

pub mod tools;

pub mod xds;

pub mod envoy;
