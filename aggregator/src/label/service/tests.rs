//! The audit log says who called, and whom he claimed to be.

use std::sync::Arc;

use vedette_proto::v1::label_service_server::LabelService as _;

use super::*;
use crate::{
    auth::{Caller, Grant, Role},
    query::world::{T0, World, incident, label},
    store::AuditRow,
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
