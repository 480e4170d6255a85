//! `vedette canary`: a labelled attack on pods of its own, and whether the aggregator found it.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::time::{Instant, sleep};
use vedette_proto::v1::{Incident, Label, LabelSource, ListIncidentsRequest, ListLabelsRequest, Selector, Severity, TimeRange};

use crate::cell::{Cell, Tone};
use crate::client::{Client, ConnectArgs, Route};
use crate::cluster::Role;
use crate::demo::judge::{self, Attack, LATE_MS};
use crate::demo::schedule::Schedule;
use crate::exit::{Exit, Stop};
use crate::incidents::severity_tone;
use crate::output::{Column, Output};
use crate::progress::waiting;
use crate::simulate::{self, Backend};

/// Where its pods are in a cluster, unless somebody says otherwise: not among those of a plan that somebody else may play.
const NAMESPACE: &str = "vedette-canary";
/// Most incidents that are looked at; a canary takes minutes.
const MOST: u32 = 10_000;
/// Between two questions for incidents that are still to come.
const STEP: Duration = Duration::from_secs(2);

/// Flags of `vedette canary`.
#[derive(Clone, Debug, Args)]
pub struct CanaryArgs {
    /// What runs the pods
    #[arg(long, value_name = "BACKEND", value_enum, default_value = "local")]
    backend: Backend,
    /// With --backend kube: the namespace that the run makes, and removes [default: vedette-canary]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// With --backend kube: the range's image, as the cluster's nodes know it [default: vedette-range:VERSION]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

/// One attack of the canary, and what became of it.
struct Found {
    attack: Attack,
    /// The highest severity of its incidents, and what people were shown first.
    incident: Option<(Severity, String)>,
}

/// Plays the canary, waits for what the aggregator says, and prints it; anything missed is a failure.
pub async fn run(args: CanaryArgs, connect: &ConnectArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let route = match args.backend {
        Backend::Kube => connect.route(Role::Operator)?,
        Backend::Local | Backend::Containerd => Route::Direct(connect.target()?),
    };
    // Better now than after minutes.
    let mut client = waiting("connecting", route.connect()).await?;
    let folder = tempfile::Builder::new().prefix("vedette-canary-").tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("schedule.json");
    let namespace = args.namespace.or_else(|| (args.backend == Backend::Kube).then(|| NAMESPACE.to_owned()));
    simulate::canary(args.backend, namespace, args.image, file.clone(), connect).await?;
    let schedule = Schedule::read(&file)?;
    if schedule.attacks().count() == 0 {
        return Err(Stop::new(Exit::Failure, "nothing was attacked: the canary's programs did not run").into());
    }
    let found = waiting("waiting for what the aggregator says", settle(&mut client, &schedule)).await?;
    let labelled = labelled(&mut client, &schedule).await?;
    if labelled < schedule.attacks().count() {
        eprintln!("vedette: only {labelled} of the canary's labels arrived: the rest of it would be learnt as ordinary work");
    }
    print(&found, output)?;
    let missed: Vec<_> = found.iter().filter(|found| !found.attack.detected).map(|found| found.attack.kind.as_str()).collect();
    if missed.is_empty() {
        return Ok(Exit::Ok);
    }
    let hint = "`vedette status` says how the aggregator is, `vedette containers --gone` whether its agents saw the canary's pods";
    Err(Stop::new(Exit::Failure, format!("not detected: {}; {hint}", missed.join(", "))).into())
}

/// Asks until every attack is detected, or nothing may come any more.
async fn settle(client: &mut Client, schedule: &Schedule) -> anyhow::Result<Vec<Found>> {
    let until = Instant::now() + Duration::from_millis(LATE_MS.unsigned_abs());
    loop {
        let incidents = incidents(client, schedule).await?;
        let found = found(schedule, &incidents);
        if found.iter().all(|found| found.attack.detected) || Instant::now() >= until {
            return Ok(found);
        }
        sleep(STEP).await;
    }
}

async fn incidents(client: &mut Client, schedule: &Schedule) -> anyhow::Result<Vec<Incident>> {
    let range = TimeRange { start_unix_ms: schedule.started_unix_ms, end_unix_ms: 0 };
    let request = ListIncidentsRequest { range: Some(range), minimum_severity: Severity::Ticket.into(), limit: MOST, ..Default::default() };
    Ok(client.query.list_incidents(request).await.map_err(Stop::from)?.into_inner().incidents)
}

/// The attacks with their incidents; what else is open on this cluster is none of the canary's business.
fn found(schedule: &Schedule, incidents: &[Incident]) -> Vec<Found> {
    let mut episodes: Vec<_> = schedule.attacks().collect();
    episodes.sort_by_key(|episode| episode.start_unix_ms);
    let attacks = judge::judge(schedule, incidents).attacks;
    let with = |(attack, episode)| {
        let of_it = incidents.iter().filter(|incident| judge::is_of(incident, episode));
        let most = of_it.max_by_key(|incident| incident.severity);
        Found { attack, incident: most.map(|incident| (incident.severity(), incident.effect.clone())) }
    };
    attacks.into_iter().zip(episodes).map(with).collect()
}

/// How many attacks of the run are labelled as what they were: simulated.
async fn labelled(client: &mut Client, schedule: &Schedule) -> anyhow::Result<usize> {
    let range = TimeRange { start_unix_ms: schedule.started_unix_ms, end_unix_ms: 0 };
    let request = ListLabelsRequest { range: Some(range), source: LabelSource::Simulation.into(), limit: MOST, ..Default::default() };
    let labels = client.label.list_labels(request).await.map_err(Stop::from)?.into_inner().labels;
    let about =
        |label: &Label, pod: &str| !label.affected && label.selector.as_ref().is_some_and(|Selector { pod_uid, .. }| pod_uid == pod);
    let is_labelled = |pod: &str, kind: &str| labels.iter().any(|label| about(label, pod) && label.kind().word() == kind);
    Ok(schedule.attacks().filter(|episode| is_labelled(&episode.pod_uid, &episode.kind)).count())
}

fn print(found: &[Found], output: &mut Output) -> anyhow::Result<()> {
    let columns = [
        Column::both("attack", "ATTACK"),
        Column::both("detected", "DETECTED"),
        Column::both("seconds", "SECONDS"),
        Column::both("named", "NAMED"),
        Column::both("severity", "SEVERITY"),
        Column::both("effect", "EFFECT"),
    ];
    let mut rows = output.rows(columns.into())?;
    for Found { attack, incident } in found {
        let (severity, effect) = match incident {
            Some((severity, effect)) => (Cell::word(severity.word(), severity_tone(*severity)), Cell::text(effect)),
            None => (Cell::Absent, Cell::Absent),
        };
        let detected = if attack.detected { Cell::word("yes", Tone::Good) } else { Cell::word("no", Tone::Bad) };
        let seconds = attack.delay_seconds.map_or(Cell::Absent, |seconds| Cell::Number((seconds * 10.0).round() / 10.0));
        rows.row(vec![Cell::text(&attack.kind), detected, seconds, Cell::Boolean(attack.named), severity, effect])?;
    }
    rows.end()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{Kind, Workload};

    use super::*;
    use crate::demo::schedule::Episode;

    fn episode(kind: &str, owner: &str, start_unix_ms: i64) -> Episode {
        Episode {
            episode: format!("{kind}-1"),
            kind: kind.to_owned(),
            attack: true,
            placement: "inside".to_owned(),
            round: 1,
            intensity: String::new(),
            start_unix_ms,
            stop_unix_ms: start_unix_ms + 26_000,
            onset_unix_ms: start_unix_ms,
            pod_uid: format!("pod-{owner}"),
            namespace: "vedette-canary".to_owned(),
            owner_name: owner.to_owned(),
            container: owner.to_owned(),
            container_ids: vec![format!("id-{owner}")],
        }
    }

    fn incident(id: &str, kind: Kind, severity: Severity, opened_unix_ms: i64) -> Incident {
        // Without an API server an aggregator knows containers, not owners.
        let workload = Workload { owner_kind: "Pod".to_owned(), owner_name: "a-uid".to_owned(), ..Workload::default() };
        Incident {
            workload: Some(workload),
            kind: kind.into(),
            severity: severity.into(),
            opened_unix_ms,
            container_ids: vec![id.to_owned()],
            ..Incident::default()
        }
    }

    #[test]
    fn an_attack_is_found_by_its_container_and_the_others_of_the_cluster_are_nobodys() {
        let schedule = Schedule {
            episodes: vec![episode("mining", "canary-mining", 50_000), episode("scan", "canary-scan", 10_000)],
            ..Schedule::default()
        };
        let incidents = [
            incident("id-canary-scan", Kind::Scan, Severity::Ticket, 16_000),
            incident("id-canary-scan", Kind::Scan, Severity::Page, 30_000),
            incident("id-of-another", Kind::Mining, Severity::Page, 52_000),
        ];

        let found = found(&schedule, &incidents);

        let [scan, mining] = &found[..] else { panic!("two attacks") };
        assert_eq!((scan.attack.detected, scan.attack.named, scan.attack.delay_seconds), (true, true, Some(6.0)));
        assert_eq!(scan.incident.as_ref().map(|incident| incident.0), Some(Severity::Page));
        assert!(!mining.attack.detected && mining.incident.is_none());
    }
}
