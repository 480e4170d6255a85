//! The query service: what the aggregator knows, and SQL over it.

mod explain;
mod failure;
mod incidents;
mod service;
mod session;
mod sheet;
mod sql;
mod tables;
mod value;

pub(crate) use explain::{instant, observations};
pub(crate) use failure::status_of;
pub(crate) use incidents::{about, checked_selector};
pub use service::QueryService;
pub(crate) use session::{Questions, session};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;
