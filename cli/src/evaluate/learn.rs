//! The kind classifier under evaluation: trained on some rows, asked about others, never about what it was trained on.

use std::hash::{DefaultHasher, Hash, Hasher};

use clap::ValueEnum;
use vedette_detect::vector::{self, WIDTH};
use vedette_forest::{Config, Curve, Description, Model, Table, train};
use vedette_proto::v1::Kind;

use super::{
    figures::Session,
    play::{Played, Row, Told},
    truth::Was,
};
use crate::recording::Set;

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
/// Of ordinary rows one in so many is learnt from: there are a hundred times as many as of any attack, and each is much like the one before.
const ORDINARY_STEP: usize = 5;
/// Rows of a workload around the opening of an incident that say what it is, to either side.
const AROUND_MS: i64 = 15_000;
/// A kind with less of the probability that is not ordinary's is not named.
const UNKNOWN_BELOW: f32 = 0.4;
/// Parts of splits that have no parts of their own.
const PARTS: u64 = 5;

/// What is kept apart from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Sessions: what is asked about was another run, in another order, of another strength
    Session,
    /// Workloads: what is asked about was another program
    Workload,
    /// Time: the first half of every session against its second
    Time,
    /// Rows at random: flatters, for neighbours of every row were learnt from
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

    /// How many parts it has for so many sessions; each is asked about once. Of time only the second half is.
    fn parts(self, sessions: usize) -> u64 {
        match self {
            Self::Session => sessions as u64,
            Self::Time => 2,
            Self::Workload | Self::Random => PARTS,
        }
    }

    /// The part of a row.
    fn part(self, session: usize, played: &Played, place: usize) -> u64 {
        let row = &played.rows[place];
        let hash = |what: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            what(&mut hasher);
            hasher.finish() % PARTS
        };
        match self {
            Self::Session => session as u64,
            Self::Workload => hash(&|hasher| played.places[row.place as usize].hash(hasher)),
            Self::Time => u64::from(place >= played.rows.len() / 2),
            Self::Random => hash(&|hasher| (session, place).hash(hasher)),
        }
    }
}

/// What the classifier says of every row of a session: the probability of each class.
pub type Said = Vec<[f32; CLASSES.len()]>;

/// Asks about every session's rows a model that was trained on other parts of DEV, and calibrated on other parts of CAL. `None` for a session
/// of which nothing was asked.
pub fn said(sessions: &[Session], split: Split, seed: u64, trained: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Vec<Said>> {
    let mut all: Vec<Said> = sessions.iter().map(|session| vec![[f32::NAN; CLASSES.len()]; session.played.rows.len()]).collect();
    let parts = split.parts(sessions.len());
    for part in (0..parts).filter(|part| split != Split::Time || *part == 1) {
        let model = model(sessions, seed, &|session, place| split.part(session, &sessions[session].played, place) != part)?;
        for (session, said) in all.iter_mut().enumerate() {
            let played = &sessions[session].played;
            let asked: Vec<usize> = (0..played.rows.len()).filter(|&place| split.part(session, played, place) == part).collect();
            let values: Vec<f32> = asked.iter().flat_map(|&place| played.rows[place].vector).collect();
            let mut probabilities = vec![0.0; asked.len() * CLASSES.len()];
            model.probabilities(&values, &mut probabilities);
            for (place, probabilities) in asked.iter().zip(probabilities.chunks_exact(CLASSES.len())) {
                said[*place].copy_from_slice(probabilities);
            }
        }
        trained(part + 1, parts);
    }
    Ok(all)
}

/// A model of the rows that may be learnt from; `may` is asked by session and row.
pub fn model(sessions: &[Session], seed: u64, may: &dyn Fn(usize, usize) -> bool) -> anyhow::Result<Model> {
    let table = |set: Set| -> anyhow::Result<Table> {
        let mut table = Table::new(WIDTH, CLASSES.len())?;
        for (number, session) in sessions.iter().enumerate().filter(|(_, session)| session.set == set) {
            for (place, row) in session.played.rows.iter().enumerate() {
                let Some((class, episode)) = class_of(number, row) else { continue };
                if may(number, place) && (class != 0 || row.episode.is_some() || place % ORDINARY_STEP == 0) {
                    table.push(&row.vector, class, episode)?;
                }
            }
        }
        Ok(table)
    };
    let (seen, unseen) = (table(Set::Dev)?, table(Set::Cal)?);
    let forest = train(&seen, &Config::of(WIDTH, seed), &|_| {})?;
    let description = Description {
        columns: vector::names(),
        classes: CLASSES.iter().map(|kind| kind.word().to_owned()).collect(),
        curves: vec![Curve::STRAIGHT; CLASSES.len()],
        unknown_below: UNKNOWN_BELOW,
        card: std::collections::BTreeMap::new(),
    };
    let mut model = Model::new(description, forest)?;
    if !unseen.is_empty() {
        model.calibrate(&unseen);
    }
    Ok(model)
}

/// What a row teaches: its class, and which rows are of one episode with it. Ordinary work of a workload is one episode.
fn class_of(session: usize, row: &Row) -> Option<(u8, u32)> {
    let kind = match row.was {
        Was::Attack(kind) => kind,
        Was::Normal => Kind::Normal,
        Was::Affected | Was::Nothing => return None,
    };
    let class = CLASSES.iter().position(|class| *class == kind)?;
    let within = row.episode.map_or(1 << 15 | row.place, |episode| episode);
    Some((class as u8, (session as u32) << 16 | within & 0xffff))
}

/// The incidents again, called as the classifier calls the rows around their opening.
pub fn called(played: &Played, said: &Said) -> Vec<Told> {
    let mut told = played.told.clone();
    for told in &mut told {
        let Some(place) = played.places.iter().position(|place| *place == told.place) else { continue };
        let near = |row: &Row| row.place as usize == place && (row.unix_ms - told.opened_unix_ms).abs() <= AROUND_MS;
        let mut sums = [0.0f32; CLASSES.len()];
        for (row, probabilities) in played.rows.iter().zip(said).filter(|(row, _)| near(row)) {
            if !probabilities[0].is_nan() {
                debug_assert!(row.unix_ms > 0);
                sums.iter_mut().zip(probabilities).for_each(|(sum, probability)| *sum += probability);
            }
        }
        told.kind = name(&sums);
    }
    told
}

/// The kind with most of what is not ordinary's.
fn name(sums: &[f32; CLASSES.len()]) -> Kind {
    let abnormal: f32 = sums[1..].iter().sum();
    let best = (1..CLASSES.len()).reduce(|best, class| if sums[class] > sums[best] { class } else { best });
    match best {
        Some(best) if abnormal > 0.0 && sums[best] >= UNKNOWN_BELOW * abnormal => CLASSES[best],
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_by_its_part_of_what_is_not_ordinary() {
        let with = |parts: &[(usize, f32)]| {
            let mut sums = [0.0; CLASSES.len()];
            parts.iter().for_each(|(class, part)| sums[*class] = *part);
            name(&sums)
        };

        assert_eq!(with(&[(0, 9.0), (1, 0.6), (2, 0.3)]), Kind::Mining);
        assert_eq!(with(&[(1, 0.3), (2, 0.25), (3, 0.25), (5, 0.2)]), Kind::Unknown);
        assert_eq!(with(&[(0, 9.0)]), Kind::Unknown);
    }
}
