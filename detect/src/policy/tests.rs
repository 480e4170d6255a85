//! What people are bothered with, by behaviour.

use vedette_proto::v1::{Evidence, Family, Incident, Kind, Origin, Severity, Withheld, Workload};

use super::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const T0: i64 = 1_700_000_000_000;

struct Desk {
    policy: Policy,
    has_neighbours: bool,
    images: Option<Vec<String>>,
    next: u64,
}

fn desk(config: Config) -> Desk {
    let mut policy = Policy::new("prod", config, T0, Vec::new());
    policy.set_pages(true);
    Desk { policy, has_neighbours: false, images: None, next: 1 }
}

impl Desk {
    fn decide(&mut self, incident: &Incident) -> Decision {
        let (images, has_neighbours) = (self.images.clone(), self.has_neighbours);
        self.policy.decide(incident, &Around { has_neighbours: &|| has_neighbours, images: &|| images.clone() })
    }

    /// A new incident of a namespace asks for a severity, so long after the beginning.
    fn asks(&mut self, namespace: &str, severity: Severity, after_ms: i64) -> Severity {
        self.next += 1;
        let incident = incident(self.next, namespace, severity, T0 + after_ms, 20.0);
        self.decide(&incident).severity
    }
}

fn evidence(feature: &str, family: Family, observed: f64, high: f64) -> Evidence {
    Evidence {
        sentence: format!("{feature} {observed}"),
        feature: feature.into(),
        family: family.into(),
        observed: Some(observed),
        expected: Some(high / 2.0),
        expected_low: Some(0.0),
        expected_high: Some(high),
        ..Evidence::default()
    }
}

/// Scans of a workload in a namespace; `opens` connections a second, normally 2 at most.
fn incident(id: u64, namespace: &str, severity: Severity, unix_ms: i64, opens: f64) -> Incident {
    Incident {
        id,
        workload: Some(Workload {
            cluster: "prod".into(),
            namespace: namespace.into(),
            owner_kind: "Deployment".into(),
            owner_name: "web".into(),
            container_name: "main".into(),
        }),
        kind: Kind::Scan.into(),
        severity: severity.into(),
        opened_unix_ms: unix_ms,
        updated_unix_ms: unix_ms,
        origin: Origin::Live.into(),
        peak_score: 1.0,
        evidence: vec![
            evidence("tcp_active_opens_per_sec", Family::NetworkConnections, opens, 2.0),
            evidence("tx_packets_per_sec", Family::NetworkVolume, opens * 4.0, 40.0),
        ],
        ..Incident::default()
    }
}

fn exception(name: &str) -> Exception {
    Exception {
        name: name.into(),
        namespace: "shop".into(),
        owner_kind: String::new(),
        owner_name: "we*".into(),
        container_name: String::new(),
        kind: Kind::Scan,
        expires_unix_ms: T0 + 10 * DAY,
        image_digests: Vec::new(),
        at_most: Severity::Note,
        like: None,
    }
}

/// What an answer makes of an incident.
fn answered(incident: &Incident) -> Exception {
    let like = Some(Box::new(incident.clone()));
    Exception { name: "answer-1".into(), at_most: Severity::Ticket, like, ..exception("answer-1") }
}

#[test]
fn nobody_is_paged_while_an_installation_observes_and_the_ticket_says_so() {
    let mut desk = desk(Config::default());
    desk.policy.set_pages(false);

    let decision = desk.decide(&incident(1, "shop", Severity::Page, T0, 20.0));

    assert_eq!((decision.severity, decision.withheld), (Severity::Ticket, Withheld::Observing));
    assert_eq!(desk.policy.spent("default", T0 + 1), Spent { pages: 1, tickets: 1 });
}

#[test]
fn what_would_have_paged_is_not_spent_once_it_pages() {
    let mut desk = desk(Config { pages_per_week: 1, ..Config::default() });
    desk.policy.set_pages(false);
    desk.asks("shop", Severity::Page, 0);

    desk.policy.set_pages(true);

    assert_eq!(desk.asks("shop", Severity::Page, MINUTE), Severity::Page);
}

