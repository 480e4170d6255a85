//! `vedette evaluate --history`: an aggregator's stored, labelled history in place of recordings.
//!
//! History is cut into stretches of time, each of which is what a session is among recordings: each teaches, and is a stranger to forests
//! of the others; what is asked about is kept apart by workload or by time. No cut goes through a labelled event, else both sides would know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use vedette_detect::{Classifier, Config};
use vedette_proto::v1::{Kind, TimeRange};

use super::{
    Session, Split, events, play, side_by_side,
    truth::{Truth, Was},
};
use crate::client::{Client, ConnectArgs};
use crate::cluster::Role;
use crate::exit::{Exit, Stop};
use crate::model_file::of_aggregator;
use crate::progress::waiting;
use crate::recording::{Recorded, Set};
use crate::when::RangeArgs;
use crate::which::SelectorArgs;

/// Attacks that training takes, in each half of the time: fewer make neither trees nor thresholds.
const LEAST_ATTACKS: usize = 5;
/// Windows of work that was labelled ordinary, likewise.
const LEAST_NORMAL: usize = 20;

/// Flags of `vedette evaluate` for stored history.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Not recordings but what an aggregator stored, held against its labels; --since says from when
    #[arg(long, conflicts_with_all = ["recordings", "set", "model"], requires = "since")]
    pub history: bool,
    /// Of history: stretches of time that it is cut into
    #[arg(long, value_name = "N", default_value_t = 4, requires = "history", value_parser = clap::value_parser!(u32).range(4..=64))]
    stretches: u32,
    /// Of history: minutes before each stretch that only teach baselines
    #[arg(long, value_name = "MINUTES", default_value_t = 10, requires = "history", value_parser = clap::value_parser!(u32).range(0..=1_440))]
    warm_up_minutes: u32,
    #[command(flatten)]
    when: RangeArgs,
    #[command(flatten)]
    which: SelectorArgs,
}

impl HistoryArgs {
    /// Whether something was said of which history that only history has.
    pub fn are_given(&self) -> bool {
        self.when.since.is_some() || self.when.until.is_some() || self.which.selector().is_some()
    }
}

/// What an aggregator has, ready to be evaluated.
pub struct Stored {
    /// The stretches in order of time.
    pub sessions: Vec<Session>,
    /// What came of the model in service, which learnt none of this; `None`: none serves.
    pub serving: Option<Serving>,
    /// Why nothing is trained on it; `None`: there is enough.
    pub too_few: Option<String>,
}

/// The model in service, asked about every stretch.
pub struct Serving {
    /// By stretch.
    pub outcomes: Vec<events::Outcome>,
    /// By stretch.
    pub played: Vec<play::Played>,
}

/// Takes labelled history out of an aggregator and plays it.
pub async fn stored(args: &HistoryArgs, split: Split, connect: &ConnectArgs) -> anyhow::Result<Stored> {
    let now = Timestamp::now();
    let range = args.when.range(now)?.filter(|range| range.start_unix_ms > 0);
    let range = range.ok_or_else(|| Stop::usage("which history? give --since, and --until where it ended"))?;
    let until = if range.end_unix_ms == 0 { now.as_millisecond() } else { range.end_unix_ms };
    let mut client = waiting("connecting", connect.route(Role::Admin)?.connect()).await?;
    let whole = TimeRange { start_unix_ms: range.start_unix_ms, end_unix_ms: until };
    let labelled = Recorded::labels_of_history(&mut client, args.which.selector(), whole).await?;
    let truth = Truth::of(&labelled.1, &labelled.0)?;
    if labelled.1.is_empty() {
        let how = "vedette label add, answer and judge make labels";
        return Err(
            Stop::new(Exit::NothingFound, format!("nobody labelled anything of that time, so nothing can be evaluated; {how}")).into()
        );
    }
    let spans: Vec<(i64, i64)> = truth.episodes.iter().map(|episode| (episode.onset_unix_ms, episode.stop_unix_ms)).collect();
    let stretches = stretches(whole.start_unix_ms, until, i64::from(args.stretches), &spans);
    let middle_unix_ms = stretches[stretches.len() / 2].0;
    let mut recorded = Vec::new();
    for &(from, to) in &stretches {
        recorded.extend(of_stretch(&mut client, args, from, to).await?.map(|recorded| (from, Arc::new(recorded))));
    }
    if recorded.is_empty() {
        return Err(Stop::new(Exit::NothingFound, "history holds no row of that time").into());
    }
    let serving = serving(&mut client).await?;
    let sessions = side_by_side("playing", recorded.len(), |place| session(&recorded[place], place, middle_unix_ms))?;
    let serving = serving.map(|model| asked(&sessions, &model)).transpose()?;
    let too_few = too_few(&sessions, split);
    Ok(Stored { sessions, serving, too_few })
}

