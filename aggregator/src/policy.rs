//! Policy at work: every incident passes here before anybody hears of it; people see and change what policy goes by.

mod check;
mod desk;
mod judge;
mod preview;
mod rate;
mod report;
mod service;
mod watching;

pub use desk::Desk;
pub(crate) use desk::asked;
pub use service::PolicyService;
pub(crate) use service::from_answer;
pub(crate) use watching::watching;

#[cfg(test)]
mod tests;