#[test]
fn pages_stop_at_the_cap_become_tickets_and_come_again_a_week_later() {
    let mut desk = desk(Config::default());

    let week: Vec<Severity> = (0..5).map(|n| desk.asks("shop", Severity::Page, n * MINUTE)).collect();
    let next_week = desk.asks("shop", Severity::Page, 8 * DAY);

    assert_eq!(week, [Severity::Page, Severity::Page, Severity::Ticket, Severity::Ticket, Severity::Ticket]);
    assert_eq!(next_week, Severity::Page);
}

#[test]
fn the_second_half_of_a_budget_is_for_the_loudest() {
    let mut desk = desk(Config::default());
    desk.policy.set_pages(false);
    for n in 0..6 {
        desk.decide(&incident(100 + n, "shop", Severity::Page, T0 + n as i64 * MINUTE, 400.0));
    }
    desk.policy.set_pages(true);
    let at = T0 + 6 * DAY;

    let first = desk.decide(&incident(200, "shop", Severity::Page, at, 4.0));
    let faint = desk.decide(&incident(201, "shop", Severity::Page, at + 1, 4.0));
    let loud = desk.decide(&incident(202, "shop", Severity::Page, at + 2, 900.0));

    assert_eq!((first.severity, faint.severity, loud.severity), (Severity::Page, Severity::Ticket, Severity::Page));
    assert_eq!((faint.withheld, faint.by.as_str()), (Withheld::PageBudget, "default"));
}

#[test]
fn one_noisy_namespace_leaves_others_their_part() {
    let mut desk = desk(Config { tickets_per_day: 20, ..Config::default() });
    desk.has_neighbours = true;

    let noisy = (0..100).filter(|n| desk.asks("noisy", Severity::Ticket, n * 1_000) == Severity::Ticket).count();
    let also_noisy = (0..100).filter(|n| desk.asks("also-noisy", Severity::Ticket, 200_000 + n * 1_000) == Severity::Ticket).count();
    let quiet = desk.asks("quiet", Severity::Ticket, 400_000);
    let loud = desk.asks("noisy", Severity::Page, 500_000);
    let loud_elsewhere = desk.asks("quiet", Severity::Page, 500_000);

    assert_eq!((noisy, also_noisy, quiet), (8, 4, Severity::Ticket));
    assert_eq!((loud, loud_elsewhere), (Severity::Page, Severity::Page));
}

#[test]
fn without_neighbours_nothing_is_kept_for_them() {
    let mut desk = desk(Config::default());

    let tickets = (0..100).filter(|n| desk.asks("shop", Severity::Ticket, n * 1_000) == Severity::Ticket).count();

    // A quarter waits for what asks for a page.
    assert_eq!(tickets, 15);
    assert_eq!(desk.policy.spent("default", T0 + 200_000).tickets, 15);
}

#[test]
fn what_is_over_the_tickets_of_a_day_is_a_note_that_says_so() {
    let mut desk = desk(Config { tickets_per_day: 1, pages_per_week: 0, ..Config::default() });
    desk.asks("shop", Severity::Ticket, 0);

    let decision = desk.decide(&incident(99, "shop", Severity::Ticket, T0 + MINUTE, 20.0));

    assert_eq!((decision.severity, decision.withheld), (Severity::Note, Withheld::TicketBudget));
}

#[test]
fn a_rota_has_a_budget_of_its_own() {
    let rota = Rota { name: "shop".into(), namespaces: vec!["shop-*".into()], pages_per_week: 1, tickets_per_day: 5 };
    let mut desk = desk(Config { pages_per_week: 1, rotas: vec![rota], ..Config::default() });

    let own = [desk.asks("shop-a", Severity::Page, 0), desk.asks("shop-b", Severity::Page, 1)];
    let other = desk.asks("bank", Severity::Page, 2);

    assert_eq!((own, other), ([Severity::Page, Severity::Ticket], Severity::Page));
}

