#![doc = include_str!("../README.md")]
//!
//! # Reading order

pub mod topology;

pub mod balance;

pub mod discovery;

pub mod health;

pub mod backend;

pub mod caller;

pub mod plan;

pub mod scenario;

pub mod lab;
