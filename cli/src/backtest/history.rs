//! Stored history through a fresh detector: what it would have told, what of it is new, and what is gone.

use std::sync::Arc;

use jiff::Timestamp;
use vedette_detect::{Classifier, Config};
use vedette_proto::v1::{Incident, ListIncidentsRequest, Severity, TimeRange};

use super::BacktestArgs;
use crate::cell::{Cell, Tone};
use crate::client::{Client, ConnectArgs};
use crate::cluster::Role;
use crate::evaluate::play::{self, Told};
use crate::evaluate::truth::{Place, Truth, place};
use crate::exit::{Exit, Stop};
use crate::incidents::severity_tone;
use crate::model_file::of_aggregator;
use crate::output::{Column, Output};
use crate::progress::waiting;
use crate::recording::Recorded;

/// Most stored incidents that are compared.
const MOST: u32 = 10_000;
/// Detectors that agree may differ by so much in when they say it.
const APART_MS: i64 = 60_000;

/// An incident of either side, or of both.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    state: State,
    opened_unix_ms: i64,
    /// Over; 0: not yet.
    resolved_unix_ms: i64,
    severity: Severity,
    kind: vedette_proto::v1::Kind,
    place: Place,
    summary: String,
    /// The stored one's number.
    stored: Option<u64>,
    /// Whether the model in service, over the same rows, tells it too; `None`: it was not asked.
    serving: Option<bool>,
}

impl Line {
    /// Whether somebody else would have told the same: about one workload, overlapping, or within a minute of each other.
    fn is_of(&self, told: &Told) -> bool {
        self.place == told.place
            && meet((self.opened_unix_ms, self.resolved_unix_ms), (told.opened_unix_ms, told.resolved_unix_ms.unwrap_or(0)))
    }
}

/// Whether two stretches (0: without an end) overlap, or begin within a minute of each other's time.
fn meet(one: (i64, i64), other: (i64, i64)) -> bool {
    let end = |resolved: i64| if resolved == 0 { i64::MAX } else { resolved };
    one.0 - APART_MS <= end(other.1) && other.0 - APART_MS <= end(one.1)
}

/// Which side an incident is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Same,
    New,
    Gone,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// Plays it.
pub async fn run(args: &BacktestArgs, connect: &ConnectArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let range = args.when.range(now)?.filter(|range| range.start_unix_ms > 0);
    let range = range.ok_or_else(|| Stop::usage("which history? give --since, and --until where it ended, or --csv FILE for a table"))?;
    let until = if range.end_unix_ms == 0 { now.as_millisecond() } else { range.end_unix_ms };
    let from = range.start_unix_ms;
    let warm = i64::from(args.warm_up_minutes) * 60_000;
    let mut client = waiting("connecting", connect.route(Role::Admin)?.connect()).await?;
    let selector = args.which.selector();
    let whole = TimeRange { start_unix_ms: from - warm, end_unix_ms: until };
    let recorded = Recorded::of_history(&mut client, selector.clone(), whole).await?;
    let truth = Truth::of(&recorded.labels, &recorded.containers)?;
    let models = models(args, &mut client).await?;
    let told = |model: Option<&Arc<Classifier>>| -> anyhow::Result<Vec<Told>> {
        let played = play::play(&recorded, &truth, &Config::default(), model)?;
        Ok(played.told.into_iter().filter(|told| told.opened_unix_ms >= from).collect())
    };
    let beside = models.beside.as_ref().map(|model| told(model.as_ref())).transpose()?;
    let told = told(Some(&models.asked))?;
    let request = ListIncidentsRequest {
        range: Some(TimeRange { start_unix_ms: from, end_unix_ms: until }),
        minimum_severity: Severity::Ticket.into(),
        selector,
        limit: MOST,
        ..ListIncidentsRequest::default()
    };
    let answer = client.query.list_incidents(request).await.map_err(Stop::from)?.into_inner();
    if answer.truncated {
        eprintln!("vedette: more than {MOST} stored incidents: only the newest are compared");
    }
    let stored: Vec<Incident> = answer.incidents.into_iter().filter(|incident| incident.opened_unix_ms >= from).collect();
    let mut lines = compare(&told, &stored);
    if let Some(beside) = &beside {
        lines.iter_mut().for_each(|line| line.serving = Some(beside.iter().any(|told| line.is_of(told))));
    }
    print(&lines, beside.is_some(), output)?;
    let count = |state: State| lines.iter().filter(|line| line.state == state).count();
    let rows = recorded.observations.observations();
    eprintln!("vedette: {rows} rows played; {} the same, {} new, {} gone", count(State::Same), count(State::New), count(State::Gone));
    if let Some(beside) = &beside {
        eprintln!("vedette: {}", differences(&lines, beside, models.asked.name()));
    }
    Ok(Exit::Ok)
}

