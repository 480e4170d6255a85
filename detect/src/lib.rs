//! From observations to explained incidents: facts, a baseline per workload, a stated signature per kind, and the fold into incidents.
//!
//! Everything here is synchronous and pure: no I/O, no clock. Every instant is event time in Unix milliseconds, except in
//! [`Detector::nodes`], which is given the aggregator's clock.
//!
//! A row becomes levels per feature (`container`), levels become strengths against the workload's `baseline` (`view`),
//! strengths match `signature`s, matches persist (`judge`), and what persists is folded into an `incident`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod detector;
mod subject;
mod verdict;

mod baseline;
mod claims;
mod container;
mod disagreement;
mod evidence;
mod facts;
mod fleet;
mod fold;
mod incident;
mod judge;
mod namespaces;
mod pods;
mod prior;
mod processes;
mod restore;
mod rollout;
mod signature;
mod silence;
mod thresholds;
mod trend;
pub mod vector;
mod view;

pub use claims::Unclaimed;
pub use config::{Config, ConfigError};
pub use detector::Detector;
pub use fleet::KeyHasher;
pub use namespaces::{Namespaces, Profile};
pub use subject::{ContainerAt, NodeHeard, SubjectKey};
pub use verdict::{Change, ContainerState, Stats, Verdict};
