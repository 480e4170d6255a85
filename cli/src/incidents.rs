//! `vedette incidents`: what was abnormal, when and where.

use clap::Args;
use jiff::Timestamp;
use vedette_proto::v1::{Answer, Incident, IncidentChange, Kind, ListIncidentsRequest, Severity};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::containers::place;
use crate::exit::{Exit, Stop, found};
use crate::json::evidence;
use crate::output::{Column, Output};
use crate::progress::waiting;
use crate::vocabulary;
use crate::when::{self, RangeArgs};
use crate::which::SelectorArgs;

/// Flags of `vedette incidents`.
#[derive(Debug, Args)]
pub struct IncidentsArgs {
    /// Stay, and print every change as it comes; begins with those open now. Ctrl-C ends it
    #[arg(short, long, conflicts_with_all = ["since", "until", "limit"])]
    pub watch: bool,
    /// Only those still open
    #[arg(long)]
    pub open: bool,
    /// Only this kind
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    pub kind: Option<Kind>,
    /// Only at least this severe
    #[arg(long, value_name = "SEVERITY", value_parser = vocabulary::severity())]
    pub severity: Option<Severity>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    #[command(flatten)]
    pub when: RangeArgs,
    #[command(flatten)]
    pub which: SelectorArgs,
}

/// Prints incidents, newest first.
pub async fn run(args: IncidentsArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let request = ListIncidentsRequest {
        range: args.when.range(now)?,
        kind: args.kind.unwrap_or_default().into(),
        minimum_severity: args.severity.unwrap_or_default().into(),
        open_only: args.open,
        selector: args.which.selector(),
        limit: args.limit,
    };
    let answer = waiting("asking for incidents", client.query.list_incidents(request)).await;
    let answer = answer.map_err(Stop::from)?.into_inner();
    let mut rows = output.rows(columns(None))?;
    for incident in &answer.incidents {
        rows.row(cells(None, incident, now.as_millisecond()))?;
    }
    let exit = found(rows.end()?, "no incident matches (of the aggregator's own cluster, unless --cluster names another or a replay)");
    if answer.truncated {
        eprintln!("vedette: there are more; raise --limit or narrow with --since, --kind, --severity");
    }
    Ok(exit)
}

/// The columns of an incident; `change` adds why it was sent.
pub fn columns(change: Option<IncidentChange>) -> Vec<Column> {
    let mut columns = vec![
        Column::both("id", "ID"),
        Column::both("severity", "SEVERITY"),
        Column::both("effect", "EFFECT"),
        Column::data("kind"),
        Column::table("WHERE"),
        Column::data("cluster"),
        Column::data("namespace"),
        Column::data("owner_kind"),
        Column::data("owner_name"),
        Column::data("container_name"),
        Column::both("onset", "SINCE"),
        Column::table("LASTED"),
        Column::data("opened"),
        Column::data("updated"),
        Column::data("resolved"),
        Column::data("peak_score"),
        Column::data("nodes"),
        Column::data("pods"),
        Column::data("container_ids"),
        Column::data("attack_techniques"),
        Column::data("origin"),
        Column::both("answer", "ANSWER"),
        Column::data("summary"),
        Column::data("evidence"),
        Column::data("asked_severity"),
        Column::data("withheld"),
        Column::data("withheld_by"),
        Column::both("acknowledged_by", "WHO"),
        Column::data("acknowledged"),
        Column::data("snoozed_by"),
        Column::both("snoozed_until", "SNOOZED UNTIL"),
    ];
    if change.is_some() {
        columns.insert(0, Column::data("change"));
    }
    columns
}

/// An incident in the order of [`columns`].
pub fn cells(change: Option<IncidentChange>, incident: &Incident, now_unix_ms: i64) -> Vec<Cell> {
    let workload = incident.workload.clone().unwrap_or_default();
    let mut cells = vec![
        Cell::Unsigned(incident.id),
        Cell::word(incident.severity().word(), severity_tone(incident.severity())),
        Cell::text(&incident.effect),
        Cell::word(incident.kind().word(), Tone::Plain),
        Cell::Text(place(&workload)),
        Cell::text(&workload.cluster),
        Cell::text(&workload.namespace),
        Cell::text(&workload.owner_kind),
        Cell::text(&workload.owner_name),
        Cell::text(&workload.container_name),
        Cell::instant(incident.onset_unix_ms),
        Cell::Text(lasted(incident, now_unix_ms)),
        Cell::instant(incident.opened_unix_ms),
        Cell::instant(incident.updated_unix_ms),
        Cell::instant(incident.resolved_unix_ms),
        Cell::Number(incident.peak_score),
        Cell::List(incident.nodes.clone()),
        Cell::List(incident.pods.clone()),
        Cell::List(incident.container_ids.clone()),
        Cell::List(incident.attack_techniques.clone()),
        Cell::word(incident.origin().word(), Tone::Plain),
        Cell::word(incident.answer().word(), answer_tone(incident.answer())),
        Cell::text(&incident.summary),
        Cell::Json(evidence(&incident.evidence)),
        Cell::word(incident.asked_severity().word(), Tone::Plain),
        Cell::word(incident.withheld().word(), Tone::Plain),
        Cell::text(&incident.withheld_by),
        Cell::text(&incident.acknowledged_by),
        Cell::instant(incident.acknowledged_unix_ms),
        Cell::text(&incident.snoozed_by),
        Cell::instant(Some(incident.snoozed_until_unix_ms).filter(|until| *until > now_unix_ms).unwrap_or_default()),
    ];
    if let Some(change) = change {
        cells.insert(0, Cell::word(change_word(change), Tone::Plain));
    }
    cells
}

/// How long it went on, or goes on.
pub fn lasted(incident: &Incident, now_unix_ms: i64) -> String {
    match incident.resolved_unix_ms {
        0 => format!("open, {}", when::span(now_unix_ms - incident.onset_unix_ms)),
        resolved => when::span(resolved - incident.onset_unix_ms),
    }
}

/// Red for what should wake somebody.
pub fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Page => Tone::Bad,
        Severity::Ticket => Tone::Warning,
        Severity::Note | Severity::Unspecified => Tone::Plain,
    }
}

fn answer_tone(answer: Answer) -> Tone {
    if answer == Answer::Attack { Tone::Bad } else { Tone::Plain }
}

/// The word for a change.
pub fn change_word(change: IncidentChange) -> &'static str {
    match change {
        IncidentChange::Unspecified => "",
        IncidentChange::Current => "open",
        IncidentChange::Opened => "opened",
        IncidentChange::Updated => "updated",
        IncidentChange::Resolved => "resolved",
        IncidentChange::Missed => "missed",
    }
}