/// Who is asked.
struct Models {
    /// Whose word is compared with what was stored.
    asked: Arc<Classifier>,
    /// The one in service, where another one is asked: what it tells of the same rows is not due to the model. `Some(None)`: none is in
    /// service.
    beside: Option<Option<Arc<Classifier>>>,
}

async fn models(args: &BacktestArgs, client: &mut Client) -> anyhow::Result<Models> {
    let Some(name) = &args.model else {
        return Ok(Models { asked: Arc::new(Classifier::shipped()?), beside: None });
    };
    let asked = Arc::new(of_aggregator(client, name).await?);
    let serving = match of_aggregator(client, "serving").await {
        Ok(serving) => Some(Arc::new(serving)),
        Err(stop) if stop.exit == Exit::NothingFound => None,
        Err(stop) => return Err(stop.into()),
    };
    let itself = serving.as_ref().is_some_and(|serving| serving.name() == asked.name());
    Ok(Models { asked, beside: (!itself).then_some(serving) })
}

/// What the models differ in, over the same rows.
fn differences(lines: &[Line], beside: &[Told], model: &str) -> String {
    let told = || lines.iter().filter(|line| line.state != State::Gone);
    let only_model = told().filter(|line| line.serving == Some(false)).count();
    let only_serving = beside.iter().filter(|one| !told().any(|line| line.is_of(one))).count();
    let pages =
        (told().filter(|line| line.severity == Severity::Page).count(), beside.iter().filter(|one| one.paged_unix_ms.is_some()).count());
    format!(
        "over the same rows {model} alone tells {only_model}, the model in service alone {only_serving}; pages: {} and {}",
        pages.0, pages.1
    )
}

/// Both sides in order of time. A stored incident and one that would have been told are the same if they are about one workload and
/// overlap, or open within a minute of each other; each is matched once.
fn compare(told: &[Told], stored: &[Incident]) -> Vec<Line> {
    let mut left: Vec<(Place, &Incident)> =
        stored.iter().map(|incident| (incident.workload.as_ref().map(place).unwrap_or_default(), incident)).collect();
    left.sort_by_key(|(_, incident)| incident.opened_unix_ms);
    let mut lines = Vec::new();
    for told in told {
        let span = (told.opened_unix_ms, told.resolved_unix_ms.unwrap_or(0));
        let matching = |(place, incident): &(Place, &Incident)| {
            *place == told.place && meet((incident.opened_unix_ms, incident.resolved_unix_ms), span)
        };
        let stored = left.iter().position(matching).map(|at| left.remove(at).1.id);
        lines.push(Line {
            state: if stored.is_some() { State::Same } else { State::New },
            opened_unix_ms: told.opened_unix_ms,
            resolved_unix_ms: told.resolved_unix_ms.unwrap_or(0),
            severity: if told.paged_unix_ms.is_some() { Severity::Page } else { Severity::Ticket },
            kind: told.kind,
            place: told.place.clone(),
            summary: told.summary.clone(),
            stored,
            serving: None,
        });
    }
    lines.extend(left.into_iter().map(|(place, incident)| Line {
        state: State::Gone,
        opened_unix_ms: incident.opened_unix_ms,
        resolved_unix_ms: incident.resolved_unix_ms,
        severity: incident.severity(),
        kind: incident.kind(),
        place,
        summary: incident.summary.clone(),
        stored: Some(incident.id),
        serving: None,
    }));
    lines.sort_by_key(|line| line.opened_unix_ms);
    lines
}

