//! Two models on sessions that neither was made with, session by session, and whether one may take the other's place.
//!
//! Sessions are resampled, not attacks: what happens in one session has more in common than two sessions have. Both models are counted on the
//! same sample, so what is hard for both is no difference. `vedette_detect::promotion` has the conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use vedette_detect::{
    Classifier, Config,
    promotion::{self, Condition, MadeWith},
};
use vedette_proto::v1::{Kind, KindComparison, ModelComparison};

use super::{Which, events, play, side_by_side, stats::quantile, truth::Truth};
use crate::cell::{Cell, Tone};
use crate::comparison::Written;
use crate::exit::{Exit, Stop};
use crate::model_file::classifier;
use crate::output::{Column, Format, Output};
use crate::recording::{MANIFEST, Manifest, OBSERVATIONS, Recorded};

/// Flags of `vedette evaluate` where it compares.
#[derive(Clone, Debug, Args)]
pub struct PairArgs {
    /// Compare this model's file with another one, on recordings that neither was made with
    #[arg(long, value_name = "FILE", requires = "against", conflicts_with_all = ["split", "out", "html"])]
    pub model: Option<PathBuf>,
    /// The model in service: its file (`vedette model show serving --out FILE`), or shipped
    #[arg(long, value_name = "FILE", requires = "model")]
    against: Option<PathBuf>,
    /// Write the comparison to this file, as `vedette model promote --comparison` wants it
    #[arg(long, value_name = "FILE", requires = "model")]
    comparison_out: Option<PathBuf>,
    /// How often the sessions are resampled
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "model", value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    resamplings: u32,
}

/// The models: the one that is to serve first.
type Pair<T> = [T; 2];

/// What came of one session.
#[derive(Clone, Debug, Default)]
struct Trial {
    name: String,
    container_days: f64,
    /// Of each kind: attacks, and those that each model told.
    kinds: BTreeMap<Kind, (u32, Pair<u32>)>,
    /// Alarms about no attack of each model, and pages among them.
    tickets: Pair<u32>,
    pages: Pair<u32>,
}

/// A figure of both, and how they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Difference {
    of: Pair<f64>,
    lower: f64,
    upper: f64,
}

