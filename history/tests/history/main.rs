//! The history through its door. One binary: linking DataFusion once is enough.
#![allow(clippy::unwrap_used, missing_docs)]

mod concurrent;
mod disk_full;
mod durable;
mod hostile;
mod kill;
mod reading;
mod recording;
mod retention;
mod support;
