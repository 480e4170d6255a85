//! The binary against a small aggregator over TLS: what it prints and how it exits.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::{Aggregator, HOSTILE, Installation, ran, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn check_harmless(text: &str) {
    assert!(text.contains("\\u{1b}[2Jxmr\\u{202e}gip"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}

#[test]
fn status_is_a_sheet_for_people() {
    let ran = run("status");

    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("Aggregator   0.1.0, cluster lab\n"), "{}", ran.out);
    assert!(ran.out.contains("Running      since 2026-11-22 10:00:00 UTC"), "{}", ran.out);
    assert!(ran.out.contains("Nodes        1 connected of 2 known; 1,234 containers\n"), "{}", ran.out);
    assert!(ran.out.contains("History      2,000,000 observations, since 2026-11-22 10:00:00 UTC; 1.2 MiB sealed\n"), "{}", ran.out);
    check_harmless(&ran.out);
}

#[test]
fn status_is_one_object_for_programs() {
    let status = json(&run("status -o json").out);

    assert_eq!(status["history_bytes"], 1_258_291);
    assert_eq!(status["started"], "2026-11-22T10:00:00.000Z");
    assert_eq!(status["refused"]["future"], 3);
    assert_eq!(status["problems"][0], format!("disk {HOSTILE}"));
}

#[test]
fn nodes_are_listed_in_every_format() {
    let table = run("nodes").out;
    let csv = run("nodes -o csv").out;
    let nodes = json(&run("nodes -o json").out);

    assert!(table.lines().nth(2).unwrap().starts_with("worker-2  lab      silent"), "{table}");
    assert_eq!(
        csv.lines().next().unwrap(),
        "name,cluster,state,last_heard,last_observation,containers,observations,dropped,outbox_batches,agent_version,sensor_error"
    );
    assert!(csv.contains("\r\nworker-2,lab,silent,2026-11-22T10:00:00.000Z,,110,0,0,0,0.1.0,\r\n"), "{csv}");
    assert_eq!(nodes[1]["state"], "silent");
    assert_eq!(nodes[1]["last_observation"], Value::Null);
}

#[test]
fn containers_have_units_for_people_only() {
    let table = run("containers").out;
    let container = &json(&run("containers -n shop -o json").out)[0];

    assert!(table.contains("shop/Deployment/web/nginx") && table.contains("250m") && table.contains("1.2 MiB/s"), "{table}");
    assert!(table.contains(" abababababab "), "{table}");
    assert_eq!(container["rx_bytes_per_second"], 1_258_291);
    assert_eq!(container["memory_bytes"], Value::Null);
    assert_eq!(container["container_id"], "ab".repeat(32));
}

#[test]
fn nothing_found_has_a_code_of_its_own() {
    let containers = run("containers --namespace empty -o json");
    let incidents = run("incidents --kind mining");
    let explained = run("explain 404");

    assert_eq!((containers.code, json(&containers.out)), (3, json("[]")));
    assert_eq!(
        (incidents.code, incidents.out.as_str(), incidents.err.as_str()),
        (3, "", "vedette: no incident matches (of the aggregator's own cluster, unless --cluster names another or a replay)\n")
    );
    assert_eq!((explained.code, explained.err.as_str()), (3, "vedette: no incident 404\n"));
}

#[test]
fn incidents_show_the_effect_first() {
    let table = run("incidents --open --severity page --since 3d").out;
    let incident = &json(&run("incidents -o json").out)[0];

    let row = table.lines().nth(1).unwrap();
    assert!(row.contains("12  page      connection sweep (scan?)  shop/Deployment/web/nginx  2026-11-22 10:00:00 UTC  open, "), "{row}");
    assert_eq!(incident["evidence"][0]["observed"], 198.0);
    assert_eq!(incident["onset"], "2026-11-22T10:00:00.000Z");
    assert_eq!(incident["resolved"], Value::Null);
}

#[test]
fn an_explanation_reads_at_three_in_the_morning() {
    let ran = run("explain 12");

    assert_eq!(ran.code, 0, "{}", ran.err);
    for line in [
        "Incident  #12: connection sweep (scan?) [page, open]\n",
        "Where     shop/Deployment/web/nginx, cluster lab\n",
        "Noticed   4 s after it began\n",
        "Kind      scan; ATT&CK T1046; score 0.97 of 1; data live\n",
        "  TCP connections opened 198/s, normally 0.3/s (0 to 1.2)\n    network connections; against baseline: own (0/s to 1.2/s)\n",
        "    ▁▁ ▁▅██▆  0/s to 200/s, 09:59:56 to 10:00:03, abababababab\n        ^ onset 10:00:00\n",
        "    10.0.0.7:443, 12 connections, 3 connecting\n",
        "  jo unsure, 2026-11-22 10:00:00 UTC\n",
        "  jo commented, 2026-11-22 10:00:00 UTC: ",
        "  vedette acknowledge 12           you are looking at it\n",
        "  vedette answer 12 expected       it was real but allowed",
        "  vedette accept 12                this level is the workload's normal from now on",
    ] {
        assert!(ran.out.contains(line), "no {line:?} in\n{}", ran.out);
    }
    check_harmless(&ran.out);
}

