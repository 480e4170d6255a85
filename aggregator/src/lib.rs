//! The aggregator: takes observations in, classifies them, keeps them, answers questions about them.
//!
//! `ingest` (one task per stream) -> `pipeline` (the one task that owns the detector) -> `keep` (durable, then acknowledged).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
pub mod auth;
mod clock;
pub mod config;
pub mod console;
pub mod counters;
pub mod data_dir;
pub mod events;
pub mod export;
pub mod fleet;
pub mod gauges;
mod http;
pub mod identity;
pub mod ingest;
mod keep;
pub mod kubernetes;
pub mod label;
mod maintain;
pub mod model;
pub mod notify;
pub mod pipeline;
pub mod policy;
pub mod problems;
mod publish;
pub mod query;
pub mod receive;
mod reload;
mod roll;
mod roster;
pub mod serve;
mod services;
mod stamp;
pub mod store;
pub mod tls;
pub mod token;
pub mod watch;

use std::sync::Arc;

use tokio::sync::broadcast;
use vedette_history::History;
use vedette_proto::v1;

pub use config::Config;

/// What the services read. A clone is a handful of reference counts.
#[derive(Clone)]
pub struct Shared {
    /// The aggregator's own cluster name.
    pub cluster: Arc<str>,
    /// Observations.
    pub history: History,
    /// Labels, answers, incidents, audit.
    pub store: store::Store,
    /// Nodes and containers as last heard.
    pub fleet: Arc<fleet::Fleet>,
    /// Counts since the start, also on `/metrics`.
    pub counters: Arc<counters::Counters>,
    /// What is wrong with the aggregator itself.
    pub problems: Arc<problems::Problems>,
    /// How loudly incidents speak, and what is excepted.
    pub policy: Arc<policy::Desk>,
    /// Incidents as they open, change and resolve. Holds [`CHANGES_KEPT`]; a slower receiver is told that it missed some.
    pub changes: broadcast::Sender<v1::WatchIncidentsResponse>,
    /// Since when the aggregator runs, Unix milliseconds.
    pub started_unix_ms: i64,
}

/// Incident changes kept for a slow watcher: minutes of the busiest cluster, a few MiB.
pub const CHANGES_KEPT: usize = 1024;