/// Plays, compares, prints, writes. A comparison that did not pass is a failure.
pub fn run(args: &PairArgs, folders: &[PathBuf], set: Which, seed: u64, output: &mut Output) -> anyhow::Result<Exit> {
    let (Some(model), Some(against)) = (&args.model, &args.against) else {
        return Err(Stop::usage("--model and --against go together").into());
    };
    let models: Pair<Arc<Classifier>> = [Arc::new(classifier(model)?), Arc::new(classifier(against)?)];
    if models[0].name() == models[1].name() {
        return Err(Stop::usage(format!("{} and {} are the same model, {}", model.display(), against.display(), models[0].name())).into());
    }
    let made = [made_with(&models[0], model)?, made_with(&models[1], against)?];
    let fair = fair(folders, set, &made)?;
    let trials = side_by_side("comparing", fair.len(), |place| trial(&fair[place], &models))?;
    let (comparison, conditions) = compared(&trials, &models, args.resamplings, seed);
    let json = serde_json::to_string_pretty(&Written::from(&comparison))? + "\n";
    if let Some(path) = &args.comparison_out {
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match output.format {
        Format::Json => output.line(json.trim_end())?,
        Format::Csv => of_kinds(&comparison, output)?,
        Format::Table => {
            let days: f64 = trials.iter().map(|trial| trial.container_days).sum();
            output.line(&format!(
                "model {} against {}: {} sessions that neither was made with, {days:.2} container-days, resampled {} times\n",
                comparison.model, comparison.against, comparison.sessions, comparison.resamplings
            ))?;
            of_kinds(&comparison, output)?;
            of_alarms(&trials, args.resamplings, seed, output)?;
            verdict(&comparison, &conditions, args.comparison_out.as_deref(), output)?;
        }
    }
    output.sink.flush()?;
    Ok(if comparison.passed { Exit::Ok } else { Exit::Failure })
}

fn made_with(model: &Classifier, path: &Path) -> Result<MadeWith, Stop> {
    MadeWith::of(&model.model().description().card).ok_or_else(|| {
        let (path, key) = (path.display(), promotion::SESSIONS_LEARNT);
        Stop::usage(format!("{path}: the model's card does not say which sessions it was made with ({key}): no comparison would be fair"))
    })
}

/// The recordings that neither model was made with, each once.
fn fair(folders: &[PathBuf], set: Which, made: &Pair<MadeWith>) -> anyhow::Result<Vec<PathBuf>> {
    let (mut fair, mut known, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
    for folder in folders {
        let manifest = Manifest::read(&folder.join(MANIFEST))?;
        if !set.holds(manifest.set) {
            continue;
        }
        let digest = manifest.files.get(OBSERVATIONS).map_or("", |file| file.sha256.as_str());
        if made.iter().any(|made| made.knows(&manifest.name, digest)) {
            known.push(manifest.name);
        } else if taken.insert(digest.to_owned()) {
            fair.push(folder.clone());
        }
    }
    if fair.is_empty() {
        let why = match known.is_empty() {
            true => format!("there is no recording of the set {}", set.word()),
            false => format!("one of the models was made with each of them: {}", known.join(", ")),
        };
        return Err(Stop::new(Exit::Failure, format!("no session to compare on: {why}; record others (vedette record)")).into());
    }
    if !known.is_empty() {
        eprintln!("vedette: left out, for one of the models was made with them: {}", known.join(", "));
    }
    Ok(fair)
}

/// Plays a session with both.
fn trial(folder: &Path, models: &Pair<Arc<Classifier>>) -> anyhow::Result<Trial> {
    let recorded = Recorded::open(folder)?;
    let truth = Truth::of(&recorded.labels, &recorded.containers).with_context(|| folder.display().to_string())?;
    let mut trial = Trial { name: recorded.manifest.name.clone(), ..Trial::default() };
    for (place, model) in models.iter().enumerate() {
        let played = play::play(&recorded, &truth, &Config::default(), Some(model)).with_context(|| folder.display().to_string())?;
        trial.container_days = played.container_seconds / 86_400.0;
        trial.count(place, &events::outcome_of(&truth, &played.told, &|_, _| true));
    }
    Ok(trial)
}

impl Trial {
    /// Takes in what came of one model.
    fn count(&mut self, place: usize, outcome: &events::Outcome) {
        for attack in &outcome.attacks {
            let of_kind = self.kinds.entry(attack.episode.kind).or_default();
            // Both models are asked about the same attacks.
            of_kind.0 += u32::from(place == 0);
            of_kind.1[place] += u32::from(attack.delay_s.is_some());
        }
        self.tickets[place] = outcome.false_alarms.len() as u32;
        self.pages[place] = outcome.false_alarms.iter().filter(|alarm| alarm.told.paged_unix_ms.is_some()).count() as u32;
    }
}

/// A part of a whole that each model has in a session.
type Counts<'a> = dyn Fn(&Trial) -> (f64, Pair<f64>) + 'a;

/// The share of each model over all sessions, and where 95 of 100 resamplings of these have the difference.
fn difference(trials: &[Trial], resamplings: u32, seed: u64, counts: &Counts<'_>) -> Difference {
    let counts: Vec<(f64, Pair<f64>)> = trials.iter().map(counts).collect();
    let share = |all: &mut dyn Iterator<Item = (f64, Pair<f64>)>| {
        let (of, parts) = all.fold((0.0, [0.0; 2]), |sum, one| (sum.0 + one.0, [sum.1[0] + one.1[0], sum.1[1] + one.1[1]]));
        (of > 0.0).then(|| parts.map(|part| part / of))
    };
    let Some(of) = share(&mut counts.iter().copied()) else { return Difference::default() };
    // The same samples for every figure: the seed alone decides which.
    let mut random = StdRng::seed_from_u64(seed);
    let mut differences: Vec<f64> = (0..resamplings)
        .filter_map(|_| {
            let mut sample = (0..counts.len()).map(|_| counts[random.random_range(0..counts.len())]).collect::<Vec<_>>().into_iter();
            share(&mut sample).map(|[model, against]| model - against)
        })
        .collect();
    let bound = |differences: &mut [f64], share| quantile(differences, share).unwrap_or(0.0);
    Difference { of, lower: bound(&mut differences, 0.025), upper: bound(&mut differences, 0.975) }
}

fn compared(trials: &[Trial], models: &Pair<Arc<Classifier>>, resamplings: u32, seed: u64) -> (ModelComparison, Vec<Condition>) {
    let kinds: BTreeSet<Kind> = trials.iter().flat_map(|trial| trial.kinds.keys().copied()).collect();
    let of_kind = |kind: Kind| {
        let of = |trial: &Trial| trial.kinds.get(&kind).copied().unwrap_or_default();
        let sum = |part: fn((u32, Pair<u32>)) -> u32| trials.iter().map(|trial| part(of(trial))).sum::<u32>();
        let Difference { of: shares, lower, upper } = difference(trials, resamplings, seed, &|trial| {
            let (attacks, told) = of(trial);
            (f64::from(attacks), told.map(f64::from))
        });
        KindComparison {
            kind: kind.word().to_owned(),
            attacks: sum(|(attacks, _)| attacks),
            told_by_model: sum(|(_, told)| told[0]),
            told_by_against: sum(|(_, told)| told[1]),
            difference: shares[0] - shares[1],
            lower,
            upper,
        }
    };
    let mut comparison = ModelComparison {
        model: models[0].name().to_owned(),
        against: models[1].name().to_owned(),
        sessions: trials.len() as u32,
        session_names: trials.iter().map(|trial| trial.name.clone()).collect(),
        resamplings,
        kinds: kinds.into_iter().map(of_kind).collect(),
        pages_of_model: trials.iter().map(|trial| trial.pages[0]).sum(),
        pages_of_against: trials.iter().map(|trial| trial.pages[1]).sum(),
        ..ModelComparison::default()
    };
    let conditions = promotion::conditions(&comparison, &models[1].model().description().classes);
    comparison.passed = conditions.iter().all(|condition| condition.holds);
    comparison.conditions = conditions.iter().map(Condition::to_string).collect();
    (comparison, conditions)
}

fn of_kinds(comparison: &ModelComparison, output: &mut Output) -> anyhow::Result<()> {
    let columns = vec![
        Column::both("kind", "ATTACKS"),
        Column::both("attacks", "EVENTS"),
        Column::both("told_by_model", "MODEL"),
        Column::both("told_by_against", "IN SERVICE"),
        Column::both("difference", "DIFFERENCE"),
        Column::table("95 % INTERVAL"),
        Column::data("lower"),
        Column::data("upper"),
    ];
    let table = output.format == Format::Table;
    let mut rows = output.rows(columns)?;
    for kind in &comparison.kinds {
        let difference = if table { Cell::text(points(kind.difference)) } else { Cell::Number(kind.difference) };
        rows.row(vec![
            Cell::text(&kind.kind),
            Cell::Unsigned(u64::from(kind.attacks)),
            Cell::Unsigned(u64::from(kind.told_by_model)),
            Cell::Unsigned(u64::from(kind.told_by_against)),
            difference,
            Cell::text(format!("{} to {}", points(kind.lower), points(kind.upper))),
            Cell::Number(kind.lower),
            Cell::Number(kind.upper),
        ])?;
    }
    rows.end()?;
    Ok(())
}

/// Alarms about no attack, per container-day.
fn of_alarms(trials: &[Trial], resamplings: u32, seed: u64, output: &mut Output) -> anyhow::Result<()> {
    output.line("")?;
    let headers = ["ABOUT NO ATTACK, PER CONTAINER-DAY", "MODEL", "IN SERVICE", "DIFFERENCE", "95 % INTERVAL"];
    let mut rows = output.rows(headers.map(Column::table).into())?;
    type Of = fn(&Trial) -> Pair<u32>;
    let alarms: [(&str, Of); 2] = [("tickets and pages", |trial| trial.tickets), ("pages", |trial| trial.pages)];
    for (name, of) in alarms {
        let Difference { of: rates, lower, upper } =
            difference(trials, resamplings, seed, &|trial| (trial.container_days, of(trial).map(f64::from)));
        let texts = [
            name.to_owned(),
            format!("{:.2}", rates[0]),
            format!("{:.2}", rates[1]),
            format!("{:+.2}", rates[0] - rates[1]),
            format!("{lower:+.2} to {upper:+.2}"),
        ];
        rows.row(texts.map(Cell::text).into())?;
    }
    rows.end()?;
    Ok(())
}

fn verdict(comparison: &ModelComparison, conditions: &[Condition], file: Option<&Path>, output: &mut Output) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold("What must hold for the model to serve")))?;
    for condition in conditions {
        let tone = if condition.holds { Tone::Plain } else { Tone::Bad };
        output.line(&format!("  {}", output.toned(&condition.to_string(), tone)))?;
    }
    let verdict = match (comparison.passed, file) {
        (true, Some(file)) => format!("passed: vedette model promote {} --comparison {}", comparison.model, file.display()),
        (true, None) => "passed; --comparison-out FILE writes what vedette model promote asks for".to_owned(),
        (false, _) => "not passed: the model in service stays, unless somebody forces another and says why".to_owned(),
    };
    output.line(&verdict)?;
    Ok(())
}

