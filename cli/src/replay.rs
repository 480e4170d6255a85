//! `vedette replay`: recorded sessions, played to an aggregator as agents would deliver them, with their labels.

mod play;
mod player;
mod said;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use vedette_proto::v1::QueryRequest;
use vedette_proto::v1::query_value::Value;

pub use play::{Played, Progress, Replay, Speed};
pub use player::Player;
pub use said::say;

use crate::cell::Cell;
use crate::client::Client;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::output::{Column, Output};
use crate::recording::{self, Recorded};
use crate::stage::stopped;

/// Flags of `vedette replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// A recording: its folder, a file in it, or a folder of recordings
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How fast: 1 as it happened, 20 twenty times that, max as fast as it is taken
    #[arg(long, value_name = "TIMES", default_value = "max")]
    speed: Speed,
    /// Cluster name of the replay [default: the recording's name]
    #[arg(long, value_name = "NAME", value_parser = session)]
    session: Option<String>,
    /// Only this node; may be given several times
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Leave the labels out: nobody has said anything yet
    #[arg(long)]
    unlabelled: bool,
}

fn session(text: &str) -> Result<String, String> {
    let fits = recording::is_session_name(text);
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 63 characters of a-z 0-9 - .".to_owned()) }
}

/// Replays one recording after another.
pub async fn run(args: ReplayArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let mut dirs = Vec::new();
    for path in &args.paths {
        dirs.extend(recording::find(path)?);
    }
    if args.session.is_some() && dirs.len() > 1 {
        return Err(Stop::usage(format!("--session names one replay, and there are {} recordings", dirs.len())).into());
    }
    let columns = vec![
        Column::both("recording", "RECORDING"),
        Column::both("session", "SESSION"),
        Column::both("observations", "OBSERVATIONS"),
        Column::both("containers", "CONTAINERS"),
        Column::both("labels", "LABELS"),
        Column::both("added", "NEW LABELS"),
        Column::both("resumed", "THERE BEFORE"),
        Column::both("seconds", "SECONDS"),
    ];
    let mut rows = output.stream(columns)?;
    for dir in &dirs {
        rows.row(one(dir, &args, client).await?)?;
    }
    rows.end()?;
    Ok(Exit::Ok)
}

/// Replays a recording; gives its row.
async fn one(dir: &Path, args: &ReplayArgs, client: &mut Client) -> anyhow::Result<Vec<Cell>> {
    let began = Instant::now();
    let recorded = Recorded::open(dir)?;
    let manifest = &recorded.manifest;
    let nodes = chosen(&recorded, &args.node)?;
    let session = args.session.as_deref().unwrap_or(&manifest.name);
    let replay = Replay::open(client, &recorded, session, &nodes).await?;
    refuse_others(client, session, &nodes, &replay).await?;
    // Labels first: what is labelled is safe from retention, however old it is.
    let added = if args.unlabelled { 0 } else { say(client, &recorded.labels, session).await? };
    let (progress, watched) = watch::channel(Progress::default());
    let bar = bar(&manifest.name, manifest.rows);
    let played = tokio::select! {
        played = replay.play(args.speed, &progress) => played,
        never = follow(watched, bar.as_ref()) => match never {},
        _ = stopped() => Err(Stop::new(Exit::Failure, "stopped; the same command goes on from here").into()),
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let played = played?;
    let stored = rows_of(&stored(client, session).await?, &nodes);
    if stored != played.rows {
        let told = format!("history holds {stored} rows of session {session}, {} were played", played.rows);
        return Err(Stop::new(Exit::Failure, told).into());
    }
    Ok(vec![
        Cell::text(&manifest.name),
        Cell::text(session),
        Cell::Unsigned(played.rows),
        Cell::Unsigned(manifest.containers),
        Cell::Unsigned(recorded.labels.len() as u64),
        Cell::Unsigned(added),
        Cell::Unsigned(played.batches_before),
        Cell::Number(began.elapsed().as_secs_f64()),
    ])
}

/// The nodes to play: all, or those named.
fn chosen<'a>(recorded: &'a Recorded, named: &[String]) -> anyhow::Result<Vec<&'a str>> {
    let all = recorded.observations.nodes();
    if let Some(unknown) = named.iter().find(|name| !all.contains(name.as_str())) {
        let known = all.into_iter().collect::<Vec<_>>().join(", ");
        let told = format!("{} has no node {}; it has {known}", recorded.dir.display(), escaped(unknown));
        return Err(Stop::usage(told).into());
    }
    Ok(all.into_iter().filter(|node| named.is_empty() || named.iter().any(|name| name == node)).collect())
}

/// Rows of a session in history, by node.
async fn stored(client: &mut Client, session: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    // A session's name has no quotes.
    let sql = format!("SELECT node, count(*) FROM observations WHERE cluster = '{session}' GROUP BY node");
    let mut parts = client.query.query(QueryRequest { sql, max_rows: 10_000 }).await.map_err(Stop::from)?.into_inner();
    let mut stored = BTreeMap::new();
    while let Some(part) = parts.message().await.map_err(Stop::from)? {
        for row in part.rows {
            let mut values = row.values.into_iter().map(|value| value.value);
            if let (Some(Some(Value::Text(node))), Some(Some(Value::Integer(count)))) = (values.next(), values.next()) {
                stored.insert(node, u64::try_from(count).unwrap_or(0));
            }
        }
    }
    Ok(stored)
}

fn rows_of(stored: &BTreeMap<String, u64>, nodes: &[&str]) -> u64 {
    nodes.iter().filter_map(|&node| stored.get(node)).sum()
}

/// A session holds one recording: rows that are not of an earlier replay of this one are somebody else's.
async fn refuse_others(client: &mut Client, session: &str, nodes: &[&str], replay: &Replay<'_>) -> anyhow::Result<()> {
    let stored = stored(client, session).await?;
    for &node in nodes {
        let rows = rows_of(&stored, &[node]);
        if rows > 0 && replay.there_before(node) == 0 {
            let told = format!("session {session} holds {rows} rows of another recording for node {node}; give another --session");
            return Err(Stop::usage(escaped(&told)).into());
        }
    }
    Ok(())
}

fn bar(name: &str, rows: u64) -> Option<ProgressBar> {
    use std::io::IsTerminal;

    let shown = std::io::stderr().is_terminal();
    shown.then(|| {
        let style = ProgressStyle::with_template("{prefix} {bar:30} {human_pos} of {human_len} observations, {eta} to go");
        let bar = ProgressBar::new(rows).with_prefix(name.to_owned());
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// Moves the bar along; never ends by itself.
async fn follow(mut progress: watch::Receiver<Progress>, bar: Option<&ProgressBar>) -> Infallible {
    while progress.changed().await.is_ok() {
        let rows = progress.borrow_and_update().rows;
        if let Some(bar) = bar {
            bar.set_position(rows);
        }
    }
    std::future::pending().await
}