#[test]
fn an_explanation_is_whole_in_json() {
    let explained = json(&run("explain 12 -o json").out);
    let csv = run("explain 12 -o csv").out;

    assert_eq!(explained["series"][0]["points"][5], serde_json::json!(["2026-11-22T10:00:01.000Z", 200.0]));
    assert_eq!(explained["series"][0]["points"][2][1], Value::Null);
    assert_eq!(explained["processes"][1], HOSTILE);
    assert!(csv.contains("\r\n12,network connections,tcp_active_opens_per_sec,198,0.3,0,1.2,1/s,own,2026-11-22T10:00:03.000Z,"), "{csv}");
}

#[test]
fn a_label_is_added_listed_and_taken_back() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    let run = |args: &str| ran(installation.vedette(aggregator.address, args));

    let added =
        run("label add --kind crash-loop --since 2026-11-22%10:00 --until 2026-11-22T10:05:00Z -n shop --owner deploy/web --note a,b");
    let listed = run("label list -o csv");
    let retracted = run("label retract 1 -o json");
    let after = run("label list");

    assert_eq!((added.code, added.out.as_str()), (0, "label 1: crash_loop namespace=shop owner=Deployment/web\n"), "{}", added.err);
    let row =
        "1,crash_loop,,,shop,Deployment,web,,,,2026-11-22T10:00:00.000Z,2026-11-22T10:05:00.000Z,false,operator,mira,\"a,b\",,,{}\r\n";
    assert!(listed.out.ends_with(row), "{}", listed.out);
    assert_eq!(json(&retracted.out)["id"], 99);
    assert_eq!((after.code, after.out.as_str()), (3, ""));
    assert_eq!(run("label retract 7").code, 3);
}

#[test]
fn a_label_about_everything_is_refused_before_it_is_sent() {
    let ran = run("label add --kind mining --since 1h --cluster lab");

    assert_eq!(ran.code, 2);
    assert!(ran.err.starts_with("vedette: a label needs to know which: give --namespace"), "{}", ran.err);
}

#[test]
fn an_answer_is_recorded() {
    let attack = run("answer 12 attack --kind scan");
    let expected = run("answer 12 expected -o json");
    let senseless = run("answer 12 expected --kind scan");

    assert_eq!((attack.code, attack.out.as_str()), (0, "incident 12: attack; label 6 added\n"));
    assert_eq!(json(&expected.out), json(r#"{"id":5,"label_id":null}"#));
    assert_eq!(senseless.code, 2);
}

#[test]
fn an_incident_is_acknowledged_snoozed_and_commented() {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    let run = |args: &str| ran(installation.vedette(aggregator.address, args));

    let acknowledged = run("acknowledge 12 --author jo");
    let snoozed = run("snooze 12 --for 2h --author jo");
    let commented = run("comment 12 release --author jo -o json");
    let [nameless, endless, unknown] = ["snooze 12", "snooze 12 --for 0s", "comment 404 x --author jo"].map(run);
    let listed = json(&run("incidents -o json").out);
    let table = run("incidents").out;

    assert_eq!((acknowledged.code, acknowledged.out.as_str()), (0, "incident 12: acknowledged by jo\n"));
    assert!(snoozed.code == 0 && snoozed.out.starts_with("incident 12: nobody is told of it until 20"), "{}", snoozed.out);
    assert_eq!(json(&commented.out), json(r#"{"id":7}"#));
    assert_eq!((nameless.code, endless.code, unknown.code), (2, 2, 3));
    assert_eq!((&listed[0]["acknowledged_by"], &listed[0]["snoozed_by"]), (&json("\"jo\""), &json("\"jo\"")));
    assert!(!listed[0]["acknowledged"].is_null() && !listed[0]["snoozed_until"].is_null());
    assert!(table.contains("SNOOZED UNTIL"), "{table}");
}

#[test]
fn a_question_keeps_its_values() {
    let table = run("query select%1");
    let csv = run("query select%1 -o csv").out;
    let rows = json(&run("query select%1 -o json").out);

    check_harmless(&table.out);
    assert_eq!(csv, format!("comm,n,time,score\r\n{HOSTILE},-7,2026-11-22T10:00:00.000Z,0.5\r\n'=1+1,,,\r\n"));
    assert_eq!(rows[0]["comm"], HOSTILE);
    assert_eq!(rows[1], json(r#"{"comm":"=1+1","n":null,"time":null,"score":null}"#));
}

#[test]
fn a_cut_answer_and_a_wrong_question_say_so() {
    let cut = run("query select%1 --max-rows 1");
    let wrong = run("query drop%table");

    assert_eq!((cut.code, cut.out.lines().count()), (0, 2));
    assert_eq!(cut.err, "vedette: there are more than 1 rows; raise --max-rows or aggregate in SQL\n");
    assert_eq!((wrong.code, wrong.err.as_str()), (1, "vedette: not a SELECT:\\ndrop table\n"));
}
