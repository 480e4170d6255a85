//! `vedette evaluate`: what the detector finds in recordings, what it misses, whom it bothers, and how sure that is.

mod card;
mod compare;
mod events;
mod figures;
mod history;
mod learn;
mod page;
mod picture;
pub(crate) mod play;
pub(crate) mod stats;
mod trivial;
pub(crate) mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use vedette_detect::{Classifier, Config};
use vedette_forest::Model;

use self::compare::PairArgs;
use self::events::{About, Outcome};
use self::figures::{Figure, Recall, Way};
pub(crate) use self::figures::{Session, Sum};
use self::history::{HistoryArgs, Serving, Stored};
use self::learn::Split;
use self::play::Played;
use self::stats::{Share, poisson_upper};
use self::truth::{Role, Truth};
use crate::cell::{Cell, Tone};
use crate::client::ConnectArgs;
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
    /// All that is random in training and in resampling comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write all figures to this file too, as a JSON list
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a page with pictures to this file too; it needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    stored: HistoryArgs,
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
pub async fn run(args: &EvaluateArgs, connect: &ConnectArgs, output: &mut Output) -> anyhow::Result<Exit> {
    if args.stored.history {
        return stored(args, history::stored(&args.stored, args.split, connect).await?, output);
    }
    if args.stored.are_given() {
        return Err(Stop::usage("--since, --until, --namespace and their like are about stored history: they take --history").into());
    }
    if args.pair.model.is_some() {
        return compare::run(&args.pair, &find(&args.recordings)?, args.set, args.seed, output);
    }
    let mut sessions = sessions(&find(&args.recordings)?)?;
    let chosen: Vec<usize> = (0..sessions.len()).filter(|&place| args.set.holds(sessions[place].set)).collect();
    if chosen.is_empty() {
        return Err(Stop::usage(format!("no recording of the set {} in {}", args.set.word(), args.recordings.display())).into());
    }
    let ways = ways(&mut sessions, &chosen, args)?;
    let shown: Vec<&Session> = chosen.iter().map(|&place| &sessions[place]).collect();
    let set = args.set.word();
    say(&shown, &ways, &format!("recordings, {set}"), &format!("Evaluation of the recordings ({set})"), args, output)
}

/// The same of stored history: what the model in service comes to, which learnt none of it, and where labels suffice models trained on a part.
fn stored(args: &EvaluateArgs, stored: Stored, output: &mut Output) -> anyhow::Result<Exit> {
    let Stored { mut sessions, serving, too_few } = stored;
    let all: Vec<usize> = (0..sessions.len()).collect();
    let mut ways = match &too_few {
        Some(why) => {
            eprintln!("vedette: {why}");
            let outcomes = sessions.iter().map(|session| session.outcome.clone()).collect();
            vec![Way { model: "signatures alone", split: figures::NOTHING_TRAINED, outcomes }]
        }
        None => ways(&mut sessions, &all, args)?,
    };
    if let Some(Serving { outcomes, played }) = serving {
        let way = Way { model: "model in service", split: figures::MADE_ELSEWHERE, outcomes: outcomes.clone() };
        if too_few.is_some() {
            // It is what the rest is about, then.
            for (session, (outcome, played)) in sessions.iter_mut().zip(outcomes.into_iter().zip(played)) {
                (session.outcome, session.played) = (outcome, played);
            }
            ways.insert(0, way);
        } else {
            ways.push(way);
        }
    }
    let shown: Vec<&Session> = sessions.iter().collect();
    say(&shown, &ways, "history", "Evaluation of stored history", args, output)
}

