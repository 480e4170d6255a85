//! The range: a place where attacks and their look-alikes are simulated in pods shaped as a kubelet would shape them,
//! and labelled by the injector itself. It never talks to the agent.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod behave;
mod bridge;
pub mod cgroups;
pub mod clean;
pub mod contain;
pub mod disk;
pub mod enter;
pub mod events;
pub mod guard;
pub mod held;
pub mod home;
pub mod inside;
pub mod labels;
mod netlink;
pub mod nets;
pub mod network;
pub mod orphans;
pub mod plan;
pub mod pod;
pub mod probe;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod turns;

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock as event time, Unix milliseconds.
#[must_use]
pub fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
