//! The export service: the labelled history as a file, to take away.

mod cell;
mod encode;
mod full;
mod scope;
mod seed;
mod service;

pub use service::ExportService;
