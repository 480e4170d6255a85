//! The kind classifiers of this aggregator: the shipped one, those that people brought, which serves, which only watches.

mod gate;
mod registry;
mod service;

pub use registry::{Choice, ModelError, Registry, Tally};
pub use service::ModelService;
