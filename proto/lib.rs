//! The contract of Vedette: the protocol, the observation columns, the features, and the words for kinds and severities.
//!
//! Agent and aggregator know this crate and never each other.

pub mod columns;
pub mod features;
pub mod observation;
pub mod words;

/// Generated from `proto/vedette/v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("vedette.v1");
}

/// The compiled descriptors, for gRPC reflection and for the test that compares versions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vedette.v1.bin"));

pub use columns::{Column, Reading, Scope, Tier};
pub use features::{Feature, Features};
pub use observation::{Block, BlockError, Observation};
