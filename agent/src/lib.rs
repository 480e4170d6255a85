//! The agent of one node: sample -> observe -> outbox -> uplink.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod config;
pub mod sample;
pub mod observe;
pub mod sensor;
pub mod tree;
pub mod name;
pub mod glob;
pub mod hierarchy;
pub mod watcher;
pub mod container;
pub mod network;
pub mod processes;
pub mod slots;
pub mod oddness;
pub mod peers;
pub mod node;
pub mod files;
pub mod parse;
pub mod outbox;
pub mod uplink;
pub mod http;
pub mod metrics;
