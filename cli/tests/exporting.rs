//! The export's file: whole or not there.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{Aggregator, Installation, ran, run};

const WHOLE: &str = "timestamp,label\r\n1,normal\r\n2,anomaly\r\n";

#[test]
fn a_file_appears_whole() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    let out = installation.path("history.csv");

    let ran = ran(installation.vedette(aggregator.address, &format!("export --layout seed --out {}", out.display())));

    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), WHOLE);
    assert_ne!(out.metadata().unwrap().permissions().mode() & 0o200, 0);
    assert_eq!(ran.err, format!("vedette: 2 rows, 38 B in {}\n", out.display()));
}

#[test]
fn standard_output_is_a_file_too() {
    let ran = run("export");

    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, WHOLE, ""));
}

#[test]
fn a_broken_export_leaves_the_old_file() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    aggregator.state.lock().unwrap().export_breaks = true;
    let dir = installation.path("exports");
    std::fs::create_dir(&dir).unwrap();
    let out = dir.join("history.csv");
    std::fs::write(&out, "old").unwrap();

    let ran = ran(installation.vedette(aggregator.address, &format!("export --out {}", out.display())));

    assert_eq!((ran.code, ran.err.as_str()), (1, "vedette: the export broke off before its end; run it again\n"));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "old");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "a temporary file was left");
}

#[test]
fn no_rows_is_nothing_found() {
    assert_eq!(run("export --kind mining").code, 3);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let missing = run("export --out /nonexistent/x.csv");
    let directory = run("export --out /");

    assert_eq!(missing.code, 1);
    assert!(missing.err.starts_with("vedette: cannot write /nonexistent/x.csv: "), "{}", missing.err);
    assert_eq!((directory.code, directory.err.as_str()), (2, "vedette: / is a directory; name a file in it\n"));
}
