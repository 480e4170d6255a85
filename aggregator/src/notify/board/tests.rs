//! What the board tells, and when.

use vedette_proto::v1::{Kind, Severity, Workload};

use super::*;
use crate::notify::Config;

const NOW: i64 = 1_800_000_000_000;
const UNTIL: i64 = NOW + 300_000;

fn board() -> Board {
    let receivers =
        ["one", "two"].map(|name| format!("[[receivers]]\nname = \"{name}\"\nkind = \"alertmanager\"\nurls = [\"http://a\"]\n"));
    let config: Config = toml::from_str(&receivers.concat()).unwrap();
    Board::new("own", Routes::new(&config), 300_000)
}

fn incident(id: u64) -> Incident {
    let workload = Workload {
        cluster: "own".into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: "web".into(),
        container_name: "nginx".into(),
    };
    Incident {
        id,
        workload: Some(workload),
        kind: Kind::Scan.into(),
        severity: Severity::Ticket.into(),
        onset_unix_ms: NOW - 20_000,
        updated_unix_ms: NOW,
        origin: Origin::Live.into(),
        ..Incident::default()
    }
}

fn resolved(id: u64) -> Incident {
    Incident { resolved_unix_ms: NOW, ..incident(id) }
}

/// (severity, whether it fires) of each alert.
fn told(board: &Board, now_ms: i64) -> Vec<(String, bool)> {
    let alerts = board.alerts(0, "", UNTIL, now_ms);
    alerts.iter().map(|alert| (alert.labels["severity"].clone(), alert.ends_at == rfc3339(UNTIL))).collect()
}

#[test]
fn labels_stay_while_score_kind_and_words_change() {
    let mut board = board();
    let first = board.take(incident(1), NOW);
    let labels = board.alerts(0, "", UNTIL, NOW)[0].labels.clone();

    let later = board.take(Incident { kind: Kind::Recon.into(), peak_score: 0.99, summary: "worse".into(), ..incident(1) }, NOW + 1);

    let alerts = board.alerts(0, "https://v/{id}", UNTIL, NOW + 1);
    assert!(first.news && first.record.is_some());
    assert_eq!(later, Taken::default());
    assert_eq!(alerts.len(), 1);
    assert_eq!((&alerts[0].labels, alerts[0].annotations["kind_now"].as_str()), (&labels, "recon"));
    assert_eq!(alerts[0].generator_url, "https://v/1");
    assert!(!labels.contains_key("score") && labels["kind"] == "scan", "{labels:?}");
}

#[test]
fn a_ticket_that_becomes_a_page_ends_and_fires_as_a_page() {
    let mut board = board();
    board.take(incident(1), NOW);

    let taken = board.take(Incident { severity: Severity::Page.into(), ..incident(1) }, NOW + 1_000);

    assert!(taken.news && taken.record.is_some());
    assert_eq!(told(&board, NOW + 1_000), [("page".to_owned(), true), ("ticket".to_owned(), false)]);
}

#[test]
fn what_resolved_is_told_for_five_minutes_and_then_taken_off() {
    let mut board = board();
    board.take(incident(1), NOW);

    let taken = board.take(resolved(1), NOW + 1_000);

    assert!(taken.news);
    assert_eq!(told(&board, NOW + 2_000), [("ticket".to_owned(), false)]);
    assert_eq!(board.expire(&BTreeSet::new(), NOW + 300_000), (vec![], 0));
    assert_eq!(board.expire(&BTreeSet::new(), NOW + 301_000), (vec![1], 0));
    assert_eq!(told(&board, NOW + 301_000), []);
}

#[test]
fn an_attack_that_goes_off_and_on_again_is_the_same_alert() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.take(resolved(1), NOW + 1_000);

    board.take(Incident { onset_unix_ms: NOW + 30_000, ..incident(2) }, NOW + 40_000);

    assert_eq!(told(&board, NOW + 40_000), [("ticket".to_owned(), true)]);
}

#[test]
fn two_incidents_of_one_identity_fire_as_one_until_both_are_over() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.take(Incident { onset_unix_ms: NOW - 5_000, ..incident(2) }, NOW);

    board.take(resolved(2), NOW + 1_000);
    let while_one = board.alerts(0, "", UNTIL, NOW + 1_000);
    board.take(resolved(1), NOW + 2_000);

    assert_eq!(while_one.len(), 1);
    assert_eq!((&while_one[0].starts_at, &while_one[0].ends_at), (&rfc3339(NOW - 20_000), &rfc3339(UNTIL)));
    assert_eq!(told(&board, NOW + 2_000), [("ticket".to_owned(), false)]);
}