async fn of_stretch(client: &mut Client, args: &HistoryArgs, from: i64, to: i64) -> anyhow::Result<Option<Recorded>> {
    let warm = i64::from(args.warm_up_minutes) * 60_000;
    let range = TimeRange { start_unix_ms: from - warm, end_unix_ms: to };
    match Recorded::of_history(client, args.which.selector(), range).await {
        Ok(recorded) => Ok(Some(recorded)),
        // The aggregator was off, or began later.
        Err(error) if error.downcast_ref::<Stop>().is_some_and(|stop| stop.exit == Exit::NothingFound) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn serving(client: &mut Client) -> Result<Option<Arc<Classifier>>, Stop> {
    match of_aggregator(client, "serving").await {
        Ok(serving) => Ok(Some(Arc::new(serving))),
        Err(stop) if stop.exit == Exit::NothingFound => Ok(None),
        Err(stop) => Err(stop),
    }
}

/// Cuts a time into so many stretches; a cut within a labelled event moves to its end.
fn stretches(from: i64, until: i64, count: i64, spans: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut cuts = vec![from];
    for place in 1..count {
        let mut cut = from + (until - from) * place / count;
        // An event that begins where another ends is left alone, too.
        while let Some(span) = spans.iter().find(|span| span.0 < cut && cut < span.1) {
            cut = span.1;
        }
        if cut < until && cuts.last().is_some_and(|last| cut > *last) {
            cuts.push(cut);
        }
    }
    cuts.push(until);
    cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A stretch by the signatures alone. Its set is by its place: every other one is of a half.
fn session((from_unix_ms, recorded): &(i64, Arc<Recorded>), place: usize, middle_unix_ms: i64) -> anyhow::Result<Session> {
    let truth = Truth::of(&recorded.labels, &recorded.containers)?;
    let mut played = play::play(recorded, &truth, &Config::default(), None)?;
    let container_days = since(&mut played, *from_unix_ms);
    let outcome = events::outcome_of(&truth, &played.told, &|_, unix_ms| unix_ms >= *from_unix_ms);
    Ok(Session {
        name: format!("stretch {}", place + 1),
        set: if place.is_multiple_of(2) { Set::Dev } else { Set::Cal },
        recorded: Arc::clone(recorded),
        middle_unix_ms,
        from_unix_ms: *from_unix_ms,
        truth,
        played,
        outcome,
        container_days,
    })
}

/// Forgets what came before an instant, which only taught baselines. Gives the container-days from then on.
fn since(played: &mut play::Played, from_unix_ms: i64) -> f64 {
    let all = played.rows.len().max(1) as f64;
    played.rows.retain(|row| row.unix_ms >= from_unix_ms);
    played.windows.retain(|window| window.unix_ms >= from_unix_ms);
    played.told.retain(|told| told.opened_unix_ms >= from_unix_ms);
    played.container_seconds / 86_400.0 * played.rows.len() as f64 / all
}

fn asked(sessions: &[Session], model: &Arc<Classifier>) -> anyhow::Result<Serving> {
    let done = side_by_side("asking the model in service", sessions.len(), |place| {
        let session = &sessions[place];
        let mut played = play::play(&session.recorded, &session.truth, &Config::default(), Some(model)).context("the model in service")?;
        since(&mut played, session.from_unix_ms);
        let outcome = events::outcome_of(&session.truth, &played.told, &|_, unix_ms| unix_ms >= session.from_unix_ms);
        Ok((outcome, played))
    })?;
    let (outcomes, played) = done.into_iter().unzip();
    Ok(Serving { outcomes, played })
}

/// Why nothing can be trained on these: what there is of labels, and what it takes.
fn too_few(sessions: &[Session], split: Split) -> Option<String> {
    let half = |set: Set| {
        let of_set = || sessions.iter().filter(move |session| session.set == set);
        let (mut kinds, mut normal) = (BTreeMap::<Kind, usize>::new(), 0);
        for session in of_set() {
            // By time only what came first is learnt.
            let may = |unix_ms: i64| split != Split::Time || unix_ms < session.middle_unix_ms;
            let attacks = session.outcome.attacks.iter().map(|attack| &attack.episode);
            attacks.filter(|episode| may(episode.onset_unix_ms)).for_each(|episode| *kinds.entry(episode.kind).or_default() += 1);
            let windows = session.played.windows.iter().filter(|window| window.counts && window.was == Was::Normal && may(window.unix_ms));
            normal += windows.count();
        }
        (of_set().count(), kinds, normal)
    };
    let halves = [half(Set::Dev), half(Set::Cal)];
    let enough = |(count, kinds, normal): &(usize, BTreeMap<Kind, usize>, usize)| {
        *count >= 2 && kinds.values().sum::<usize>() >= LEAST_ATTACKS && *normal >= LEAST_NORMAL
    };
    if halves.iter().all(enough) {
        return None;
    }
    let [taught, chosen] = halves.map(|(count, kinds, normal)| {
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{} {count}", kind.word())).collect();
        let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        format!("{count} stretches with labelled attacks: {kinds}; and {normal} windows of work labelled ordinary")
    });
    Some(format!(
        "too few labels to train and to choose thresholds by. One half has {taught}; the other {chosen}. Each takes 2 stretches, \
         {LEAST_ATTACKS} attacks and {LEAST_NORMAL} windows. What already exists is evaluated; answers, vedette label add and vedette judge make labels"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_cut_evenly_where_nothing_is_labelled() {
        assert_eq!(stretches(0, 400, 4, &[]), [(0, 100), (100, 200), (200, 300), (300, 400)]);
    }

    #[test]
    fn no_cut_goes_through_an_event() {
        // The second event begins within the first, the third where it is over.
        let cut = stretches(0, 400, 4, &[(90, 110), (105, 130), (130, 150), (290, 320)]);

        assert_eq!(cut, [(0, 130), (130, 200), (200, 320), (320, 400)]);
    }

    #[test]
    fn an_event_that_lasts_to_the_end_leaves_fewer_stretches() {
        assert_eq!(stretches(0, 400, 4, &[(150, 500)]), [(0, 100), (100, 400)]);
    }
}
