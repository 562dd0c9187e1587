//! Selects features of the packages that several demos use; see this crate's `Cargo.toml`. Contains no code.

#![forbid(unsafe_code)]