/// Prints and writes what was asked for.
fn say(shown: &[&Session], ways: &[Way], dataset: &str, title: &str, args: &EvaluateArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let figures = figures::all(shown, ways, dataset);
    let json = serde_json::to_string_pretty(&figures)? + "\n";
    if let Some(path) = &args.out {
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.html {
        let page = page::page(shown, &figures, title);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match output.format {
        Format::Json => output.line(json.trim_end())?,
        Format::Csv => table(&figures, output)?,
        Format::Table => report(shown, ways, output)?,
    }
    Ok(Exit::Ok)
}

/// Sessions without which nothing is trained: one is asked about, and of the others each is a stranger to the rest.
const LEAST_SESSIONS: usize = 3;

/// What came of every way to detect: with the kind classifier under the split that was asked for, under the random one, that the flattery
/// shows, and by the signatures alone. What the first comes to is then what the sessions say.
fn ways(sessions: &mut [Session], chosen: &[usize], args: &EvaluateArgs) -> anyhow::Result<Vec<Way>> {
    let of = |sessions: &[Outcome]| chosen.iter().map(|&place| sessions[place].clone()).collect::<Vec<_>>();
    let signatures: Vec<Outcome> = sessions.iter().map(|session| session.outcome.clone()).collect();
    let signatures = Way { model: "signatures alone", split: figures::NOTHING_TRAINED, outcomes: of(&signatures) };
    if sessions.iter().filter(|session| session.teaches()).count() < LEAST_SESSIONS {
        eprintln!(
            "vedette: only the signatures are evaluated: the classifier takes {LEAST_SESSIONS} recordings of the sets DEV and CAL at least"
        );
        return Ok(vec![signatures]);
    }
    let honest = judged(sessions, args.split, args.seed)?;
    let mut ways = Vec::new();
    if args.split != Split::Random {
        let random: Vec<Outcome> = judged(sessions, Split::Random, args.seed)?.into_iter().map(|(outcome, _)| outcome).collect();
        ways.push(Way { model: "vedette", split: Split::Random.word(), outcomes: of(&random) });
    }
    for (session, (outcome, played)) in sessions.iter_mut().zip(honest) {
        session.outcome = outcome;
        session.played = played;
    }
    let honest: Vec<Outcome> = sessions.iter().map(|session| session.outcome.clone()).collect();
    ways.insert(0, Way { model: "vedette", split: args.split.word(), outcomes: of(&honest) });
    ways.push(signatures);
    Ok(ways)
}

/// Plays every session with classifiers that were trained on what is kept apart from what is then counted.
fn judged(sessions: &[Session], split: Split, seed: u64) -> anyhow::Result<Vec<(Outcome, Played)>> {
    let parts = split.parts(sessions.len());
    let progress = progress("training", parts.end - parts.start)?;
    let mut plays: Vec<(u64, usize, Arc<Classifier>)> = Vec::new();
    for part in parts {
        progress.set_message(format!("kept apart by {}", split.word()));
        let model =
            learn::model(sessions, seed, &|number, place, unix_ms| split.may_learn(part, number, &sessions[number], place, unix_ms))?;
        let classifier = Arc::new(Classifier::new(model)?.named(format!("without {} {part}", split.word())));
        let asked = (0..sessions.len()).filter(|&number| split != Split::Session || number as u64 == part);
        plays.extend(asked.map(|number| (part, number, Arc::clone(&classifier))));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let done = side_by_side("evaluating", plays.len(), |place| {
        let (part, number, classifier) = &plays[place];
        let session = &sessions[*number];
        let mut played = play::play(&session.recorded, &session.truth, &Config::default(), Some(classifier))?;
        let asks = |place: &truth::Place, unix_ms| split.asks(*part, *number, session, place, unix_ms);
        let outcome = events::outcome_of(&session.truth, &played.told, &asks);
        let places = &played.places;
        played.rows.retain(|row| asks(&places[row.place as usize], row.unix_ms));
        played.told.retain(|told| asks(&told.place, told.opened_unix_ms));
        Ok((outcome, played))
    })?;
    let mut all: Vec<(Outcome, Played)> = sessions.iter().map(|_| Default::default()).collect();
    for ((_, number, _), (outcome, mut played)) in plays.iter().zip(done) {
        let (outcomes, of_session) = &mut all[*number];
        outcomes.append(outcome);
        // The same recording is played the same way: workloads have the same numbers in every part.
        played.rows.append(&mut of_session.rows);
        played.told.append(&mut of_session.told);
        played.rows.sort_by_key(|row| row.unix_ms);
        *of_session = played;
    }
    Ok(all)
}

/// The model of all recordings.
pub(crate) fn trained(sessions: &[Session], seed: u64) -> anyhow::Result<Model> {
    learn::model(sessions, seed, &|_, _, _| true)
}

/// What models come to that were trained like it, each asked about the session that it did not know; and the entries of a card that say more.
pub(crate) fn held_out(sessions: &[Session], seed: u64) -> anyhow::Result<(Sum, BTreeMap<String, String>)> {
    let (outcomes, played): (Vec<Outcome>, Vec<Played>) = judged(sessions, Split::Session, seed)?.into_iter().unzip();
    let entries = card::entries(&outcomes, &played);
    Ok((Way { model: "vedette", split: Split::Session.word(), outcomes }.sum(), entries))
}

fn progress(what: &str, of: u64) -> anyhow::Result<ProgressBar> {
    let template = format!("{{spinner}} {what} {{pos}}/{{len}} {{wide_msg}}");
    Ok(ProgressBar::new(of).with_style(ProgressStyle::with_template(&template).context("the progress bar's template")?))
}

/// Does so many things, as many at once as there are processors; gives what came of them in their order.
fn side_by_side<T: Send>(what: &str, things: usize, work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let progress = progress(what, things as u64)?;
    let (next, workers) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    let some = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= things {
                return Ok(done);
            }
            done.push((place, work(place)?));
            progress.inc(1);
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(some)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))).collect()
    });
    progress.finish_and_clear();
    let mut all: Vec<(usize, T)> = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, one)| one).collect())
}

