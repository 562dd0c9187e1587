#![doc = include_str!("../README.md")]
//!
//! Resources from a folder of YAML and JSON files, in the form that Envoy itself reads from files.
//!
//! ```yaml
//! resources:
//!   - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
//!     name: blue
//! ```
//!
//! ```text
//!   folder ──read_folder──> texts ──parse──> resources ──Snapshot::new──> published
//!          twice the same                 └── an error: logged once; what was published stays
//! ```
//!
//! Source: "Dynamic configuration from filesystem" in Envoy's documentation.
#![forbid(unsafe_code)]

mod error;

pub mod document;

mod error_text;

mod canonical;

mod parse;

mod read_folder;

mod folder;

pub use error::FilesError;
pub use folder::Folder;
