//! The kind classifier from recordings: trained on windows of some, its thresholds from others, and never asked about what it learnt from.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, bail};
use clap::ValueEnum;
use vedette_detect::{
    Classifier, PAGE_FROM, TICKET_FROM,
    window::{self, COLUMNS},
};
use vedette_forest::{Config, Curve, Description, Forest, MAX_CLASSES, Model, Table, train};
use vedette_proto::v1::Kind;

use super::{
    figures::Session,
    play::Windowed,
    truth::{Episode, Place, Role, Was},
};

/// The classes, in the order of a model's.
pub const CLASSES: [Kind; 10] = [
    Kind::Normal,
    Kind::Mining,
    Kind::Scan,
    Kind::Flood,
    Kind::CrashLoop,
    Kind::Exfiltration,
    Kind::Recon,
    Kind::ForkBomb,
    Kind::MemoryLeak,
    Kind::DiskFill,
];
/// A kind with less of the probability that is not ordinary's is not named.
const UNKNOWN_BELOW: f32 = 0.4;
/// Parts of splits that have no parts of their own.
const PARTS: u64 = 5;
/// Trees: windows are few, and a hundred trees more cost a ticket's delay of nothing.
const TREES: usize = 200;
/// How often ordinary work is drawn for every time that an attack's kind is: it is the more various, and a mistake about it costs somebody's time.
const NORMAL_DRAWS: usize = 4;
/// Parts of the sessions, of each of which a forest of the others is asked.
const FOLDS: usize = 5;
/// Share of look-alikes and placebos that may open a ticket; of unseen ones it should be a tenth.
const BAITS_TOLD: f64 = 0.08;
/// Share of the workloads that may open one though they do nothing but their work.
const ORDINARY_TOLD: f64 = 0.03;
/// Share of either that may be above what pages: a page needs two families besides, and the single oddest of hundreds is no measure.
const PAGED: f64 = 0.01;
/// Beyond the highest that must stay quiet.
const ABOVE: f32 = 0.005;
/// Thresholds stay within: what is less probable than not opens nothing, and what cannot be reached is none.
const LEAST_FROM: f32 = 0.2;
const MOST_FROM: f32 = 0.98;

/// What is kept apart from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Sessions: what is asked about was another run, in another order, of another strength
    Session,
    /// Workloads: what is asked about was another program
    Workload,
    /// Time: the first half of every session against its second; of history, its first half against its second
    Time,
    /// Windows at random: flatters, for neighbours of every window were learnt from
    Random,
}

