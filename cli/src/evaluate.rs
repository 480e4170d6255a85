//! `vedette evaluate`: what the detector finds in recordings, what it misses, whom it bothers, and how sure that is.

mod events;
mod figures;
mod learn;
mod page;
mod picture;
pub(crate) mod play;
pub(crate) mod stats;
mod trivial;
pub(crate) mod truth;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use vedette_detect::Config;

use self::events::About;
use self::figures::{Figure, OfForest, OfRows, Recall, Session};
use self::learn::Split;
use self::stats::{Share, poisson_upper};
use self::truth::{Role, Truth};
use crate::cell::{Cell, Tone};
use crate::exit::{Exit, Stop};
use crate::output::{Column, Format, Output};
use crate::recording::{Recorded, Set, find};

/// Flags of `vedette evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// A recording, or a folder of recordings
    #[arg(long, value_name = "DIR", default_value = "recordings")]
    recordings: PathBuf,
    /// Only recordings of this set
    #[arg(long, value_name = "SET", value_enum, default_value = "all")]
    set: Which,
    /// What the kind classifier is asked about is kept apart from what it learns from by this
    #[arg(long, value_name = "SPLIT", value_enum, default_value = "session")]
    split: Split,
    /// All that is random in training comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write all figures to this file too, as a JSON list
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a page with pictures to this file too; it needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Which recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// All of them
    All,
    /// Those that detectors are made with
    Dev,
    /// Those that thresholds are chosen by
    Cal,
}

impl Which {
    const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Dev => "DEV",
            Self::Cal => "CAL",
        }
    }

    const fn holds(self, set: Set) -> bool {
        match self {
            Self::All => true,
            Self::Dev => matches!(set, Set::Dev),
            Self::Cal => matches!(set, Set::Cal),
        }
    }
}

/// Evaluates the detector, and prints what came of it.
pub fn run(args: &EvaluateArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let sessions = sessions(&find(&args.recordings)?)?;
    let chosen: Vec<usize> = (0..sessions.len()).filter(|&place| args.set.holds(sessions[place].set)).collect();
    if chosen.is_empty() {
        return Err(Stop::usage(format!("no recording of the set {} in {}", args.set.word(), args.recordings.display())).into());
    }
    let forests = forests(&sessions, &chosen, args)?;
    let shown: Vec<&Session> = chosen.iter().map(|&place| &sessions[place]).collect();
    let figures = figures::all(&shown, &forests, &format!("recordings, {}", args.set.word()));
    let json = serde_json::to_string_pretty(&figures)? + "\n";
    if let Some(path) = &args.out {
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.html {
        let page = page::page(&shown, &figures, &format!("Evaluation of the recordings ({})", args.set.word()));
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match output.format {
        Format::Json => output.line(json.trim_end())?,
        Format::Csv => table(&figures, output)?,
        Format::Table => report(&shown, &forests, output)?,
    }
    Ok(Exit::Ok)
}

/// The kind classifier, trained and asked under the split that was asked for, and under the random one, that the flattery shows.
fn forests(sessions: &[Session], chosen: &[usize], args: &EvaluateArgs) -> anyhow::Result<Vec<OfForest>> {
    if sessions.iter().filter(|session| session.set == Set::Dev).count() < 2 {
        eprintln!("vedette: the kind classifier is not evaluated: that takes two recordings of the set DEV at least");
        return Ok(Vec::new());
    }
    let mut splits = vec![args.split];
    if args.split != Split::Random {
        splits.push(Split::Random);
    }
    let style = ProgressStyle::with_template("{spinner} training {pos}/{len} {wide_msg}").context("the progress bar's template")?;
    let progress = ProgressBar::new(1).with_style(style);
    let of = |split: Split| -> anyhow::Result<OfForest> {
        progress.set_message(format!("kept apart by {}", split.word()));
        let mut trained = |part: u64, parts: u64| {
            progress.set_length(parts);
            progress.set_position(part);
        };
        let said = learn::said(sessions, split, args.seed, &mut trained)?;
        Ok(figures::of_forest(sessions, chosen, &said, split))
    };
    let forests = splits.into_iter().map(of).collect();
    progress.finish_and_clear();
    forests
}

/// Plays the recordings side by side, as many at once as there are processors.
fn sessions(folders: &[PathBuf]) -> anyhow::Result<Vec<Session>> {
    let style = ProgressStyle::with_template("{spinner} evaluating {pos}/{len} {wide_msg}").context("the progress bar's template")?;
    let progress = ProgressBar::new(folders.len() as u64).with_style(style);
    let (next, workers) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    let work = || -> anyhow::Result<Vec<(usize, Session)>> {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(folder) = folders.get(place) else { return Ok(done) };
            done.push((place, session(folder)?));
            progress.inc(1);
            progress.set_message(folder.display().to_string());
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))).collect()
    });
    progress.finish_and_clear();
    let mut all: Vec<(usize, Session)> = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, session)| session).collect())
}

