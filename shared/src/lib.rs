// The first definition of a link counts: these lead to pages of this documentation, the README's to files.
#![doc = "[demo2-bpf]: ../demo2_bpf/index.html"]
#![doc = "[demo4-lb]: ../demo4_lb/index.html"]
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod lifecycle;

pub mod poll;

pub mod follow;

pub mod temp_folder;

pub mod stats;

pub mod cpu;

pub mod report;

pub mod cli;

pub mod ports;

pub mod proto;

pub mod client;

pub mod health;

pub mod web;

pub mod reuseport;

pub mod child;

pub mod tools;

#[cfg(feature = "tls")]
pub use mesh_pki::tls;

pub mod envoy;
