//! `vedette top`: nodes, workloads by score and open incidents, drawn again and again.

mod draw;
mod screen;
mod snapshot;

use std::{io::Write as _, time::Duration};

use clap::Args;
use jiff::Timestamp;

use crate::client::{Client, Route};
use crate::exit::{Exit, Stop};
use crate::output::{Format, Output};
use crate::which::SelectorArgs;

use self::draw::Size;
use self::screen::{Key, Screen};
use self::snapshot::Snapshot;

/// Where a terminal does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// An aggregator that does not answer for so long is said to be away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `vedette top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    which: SelectorArgs,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// Draws until `q` or Ctrl-C; where nobody can watch, once.
pub async fn run(args: TopArgs, route: &Route, mut client: Client, output: &mut Output) -> anyhow::Result<Exit> {
    let first = Snapshot::take(&mut client, args.which.selector()).await?;
    let now = Timestamp::now().as_millisecond();
    if output.format != Format::Table {
        if output.format == Format::Csv {
            return Err(Stop::usage("top is no table: -o json prints a snapshot, vedette containers -o csv a table").into());
        }
        output.line(&first.json(now))?;
        output.sink.flush()?;
        return Ok(Exit::Ok);
    }
    if !output.terminal {
        for line in draw::lines(&first, None, None, now, output) {
            output.line(&line)?;
        }
        output.sink.flush()?;
        return Ok(Exit::Ok);
    }
    let (mut screen, mut keys) = Screen::open()?;
    let mut snapshot = first;
    let mut client = Some(client);
    let mut lost = None;
    let mut looks = tokio::time::interval(Duration::from_secs(args.every));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let size = screen.size().unwrap_or(USUAL);
        let lines = draw::lines(&snapshot, lost.as_deref(), Some(size), Timestamp::now().as_millisecond(), output);
        screen.draw(&lines)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Other) => {}
                Some(Key::Quit) | None => return Ok(Exit::Ok),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
            _ = looks.tick() => match look(&mut client, route, &args).await {
                Ok(newest) => {
                    snapshot = newest;
                    lost = None;
                }
                Err(error) => lost = Some(error.to_string()),
            },
        }
    }
}

/// Asks anew, over a new connection if the last one was lost.
async fn look(client: &mut Option<Client>, route: &Route, args: &TopArgs) -> anyhow::Result<Snapshot> {
    let mut connected = match client.take() {
        Some(client) => client,
        None => route.connect().await?,
    };
    let asked = tokio::time::timeout(PATIENCE, Snapshot::take(&mut connected, args.which.selector())).await;
    let snapshot = asked.map_err(|_| Stop::new(Exit::Failure, format!("no answer within {} s", PATIENCE.as_secs())))??;
    *client = Some(connected);
    Ok(snapshot)
}
