//! `vedette exception` and `vedette apply`: what may happen without bothering anybody.

mod file;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use vedette_proto::v1::{
    AddExceptionRequest, ApplyChange, ApplyExceptionsRequest, Exception, Kind, ListExceptionsRequest, PreviewExceptionRequest,
    RemoveExceptionRequest, Severity,
};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::exit::{Exit, Stop, found};
use crate::incidents;
use crate::label::said;
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::vocabulary;

/// The commands below `vedette exception`.
#[derive(Debug, Subcommand)]
pub enum ExceptionCommand {
    /// Let something happen without bothering anybody, until it ends
    #[command(after_help = "\
What it covers becomes a note with its name, and stays in history. Names are globs: * stands for any characters, ? for one.

Examples:
  vedette exception add nightly-backup -n shop --owner 'CronJob/backup-*' --kind exfiltration --expires 90d --reason \"dump to the bucket\"
  vedette exception add load-test -n shop --expires 2026-12-04 --reason \"until Friday\" --dry-run
  vedette exception add old-proxy -n edge --owner Deployment/proxy --expires 30d --bind-image --reason \"replaced next month\"")]
    Add(Box<AddArgs>),
    /// List exceptions, with how many incidents each made less loud
    #[command(after_help = "\
Examples:
  vedette exception list
  vedette exception list --all -o json")]
    List {
        /// Also those that were removed or are over
        #[arg(long)]
        all: bool,
    },
    /// End an exception
    #[command(after_help = "\
Example:
  vedette exception remove nightly-backup")]
    Remove {
        /// Its name
        name: String,
    },
    /// Say which incidents of the last days an exception would have hidden
    #[command(after_help = "\
Examples:
  vedette exception preview -n shop --owner 'CronJob/backup-*'
  vedette exception preview -n shop --kind scan --days 90")]
    Preview(PreviewArgs),
}

/// What an exception is about.
#[derive(Debug, Args)]
struct AboutArgs {
    /// Namespace
    #[arg(short, long, value_name = "GLOB", default_value = "")]
    namespace: String,
    /// Owner as KIND/NAME, such as Deployment/web or CronJob/backup-*
    #[arg(long, value_name = "KIND/NAME", value_parser = owner, default_value = "")]
    owner: Owner,
    /// Container name
    #[arg(long, value_name = "GLOB", default_value = "")]
    container: String,
    /// Only this kind
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Option<Kind>,
    /// Only while every container runs an image of this digest; may be given several times
    #[arg(long, value_name = "DIGEST")]
    image: Vec<String>,
    /// Only down to a ticket, not to a note
    #[arg(long)]
    ticket: bool,
}

/// Flags of `vedette exception add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name: a-z 0-9 - .
    name: String,
    #[command(flatten)]
    about: AboutArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When it ends: 90d (from now), 2026-12-31 or RFC 3339; at most a year
    #[arg(long, value_name = "TIME")]
    expires: String,
    /// Bind it to the images that the containers run now
    #[arg(long)]
    bind_image: bool,
    /// Change nothing; only say what it would have hidden
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `vedette exception preview`.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    about: AboutArgs,
    /// Incidents of so many days
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
}

/// Flags of `vedette apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// YAML file, - for standard input
    file: std::path::PathBuf,
    /// Change nothing; only say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Kind and name of an owner, as globs.
#[derive(Clone, Debug, Default)]
struct Owner(String, String);

fn owner(text: &str) -> Result<Owner, String> {
    if text.is_empty() {
        return Ok(Owner::default());
    }
    let split = text.split_once('/').filter(|(_, name)| !name.is_empty());
    let (kind, name) = split.ok_or("write KIND/NAME, such as Deployment/web or */backup-*")?;
    Ok(Owner(if kind == "*" { String::new() } else { kind.to_owned() }, name.to_owned()))
}

impl AboutArgs {
    fn exception(self) -> Exception {
        Exception {
            namespace: self.namespace,
            owner_kind: self.owner.0,
            owner_name: self.owner.1,
            container_name: self.container,
            kind: self.kind.unwrap_or_default().into(),
            image_digests: self.image,
            at_most: if self.ticket { Severity::Ticket } else { Severity::Note }.into(),
            ..Exception::default()
        }
    }
}

impl ExceptionCommand {
    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Add(args) => !args.dry_run,
            Self::Remove { .. } => true,
            Self::List { .. } | Self::Preview(_) => false,
        }
    }
}

/// Runs a command below `vedette exception`.
pub async fn run(command: ExceptionCommand, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    match command {
        ExceptionCommand::Add(args) => add(*args, client, output, now).await,
        ExceptionCommand::List { all } => list(all, client, output).await,
        ExceptionCommand::Remove { name } => {
            let request = RemoveExceptionRequest { name: name.clone() };
            waiting("ending the exception", client.policy.remove_exception(request)).await.map_err(Stop::from)?;
            said(output, &format!("exception {name} is over"), &[("name", Cell::text(name))])
        }
        ExceptionCommand::Preview(args) => preview(args.about.exception(), args.days, client, output, now).await,
    }
}

async fn add(args: AddArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let expires_unix_ms = file::expires(&args.expires, now).map_err(|problem| Stop::usage(format!("--expires: {problem}")))?;
    let exception = Exception { name: args.name, reason: args.reason, expires_unix_ms, ..args.about.exception() };
    if args.dry_run {
        return preview(exception, 30, client, output, now).await;
    }
    let request = AddExceptionRequest { exception: Some(exception), bind_images: args.bind_image };
    let answer = waiting("adding the exception", client.policy.add_exception(request)).await.map_err(Stop::from)?;
    let exception = answer.into_inner().exception.unwrap_or_default();
    let until = crate::when::local(exception.expires_unix_ms, &output.zone);
    let images = match exception.image_digests.len() {
        0 => String::new(),
        n => format!(", bound to {n} images"),
    };
    let spoken = format!("exception {} stands until {until}{images}", exception.name);
    said(output, &spoken, &[("name", Cell::text(exception.name)), ("image_digests", Cell::List(exception.image_digests))])
}

