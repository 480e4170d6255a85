//! The policy service and the desk over a real store and a real history.

use tonic::{Code, Request};
use vedette_proto::v1::{label_service_server::LabelService as _, policy_service_server::PolicyService as _, *};

use super::PolicyService;
use crate::{
    label::LabelService,
    query::world::{World, incident, workload},
    store::{DAY_MS, now_unix_ms},
};

struct Office {
    world: World,
    policy: PolicyService,
    labels: LabelService,
}

async fn office() -> Office {
    let world = World::new().await;
    let policy = PolicyService::new(world.shared.clone()).unwrap();
    let labels = LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0);
    Office { world, policy, labels }
}

impl Office {
    /// An installation that pages.
    async fn paging() -> Self {
        let office = office().await;
        office.policy.set_alerts(Request::new(SetAlertsRequest { enabled: true, early: true })).await.unwrap();
        office
    }

    /// A scan of a workload asks for a page and passes the desk; gives it as people hear of it.
    async fn page(&self, id: u64, name: &str, opens: f64) -> Incident {
        let mut one = scan(id, name, opens);
        self.world.shared.policy.decide(&mut one).await.unwrap();
        self.world.shared.store.save_incident(&one, "").await.unwrap();
        one
    }

    async fn answer(&self, id: u64, answer: Answer) {
        let request = AnswerIncidentRequest { incident_id: id, answer: answer.into(), author: "anna".into(), ..Default::default() };
        self.labels.answer_incident(Request::new(request)).await.unwrap();
    }

    async fn names(&self) -> Vec<String> {
        let listed = self.policy.list_exceptions(Request::new(ListExceptionsRequest::default())).await.unwrap().into_inner();
        listed.exceptions.into_iter().map(|exception| exception.name).collect()
    }

    async fn budget(&self) -> GetBudgetResponse {
        self.policy.get_budget(Request::new(GetBudgetRequest::default())).await.unwrap().into_inner()
    }
}

fn scan(id: u64, name: &str, opens: f64) -> Incident {
    let now = now_unix_ms();
    let evidence = |feature: &str, family: Family, observed: f64| Evidence {
        sentence: feature.into(),
        feature: feature.into(),
        family: family.into(),
        observed: Some(observed),
        expected: Some(1.0),
        expected_low: Some(0.0),
        expected_high: Some(2.0),
        ..Evidence::default()
    };
    Incident {
        kind: Kind::Scan.into(),
        severity: Severity::Page.into(),
        origin: Origin::Live.into(),
        summary: "connection sweep".into(),
        opened_unix_ms: now,
        updated_unix_ms: now,
        evidence: vec![
            evidence("tcp_active_opens_per_sec", Family::NetworkConnections, opens),
            evidence("tx_packets_per_sec", Family::NetworkVolume, opens * 4.0),
        ],
        ..incident(id, name, now - 5_000)
    }
}

fn exception(name: &str) -> Exception {
    Exception {
        name: name.into(),
        namespace: "shop".into(),
        owner_name: "we*".into(),
        reason: "surveys ports at night".into(),
        expires_unix_ms: now_unix_ms() + 30 * DAY_MS,
        ..Exception::default()
    }
}

fn add(exception: Exception) -> Request<AddExceptionRequest> {
    Request::new(AddExceptionRequest { exception: Some(exception), bind_images: false })
}

fn apply(names: &[&str], dry_run: bool) -> Request<ApplyExceptionsRequest> {
    // The same end each time: an exception that ends later is another one.
    let expires_unix_ms = (now_unix_ms() / DAY_MS + 9) * DAY_MS;
    let exceptions = names.iter().map(|name| Exception { expires_unix_ms, ..exception(name) }).collect();
    Request::new(ApplyExceptionsRequest { exceptions, dry_run })
}

