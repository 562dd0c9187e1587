#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
//!
//! # Layout
//!
//! ```text
//!  your code                the cache              one state per stream      the network
//!  ─────────                ─────────              ────────────────────      ───────────
//!  Cluster, Listener …
//!    └─ Resource ─┐
//!    └─ Resource ─┴─ Snapshot ── set ──> Cache ── watch ──> StreamState ── Response ──> server ──> Envoy
//!                    (consistent)       (by group)         (protocol rules)            (frames)
//! ```
//!
//! The `mod` lines below are in the order in which to read the files. The protocol core, from `resource_type` to
//! `frame` except `cache`, consists of plain values: no tokio, no locks, no clocks.
//!
//! To follow one request from the socket to the response, read four files from top to bottom:
//! `server/stream_handler.rs` (reads the request), `stream_state.rs` (decides, commits, responds), `sotw.rs` or
//! `delta.rs` (what the request means), and `frame.rs` (the bytes of the response).
//!
//! # Glossary
//!
//! | here | the spec's term | section of the [spec] |
//! |---|---|---|
//! | [`Resource`], [`ResourceType`] | resource, resource type | [Resource Types] |
//! | [`Snapshot`] | none: a set of resources in which every referenced name exists | [Eventual consistency considerations] |
//! | group | none: the clients that receive the same snapshot, chosen by their node | - |
//! | [`XdsVariant`] | state of the world and incremental (delta) | [Variants of the xDS Transport Protocol] |
//! | [`Server`]: aggregated and per-type services | ADS; CDS, EDS, SDS, LDS, RDS | [Aggregated Discovery Service] |
//! | [`Version`](version::Version) | version info, resource version | [ACK/NACK and resource type instance version] |
//! | [`Response::nonce`](response::Response::nonce) | nonce | [ACK and NACK semantics summary] |
//! | [`RequestOutcome`](response::RequestOutcome) | ACK, NACK, stale nonce | [ACK and NACK semantics summary] |
//! | [`Subscription`](subscription::Subscription) | resource names subscribed to, wildcard | [How the client specifies what resources to return] |
//! | [`StreamState`](stream_state::StreamState) | none: the state of one stream | - |
//! | [`OnRejection`](cache::OnRejection) | none: what the owner wants to happen to a group whose clients reject | - |
//! | `ordering` | make before break | [Eventual consistency considerations] |
//! | [`SyncStatus`](publication::SyncStatus) | none: whether a client ACKed everything of a snapshot | - |
//! | [`LoadReports`] | Load Reporting Service (LRS) | - |
//!
//! [spec]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
//! [Resource Types]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-types
//! [Eventual consistency considerations]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations
//! [Variants of the xDS Transport Protocol]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#variants-of-the-xds-transport-protocol
//! [Aggregated Discovery Service]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#aggregated-discovery-service
//! [ACK/NACK and resource type instance version]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#ack-nack-and-resource-type-instance-version
//! [ACK and NACK semantics summary]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#ack-and-nack-semantics-summary
//! [How the client specifies what resources to return]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return

pub mod variant;

pub mod resource_type;

pub mod version;

pub(crate) mod wire;

pub mod resource;

pub mod references;

pub mod builders;

pub(crate) mod names;

pub mod snapshot;

pub mod publication;

pub(crate) mod lock;

pub mod cache;

pub mod client_quirks;

pub mod subscription;

pub(crate) mod type_state;

pub(crate) mod ordering;

pub mod response;

pub mod stream_state;

pub(crate) mod sotw;

pub(crate) mod delta;

pub mod frame;

pub mod event_log;

#[cfg(feature = "metrics")]
pub mod metrics;

#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;

pub mod load_reports;

pub mod server;

pub mod control_plane;

pub use cache::Cache;
pub use control_plane::ControlPlane;
pub use event_log::EventLog;
pub use load_reports::LoadReports;
pub use mesh_net::Limits;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use resource::Resource;
pub use resource_type::ResourceType;
pub use server::Server;
pub use snapshot::Snapshot;
pub use variant::XdsVariant;
