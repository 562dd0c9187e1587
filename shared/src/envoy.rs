//! The data plane: the real Envoy, configured, run, and asked what it sees.
//!
//! ```text
//! bootstrap  who am I, where is my control plane   pure: values in, text out
//!     v
//! process    configured -> started -> serving      the only file that runs Envoy
//!     v
//! admin      ready, listeners, stats, clusters     Envoy's own account of itself
//! ```
//!
//! Read them in this order. What Envoy shall *do* (clusters, routes, listeners) is not here: it comes from
//! a control plane, of which this module knows only the address, the xDS variant and whether it takes load
//! reports, or stands in a demo's own static configuration, which [`Envoy`] takes just as well.

pub mod bootstrap;

pub mod process;

pub mod admin;

pub use admin::{Admin, AdminError};
pub use bootstrap::{Bootstrap, EnvoyXdsVariant};
pub use process::{Envoy, EnvoyError, Serving, Started};