fn session(folder: &Path) -> anyhow::Result<Session> {
    let recorded = Recorded::open(folder)?;
    let truth = Truth::of(&recorded.labels, &recorded.containers).with_context(|| folder.display().to_string())?;
    let played = play::play(&recorded, &truth, &Config::default()).with_context(|| folder.display().to_string())?;
    let outcome = events::outcome(&truth, &played.told);
    let container_days = played.container_seconds / 86_400.0;
    Ok(Session { name: recorded.manifest.name.clone(), set: recorded.manifest.set, truth, played, outcome, container_days })
}

fn table(figures: &[Figure], output: &mut Output) -> anyhow::Result<()> {
    let names = ["dataset", "split", "model", "metric", "value", "target"];
    let mut rows = output.rows(names.map(Column::data).into())?;
    for figure in figures {
        let texts = [&figure.dataset, &figure.split, &figure.model, &figure.metric];
        let value = figure.value.map_or_else(String::new, |value| value.to_string());
        rows.row(texts.map(Cell::text).into_iter().chain([Cell::text(value), Cell::text(&figure.target)]).collect())?;
    }
    rows.end()?;
    Ok(())
}

fn report(sessions: &[&Session], forests: &[OfForest], output: &mut Output) -> anyhow::Result<()> {
    let attacks = || sessions.iter().flat_map(|session| &session.outcome.attacks);
    let days: f64 = sessions.iter().map(|session| session.container_days).sum();
    output.line(&format!("{} recordings, {} attacks, {days:.2} container-days", sessions.len(), attacks().count()))?;
    section(output, "Attacks by kind", &figures::recalls(attacks(), |attack| attack.episode.kind.word().to_owned()))?;
    section(
        output,
        "Attacks by how loud they are",
        &figures::recalls(attacks(), |attack| format!("{} {}", attack.episode.loudness(), attack.episode.kind.word())),
    )?;
    section(output, "Attacks by placement", &figures::recalls(attacks(), |attack| attack.episode.placement.clone()))?;
    let outcomes: Vec<_> = sessions.iter().map(|session| &session.outcome).collect();
    let f1 = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    output.line(&format!("\nKind macro-F1 by event: {} by the signatures", f1(figures::macro_f1(&outcomes))))?;
    for forest in forests {
        output.line(&format!("  {} by the forest, kept apart by {}", f1(forest.macro_f1), forest.split.word()))?;
    }
    if let [honest, random] = forests
        && random.macro_f1 > honest.macro_f1
    {
        let warning = "  Kept apart at random it looks better: that is what neighbouring rows tell each other, not what it has learnt.";
        output.line(&output.toned(warning, Tone::Warning))?;
    }
    baits(sessions, output)?;
    false_alarms(sessions, days, output)?;
    rows(sessions, forests, output)
}

fn section(output: &mut Output, title: &str, groups: &[Recall]) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold(title)))?;
    let headers = ["", "EVENTS", "TOLD", "RECALL", "95 % INTERVAL", "NAMED", "PAGED", "DELAY P50", "P95"];
    let mut rows = output.rows(headers.map(Column::table).into())?;
    for group in groups {
        let seconds = |value: Option<f64>| Cell::text(value.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s")));
        rows.row(vec![
            Cell::text(&group.name),
            Cell::text(group.told.of.to_string()),
            Cell::text(group.told.hits.to_string()),
            Cell::text(percent(group.told)),
            Cell::text(interval(group.told)),
            Cell::text(percent(group.named)),
            Cell::text(percent(group.paged)),
            seconds(group.delay_s.0),
            seconds(group.delay_s.1),
        ])?;
    }
    rows.end()?;
    Ok(())
}

