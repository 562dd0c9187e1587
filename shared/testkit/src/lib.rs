#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod demo;

pub mod processes;

pub mod altered_envoy;

pub mod lab_ports;

pub mod compose;

pub mod grpcio;

pub mod workspace;
