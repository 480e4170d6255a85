//! The audit log says who called, and whom he claimed to be.

use std::sync::Arc;

use vedette_proto::v1::{Handling, Severity, label_service_server::LabelService as _};

use super::*;
use crate::{
    auth::{Caller, Grant, Role},
    query::world::{T0, World, incident, label},
    store::{AuditRow, MAX_HANDLINGS_PER_INCIDENT, NewHandling},
};

/// A request as the gate lets it through.
fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let caller = Caller { role: Role::Operator, name: caller.to_owned(), node: None };
    request.extensions_mut().insert(Grant::known(Arc::new(caller)));
    request
}

async fn newest(world: &World) -> (String, String, String) {
    let AuditRow { who, what, detail, .. } = world.shared.store.audit_rows(1).await.unwrap().remove(0);
    (who, what, detail)
}

fn line(who: &str, what: &str, detail: &str) -> (String, String, String) {
    (who.into(), what.into(), detail.into())
}

#[tokio::test]
async fn the_audit_log_names_the_caller_and_whom_he_claims_to_be() {
    let world = World::new().await;
    let service = LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0);
    let of = |author: &str| Label { author: author.into(), ..label("web", (T0, T0 + 1_000), Kind::Scan, LabelSource::Operator) };
    let mallory = "system:serviceaccount:shop:mallory";

    let labels = vec![of("anna"), of("b\"ob"), of("anna")];
    service.add_labels(by(mallory, AddLabelsRequest { labels })).await.unwrap();
    assert_eq!(newest(&world).await, line(mallory, "label", "in the name of \"anna\", \"b\\\"ob\": added labels 1 to 3"));

    let retract = RetractLabelRequest { id: 1, author: "anna".into(), note: "wrong".into() };
    service.retract_label(by(mallory, retract)).await.unwrap();
    assert_eq!(newest(&world).await, line(mallory, "retract", "in the name of \"anna\": label 1 by 4: wrong"));

    world.shared.store.save_incident(&incident(9, "web", T0), "").await.unwrap();
    let answer = AnswerIncidentRequest { incident_id: 9, answer: Answer::Expected.into(), author: mallory.into(), ..Default::default() };
    service.answer_incident(by(mallory, answer)).await.unwrap();
    assert_eq!(newest(&world).await, line(mallory, "answer", "incident 9: expected"), "who speaks for himself is named once");
}

#[test]
fn a_crowd_of_authors_is_counted() {
    let authors: Vec<String> = (0..MAX_CLAIMED + 3).map(|number| format!("a{number:02}")).collect();

    let claimed = claimed("operator.token", authors.iter().map(|author| &**author));

    assert!(claimed.ends_with("\"a07\" and 3 more: "), "{claimed}");
}

fn handle(handling: Handling, note: &str) -> HandleIncidentRequest {
    HandleIncidentRequest { incident_id: 9, handling: handling.into(), author: "anna".into(), note: note.into(), ..Default::default() }
}

fn snooze(ms: i64) -> HandleIncidentRequest {
    HandleIncidentRequest { until_unix_ms: now_unix_ms() + ms, ..handle(Handling::Snoozed, "") }
}

#[tokio::test]
async fn what_people_do_is_kept_seen_in_the_incident_and_told_to_watchers_but_not_to_the_detector() {
    let world = World::new().await;
    let store = &world.shared.store;
    store.save_incident(&incident(9, "web", T0), "").await.unwrap();
    let (work, mut detector) = tokio::sync::mpsc::channel(1);
    let service = LabelService::new(world.shared.clone(), work);
    let mut changes = world.shared.changes.subscribe();

    for request in [handle(Handling::Acknowledged, ""), handle(Handling::Commented, "the <b>backup</b>\nagain"), snooze(3_600_000)] {
        service.handle_incident(by("anna", request)).await.unwrap();
    }
    // What the detector saves later does not undo it.
    store.save_incident(&incident(9, "web", T0), "").await.unwrap();

    let stored = store.incident(9).await.unwrap().unwrap().incident;
    assert_eq!((stored.acknowledged_by.as_str(), stored.snoozed_by.as_str(), stored.answer()), ("anna", "anna", Answer::Unspecified));
    assert!(stored.acknowledged_unix_ms > 0 && stored.snoozed_until_unix_ms > now_unix_ms());
    assert_eq!(newest(&world).await, line("anna", "handle", "incident 9: snoozed for 60 min"));
    let heard = [(); 3].map(|()| changes.try_recv().unwrap().incident.unwrap());
    assert_eq!(heard[0].acknowledged_by, "anna");
    assert_eq!(heard[2], stored);
    assert!(detector.try_recv().is_err(), "it teaches nothing");
    let listed = store.handlings(9).await.unwrap();
    assert_eq!(
        listed.iter().map(|one| one.handling()).collect::<Vec<_>>(),
        [Handling::Acknowledged, Handling::Commented, Handling::Snoozed]
    );
    assert_eq!(listed[1].note, "the <b>backup</b>\nagain");

    for ended in [Handling::Unacknowledged, Handling::Woken] {
        service.handle_incident(by("anna", handle(ended, ""))).await.unwrap();
    }
    let stored = store.incident(9).await.unwrap().unwrap().incident;
    assert_eq!((stored.acknowledged_by.as_str(), stored.snoozed_until_unix_ms), ("", 0));
    assert_eq!(store.handlings(9).await.unwrap().len(), 5, "nothing is taken away");
}

