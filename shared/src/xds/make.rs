//! Resources
