//! What the detector says of worlds made up row by row: event time only, randomness with a fixed seed.

#![allow(clippy::unwrap_used)]

mod baseline;
mod classifier;
mod clocks;
mod drift;
mod failures;
mod kinds;
mod limits;
mod lookalikes;
mod namespaces;
mod properties;
mod restart;
mod rollouts;
mod shop;
mod siblings;
mod silence;
mod world;
