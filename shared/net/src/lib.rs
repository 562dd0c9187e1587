#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod limits;

mod connection;

mod incoming;

#[cfg(feature = "grpc")]
mod grpc;

pub use connection::Connection;
#[cfg(feature = "grpc")]
pub use grpc::grpc_server;
pub use incoming::{Acceptor, incoming};
pub use limits::Limits;
