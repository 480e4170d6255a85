//! Vedette's command line: asks the aggregator, labels, exports, demonstrates.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod command;

pub mod client;
pub mod settings;

pub mod demo;

pub mod escape;
pub mod exit;

pub use command::main;
