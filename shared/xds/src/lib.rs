#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
//!
//! An xDS control plane: it tells data planes (Envoy, gRPC clients) what the world looks like.
//!
//! ```text
//!  your code                the cache              one stream each           the network
//!  ─────────                ─────────              ───────────────           ───────────
//!  Cluster, Listener …
//!    └─ Resource ─┐
//!    └─ Resource ─┴─ Snapshot ── set ──> Cache ── watch ──> Stream ── Response ──> server ──> Envoy
//!                    (consistent)       (by group)          (pure rules)           (frames)
//! ```
//!
//! **Vocabulary.** A [`Resource`] is one thing that a client can subscribe to: a cluster, the
//! endpoints of a cluster, a listener, a route configuration, a secret. A [`Snapshot`] is a set of
//! resources in which every name that is referred to exists. A *group* is the set of clients that
//! are shown the same snapshot. On a stream the client *asks* for names of a type, the server
//! *sends*, and the client accepts (*ACK*) or refuses (*NACK*) what was sent by quoting its *nonce*.
//!
//! **Order of files.** [`names`] (how names are kept), [`resource`] and [`mod@reference`] (what there is), [`make`] (how to
//! make it), [`snapshot`] (what fits together), [`cache`] (who is shown what), [`subscription`] (what a client
//! asked for), [`track`], [`order`], [`stream`] (what it may be told now; [`sotw`] and [`delta`] are
//! the two dialects), [`frame`] (bytes), [`dialogue`] (what was said), [`metrics`] (how much of it),
//! [`load`] (what clients report back), [`server`] (the discovery services: the I/O), [`plane`] (all of it, ready to run).
//!
//! The rules are those of Envoy's
//! [xDS protocol](https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol).

pub mod names;

pub mod resource;

pub mod reference;

pub mod make;

pub mod snapshot;

pub mod cache;

pub mod subscription;

pub mod track;

pub mod order;

pub mod stream;

pub mod sotw;

pub mod delta;

pub mod frame;

pub mod dialogue;

#[cfg(feature = "metrics")]
pub mod metrics;

#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;

pub mod load;

pub mod server;

pub mod plane;

pub use cache::Cache;
pub use dialogue::Dialogue;
pub use load::LoadReports;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use plane::ControlPlane;
pub use resource::{Resource, ResourceType};
pub use server::Server;
pub use snapshot::Snapshot;