/// A difference of shares, in points of a hundred.
fn points(share: f64) -> String {
    format!("{:+.1} points", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many sessions with ten attacks of mining each, of which the models tell so many.
    fn trials(told: &[Pair<u32>]) -> Vec<Trial> {
        let trial = |(number, told): (usize, &Pair<u32>)| Trial {
            name: format!("session-{number}"),
            container_days: 0.5,
            kinds: [(Kind::Mining, (10, *told))].into(),
            ..Trial::default()
        };
        told.iter().enumerate().map(trial).collect()
    }

    fn recall(trials: &[Trial], seed: u64) -> Difference {
        difference(trials, 2_000, seed, &|trial| {
            let (attacks, told) = trial.kinds[&Kind::Mining];
            (f64::from(attacks), told.map(f64::from))
        })
    }

    #[test]
    fn models_that_do_the_same_do_not_differ_however_hard_the_sessions_are() {
        let same = recall(&trials(&[[1, 1], [9, 9], [5, 5], [10, 10], [0, 0]]), 1);

        assert_eq!(same, Difference { of: [0.5, 0.5], lower: 0.0, upper: 0.0 });
    }

    #[test]
    fn a_model_that_loses_one_session_has_an_interval_that_reaches_below() {
        let one = recall(&trials(&[[10, 10], [10, 10], [10, 10], [10, 10], [5, 10]]), 1);

        assert!((one.of[0] - one.of[1] + 0.1).abs() < 1e-9, "{one:?}");
        // Of a hundred samples of five, six have the bad session three times or more, and one four times; a third has it never.
        assert!((one.lower + 0.3).abs() < 1e-9 && one.upper == 0.0, "{one:?}");
    }

    #[test]
    fn the_seed_decides_the_samples_and_nothing_else_does() {
        let trials = trials(&[[3, 9], [10, 2], [7, 8], [1, 4], [5, 5], [6, 7]]);

        assert_eq!(recall(&trials, 7), recall(&trials, 7));
        let (one, other) = (recall(&trials, 7), recall(&trials, 8));
        assert!((one.lower - other.lower).abs() < 0.1 && one.of == other.of, "{one:?} {other:?}");
    }

    #[test]
    fn samples_without_an_attack_of_a_kind_do_not_count_for_it() {
        let mut trials = trials(&[[10, 10], [8, 8]]);
        trials[1].kinds.clear();
        let of = |trial: &Trial| trial.kinds.get(&Kind::Mining).map_or((0.0, [0.0; 2]), |(of, told)| (f64::from(*of), told.map(f64::from)));

        let differences = difference(&trials, 1_000, 1, &of);

        assert_eq!(differences, Difference { of: [1.0, 1.0], lower: 0.0, upper: 0.0 });
    }

    #[test]
    fn sessions_that_a_model_knows_are_left_out_and_without_others_the_error_names_them() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let made = |name: &str| MadeWith::of(&BTreeMap::from([(promotion::SESSIONS_LEARNT.to_owned(), name.to_owned())])).unwrap();
        let name = Manifest::read(&demo.join(MANIFEST)).unwrap().name;

        let taken = fair(&[demo.clone(), demo.clone()], Which::All, &[made("other"), made("another")]).unwrap();
        let refused = fair(std::slice::from_ref(&demo), Which::All, &[made("other"), made(&name)]).unwrap_err().to_string();

        assert_eq!(taken, [demo], "the same recording twice is one session");
        assert!(refused.contains("was made with each of them") && refused.contains(&name), "{refused}");
    }
}
