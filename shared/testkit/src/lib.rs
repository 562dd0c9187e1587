#![doc = include_str!("../README.md")]

pub mod story;

pub mod processes;

pub mod altered_envoy;

pub mod lab_ports;

pub mod compose;

pub mod grpcio;