#[test]
fn a_decision_stands_until_more_is_asked_for() {
    let mut desk = desk(Config::default());
    let mut one = incident(7, "shop", Severity::Ticket, T0, 20.0);
    let first = desk.decide(&one);
    for n in 0..60 {
        desk.asks("shop", Severity::Ticket, n * 1_000);
    }

    one.updated_unix_ms += 100_000;
    let later = desk.decide(&one);
    one.severity = Severity::Page.into();
    let risen = desk.decide(&one);
    let again = desk.decide(&one);

    assert_eq!([first.severity, later.severity, risen.severity], [Severity::Ticket, Severity::Ticket, Severity::Page]);
    assert!(!again.entry_changed);
    assert_eq!(desk.policy.spent("default", T0 + 200_000).pages, 1);
}

#[test]
fn entries_of_before_a_restart_count() {
    let mut before = desk(Config::default());
    (0..3).for_each(|n| {
        before.asks("shop", Severity::Page, n);
    });
    let entries = (0..10).filter_map(|id| before.policy.entry(id).cloned()).collect();

    let mut policy = Policy::new("prod", Config::default(), T0, entries);
    policy.set_pages(true);
    let decision =
        policy.decide(&incident(50, "shop", Severity::Page, T0 + DAY, 20.0), &Around { has_neighbours: &|| false, images: &|| None });

    assert_eq!((decision.severity, decision.withheld), (Severity::Ticket, Withheld::PageBudget));
}

#[test]
fn replays_and_other_clusters_pass_as_they_are_and_spend_nothing() {
    let mut desk = desk(Config { tickets_per_day: 0, ..Config::default() });
    let mut replayed = incident(1, "shop", Severity::Ticket, T0, 20.0);
    replayed.origin = Origin::Replay.into();
    let mut elsewhere = incident(2, "shop", Severity::Ticket, T0, 20.0);
    elsewhere.workload.as_mut().unwrap().cluster = "replayed".into();

    let decided = [desk.decide(&replayed).severity, desk.decide(&elsewhere).severity];

    assert_eq!(decided, [Severity::Ticket, Severity::Ticket]);
    assert_eq!(desk.policy.spent("default", T0 + 1), Spent::default());
}

#[test]
fn an_exception_makes_a_note_with_its_name_until_it_ends() {
    let mut desk = desk(Config::default());
    desk.policy.set_exceptions(vec![exception("port-survey")]);

    let covered = desk.decide(&incident(1, "shop", Severity::Page, T0, 20.0));
    let other_namespace = desk.decide(&incident(2, "bank", Severity::Page, T0, 20.0));
    let mut other_kind = incident(3, "shop", Severity::Page, T0, 20.0);
    other_kind.kind = Kind::Mining.into();
    let other_kind = desk.decide(&other_kind);
    let afterwards = desk.decide(&incident(4, "shop", Severity::Page, T0 + 11 * DAY, 20.0));

    assert_eq!((covered.severity, covered.withheld, covered.by.as_str()), (Severity::Note, Withheld::Exception, "port-survey"));
    assert_eq!([other_namespace.severity, other_kind.severity, afterwards.severity], [Severity::Page; 3]);
}

#[test]
fn an_exception_that_is_taken_back_lets_an_open_incident_speak() {
    let mut desk = desk(Config::default());
    desk.policy.set_exceptions(vec![exception("port-survey")]);
    let one = incident(1, "shop", Severity::Page, T0, 20.0);
    desk.decide(&one);

    desk.policy.set_exceptions(Vec::new());

    assert_eq!(desk.decide(&one).severity, Severity::Page);
}

#[test]
fn an_exception_bound_to_an_image_covers_no_other() {
    let mut desk = desk(Config { pages_per_week: 9, ..Config::default() });
    desk.policy.set_exceptions(vec![Exception { image_digests: vec!["sha256:a".into()], ..exception("survey") }]);
    let mut with = |images: Option<&[&str]>, id| {
        desk.images = images.map(|images| images.iter().map(|&image| image.to_owned()).collect());
        desk.decide(&incident(id, "shop", Severity::Page, T0, 20.0)).severity
    };

    assert_eq!(with(Some(&["sha256:a"]), 1), Severity::Note);
    assert_eq!(with(Some(&["sha256:a", "sha256:b"]), 2), Severity::Page);
    assert_eq!(with(None, 3), Severity::Page);
}

