//! The agent of one node: sample -> observe -> outbox -> uplink.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod config;
pub mod container;
pub mod crosscheck;
pub mod disk_io;
pub mod facts;
pub mod files;
pub mod glob;
pub mod hierarchy;
pub mod http;
pub mod metrics;
pub mod name;
pub mod network;
pub mod node;
pub mod observe;
pub mod oddness;
pub mod outbox;
pub mod parse;
pub mod peers;
pub mod processes;
pub mod sample;
pub mod sensor;
pub mod slots;
pub mod tree;
pub mod uplink;
pub mod watcher;

pub use vedette_resolve as resolve;
