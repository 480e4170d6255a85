//! From observations to explained incidents: facts, a baseline per workload, a stated signature per kind, and the fold into incidents.
//!
//! Everything here is synchronous and pure: no I/O, no clock. Every instant is event time in Unix milliseconds, except in
//! [`Detector::nodes`], which is given the aggregator's clock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod detector;
mod subject;
mod verdict;

pub use config::{Config, ConfigError};
pub use detector::Detector;
pub use subject::{ContainerAt, NodeHeard, SubjectKey};
pub use verdict::{Change, ContainerState, Stats, Verdict};
