//! The sandbox's one process.

use super::BehaviourError;

/// Sleeps until killed.
pub(super) fn run() -> Result<(), BehaviourError> {
    loop {
        std::thread::park();
    }
}
