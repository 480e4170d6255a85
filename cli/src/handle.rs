//! `vedette acknowledge`, `vedette snooze` and `vedette comment`: what somebody does about an incident, without saying what it was.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use vedette_proto::v1::{HandleIncidentRequest, Handling, Incident, RecordedHandling};

use crate::cell::Cell;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::label::{AuthorArgs, said};
use crate::output::Output;
use crate::progress::waiting;
use crate::when;

/// Which incident, by whom, and why.
#[derive(Debug, Args)]
struct AboutArgs {
    /// The incident
    id: u64,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Flags of `vedette acknowledge`.
#[derive(Debug, Args)]
pub struct AcknowledgeArgs {
    #[command(flatten)]
    about: AboutArgs,
    /// Say that nobody is looking at it any more
    #[arg(long)]
    undo: bool,
}

/// Flags of `vedette snooze`.
#[derive(Debug, Args)]
pub struct SnoozeArgs {
    #[command(flatten)]
    about: AboutArgs,
    /// For so long: 30m, 2h, 1d; at most 7 days
    #[arg(long = "for", value_name = "SPAN", value_parser = when::parse_ahead, required_unless_present = "undo")]
    ahead: Option<SignedDuration>,
    /// End the snooze now
    #[arg(long, conflicts_with = "ahead")]
    undo: bool,
}

/// Flags of `vedette comment`.
#[derive(Debug, Args)]
pub struct CommentArgs {
    /// The incident
    id: u64,
    /// What there is to know, at most 4,096 characters
    text: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Says that somebody is looking at an incident.
pub async fn acknowledge(args: AcknowledgeArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let AcknowledgeArgs { about: AboutArgs { id, note, author }, undo } = args;
    let author = author.name()?;
    let (handling, spoken) = match undo {
        false => (Handling::Acknowledged, format!("incident {id}: acknowledged by {author}")),
        true => (Handling::Unacknowledged, format!("incident {id}: nobody is looking at it any more")),
    };
    send(HandleIncidentRequest { incident_id: id, handling: handling.into(), author, note, until_unix_ms: 0 }, &spoken, client, output)
        .await
}

/// Says that nobody is to be told of an incident for a while.
pub async fn snooze(args: SnoozeArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let SnoozeArgs { about: AboutArgs { id, note, author }, ahead, undo: _ } = args;
    let author = author.name()?;
    let (handling, until_unix_ms, spoken) = match ahead {
        Some(ahead) => {
            let until = now.as_millisecond().saturating_add(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX));
            let spoken =
                format!("incident {id}: nobody is told of it until {}, unless it becomes more severe", when::local(until, &output.zone));
            (Handling::Snoozed, until, spoken)
        }
        None => (Handling::Woken, 0, format!("incident {id}: the snooze is over")),
    };
    send(HandleIncidentRequest { incident_id: id, handling: handling.into(), author, note, until_unix_ms }, &spoken, client, output).await
}

/// Adds something to know to an incident.
pub async fn comment(args: CommentArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let CommentArgs { id, text, author } = args;
    let request = HandleIncidentRequest {
        incident_id: id,
        handling: Handling::Commented.into(),
        author: author.name()?,
        note: text,
        until_unix_ms: 0,
    };
    send(request, &format!("incident {id}: the comment is recorded"), client, output).await
}

async fn send(request: HandleIncidentRequest, spoken: &str, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let answer = waiting("recording it", client.label.handle_incident(request)).await;
    let id = answer.map_err(Stop::from)?.into_inner().id;
    said(output, spoken, &[("id", Cell::Unsigned(id))])
}

/// Who has an incident, in a few words: `anna`, `snoozed by anna until 10:00:05`; empty where nobody does.
pub fn standing(incident: &Incident, output: &Output, now_unix_ms: i64) -> String {
    let snoozed = (now_unix_ms < incident.snoozed_until_unix_ms)
        .then(|| format!("snoozed by {} until {}", incident.snoozed_by, when::local(incident.snoozed_until_unix_ms, &output.zone)));
    let seen = (incident.acknowledged_unix_ms > 0).then(|| {
        format!("acknowledged by {} since {}", incident.acknowledged_by, when::local(incident.acknowledged_unix_ms, &output.zone))
    });
    seen.into_iter().chain(snoozed).collect::<Vec<_>>().join("; ")
}

/// One thing that was done, as a line of an explanation.
pub fn line(one: &RecordedHandling, output: &Output) -> String {
    let until = if one.until_unix_ms == 0 { String::new() } else { format!(" until {}", when::local(one.until_unix_ms, &output.zone)) };
    let note = if one.note.is_empty() { String::new() } else { format!(": {}", one.note) };
    format!("{} {}{until}, {}{note}", one.author, one.handling().word(), when::local(one.unix_ms, &output.zone))
}
