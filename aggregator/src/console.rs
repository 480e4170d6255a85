//! What the console needs of the aggregator: its files, and workloads and series for pictures. Who may see it is `vedette console`'s
//! matter (docs/decisions/061): here it is a client like any other, and shows a token.

mod files;
mod series;
mod service;
mod workloads;

pub use files::Files;
pub use service::ConsoleService;