fn baits(sessions: &[&Session], output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("Ordinary work that looks like an attack, and placebos")))?;
    let mut rows = output.rows(["", "EVENTS", "TICKETS", "95 % INTERVAL", "PAGES", "95 % INTERVAL"].map(Column::table).into())?;
    let all = || sessions.iter().flat_map(|session| &session.outcome.baits);
    let acts: std::collections::BTreeSet<_> =
        all().filter(|bait| bait.episode.role == Role::LookAlike).map(|bait| bait.episode.act.clone()).collect();
    let mut row = |name: &str, (ticket, page): (Share, Share)| {
        rows.row(vec![
            Cell::text(name),
            Cell::text(ticket.of.to_string()),
            Cell::text(percent(ticket)),
            Cell::text(interval(ticket)),
            Cell::text(percent(page)),
            Cell::text(interval(page)),
        ])
    };
    for act in &acts {
        row(act, figures::bothered(all().filter(|bait| bait.episode.role == Role::LookAlike && bait.episode.act == *act)))?;
    }
    row("all look-alikes", figures::bothered(all().filter(|bait| bait.episode.role == Role::LookAlike)))?;
    row("all placebos", figures::bothered(all().filter(|bait| bait.episode.role == Role::Placebo)))?;
    rows.end()?;
    Ok(())
}

fn false_alarms(sessions: &[&Session], days: f64, output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("Alarms about no attack")))?;
    let mut rows = output
        .rows(["ABOUT", "TICKETS", "PER CONTAINER-DAY", "AT MOST", "PAGES", "PER CONTAINER-DAY", "AT MOST"].map(Column::table).into())?;
    let per_day = |count: usize| if days > 0.0 { format!("{:.2}", count as f64 / days) } else { "-".to_owned() };
    let at_most = |count: usize| if days > 0.0 { format!("{:.2}", poisson_upper(count) / days) } else { "-".to_owned() };
    for (name, about) in [
        ("ordinary work", About::Ordinary),
        ("look-alikes", About::LookAlike),
        ("placebos", About::Placebo),
        ("an attack told already", About::Again),
    ] {
        let (tickets, pages) = figures::alarms(sessions, &[about]);
        rows.row(vec![
            Cell::text(name),
            Cell::text(tickets.to_string()),
            Cell::text(per_day(tickets)),
            Cell::text(at_most(tickets)),
            Cell::text(pages.to_string()),
            Cell::text(per_day(pages)),
            Cell::text(at_most(pages)),
        ])?;
    }
    rows.end()?;
    let sum = |count: fn(&events::Outcome) -> usize| sessions.iter().map(|session| count(&session.outcome)).sum::<usize>();
    let (affected, unlabelled) = (sum(|outcome| outcome.affected), sum(|outcome| outcome.unlabelled));
    output
        .line(&format!("Not counted: {affected} about those that an attack touched, {unlabelled} where nobody said what was going on."))?;
    for session in sessions {
        for alarm in session.outcome.false_alarms.iter().filter(|alarm| alarm.about == About::Ordinary) {
            let (_, kind, owner, _) = &alarm.told.place;
            output.line(&format!("  {}: {kind}/{owner}: {}", session.name, crate::escape::escaped(&alarm.told.summary)))?;
        }
    }
    Ok(())
}

fn rows(sessions: &[&Session], forests: &[OfForest], output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("Row by row, as others report it: it flatters whoever calls long attacks long")))?;
    let headers = ["", "ACCURACY", "PRECISION", "RECALL", "F1", "ROC-AUC", "PR-AUC"];
    let mut rows = output.rows(headers.map(Column::table).into())?;
    for (name, of) in figures::of_rows(sessions) {
        let values = [of.accuracy, of.precision, of.recall, of.f1, of.areas.roc, of.areas.pr];
        let cells = values.map(|value| Cell::text(format!("{value:.3}")));
        let tone = if name == "vedette" { Tone::Good } else { Tone::Plain };
        rows.row([Cell::word(name, tone)].into_iter().chain(cells).collect())?;
    }
    for forest in forests {
        let OfRows { accuracy, precision, recall, f1, areas } = forest.rows;
        let cells = [accuracy, precision, recall, f1, areas.roc, areas.pr].map(|value| Cell::text(format!("{value:.3}")));
        rows.row([Cell::text(format!("forest, {}", forest.split.word()))].into_iter().chain(cells).collect())?;
    }
    rows.end()?;
    Ok(())
}

fn percent(share: Share) -> String {
    share.value().map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

fn interval(share: Share) -> String {
    let (low, high) = share.bounds();
    if share.of == 0 { "-".to_owned() } else { format!("{:.0}-{:.0} %", low * 100.0, high * 100.0) }
}
