//! What the end-to-end tests share: processes started as in production, and a rule for what is missing.

#![allow(clippy::unwrap_used)] // a test that cannot set itself up should say where and stop

pub mod checkout;
pub mod prerequisite;
