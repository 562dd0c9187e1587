#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod compose;

pub mod grpcio;

pub mod workspace;
