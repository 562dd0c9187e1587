#![doc = include_str!("../README.md")]
//!
//! # Reading order

pub mod topology;

pub mod app;

pub mod trust;

pub mod client;

pub mod scenario;

pub mod admin;

pub mod lab;