impl Split {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Workload => "workload",
            Self::Time => "time",
            Self::Random => "random",
        }
    }

    /// The parts that are asked about, for so many sessions. Of time it is the second half; at random the first part's model is asked about
    /// everything, most of which it has seen.
    pub fn parts(self, sessions: usize) -> std::ops::Range<u64> {
        match self {
            Self::Session => 0..sessions as u64,
            Self::Workload => 0..PARTS,
            Self::Time => 1..2,
            Self::Random => 0..1,
        }
    }

    /// Whether a model of a part may learn what a workload of a session did at an instant.
    pub fn may_learn(self, part: u64, number: usize, session: &Session, place: &Place, unix_ms: i64) -> bool {
        match self {
            _ if unix_ms < session.from_unix_ms => false,
            Self::Random => hash((number, place, unix_ms)) % PARTS != part,
            _ => !self.asks(part, number, session, place, unix_ms),
        }
    }

    /// Whether it is asked about a workload of a session at an instant.
    pub fn asks(self, part: u64, number: usize, session: &Session, place: &Place, unix_ms: i64) -> bool {
        match self {
            _ if unix_ms < session.from_unix_ms => false,
            Self::Session => number as u64 == part,
            Self::Workload => hash(place) % PARTS == part,
            Self::Time => u64::from(unix_ms >= session.middle_unix_ms) == part,
            Self::Random => true,
        }
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Whether may be learnt what a workload of a session did at an instant.
type May<'a> = dyn Fn(usize, &Place, i64) -> bool + 'a;

/// A forest, and the sessions of which it says what it does of strangers: it did not learn from them.
struct Fold {
    forest: Forest,
    asked: Vec<usize>,
}

/// A model of what may be learnt from: trees of all sessions; probabilities and thresholds from what forests say of sessions that they do not
/// know.
///
/// Source: M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", JRSS B 36 (1974).
pub fn model(sessions: &[Session], seed: u64, may: &May<'_>) -> anyhow::Result<Model> {
    let forest = grown(sessions, &|_| true, seed, may)?.context("no windows: there is nothing to learn from")?;
    let folds = folds(sessions, seed, may)?;
    let (mut unseen, mut shares) = (Table::new(COLUMNS, CLASSES.len())?, Vec::new());
    for fold in &folds {
        let before = unseen.len();
        lessons(sessions, &|number| fold.asked.contains(&number), may, &mut unseen)?;
        shares.resize(unseen.len() * CLASSES.len(), 0.0);
        fold.forest.score(&unseen.values()[before * COLUMNS..], &mut shares[before * CLASSES.len()..]);
    }
    if unseen.is_empty() {
        bail!("one session alone: thresholds cannot be chosen by what was learnt from");
    }
    let thresholds =
        |ticket: f32, page: f32| [(TICKET_FROM, ticket), (PAGE_FROM, page)].map(|(key, value)| (key.to_owned(), value.to_string()));
    let description = Description {
        columns: window::names(),
        classes: CLASSES.iter().map(|kind| kind.word().to_owned()).collect(),
        curves: vec![Curve::STRAIGHT; CLASSES.len()],
        unknown_below: UNKNOWN_BELOW,
        card: thresholds(1.0, 1.0).into(),
    };
    let mut model = Model::new(description, forest)?;
    model.calibrate_by(&unseen, &shares);
    let mut description = model.description().clone();
    let mut peaks = Peaks::default();
    for fold in folds {
        let classifier = Classifier::new(Model::new(description.clone(), fold.forest)?)?;
        peaks.hear(sessions, &fold.asked, &classifier, may);
    }
    let (ticket, page) = chosen(peaks);
    description.card = thresholds(ticket, page).into();
    description.card.insert("windows_learnt".to_owned(), unseen.len().to_string());
    Model::new(description, model.forest().clone()).context("a model with thresholds")
}

/// Forests that lack a part of the sessions each.
fn folds(sessions: &[Session], seed: u64, may: &May<'_>) -> anyhow::Result<Vec<Fold>> {
    let teaches = |number: usize| {
        let played = &sessions[number].played;
        played.windows.iter().any(|window| window.counts && may(number, &played.places[window.place as usize], window.unix_ms))
    };
    let teachers: Vec<usize> = (0..sessions.len()).filter(|&number| sessions[number].teaches() && teaches(number)).collect();
    let mut folds = Vec::new();
    for fold in 0..FOLDS.min(teachers.len()) {
        let asked: Vec<usize> = teachers.iter().copied().skip(fold).step_by(FOLDS).collect();
        if let Some(forest) = grown(sessions, &|number| !asked.contains(&number), seed, may)? {
            folds.push(Fold { forest, asked });
        }
    }
    Ok(folds)
}

/// A forest of some sessions; `None` where these teach nothing.
fn grown(sessions: &[Session], of: &dyn Fn(usize) -> bool, seed: u64, may: &May<'_>) -> anyhow::Result<Option<Forest>> {
    let mut table = Table::new(COLUMNS, CLASSES.len())?;
    lessons(sessions, of, may, &mut table)?;
    let config = Config { trees: TREES, first_class_draws: NORMAL_DRAWS, ..Config::of(COLUMNS, seed) };
    (!table.is_empty()).then(|| train(&table, &config, &|_| {})).transpose().context("training")
}

/// Adds what sessions teach to a table.
fn lessons(sessions: &[Session], of: &dyn Fn(usize) -> bool, may: &May<'_>, table: &mut Table) -> anyhow::Result<()> {
    for (number, session) in sessions.iter().enumerate().filter(|(number, session)| of(*number) && session.teaches()) {
        let played = &session.played;
        let lessons = played.windows.iter().filter(|window| window.counts);
        for window in lessons.filter(|window| may(number, &played.places[window.place as usize], window.unix_ms)) {
            if let Some((class, episode)) = class_of(number, window) {
                table.push(&window.seen[..], class, episode)?;
            }
        }
    }
    Ok(())
}

/// What a window teaches: its class, and which windows are of one episode with it. Ordinary work of a workload is one episode.
fn class_of(session: usize, window: &Windowed) -> Option<(u8, u32)> {
    let kind = match window.was {
        Was::Attack(kind) => kind,
        Was::Normal if !window.after => Kind::Normal,
        _ => return None,
    };
    let class = CLASSES.iter().position(|class| *class == kind)?;
    let within = window.episode.map_or(1 << 15 | window.place, |episode| episode);
    Some((class as u8, (session as u32) << 16 | within & 0xffff))
}

/// The most that was said of what is no attack.
#[derive(Debug, Default)]
struct Peaks {
    baits: Vec<f32>,
    ordinary: Vec<f32>,
}

impl Peaks {
    /// Takes in what a classifier would have said of sessions in service, tick by tick.
    fn hear(&mut self, sessions: &[Session], asked: &[usize], classifier: &Classifier, may: &May<'_>) {
        for &number in asked {
            let session = &sessions[number];
            let (mut baits, mut ordinary) = (BTreeMap::<u32, f32>::new(), BTreeMap::<u32, f32>::new());
            let mut said: HashMap<(u64, i64), [f32; MAX_CLASSES]> = HashMap::new();
            let places = &session.played.places;
            for window in session.played.windows.iter().filter(|window| may(number, &places[window.place as usize], window.unix_ms)) {
                if !window::is_long_enough((window.unix_ms - window.since_unix_ms) as f32 / 1e3) {
                    continue;
                }
                let said = said.entry((window.container, window.since_unix_ms)).or_insert([0.0; MAX_CLASSES]);
                let probabilities = window.strays.then(|| classifier.probabilities(&window.seen));
                window::hear(said, probabilities.as_ref(), window.seconds);
                if window.was != Was::Normal || window.after {
                    continue;
                }
                let of = match window.episode {
                    Some(episode) => baits.entry(episode).or_default(),
                    None => ordinary.entry(window.place).or_default(),
                };
                *of = of.max(classifier.opinion(said).abnormal);
            }
            // Those that never strayed are as quiet as can be, and count.
            let of_part = |episode: &&Episode| {
                episode.role != Role::Attack && episode.workloads.first().is_some_and(|place| may(number, place, episode.onset_unix_ms))
            };
            let quiet = session.truth.episodes.iter().filter(of_part).count().saturating_sub(baits.len());
            self.baits.extend(baits.into_values().chain(std::iter::repeat_n(0.0, quiet)));
            let from_unix_ms = session.recorded.manifest.started_unix_ms.max(session.from_unix_ms);
            let quiet = places.iter().filter(|place| may(number, place, from_unix_ms)).count().saturating_sub(ordinary.len());
            self.ordinary.extend(ordinary.into_values().chain(std::iter::repeat_n(0.0, quiet)));
        }
    }
}

/// From which probability on a ticket opens, and a page: as low as the shares allow that may be bothered.
fn chosen(mut peaks: Peaks) -> (f32, f32) {
    let beyond = |values: &mut Vec<f32>, share: f64| {
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        values.get((share * values.len() as f64) as usize).map_or(0.0, |value| value + ABOVE)
    };
    let ticket = beyond(&mut peaks.baits, BAITS_TOLD).max(beyond(&mut peaks.ordinary, ORDINARY_TOLD)).clamp(LEAST_FROM, MOST_FROM);
    let page = beyond(&mut peaks.baits, PAGED).max(beyond(&mut peaks.ordinary, PAGED)).clamp(ticket, MOST_FROM);
    (ticket, page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_where_few_of_those_that_must_stay_quiet_would() {
        let baits: Vec<f32> = (0..50).map(|n| n as f32 / 100.0).collect();

        let (ticket, page) = chosen(Peaks { baits, ordinary: vec![0.1; 50] });

        // Four of fifty are above it.
        assert!((ticket - 0.455).abs() < 1e-3 && (page - 0.495).abs() < 1e-3, "{ticket} {page}");
    }

    #[test]
    fn ordinary_work_raises_the_thresholds_and_nothing_makes_them_senseless() {
        assert!((chosen(Peaks { baits: vec![0.1; 20], ordinary: vec![0.6; 10] }).0 - 0.605).abs() < 1e-3);
        assert_eq!(chosen(Peaks::default()), (LEAST_FROM, LEAST_FROM));
        assert_eq!(chosen(Peaks { baits: vec![1.0; 20], ordinary: Vec::new() }), (MOST_FROM, MOST_FROM));
    }
}