#[test]
fn an_answer_that_all_is_well_ends_the_alert_though_the_incident_is_open() {
    let mut board = board();
    board.take(incident(1), NOW);

    board.take(Incident { answer: Answer::Expected.into(), ..incident(1) }, NOW + 1_000);
    let answered = told(&board, NOW + 2_000);
    let taken_back = board.take(incident(1), NOW + 3_000);

    assert_eq!(answered, [("ticket".to_owned(), false)]);
    assert!(taken_back.news);
    assert_eq!(told(&board, NOW + 3_000), [("ticket".to_owned(), true)]);
}

fn acknowledged(id: u64) -> Incident {
    Incident { acknowledged_by: "an<b>na".into(), acknowledged_unix_ms: NOW + 1_000, ..incident(id) }
}

fn snoozed(until_ms: i64) -> Incident {
    Incident { snoozed_by: "anna".into(), snoozed_until_unix_ms: until_ms, ..incident(1) }
}

#[test]
fn what_somebody_acknowledged_fires_on_and_says_by_whom_and_since_when() {
    let mut board = board();
    board.take(incident(1), NOW);

    let taken = board.take(acknowledged(1), NOW + 1_000);

    let alerts = board.alerts(0, "", UNTIL, NOW + 1_000);
    assert!(taken.news && taken.record.is_none());
    assert_eq!(told(&board, NOW + 1_000), [("ticket".to_owned(), true)]);
    assert_eq!(alerts[0].annotations["acknowledged"], format!("by an‹b›na since {}", rfc3339(NOW + 1_000)));
    assert!(!alerts[0].labels.contains_key("acknowledged") && !alerts[0].annotations.contains_key("snoozed"));
}

#[test]
fn a_webhook_is_told_of_what_was_acknowledged_only_if_it_becomes_more_severe_or_ends() {
    let mut board = board();
    board.take(Incident { severity: Severity::Page.into(), ..incident(1) }, NOW);
    board.told(0, 1, "page-0");

    board.take(acknowledged(1), NOW + 1_000);
    let milder = board.events(0, 10);
    board.take(Incident { severity: Severity::Page.into(), ..acknowledged(1) }, NOW + 2_000);
    let as_before = board.events(0, 10);
    board.told(0, 1, "ticket-0");
    let louder = board.events(0, 10);
    board.take(Incident { resolved_unix_ms: NOW, ..acknowledged(1) }, NOW + 3_000);
    let over = board.events(0, 10);

    assert_eq!((milder, as_before), (vec![], vec![]));
    assert_eq!((louder[0].stage.as_str(), over[0].stage.as_str()), ("page-0", "resolved-0"));
}

#[test]
fn what_is_snoozed_is_quiet_until_its_time_is_over_and_then_fires_anew() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.told(0, 1, "ticket-0");

    board.take(snoozed(NOW + 3_600_000), NOW + 1_000);
    let quiet = (told(&board, NOW + 2_000), board.events(0, 1)[0].stage.clone(), board.events(1, 1).len());
    let kept = board.expire(&BTreeSet::from([0]), NOW + 3_599_000);
    let early = board.wake(NOW + 3_599_999);
    let woken = board.wake(NOW + 3_600_000);

    assert_eq!(quiet, (vec![("ticket".to_owned(), false)], "snoozed-0".to_owned(), 0), "who heard nothing hears of no snooze");
    assert_eq!((kept, early.len()), ((vec![], 0), 0));
    assert_eq!(woken.iter().map(|(id, record)| (*id, record.turn, record.since_unix_ms)).collect::<Vec<_>>(), [(1, 1, NOW + 3_600_000)]);
    assert_eq!(board.alerts(0, "", NOW + 9_000_000, NOW + 3_600_000)[0].ends_at, rfc3339(NOW + 9_000_000));
    assert_eq!(board.events(0, 1)[0].stage, "ticket-1");
}

#[test]
fn a_snooze_that_the_store_ended_is_over_at_once() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.take(snoozed(NOW + 3_600_000), NOW + 1_000);

    // It became more severe, or somebody woke it.
    board.take(Incident { severity: Severity::Page.into(), ..incident(1) }, NOW + 60_000);

    assert_eq!(told(&board, NOW + 60_000), [("page".to_owned(), true)]);
    assert_eq!(board.events(0, 1)[0].stage, "page-1");
}