#[tokio::test]
async fn a_new_installation_observes_says_what_it_would_have_paged_and_pages_once_enabled() {
    let office = office().await;
    let seen = office.page(1, "web", 20.0).await;

    let too_early = office.policy.set_alerts(Request::new(SetAlertsRequest { enabled: true, early: false })).await.unwrap_err();
    let before = office.policy.get_alerts(Request::new(GetAlertsRequest {})).await.unwrap().into_inner();
    office.policy.set_alerts(Request::new(SetAlertsRequest { enabled: true, early: true })).await.unwrap();
    let afterwards = office.page(2, "web", 20.0).await;

    assert_eq!((seen.severity(), seen.asked_severity(), seen.withheld()), (Severity::Ticket, Severity::Page, Withheld::Observing));
    assert_eq!(seen.summary, "connection sweep; would have paged");

    assert_eq!(before.state(), AlertState::Observing);
    assert_eq!((before.expected.unwrap().count, before.days[0].would_have_paged), (1, 1));
    assert_eq!(afterwards.severity(), Severity::Page);
    assert_eq!(too_early.code(), Code::FailedPrecondition);
    assert_eq!(office.world.shared.store.audit_rows(1).await.unwrap()[0].detail, "enabled, early");
}

#[tokio::test]
async fn the_budget_counts_pages_tickets_and_what_was_withheld_by_namespace() {
    let office = Office::paging().await;
    for id in 1..=4 {
        office.page(id, "web", 20.0).await;
    }
    office.world.shared.store.add_watched(now_unix_ms(), DAY_MS / 2).await.unwrap();

    let budget = office.budget().await;

    let (pages, tickets) = (budget.pages.unwrap(), budget.tickets.unwrap());
    assert_eq!((pages.count, pages.days, pages.per_week), (2, 0.5, Some(28.0)));
    assert!(pages.low_per_week.unwrap() < 28.0 && pages.high_per_week.unwrap() > 28.0);
    assert_eq!(tickets.count, 2);
    assert_eq!(budget.withheld, [WithheldCount { withheld: Withheld::PageBudget.into(), count: 2 }]);
    assert_eq!(budget.listed.iter().map(|incident| incident.id).collect::<Vec<_>>(), [4, 3]);
    let namespace = &budget.namespaces[0];
    assert_eq!((namespace.namespace.as_str(), namespace.pages, namespace.tickets), ("shop", 2, 2));
    assert_eq!((budget.rotas[0].pages_spent, budget.rotas[0].pages_per_week), (2, 2));
}

