//! The rule for what is missing: a test says loudly that it was skipped, and fails where CI=true.

use std::{env, path::Path};

/// Whether skipping is forbidden.
#[must_use]
pub fn must_run() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// Says why the calling test cannot run; it must return then. `scripts/run-tests` collects these lines.
///
/// # Panics
/// Where CI=true: there, nothing may be skipped.
pub fn skip(reason: &str) {
    assert!(!must_run(), "cannot run, and CI=true forbids to skip: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Whether a file is there; where it is not, the calling test is skipped by [`skip`] and must return.
#[must_use]
pub fn file(path: &Path, hint: &str) -> bool {
    let found = path.exists();
    if !found {
        skip(&format!("{} does not exist ({hint})", path.display()));
    }
    found
}

/// Whether this process is root; else the calling test is skipped by [`skip`] and must return.
#[must_use]
pub fn root(purpose: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{purpose} takes root"));
    }
    root
}
