//! A whole aggregator in this process, spoken to over TLS on loopback.
#![allow(clippy::unwrap_used, missing_docs)]

mod delivery;
mod harness;
mod hostile;
mod restart;
mod services;
mod start;
mod tokens;
