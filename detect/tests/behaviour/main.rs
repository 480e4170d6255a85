//! What the detector says of worlds made up row by row: event time only, randomness with a fixed seed.

#![allow(clippy::unwrap_used)]

mod baseline;
mod clocks;
mod failures;
mod kinds;
mod limits;
mod lookalikes;
mod namespaces;
mod properties;
mod restart;
mod rollouts;
mod shop;
mod silence;
mod world;