/// Plays recordings by the signatures alone.
pub(crate) fn sessions(folders: &[PathBuf]) -> anyhow::Result<Vec<Session>> {
    side_by_side("playing", folders.len(), |place| session(&folders[place]))
}

fn session(folder: &Path) -> anyhow::Result<Session> {
    let recorded = Recorded::open(folder)?;
    let truth = Truth::of(&recorded.labels, &recorded.containers).with_context(|| folder.display().to_string())?;
    let played = play::play(&recorded, &truth, &Config::default(), None).with_context(|| folder.display().to_string())?;
    let outcome = events::outcome_of(&truth, &played.told, &|_, _| true);
    let container_days = played.container_seconds / 86_400.0;
    let (name, set) = (recorded.manifest.name.clone(), recorded.manifest.set);
    let middle_unix_ms = recorded.manifest.started_unix_ms.midpoint(recorded.manifest.ended_unix_ms);
    let recorded = Arc::new(recorded);
    Ok(Session { name, set, recorded, middle_unix_ms, from_unix_ms: i64::MIN, truth, played, outcome, container_days })
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

fn report(sessions: &[&Session], ways: &[Way], output: &mut Output) -> anyhow::Result<()> {
    let attacks = || sessions.iter().flat_map(|session| &session.outcome.attacks);
    let days: f64 = sessions.iter().map(|session| session.container_days).sum();
    let what = if sessions.iter().all(|session| session.from_unix_ms == i64::MIN) { "recordings" } else { "stretches of history" };
    output.line(&format!("{} {what}, {} attacks, {days:.2} container-days", sessions.len(), attacks().count()))?;
    summary(ways, output)?;
    section(output, "Attacks by kind", &figures::recalls(attacks(), |attack| attack.episode.kind.word().to_owned()))?;
    section(
        output,
        "Attacks by how loud they are",
        &figures::recalls(attacks(), |attack| format!("{} {}", attack.episode.loudness(), attack.episode.kind.word())),
    )?;
    section(output, "Attacks by placement", &figures::recalls(attacks(), |attack| attack.episode.placement.clone()))?;
    baits(sessions, output)?;
    false_alarms(sessions, days, output)?;
    rows(sessions, output)
}

/// The ways beside each other, the one that the rest is about first.
fn summary(ways: &[Way], output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("Ways to detect, and what was kept apart from what")))?;
    let headers =
        ["", "KEPT APART", "TOLD", "NAMED", "PAGED", "MACRO-F1", "LOOK-ALIKES", "PAGED", "PLACEBOS", "PAGED", "ORDINARY", "PAGED"];
    let mut rows = output.rows(headers.map(Column::table).into())?;
    for way in ways {
        let sum = way.sum();
        let f1 = sum.macro_f1.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let texts = [way.model.to_owned(), way.split.to_owned(), percent(sum.told), percent(sum.named), percent(sum.paged), f1];
        let ((look, look_paged), (placebo, placebo_paged)) = (sum.look_alikes, sum.placebos);
        let shares = [look, look_paged, placebo, placebo_paged].map(percent);
        let counts = [sum.ordinary.0, sum.ordinary.1].map(|count| count.to_string());
        rows.row(texts.into_iter().chain(shares).chain(counts).map(Cell::text).collect())?;
    }
    rows.end()?;
    let macro_f1 = |way: &Way| way.sum().macro_f1;
    let random = ways.iter().skip(1).find(|way| way.split == Split::Random.word());
    if let (Some(honest), Some(random)) = (ways.first(), random)
        && macro_f1(random) > macro_f1(honest)
    {
        let warning = "Kept apart at random it looks better: that is what neighbouring windows tell each other, not what it has learnt.";
        output.line(&output.toned(warning, Tone::Warning))?;
    }
    Ok(())
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

fn rows(sessions: &[&Session], output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("Row by row, as others report it: it flatters whoever calls long attacks long")))?;
    let headers = ["", "ACCURACY", "PRECISION", "RECALL", "F1", "ROC-AUC", "PR-AUC"];
    let mut rows = output.rows(headers.map(Column::table).into())?;
    for (name, of) in figures::of_rows(sessions) {
        let values = [of.accuracy, of.precision, of.recall, of.f1, of.areas.roc, of.areas.pr];
        let cells = values.map(|value| Cell::text(format!("{value:.3}")));
        let tone = if name == "vedette" { Tone::Good } else { Tone::Plain };
        rows.row([Cell::word(name, tone)].into_iter().chain(cells).collect())?;
    }
    rows.end()?;
    Ok(())
}

pub(crate) fn percent(share: Share) -> String {
    share.value().map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

fn interval(share: Share) -> String {
    let (low, high) = share.bounds();
    if share.of == 0 { "-".to_owned() } else { format!("{:.0}-{:.0} %", low * 100.0, high * 100.0) }
}