#[test]
fn a_restart_wakes_nobody_and_forgets_no_snooze() {
    let mut before = board();
    let record = before.take(incident(1), NOW).record.unwrap();
    let mut after = board();

    after.restore(snoozed(NOW + 3_600_000), record, BTreeMap::from([(0, "snoozed-0".to_owned())]), NOW + 60_000);

    assert_eq!((after.firing(), after.events(0, 10)), (0, vec![]));
    assert_eq!(after.wake(NOW + 3_600_000).len(), 1);
    assert_eq!(after.firing(), 1);
}

#[test]
fn the_end_of_what_is_snoozed_is_told() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.told(0, 1, "ticket-0");
    board.take(snoozed(NOW + 3_600_000), NOW + 1_000);
    board.told(0, 1, "snoozed-0");

    board.take(Incident { resolved_unix_ms: NOW + 900_000, ..snoozed(NOW + 3_600_000) }, NOW + 900_000);

    assert_eq!(board.events(0, 1)[0].stage, "resolved-0");
    assert_eq!(board.wake(NOW + 3_600_000), []);
    assert_eq!(board.expire(&BTreeSet::new(), NOW + 1_199_000), (vec![], 0));
    assert_eq!(board.expire(&BTreeSet::new(), NOW + 1_200_000), (vec![1], 0));
}

#[test]
fn replays_and_other_clusters_are_nobodys_business() {
    let mut board = board();
    let mut foreign = incident(2);
    foreign.workload.as_mut().unwrap().cluster = "replay".into();

    for incident in [Incident { origin: Origin::Replay.into(), ..incident(1) }, foreign] {
        assert_eq!(board.take(incident, NOW), Taken::default());
    }
    assert_eq!(board.firing(), 0);
}

#[test]
fn a_severity_that_falls_below_every_route_ends_the_alert() {
    let mut board = board();
    board.take(incident(1), NOW);

    let taken = board.take(Incident { severity: Severity::Note.into(), ..incident(1) }, NOW + 1_000);

    assert!(taken.news);
    assert_eq!(told(&board, NOW + 1_000), [("ticket".to_owned(), false)]);
}

#[test]
fn what_an_earlier_run_told_is_told_the_same() {
    let mut before = board();
    let record = before.take(incident(1), NOW).record.unwrap();
    let text = serde_json::to_string(&record).unwrap();
    let mut after = board();

    // Meanwhile its kind became clearer.
    after.restore(Incident { kind: Kind::Recon.into(), ..incident(1) }, serde_json::from_str(&text).unwrap(), BTreeMap::new(), NOW);

    let identity =
        |board: &Board| board.alerts(0, "", UNTIL, NOW).into_iter().map(|alert| (alert.labels, alert.starts_at)).collect::<Vec<_>>();
    assert_eq!(identity(&after), identity(&before));
}

#[test]
fn a_webhook_hears_of_each_stage_once() {
    let mut board = board();
    board.take(incident(1), NOW);
    let first = board.events(0, 10);
    board.told(0, 1, &first[0].stage);

    let nothing = board.events(0, 10);
    board.take(Incident { severity: Severity::Page.into(), ..incident(1) }, NOW);
    let paged = board.events(0, 10);
    board.take(resolved(1), NOW);
    let over = board.events(0, 10);

    assert_eq!((first[0].stage.as_str(), first[0].state), ("ticket-0", State::Firing));
    assert_eq!(nothing, []);
    assert_eq!(paged[0].stage, "page-0");
    assert_eq!((over[0].stage.as_str(), over[0].state), ("resolved-0", State::Resolved));
}

#[test]
fn a_webhook_that_is_away_is_told_for_an_hour() {
    let mut board = board();
    board.take(incident(1), NOW);
    board.take(resolved(1), NOW);
    let webhooks = BTreeSet::from([1]);

    assert_eq!(board.expire(&webhooks, NOW + 3_599_000), (vec![], 0));
    assert_eq!(board.expire(&webhooks, NOW + 3_600_000), (vec![1], 1));
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut board = board();
    for id in 1..=MAX_ENTRIES as u64 {
        board.take(incident(id), NOW);
    }

    let taken = board.take(incident(MAX_ENTRIES as u64 + 1), NOW);

    assert!(taken.dropped);
    assert_eq!(board.alerts(0, "", UNTIL, NOW).len(), 1);
}
