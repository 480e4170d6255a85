//! `vedette label`, `vedette answer` and `vedette accept`: what people say about stretches of time.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use vedette_proto::v1::{
    AddLabelsRequest, Answer, AnswerIncidentRequest, Kind, Label, LabelSource, ListLabelsRequest, RetractLabelRequest, TimeRange,
    UndoAnswerRequest,
};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::exit::{Exit, Stop, found};
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::vocabulary;
use crate::when::{RangeArgs, When};
use crate::which::{SelectorArgs, describe};

/// The commands below `vedette label`.
#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// Say what a stretch of time was
    #[command(after_help = "\
Examples:
  vedette label add --kind mining --since 30m --until 10m -n shop --owner Deployment/web
  vedette label add --kind normal --since \"2026-11-22 02:00\" --until \"2026-11-22 03:00\" --node worker-1 --note backup")]
    Add(Box<AddArgs>),
    /// List what was said, newest first
    #[command(after_help = "\
Examples:
  vedette label list --since 7d
  vedette label list --source operator --kind scan -o json")]
    List(ListArgs),
    /// Take a label back; the label stays in history, marked
    #[command(after_help = "\
Example:
  vedette label retract 17 --note \"wrong workload\"")]
    Retract(RetractArgs),
}

impl LabelCommand {
    /// Whether it takes the right to label.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::List(_))
    }
}

/// Flags of `vedette label add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// What it was
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Kind,
    /// When it began: 30m, 2h (ago), "2026-11-22 10:00" (local) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: When,
    /// When it ended
    #[arg(long, value_name = "TIME", value_parser = When::parse, default_value = "now")]
    until: When,
    /// It was touched by the event without being its target
    #[arg(long)]
    affected: bool,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// A further fact; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// Who speaks
    #[arg(long, value_name = "SOURCE", value_parser = vocabulary::source(), default_value = "operator")]
    source: LabelSource,
    #[command(flatten)]
    author: AuthorArgs,
    #[command(flatten)]
    which: SelectorArgs,
}

/// Flags of `vedette label list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this kind
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Option<Kind>,
    /// Only what this source said
    #[arg(long, value_name = "SOURCE", value_parser = vocabulary::source())]
    source: Option<LabelSource>,
    /// Also those taken back
    #[arg(long)]
    retracted: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    when: RangeArgs,
}