#[test]
fn after_an_answer_a_similar_case_does_not_page() {
    let mut desk = desk(Config::default());
    let seen = incident(1, "shop", Severity::Page, T0, 20.0);
    desk.decide(&seen);
    desk.policy.set_exceptions(vec![answered(&seen)]);

    let mut other_replica = incident(2, "shop", Severity::Page, T0 + DAY, 35.0);
    other_replica.pods = vec!["web-2".into()];
    let decision = desk.decide(&other_replica);

    assert_eq!((decision.severity, decision.withheld, decision.by.as_str()), (Severity::Ticket, Withheld::Answered, "answer-1"));
}

#[test]
fn after_an_answer_a_real_attack_of_that_kind_is_still_found() {
    let mut desk = desk(Config { pages_per_week: 100, ..Config::default() });
    let seen = incident(1, "shop", Severity::Page, T0, 20.0);
    desk.policy.set_exceptions(vec![answered(&seen)]);
    let at = T0 + DAY;

    // Ten times as many; a family that was not there; another direction; another workload; another kind.
    let stronger = incident(2, "shop", Severity::Page, at, 200.0);
    let mut broader = incident(3, "shop", Severity::Page, at, 20.0);
    broader.evidence.push(evidence("cpu_cores", Family::Cpu, 4.0, 0.2));
    let mut sideways = incident(4, "shop", Severity::Page, at, 20.0);
    sideways.evidence[1].expected = Some(500.0);
    let elsewhere = incident(5, "bank", Severity::Page, at, 20.0);
    let mut other = incident(6, "shop", Severity::Page, at, 20.0);
    other.kind = Kind::Recon.into();
    let found: Vec<Severity> = [stronger, broader, sideways, elsewhere, other].iter().map(|one| desk.decide(one).severity).collect();

    assert_eq!(found, [Severity::Page; 5]);
    // What hides within what is allowed is a ticket all the same.
    assert_eq!(desk.decide(&incident(7, "shop", Severity::Page, at, 20.0)).severity, Severity::Ticket);
}

#[test]
fn an_incident_that_outgrows_the_answered_one_pages_after_all() {
    let mut desk = desk(Config::default());
    let seen = incident(1, "shop", Severity::Page, T0, 20.0);
    desk.policy.set_exceptions(vec![answered(&seen)]);
    let at_first = desk.decide(&incident(2, "shop", Severity::Page, T0 + DAY, 25.0));

    let grown = desk.decide(&incident(2, "shop", Severity::Page, T0 + DAY + MINUTE, 90.0));

    assert_eq!((at_first.severity, grown.severity), (Severity::Ticket, Severity::Page));
    assert_eq!(grown.withheld, Withheld::Unspecified);
}

#[test]
fn another_process_than_the_answered_one_is_unlike() {
    let mut seen = incident(1, "shop", Severity::Page, T0, 20.0);
    let named = |name: &str| Evidence {
        sentence: format!("process {name:?}, a name never seen in this workload"),
        feature: "new_process".into(),
        family: Family::Processes.into(),
        ..Evidence::default()
    };
    seen.evidence.push(named("nmap"));
    let mut same = incident(2, "shop", Severity::Page, T0, 20.0);
    same.evidence.push(named("nmap"));
    let mut other = same.clone();
    other.evidence[2] = named("xmrig");

    assert!(alike(&same, &seen) && alike(&incident(3, "shop", Severity::Page, T0, 20.0), &seen));
    assert!(!alike(&other, &seen));
}

#[test]
fn a_configuration_that_calls_nobody_is_refused() {
    let rota = |name: &str, glob: &str| Rota { name: name.into(), namespaces: vec![glob.into()], pages_per_week: 1, tickets_per_day: 1 };
    let with = |rotas: Vec<Rota>| Config { rotas, ..Config::default() }.check();

    assert_eq!(with(vec![rota("a", "x"), rota("b", "y*")]), Ok(()));
    for bad in [vec![rota("", "x")], vec![rota("default", "x")], vec![rota("a", "")], vec![rota("a", "x"), rota("a", "y")]] {
        assert!(matches!(with(bad), Err(ConfigError::Rota(_))));
    }
    assert_eq!(Config { answer_days: 0, ..Config::default() }.check(), Err(ConfigError::AnswerDays));
}
