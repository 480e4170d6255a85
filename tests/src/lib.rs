//! What the end-to-end tests share: processes started as in production, and a rule for what is missing.

pub mod agent;
pub mod agent_pod;
pub mod aggregator;
pub mod apiserver;
pub mod certificates;
pub mod checkout;
pub mod cli;
pub mod dynamic;
pub mod feeder;
pub mod kubelet;
pub mod machine;
pub mod name_server;
pub mod prerequisite;
pub mod process;
pub mod sink;
pub mod station;
pub mod tree;
