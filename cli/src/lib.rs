//! Vedette's command line: asks the aggregator, labels, exports, demonstrates.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod command;

pub mod client;
pub mod cluster;
pub mod settings;

mod alerts;
mod budget;
mod containers;
mod crosscheck;
mod exception;
mod explain;
pub mod export;
mod handle;
mod incidents;
mod judge;
mod label;
mod model;
mod query;
mod status;
mod top;
mod watch;

mod backtest;
mod canary;
mod comparison;
mod console;

pub mod demo;
mod evaluate;
mod model_file;
pub mod record;
pub mod recording;
pub mod replay;
pub mod simulate;
mod stage;
mod train;

pub mod vocabulary;
pub mod when;
pub mod which;

pub mod cell;
mod csv;
mod json;
pub mod output;
mod progress;
pub mod sparkline;
mod table;

pub mod escape;
pub mod exit;
pub mod units;

pub use command::main;