/// Flags of `vedette label retract`.
#[derive(Debug, Args)]
pub struct RetractArgs {
    /// The label
    id: u64,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Flags of `vedette answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The incident
    id: u64,
    /// Your word on it
    #[arg(value_name = "ANSWER", value_parser = vocabulary::answer(), required_unless_present = "undo")]
    answer: Option<Answer>,
    /// Take the last answer back, with its labels and what followed from it
    #[arg(long, conflicts_with_all = ["answer", "kind", "note"])]
    undo: bool,
    /// The kind, where it was an attack of another one than named
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Option<Kind>,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Flags of `vedette accept`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// The incident
    id: u64,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Who speaks.
#[derive(Debug, Args)]
pub struct AuthorArgs {
    /// Your name [default: the user who runs this]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

impl AuthorArgs {
    /// The name, or an error that says how to give one.
    pub fn name(self) -> Result<String, Stop> {
        let named = self.author.or_else(|| {
            // Under sudo the person is not root.
            let user = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
            user("SUDO_USER").or_else(|| user("USER")).or_else(|| user("LOGNAME"))
        });
        named.filter(|name| !name.is_empty()).ok_or_else(|| Stop::usage("who speaks is not known; give --author NAME"))
    }
}

/// Runs a command below `vedette label`.
pub async fn run(command: LabelCommand, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    match command {
        LabelCommand::Add(args) => add(*args, client, output, now).await,
        LabelCommand::List(args) => list(args, client, output, now).await,
        LabelCommand::Retract(args) => retract(args, client, output).await,
    }
}

async fn add(args: AddArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let (start_unix_ms, end_unix_ms) = (args.since.unix_ms(now), args.until.unix_ms(now));
    if start_unix_ms >= end_unix_ms {
        return Err(Stop::usage("--since must be before --until").into());
    }
    if !args.which.names_something() {
        return Err(
            Stop::usage("a label needs to know which: give --namespace, --owner, --container, --pod, --container-id or --node").into()
        );
    }
    let label = Label {
        selector: args.which.selector(),
        range: Some(TimeRange { start_unix_ms, end_unix_ms }),
        kind: args.kind.into(),
        affected: args.affected,
        source: args.source.into(),
        author: args.author.name()?,
        note: args.note,
        attributes: args.attribute.into_iter().collect::<HashMap<_, _>>(),
        ..Label::default()
    };
    let about = label.selector.as_ref().map(describe).unwrap_or_default();
    let request = AddLabelsRequest { labels: vec![label] };
    let ids = waiting("adding the label", client.label.add_labels(request)).await.map_err(Stop::from)?.into_inner().ids;
    let id = ids.first().copied().ok_or_else(|| Stop::new(Exit::Failure, "the aggregator did not say the label's id"))?;
    let spoken = format!("label {id}: {} {about}", args.kind.word());
    said(output, &spoken, &[("id", Cell::Unsigned(id))])
}

async fn list(args: ListArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let request = ListLabelsRequest {
        range: args.when.range(now)?,
        kind: args.kind.unwrap_or_default().into(),
        source: args.source.unwrap_or_default().into(),
        include_retracted: args.retracted,
        limit: args.limit,
    };
    let answer = waiting("asking for labels", client.label.list_labels(request)).await.map_err(Stop::from)?.into_inner();
    let columns = vec![
        Column::both("id", "ID"),
        Column::both("kind", "KIND"),
        Column::table("WHICH"),
        Column::data("cluster"),
        Column::data("node"),
        Column::data("namespace"),
        Column::data("owner_kind"),
        Column::data("owner_name"),
        Column::data("container_name"),
        Column::data("pod_uid"),
        Column::data("container_id"),
        Column::both("start", "FROM"),
        Column::both("end", "UNTIL"),
        Column::both("affected", "AFFECTED"),
        Column::both("source", "SOURCE"),
        Column::both("author", "AUTHOR"),
        Column::both("note", "NOTE"),
        Column::data("created"),
        if args.retracted { Column::both("retracted_by", "RETRACTED BY") } else { Column::data("retracted_by") },
        Column::data("attributes"),
    ];
    let mut rows = output.rows(columns)?;
    for label in &answer.labels {
        rows.row(cells(label))?;
    }
    let exit = found(rows.end()?, "no label matches");
    if answer.truncated {
        eprintln!("vedette: there are more; raise --limit or narrow with --since, --kind, --source");
    }
    Ok(exit)
}

fn cells(label: &Label) -> Vec<Cell> {
    let selector = label.selector.clone().unwrap_or_default();
    let range = label.range.unwrap_or_default();
    let attributes: std::collections::BTreeMap<_, _> = label.attributes.iter().collect();
    vec![
        Cell::Unsigned(label.id),
        Cell::word(label.kind().word(), Tone::Plain),
        Cell::Text(describe(&selector)),
        Cell::text(&selector.cluster),
        Cell::text(&selector.node),
        Cell::text(&selector.namespace),
        Cell::text(&selector.owner_kind),
        Cell::text(&selector.owner_name),
        Cell::text(&selector.container_name),
        Cell::text(&selector.pod_uid),
        Cell::text(&selector.container_id),
        Cell::instant(range.start_unix_ms),
        Cell::instant(range.end_unix_ms),
        Cell::Boolean(label.affected),
        Cell::word(label.source().word(), Tone::Plain),
        Cell::text(&label.author),
        Cell::text(&label.note),
        Cell::instant(label.created_unix_ms),
        if label.retracted_by == 0 { Cell::Absent } else { Cell::Unsigned(label.retracted_by) },
        Cell::Json(serde_json::to_string(&attributes).unwrap_or_default()),
    ]
}

async fn retract(args: RetractArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = RetractLabelRequest { id: args.id, author: args.author.name()?, note: args.note };
    let answer = waiting("taking the label back", client.label.retract_label(request)).await;
    let retraction = answer.map_err(Stop::from)?.into_inner().id;
    said(output, &format!("label {} is taken back by {retraction}", args.id), &[("id", Cell::Unsigned(retraction))])
}

/// Records an operator's word on an incident.
pub async fn answer(args: AnswerArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let Some(answer) = args.answer.filter(|_| !args.undo) else { return undo(args, client, output).await };
    if args.kind.is_some() && answer != Answer::Attack {
        return Err(Stop::usage("--kind goes with the answer attack only").into());
    }
    let request = AnswerIncidentRequest {
        incident_id: args.id,
        answer: answer.into(),
        kind: args.kind.unwrap_or_default().into(),
        author: args.author.name()?,
        note: args.note,
    };
    let recorded = waiting("recording the answer", client.label.answer_incident(request)).await;
    let recorded = recorded.map_err(Stop::from)?.into_inner();
    let labelled = match recorded.label_id {
        0 => String::new(),
        label => format!("; label {label} added"),
    };
    let label = if recorded.label_id == 0 { Cell::Absent } else { Cell::Unsigned(recorded.label_id) };
    let quiet = match answer {
        Answer::Expected | Answer::NothingThere => format!("; what is like it does not page (exception answer-{})", recorded.id),
        _ => String::new(),
    };
    let spoken = format!("incident {}: {}{labelled}{quiet}", args.id, answer.word());
    said(output, &spoken, &[("id", Cell::Unsigned(recorded.id)), ("label_id", label)])
}

/// Says that what a workload does while an incident is open is its normal from now on.
pub async fn accept(args: AcceptArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = AnswerIncidentRequest {
        incident_id: args.id,
        answer: Answer::Accepted.into(),
        author: args.author.name()?,
        note: args.note,
        ..AnswerIncidentRequest::default()
    };
    let answer = waiting("accepting the new level", client.label.answer_incident(request)).await;
    let recorded = answer.map_err(Stop::from)?.into_inner();
    let spoken = format!("incident {}: the new level is the workload's normal from now on", args.id);
    said(output, &spoken, &[("id", Cell::Unsigned(recorded.id))])
}

async fn undo(args: AnswerArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = UndoAnswerRequest { incident_id: args.id, author: args.author.name()? };
    let answer = waiting("taking the answer back", client.policy.undo_answer(request)).await;
    let undone = answer.map_err(Stop::from)?.into_inner();
    let stands = match undone.answer() {
        Answer::Unspecified => "none stands".to_owned(),
        answer => format!("{} stands again", answer.word()),
    };
    let exception = if undone.exception.is_empty() { String::new() } else { format!("; exception {} is over", undone.exception) };
    let spoken = format!(
        "incident {}: {} is taken back, {stands}; {} labels retracted{exception}",
        args.id,
        undone.undone().word(),
        undone.labels_retracted
    );
    let facts = [
        ("undone", Cell::word(undone.undone().word(), Tone::Plain)),
        ("answer", Cell::word(undone.answer().word(), Tone::Plain)),
        ("labels_retracted", Cell::Unsigned(undone.labels_retracted.into())),
        ("exception", Cell::text(&undone.exception)),
    ];
    said(output, &spoken, &facts)
}

/// Says what was done: a sentence for people, its facts as an object for programs.
pub fn said(output: &mut Output, spoken: &str, facts: &[(&str, Cell)]) -> anyhow::Result<Exit> {
    if output.format == Format::Table {
        output.line(&crate::escape::escape(spoken))?;
        output.sink.flush()?;
    } else {
        let (columns, cells): (Vec<_>, Vec<_>) = facts.iter().map(|(name, cell)| (Column::data(name), cell.clone())).unzip();
        output.object(columns, &cells)?;
    }
    Ok(Exit::Ok)
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
