//! The label service: what people and simulations say about stretches of time.

mod check;
mod index;
mod service;
mod standing;

pub use index::LabelIndex;
pub use service::LabelService;
pub use standing::{Identity, Said, label_at, selects};