async fn preview(exception: Exception, days: u32, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let request = PreviewExceptionRequest { exception: Some(exception), days, limit: 0 };
    let answer = waiting("looking back", client.policy.preview_exception(request)).await.map_err(Stop::from)?.into_inner();
    eprintln!("vedette: it would have hidden {} incidents of {days} days, {} of them pages", answer.total, answer.pages);
    if answer.images_unknown > 0 {
        eprintln!("vedette: of {} more nobody knows the image any more", answer.images_unknown);
    }
    let mut rows = output.rows(incidents::columns(None))?;
    for incident in &answer.incidents {
        rows.row(incidents::cells(None, incident, now.as_millisecond()))?;
    }
    rows.end()?;
    Ok(Exit::Ok)
}

async fn list(all: bool, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = ListExceptionsRequest { include_over: all };
    let answer = waiting("asking for exceptions", client.policy.list_exceptions(request)).await.map_err(Stop::from)?.into_inner();
    let mut columns = vec![
        Column::both("name", "NAME"),
        Column::table("WHICH"),
        Column::data("namespace"),
        Column::data("owner_kind"),
        Column::data("owner_name"),
        Column::data("container_name"),
        Column::both("kind", "KIND"),
        Column::both("at_most", "AT MOST"),
        Column::both("lowered", "LOWERED"),
        Column::both("expires", "UNTIL"),
        Column::both("source", "FROM"),
        Column::both("author", "BY"),
        Column::both("reason", "REASON"),
        Column::data("image_digests"),
        Column::data("incident_id"),
        Column::data("created"),
    ];
    columns.push(if all { Column::both("removed", "REMOVED") } else { Column::data("removed") });
    let mut rows = output.rows(columns)?;
    for exception in &answer.exceptions {
        rows.row(vec![
            Cell::text(&exception.name),
            Cell::Text(which(exception)),
            Cell::text(&exception.namespace),
            Cell::text(&exception.owner_kind),
            Cell::text(&exception.owner_name),
            Cell::text(&exception.container_name),
            Cell::word(exception.kind().word(), Tone::Plain),
            Cell::word(exception.at_most().word(), Tone::Plain),
            Cell::Unsigned(exception.lowered),
            Cell::instant(exception.expires_unix_ms),
            Cell::word(exception.source().word(), Tone::Plain),
            Cell::text(&exception.author),
            Cell::text(&exception.reason),
            Cell::List(exception.image_digests.clone()),
            if exception.incident_id == 0 { Cell::Absent } else { Cell::Unsigned(exception.incident_id) },
            Cell::instant(exception.created_unix_ms),
            Cell::instant(exception.removed_unix_ms),
        ])?;
    }
    Ok(found(rows.end()?, "no exception stands"))
}

/// What it is about, in one word: `shop/CronJob/backup-*/*`.
fn which(exception: &Exception) -> String {
    let any = |glob: &str| if glob.is_empty() { "*".to_owned() } else { glob.to_owned() };
    let Exception { namespace, owner_kind, owner_name, container_name, .. } = exception;
    let images = if exception.image_digests.is_empty() { "" } else { " (bound to its image)" };
    format!("{}/{}/{}/{}{images}", any(namespace), any(owner_kind), any(owner_name), any(container_name))
}

/// Makes the exceptions of a file those that stand.
pub async fn apply(args: ApplyArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let exceptions = file::read(&args.file, now)?;
    let request = ApplyExceptionsRequest { exceptions, dry_run: args.dry_run };
    let answer = waiting("applying", client.policy.apply_exceptions(request)).await.map_err(Stop::from)?.into_inner();
    let columns = vec![
        Column::both("name", "NAME"),
        Column::both("change", if args.dry_run { "WOULD BE" } else { "IS" }),
        Column::table("WHICH"),
        Column::both("would_have_hidden", "WOULD HAVE HIDDEN IN 30 DAYS"),
        Column::both("pages", "PAGES AMONG THEM"),
        Column::both("expires", "UNTIL"),
        Column::both("reason", "REASON"),
    ];
    let mut rows = output.rows(columns)?;
    for one in &answer.applied {
        let exception = one.exception.clone().unwrap_or_default();
        let tone = if one.change() == ApplyChange::Unchanged { Tone::Plain } else { Tone::Warning };
        rows.row(vec![
            Cell::text(&exception.name),
            Cell::word(one.change().word(), tone),
            Cell::Text(which(&exception)),
            Cell::Unsigned(one.would_have_hidden),
            Cell::Unsigned(one.pages),
            Cell::instant(exception.expires_unix_ms),
            Cell::text(&exception.reason),
        ])?;
    }
    if rows.end()? == 0 && output.format == Format::Table {
        eprintln!("vedette: the file has no exception, and none of a file stood");
    }
    if args.dry_run {
        eprintln!("vedette: nothing was changed");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_globs() {
        let Owner(kind, name) = owner("CronJob/backup-*").unwrap();
        assert_eq!((kind.as_str(), name.as_str()), ("CronJob", "backup-*"));
        assert_eq!(owner("*/web").unwrap().0, "");
        assert!(owner("web").is_err() && owner("Job/").is_err());
    }
}
