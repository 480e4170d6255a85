//! From observations to explained incidents: facts, a baseline per workload, a stated signature per kind, and the fold into incidents.
//!
//! Everything here is synchronous and pure: no I/O, no clock. Every instant is event time in Unix milliseconds, except in
//! [`Detector::nodes`], which is given the aggregator's clock.
//!
//! A row becomes levels per feature (`container`), levels become strengths against the workload's `baseline` (`view`),
//! strengths match `signature`s, matches persist (`judge`), and what persists is folded into an `incident`. With a [`Classifier`] it is
//! the one that decides: what a straying container did since then (`window`) is an attack of a kind, or it is not.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod classifier;
mod config;
mod detector;
mod subject;
mod verdict;

mod baseline;
mod candidate;
mod claims;
mod container;
mod course;
mod disagreement;
mod evidence;
mod facts;
mod fleet;
mod fold;
mod incident;
mod judge;
mod memory;
mod namespaces;
mod pods;
pub mod policy;
mod prior;
mod processes;
pub mod promotion;
mod reference;
mod residual;
mod restore;
mod rollout;
mod season;
mod shipped;
mod siblings;
mod signature;
mod silence;
pub mod table;
mod thresholds;
mod trend;
pub mod vector;
mod view;
pub mod window;

pub use claims::Unclaimed;
pub use classifier::{Classifier, ClassifierError, Opinion, PAGE_FROM, TICKET_FROM};
pub use config::{Config, ConfigError};
pub use course::{AcceptError, Accepted};
pub use detector::Detector;
pub use fleet::KeyHasher;
pub use memory::{Memory, MemoryError};
pub use namespaces::{Namespaces, Profile};
pub use shipped::{LoadError, Signed, key, trusted};
pub use subject::{ContainerAt, NodeHeard, SubjectKey};
pub use verdict::{Change, ContainerState, Stats, Verdict};
