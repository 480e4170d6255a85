//! What stands between the binary and an aggregator: one line each, and the promised exit code.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use support::{Aggregator, Installation, ran};

fn check(err: &str, begins: &str) {
    assert!(err.starts_with(begins), "{err}");
    assert_eq!(err.matches('\n').count(), 1, "{err}");
}

#[test]
fn nobody_listens() {
    let installation = Installation::new();
    let address = Aggregator::start(&installation).address;

    let ran = ran(installation.vedette(address, "status"));

    assert_eq!(ran.code, 4);
    check(&ran.err, &format!("vedette: nothing listens at https://{address}: start vedette-aggregator there"));
}

#[test]
fn another_authority_signed_the_certificate() {
    let (installation, other) = (Installation::new(), Installation::new());
    let aggregator = Aggregator::start(&installation);

    let ran = ran(other.vedette(aggregator.address, "status"));

    assert_eq!(ran.code, 4);
    check(&ran.err, &format!("vedette: https://{} shows a certificate that the CA in ", aggregator.address));
}

#[test]
fn the_certificate_is_for_another_name() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);

    let refused = ran(installation.vedette(aggregator.address, "status --server-name elsewhere"));
    let accepted = ran(installation.vedette(aggregator.address, "status --server-name localhost"));

    assert_eq!(refused.code, 4);
    assert!(refused.err.contains("is for another name"), "{}", refused.err);
    assert_eq!(accepted.code, 0, "{}", accepted.err);
}

#[test]
fn the_token_is_wrong_or_missing() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    std::fs::write(installation.path("wrong"), "guess").unwrap();

    let wrong = ran(installation.vedette(aggregator.address, &format!("status --token-file {}", installation.path("wrong").display())));
    let missing = ran(installation.vedette(aggregator.address, "status --token-file /nonexistent"));

    assert_eq!(wrong.code, 5);
    check(&wrong.err, "vedette: the aggregator refused the token (unknown token); check --token-file");
    assert_eq!(missing.code, 2);
    check(&missing.err, "vedette: cannot read the token /nonexistent: ");
}

#[test]
fn the_configuration_file_says_where() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    std::fs::create_dir(installation.path("config/vedette")).unwrap();
    let file = installation.path("config/vedette/config.toml");
    let bare = || {
        let mut command = installation.vedette(aggregator.address, "nodes");
        command.env_remove("VEDETTE_ENDPOINT").env_remove("VEDETTE_DATA_DIR");
        command
    };

    let without = ran(bare());
    std::fs::write(&file, format!("endpoint = \"https://{}\"\ndata_dir = {:?}\n", aggregator.address, installation.dir.path())).unwrap();
    let with = ran(bare());
    std::fs::write(&file, "endpiont = \"x\"\n").unwrap();
    let misspelt = ran(bare());

    assert_eq!(without.code, 2);
    check(&without.err, "vedette: whom to trust is not said: give --ca FILE and --token-file FILE, or --data-dir DIR");
    assert_eq!(with.code, 0, "{}", with.err);
    assert_eq!(misspelt.code, 2);
    check(&misspelt.err, &format!("vedette: {}: line 1: unknown field `endpiont`", file.display()));
}

#[test]
fn plain_text_is_refused() {
    let installation = Installation::new();

    let ran = ran(installation.vedette("127.0.0.1:1".parse().unwrap(), "status --endpoint http://127.0.0.1:1"));

    assert_eq!(ran.code, 2);
    check(&ran.err, "vedette: endpoint http://127.0.0.1:1 must begin with https://");
}

#[test]
fn a_watch_outlives_the_aggregator_and_tells_what_it_missed() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    let (address, state) = (aggregator.address, Arc::clone(&aggregator.state));
    let mut command = installation.vedette(address, "incidents --watch");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();

    let current = out.next().unwrap().unwrap();
    drop(aggregator);
    let lost = err.next().unwrap().unwrap();
    {
        let mut state = state.lock().unwrap();
        state.incidents[0].resolved_unix_ms = state.incidents[0].onset_unix_ms + 60_000;
    }
    let again = Aggregator::start_at(&installation, address, state);
    let resolved = out.next().unwrap().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let code = child.wait().unwrap().code();
    drop(again);

    assert_eq!(
        current,
        "2026-11-22 10:00:00 UTC  open      page    #12  connection sweep (scan?)  shop/Deployment/web/nginx: \
         TCP connections opened 198/s, normally 0.3/s (0 to 1.2)"
    );
    assert!(lost.contains("trying again in 0.5 s"), "{lost}");
    assert!(resolved.contains("  resolved  page    #12  ") && resolved.ends_with(": lasted 1 min"), "{resolved}");
    assert_eq!(code, Some(0));
}