#[tokio::test]
async fn after_expected_what_is_like_it_does_not_page_and_an_attack_still_does() {
    let office = Office::paging().await;
    office.page(1, "web", 20.0).await;
    office.answer(1, Answer::Expected).await;

    let similar = office.page(2, "web", 30.0).await;
    let attack = office.page(3, "web", 400.0).await;

    assert_eq!((similar.severity(), similar.withheld()), (Severity::Ticket, Withheld::Answered));
    assert_eq!(attack.severity(), Severity::Page);
    let listed = office.policy.list_exceptions(Request::new(ListExceptionsRequest::default())).await.unwrap().into_inner().exceptions;
    assert_eq!((listed[0].name.as_str(), listed[0].kind(), listed[0].incident_id, listed[0].lowered), ("answer-1", Kind::Scan, 1, 1));
    // Never an example of normal.
    assert!(office.world.shared.store.labels(&crate::store::LabelFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_there_quiets_what_is_like_it_and_an_attack_answered_later_ends_that() {
    let office = Office::paging().await;
    office.page(1, "web", 20.0).await;
    office.answer(1, Answer::NothingThere).await;
    let similar = office.page(2, "web", 20.0).await;

    office.answer(2, Answer::Attack).await;

    assert_eq!(similar.severity(), Severity::Ticket);
    assert!(office.names().await.is_empty());
    assert_eq!(office.page(3, "web", 20.0).await.severity(), Severity::Page);
}

#[tokio::test]
async fn an_answer_is_taken_back_with_all_that_followed_from_it() {
    let office = Office::paging().await;
    office.page(1, "web", 20.0).await;
    office.answer(1, Answer::NothingThere).await;
    office.answer(1, Answer::Attack).await;
    let undo = || Request::new(UndoAnswerRequest { incident_id: 1, author: "anna".into() });

    let first = office.policy.undo_answer(undo()).await.unwrap().into_inner();
    let standing = office.names().await;
    let second = office.policy.undo_answer(undo()).await.unwrap().into_inner();
    let third = office.policy.undo_answer(undo()).await.unwrap_err();

    assert_eq!((first.undone(), first.answer(), first.labels_retracted), (Answer::Attack, Answer::NothingThere, 1));
    assert_eq!(standing, ["answer-1"]);
    assert_eq!((second.undone(), second.answer(), second.exception.as_str()), (Answer::NothingThere, Answer::Unspecified, "answer-1"));
    assert_eq!(third.code(), Code::NotFound);
    assert!(office.world.shared.store.labels(&crate::store::LabelFilter::default()).await.unwrap().is_empty());
    let stored = office.world.shared.store.incident(1).await.unwrap().unwrap();
    assert_eq!(stored.incident.answer(), Answer::Unspecified);
    assert_eq!(office.page(2, "web", 20.0).await.severity(), Severity::Page);
}

#[tokio::test]
async fn an_exception_hides_what_its_preview_said_and_is_taken_back() {
    let office = Office::paging().await;
    office.page(1, "web", 20.0).await;
    office.page(2, "db", 20.0).await;

    let preview = PreviewExceptionRequest { exception: Some(exception("survey")), ..Default::default() };
    let preview = office.policy.preview_exception(Request::new(preview)).await.unwrap().into_inner();
    office.policy.add_exception(add(exception("survey"))).await.unwrap();
    let hidden = office.page(3, "web", 20.0).await;
    let remove = RemoveExceptionRequest { name: "survey".into() };
    office.policy.remove_exception(Request::new(remove.clone())).await.unwrap();
    let again = office.policy.remove_exception(Request::new(remove)).await.unwrap_err();

    assert_eq!((preview.total, preview.pages, preview.incidents[0].id), (1, 1, 1));
    assert_eq!((hidden.severity(), hidden.withheld(), hidden.withheld_by.as_str()), (Severity::Note, Withheld::Exception, "survey"));
    assert!(hidden.summary.ends_with("; exception survey"), "{}", hidden.summary);
    assert_eq!(again.code(), Code::NotFound);
    assert_eq!(office.budget().await.digest.unwrap().count, 1);
}

#[tokio::test]
async fn an_exception_that_says_too_little_is_refused_and_the_field_named() {
    let office = office().await;
    let now = now_unix_ms();
    let wrong = [
        ("exception.name", Exception { name: "Survey!".into(), ..exception("x") }),
        ("exception.name", exception("answer-7")),
        ("namespace, owner_name or container_name", Exception { namespace: "*".into(), owner_name: "?*".into(), ..exception("x") }),
        ("exception.reason", Exception { reason: " ".into(), ..exception("x") }),
        ("exception.expires_unix_ms", Exception { expires_unix_ms: 0, ..exception("x") }),
        ("exception.expires_unix_ms", Exception { expires_unix_ms: now + 400 * DAY_MS, ..exception("x") }),
        ("exception.kind", Exception { kind: Kind::Normal.into(), ..exception("x") }),
        ("exception.at_most", Exception { at_most: Severity::Page.into(), ..exception("x") }),
        ("exception.image_digests", Exception { image_digests: vec!["latest".into()], ..exception("x") }),
        ("exception.author", Exception { author: "me".into(), ..exception("x") }),
    ];

    for (field, exception) in wrong {
        let status = office.policy.add_exception(add(exception)).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains(field), "{field}: {status}");
    }
    office.policy.add_exception(add(exception("twice"))).await.unwrap();
    assert_eq!(office.policy.add_exception(add(exception("twice"))).await.unwrap_err().code(), Code::AlreadyExists);
    let unbound = AddExceptionRequest { exception: Some(exception("bound")), bind_images: true };
    assert_eq!(office.policy.add_exception(Request::new(unbound)).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn applying_a_file_makes_its_exceptions_those_that_stand_and_leaves_peoples_alone() {
    let office = office().await;
    office.page(1, "web", 20.0).await;
    office.policy.add_exception(add(exception("by-hand"))).await.unwrap();
    let said = |answer: ApplyExceptionsResponse| -> Vec<(String, ApplyChange, u64)> {
        answer.applied.iter().map(|one| (one.exception.clone().unwrap().name, one.change(), one.would_have_hidden)).collect()
    };

    let dry = said(office.policy.apply_exceptions(apply(&["a", "b"], true)).await.unwrap().into_inner());
    let untouched = office.names().await;
    office.policy.apply_exceptions(apply(&["a", "b"], false)).await.unwrap();
    let second = said(office.policy.apply_exceptions(apply(&["b", "c"], false)).await.unwrap().into_inner());

    assert_eq!(dry, [("a".to_owned(), ApplyChange::Added, 1), ("b".to_owned(), ApplyChange::Added, 1)]);
    assert_eq!(untouched, ["by-hand"]);
    let changes: Vec<_> = second.iter().map(|(name, change, _)| (&name[..], *change)).collect();
    assert_eq!(changes, [("b", ApplyChange::Unchanged), ("c", ApplyChange::Added), ("a", ApplyChange::Removed)]);
    assert_eq!(office.names().await, ["b", "by-hand", "c"]);
    assert_eq!(office.policy.apply_exceptions(apply(&["by-hand"], false)).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(office.policy.apply_exceptions(apply(&["b", "b"], false)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_was_decided_outlives_a_restart() {
    let office = Office::paging().await;
    for id in 1..=2 {
        office.page(id, "web", 20.0).await;
    }
    let shared = &office.world.shared;

    let again = super::Desk::open("prod".into(), shared.policy.config().clone(), shared.store.clone(), shared.fleet.clone(), now_unix_ms());
    let mut third = scan(3, "web", 20.0);
    again.await.unwrap().decide(&mut third).await.unwrap();

    assert_eq!((third.severity(), third.withheld()), (Severity::Ticket, Withheld::PageBudget));
}

#[tokio::test]
async fn judged_quiet_windows_say_how_much_is_missed() {
    let office = office().await;
    let mut windows = vec![QuietWindow { workload: Some(workload("web")), container_id: "c".repeat(64), ..QuietWindow::default() }; 4];
    for (place, window) in windows.iter_mut().enumerate() {
        let start_unix_ms = 1_000_000 * (place as i64 + 1);
        window.range = Some(TimeRange { start_unix_ms, end_unix_ms: start_unix_ms + super::judge::WINDOW_MS });
    }
    office.world.shared.store.add_quiet_windows(&mut windows).await.unwrap();
    let judge = |id: u64, answer: Answer| {
        office.policy.judge_quiet(Request::new(JudgeQuietRequest {
            id,
            answer: answer.into(),
            author: "anna".into(),
            ..Default::default()
        }))
    };

    let missed = judge(windows[0].id, Answer::Attack).await.unwrap().into_inner();
    let normal = judge(windows[1].id, Answer::NothingThere).await.unwrap().into_inner();
    let unsure = judge(windows[2].id, Answer::Unsure).await.unwrap().into_inner();
    let twice = judge(windows[0].id, Answer::NothingThere).await.unwrap_err();
    let expected = judge(windows[3].id, Answer::Expected).await.unwrap_err();

    assert!(missed.label_id > 0 && normal.label_id > 0 && unsure.label_id == 0);
    assert_eq!((twice.code(), expected.code()), (Code::FailedPrecondition, Code::InvalidArgument));
    let kinds: Vec<Kind> =
        office.world.shared.store.labels(&crate::store::LabelFilter::default()).await.unwrap().iter().map(Label::kind).collect();
    assert_eq!(kinds, [Kind::Normal, Kind::Unknown]);
    let judged = office.budget().await.judged.unwrap();
    assert_eq!((judged.judged, judged.misses, judged.unsure), (2, 1, 1));
    assert!(judged.low.unwrap() > 0.0 && judged.low.unwrap() < 0.05 && judged.high.unwrap() > 0.95);
}
