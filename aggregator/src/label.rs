//! The label service: what people and simulations say about stretches of time.

pub(crate) mod check;
mod handling;
mod index;
mod service;
mod standing;

pub use index::{LabelIndex, Stretch, Timeline, is_attack, merge, source_word};
pub use service::LabelService;
pub(crate) use standing::selects_id;
pub use standing::{Identity, Said, label_at, selects};
