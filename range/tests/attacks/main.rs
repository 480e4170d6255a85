//! Every attack does to a real kernel what docs/range/attacks.md says, read through the agent's own columns; and none can be made to
//! misbehave. Needs root.

mod crash_loop;
mod exfiltration;
mod flood;
mod mining;
mod misbehaviour;
mod placebo;
mod ranges;
mod recon;
mod scan;
mod stage;
mod strain;