#[tokio::test]
async fn a_snooze_ends_for_good_where_the_incident_becomes_more_severe() {
    let world = World::new().await;
    let store = &world.shared.store;
    store.save_incident(&incident(9, "web", T0), "").await.unwrap();
    let service = LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0);
    service.handle_incident(by("anna", snooze(3_600_000))).await.unwrap();
    let of = |severity: Severity| Incident { severity: severity.into(), ..incident(9, "web", T0) };

    let mut until = Vec::new();
    for severity in [Severity::Note, Severity::Ticket, Severity::Page, Severity::Ticket] {
        let mut saved = of(severity);
        store.save_incident(&saved, "").await.unwrap().say(&mut saved);
        until.push(saved.snoozed_until_unix_ms > 0);
    }

    assert_eq!(until, [true, true, false, false]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let world = World::new().await;
    let resolved = Incident { id: 10, resolved_unix_ms: T0 + 60_000, ..incident(10, "web", T0) };
    world.shared.store.save_incident(&incident(9, "web", T0), "").await.unwrap();
    world.shared.store.save_incident(&resolved, "").await.unwrap();
    let service = LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0);
    let of = |incident_id, request: HandleIncidentRequest| HandleIncidentRequest { incident_id, ..request };

    for (request, said) in [
        (handle(Handling::Unspecified, ""), "handling: required"),
        (HandleIncidentRequest { author: String::new(), ..handle(Handling::Acknowledged, "") }, "author: 0 characters"),
        (handle(Handling::Commented, " \n"), "note: a comment says something"),
        (handle(Handling::Commented, "\u{1b}[2J"), "note: control characters"),
        (handle(Handling::Commented, &"x".repeat(4_097)), "note: 4097 characters"),
        (snooze(0), "until_unix_ms: required, in the future and at most 7 days"),
        (snooze(8 * 86_400_000), "until_unix_ms: required"),
        (HandleIncidentRequest { until_unix_ms: 1, ..handle(Handling::Woken, "") }, "until_unix_ms: goes with snoozed only"),
        (of(99, handle(Handling::Commented, "x")), "there is no incident 99"),
        (of(u64::MAX, handle(Handling::Commented, "x")), "there is no incident"),
        (of(10, handle(Handling::Acknowledged, "")), "incident 10 has resolved"),
        (of(10, snooze(60_000)), "incident 10 has resolved"),
    ] {
        let status = service.handle_incident(by("anna", request)).await.unwrap_err();
        assert!(status.message().starts_with(said), "{status}");
    }
    service.handle_incident(by("anna", of(10, handle(Handling::Commented, "it was the backup")))).await.unwrap();
}

#[tokio::test]
async fn so_much_is_said_of_one_incident_and_no_more() {
    let world = World::new().await;
    let store = &world.shared.store;
    store.save_incident(&incident(9, "web", T0), "").await.unwrap();
    let new = NewHandling { incident_id: 9, handling: Handling::Commented, author: "anna", note: "x", until_unix_ms: 0 };
    for _ in 0..MAX_HANDLINGS_PER_INCIDENT {
        store.add_handling(&new).await.unwrap();
    }

    let error = store.add_handling(&new).await.unwrap_err();

    assert!(matches!(error, StoreError::Full { limit: MAX_HANDLINGS_PER_INCIDENT, .. }), "{error}");
}
