//! The aggregator's own clock.

use std::time::SystemTime;

/// Unix milliseconds now; 0 for a clock before 1970.
#[must_use]
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
