//! Ordinary programs, clients and look-alikes on the real kernel: each moves the counters it should, and not those by which its twin is told.
//! Needs root.

mod ceilings;
mod clients;
mod crowds;
mod disk;
mod lives;
mod network;
mod programs;
mod range;
mod work;