fn print(lines: &[Line], beside: bool, output: &mut Output) -> anyhow::Result<()> {
    let serving = if beside { Column::both("serving", "IN SERVICE") } else { Column::data("serving") };
    let columns = vec![
        Column::both("state", "STATE"),
        serving,
        Column::both("opened", "OPENED"),
        Column::both("severity", "SEVERITY"),
        Column::both("kind", "KIND"),
        Column::both("namespace", "NAMESPACE"),
        Column::data("owner_kind"),
        Column::both("owner_name", "OWNER"),
        Column::data("container_name"),
        Column::both("stored_id", "ID"),
        Column::both("summary", "SUMMARY"),
    ];
    let mut rows = output.rows(columns)?;
    for line in lines {
        let tone = if line.state == State::Same { Tone::Plain } else { Tone::Warning };
        let (namespace, owner_kind, owner_name, container_name) = &line.place;
        rows.row(vec![
            Cell::word(line.state.word(), tone),
            line.serving.map_or(Cell::Absent, Cell::Boolean),
            Cell::instant(line.opened_unix_ms),
            Cell::word(line.severity.word(), severity_tone(line.severity)),
            Cell::word(line.kind.word(), Tone::Plain),
            Cell::text(namespace),
            Cell::text(owner_kind),
            Cell::text(owner_name),
            Cell::text(container_name),
            line.stored.map_or(Cell::Absent, Cell::Unsigned),
            Cell::text(&line.summary),
        ])?;
    }
    rows.end()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{Kind, Workload};

    use super::*;

    fn told(owner: &str, opened_unix_ms: i64, resolved_unix_ms: i64) -> Told {
        Told {
            place: ("shop".into(), "Deployment".into(), owner.into(), "main".into()),
            kind: Kind::Scan,
            opened_unix_ms,
            paged_unix_ms: None,
            resolved_unix_ms: (resolved_unix_ms > 0).then_some(resolved_unix_ms),
            summary: String::new(),
        }
    }

    fn stored(id: u64, owner: &str, opened_unix_ms: i64, resolved_unix_ms: i64) -> Incident {
        let workload = Workload {
            cluster: "c".into(),
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: owner.into(),
            container_name: "main".into(),
        };
        Incident { id, workload: Some(workload), opened_unix_ms, resolved_unix_ms, severity: Severity::Page.into(), ..Incident::default() }
    }

    #[test]
    fn what_both_say_is_the_same_and_the_rest_is_new_or_gone() {
        let of_ours = [told("web", 1_000_000, 1_100_000), told("cart", 2_000_000, 0), told("web", 5_000_000, 5_100_000)];
        let of_theirs = [stored(1, "web", 1_030_000, 1_090_000), stored(2, "web", 9_000_000, 9_100_000), stored(3, "ads", 2_000_000, 0)];

        let lines = compare(&of_ours, &of_theirs);

        let states: Vec<_> = lines.iter().map(|line| (line.state, line.place.2.as_str(), line.stored)).collect();
        let expected = [
            (State::Same, "web", Some(1)),
            (State::New, "cart", None),
            (State::Gone, "ads", Some(3)),
            (State::New, "web", None),
            (State::Gone, "web", Some(2)),
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn what_only_one_of_two_models_tells_of_the_same_rows_is_counted() {
        let (asked, beside) = (
            [told("web", 1_000_000, 1_100_000), told("cart", 2_000_000, 0)],
            [told("web", 1_020_000, 1_090_000), told("ads", 2_000_000, 2_100_000), told("cart", 1_000_000, 1_100_000)],
        );
        let mut lines = compare(&asked, &[stored(3, "ads", 2_000_000, 2_050_000)]);
        lines.iter_mut().for_each(|line| line.serving = Some(beside.iter().any(|told| line.is_of(told))));

        let said: Vec<_> = lines.iter().map(|line| (line.place.2.as_str(), line.state, line.serving)).collect();

        let expected = [("web", State::New, Some(true)), ("cart", State::New, Some(false)), ("ads", State::Gone, Some(true))];
        assert_eq!(said, expected);
        let words = differences(&lines, &beside, "3fa2");
        assert!(words.contains("3fa2 alone tells 1, the model in service alone 2; pages: 0 and 0"), "{words}");
    }
}
