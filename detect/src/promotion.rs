//! When a model may take another's place: by a comparison on sessions that neither was made with.
//!
//! Whoever makes a comparison and whoever is shown one ask here, so that there is one rule. `docs/decisions/038` says why it is this one.

use std::collections::BTreeSet;

use vedette_proto::v1::{Kind, KindComparison, ModelComparison};

/// Where a model's card names the recordings that it was made with, with spaces between.
pub const SESSIONS_LEARNT: &str = "sessions_learnt";
/// Likewise the beginnings of the SHA-256 of their observations: a recording by another name is the same.
pub const SESSION_DIGESTS: &str = "session_digests";
/// Hexadecimal digits of a digest that a card has: 48 bits, and nobody has millions of recordings.
pub const DIGEST_DIGITS: usize = 12;
/// The recall of a kind may be lower by so much.
pub const MARGIN: f64 = 0.03;
/// Fewer sessions say nothing of others: of five there are 126 samples, of three 10.
pub const LEAST_SESSIONS: usize = 5;
/// Fewer resamplings give intervals that depend on the seed.
pub const LEAST_RESAMPLINGS: u32 = 1_000;
/// A bound that was computed may be off by so much.
const ROUNDING: f64 = 1e-9;

/// One condition, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// It holds.
    pub holds: bool,
    /// What was asked, with its figures.
    pub words: String,
}

impl Condition {
    fn new(holds: bool, words: String) -> Self {
        Self { holds, words }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", if self.holds { "holds" } else { "fails" }, self.words)
    }
}

/// The sessions that a model was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeWith {
    names: BTreeSet<String>,
    digests: BTreeSet<String>,
}

impl MadeWith {
    /// As a card has it; `None`: it does not say.
    pub fn of<'a>(card: impl IntoIterator<Item = (&'a String, &'a String)>) -> Option<Self> {
        let (mut made, mut says) = (Self::default(), false);
        for (key, value) in card {
            let words = value.split_whitespace().map(str::to_owned);
            match key.as_str() {
                SESSIONS_LEARNT => {
                    says = true;
                    made.names.extend(words);
                }
                SESSION_DIGESTS => made.digests.extend(words),
                _ => {}
            }
        }
        says.then_some(made)
    }

    /// Whether a session is among them, by its name or by the SHA-256 of its observations (empty: not known).
    #[must_use]
    pub fn knows(&self, name: &str, digest: &str) -> bool {
        self.names.contains(name) || digest.get(..DIGEST_DIGITS).is_some_and(|beginning| self.digests.contains(beginning))
    }
}

/// What must hold for a model to take the place of one that names these classes.
#[must_use]
pub fn conditions(comparison: &ModelComparison, classes: &[String]) -> Vec<Condition> {
    let mut conditions = vec![enough(comparison), pages(comparison)];
    conditions.extend(comparison.kinds.iter().map(recall));
    conditions.extend(unseen(comparison, classes));
    conditions
}

fn enough(comparison: &ModelComparison) -> Condition {
    let ModelComparison { sessions, resamplings, session_names, .. } = comparison;
    let different = session_names.iter().collect::<BTreeSet<_>>().len();
    let holds = different >= LEAST_SESSIONS && different == *sessions as usize && *resamplings >= LEAST_RESAMPLINGS;
    let words = format!(
        "{sessions} sessions that neither model was made with, resampled {resamplings} times (at least {LEAST_SESSIONS} and {LEAST_RESAMPLINGS} are needed)"
    );
    Condition::new(holds, words)
}

/// A bound above it would refuse a model that pages less in one session and once more in another; the figure itself may not be higher.
fn pages(comparison: &ModelComparison) -> Condition {
    let (of_model, of_against) = (comparison.pages_of_model, comparison.pages_of_against);
    let words = format!("{of_model} pages about no attack, {of_against} of the model in service (no more are allowed)");
    Condition::new(of_model <= of_against, words)
}

fn recall(kind: &KindComparison) -> Condition {
    let KindComparison { kind: name, attacks, told_by_model, told_by_against, lower, upper, .. } = kind;
    let sound = Kind::from_word(name).is_some() && told_by_model.max(told_by_against) <= attacks && lower.is_finite() && upper.is_finite();
    let holds = sound && *attacks > 0 && *lower >= -MARGIN - ROUNDING;
    let points = |share: f64| format!("{:+.1}", share * 100.0);
    let words = format!(
        "{}: {told_by_model} of {attacks} attacks told, {told_by_against} of the model in service; {} to {} points, {} at the worst allowed",
        Kind::from_word(name).map_or("a kind that is none", Kind::word),
        points(*lower),
        points(*upper),
        points(-MARGIN),
    );
    Condition::new(holds, words)
}

/// Kinds that the model in service finds and that were not tried: nobody knows whether the other one still does.
fn unseen(comparison: &ModelComparison, classes: &[String]) -> Option<Condition> {
    let tried: BTreeSet<&str> = comparison.kinds.iter().filter(|kind| kind.attacks > 0).map(|kind| kind.kind.as_str()).collect();
    // Failures are counted: no model finds them, so none can lose them.
    let lost =
        |class: &&String| ![Kind::Normal.word(), Kind::CrashLoop.word()].contains(&class.as_str()) && !tried.contains(class.as_str());
    let missing: Vec<&str> = classes.iter().filter(lost).map(String::as_str).collect();
    (!missing.is_empty()).then(|| Condition::new(false, format!("no attack in these sessions was {}", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn kind(word: &str, attacks: u32, model: u32, against: u32, lower: f64) -> KindComparison {
        KindComparison { kind: word.into(), attacks, told_by_model: model, told_by_against: against, difference: 0.0, lower, upper: 0.0 }
    }

    fn fine() -> ModelComparison {
        ModelComparison {
            sessions: 5,
            resamplings: 1_000,
            session_names: ["a", "b", "c", "d", "e"].map(str::to_owned).into(),
            kinds: vec![kind("mining", 10, 10, 10, 0.0), kind("scan", 10, 9, 9, -MARGIN)],
            pages_of_model: 1,
            pages_of_against: 1,
            ..ModelComparison::default()
        }
    }

    fn classes() -> Vec<String> {
        ["normal", "crash_loop", "mining", "scan"].map(str::to_owned).into()
    }

    /// What fails.
    fn fails(comparison: &ModelComparison) -> Vec<String> {
        conditions(comparison, &classes()).into_iter().filter(|one| !one.holds).map(|one| one.words).collect()
    }

    #[test]
    fn what_is_no_worse_passes() {
        assert_eq!(fails(&fine()), Vec::<String>::new());
        assert_eq!(conditions(&fine(), &classes()).len(), 4);
    }

    #[test]
    fn one_page_more_or_a_kind_that_may_be_four_points_lower_fails() {
        let pages = ModelComparison { pages_of_model: 2, ..fine() };
        let mut recall = fine();
        recall.kinds[0].lower = -0.04;

        assert!(fails(&pages)[0].contains("2 pages about no attack, 1 of"), "{:?}", fails(&pages));
        assert!(fails(&recall)[0].starts_with("mining:") && fails(&recall).len() == 1, "{:?}", fails(&recall));
    }

    #[test]
    fn too_few_sessions_or_one_twice_fails() {
        let mut few = fine();
        few.session_names.pop();
        few.sessions = 4;
        let mut twice = fine();
        twice.session_names[0] = "b".into();

        assert!(fails(&few)[0].starts_with("4 sessions") && fails(&twice).len() == 1);
        assert_eq!(fails(&ModelComparison { resamplings: 10, ..fine() }).len(), 1);
    }

    #[test]
    fn a_kind_that_was_not_tried_is_named() {
        let untried = ModelComparison { kinds: vec![kind("mining", 10, 10, 10, 0.0)], ..fine() };

        assert_eq!(fails(&untried), ["no attack in these sessions was scan"]);
    }

    #[test]
    fn figures_that_cannot_be_do_not_speak_for_a_model() {
        for odd in [kind("mining", 1, 2, 1, 0.0), kind("sabotage", 1, 1, 1, 0.0), kind("mining", 1, 1, 1, f64::NAN)] {
            let kinds = vec![odd.clone(), kind("mining", 10, 10, 10, 0.0), kind("scan", 10, 9, 9, 0.0)];

            assert_eq!(fails(&ModelComparison { kinds, ..fine() }).len(), 1, "{odd:?}");
        }
    }

    #[test]
    fn a_card_knows_sessions_by_name_and_by_digest() {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let card: BTreeMap<String, String> =
            [entry(SESSIONS_LEARNT, "shop-01 shop-02 data-01"), entry(SESSION_DIGESTS, "0123456789ab")].into();

        let made = MadeWith::of(&card).unwrap();

        let digest = "0123456789abcdef";
        assert_eq!(
            [("shop-02", ""), ("data-01", ""), ("new", digest), ("new", "")].map(|(name, digest)| made.knows(name, digest)),
            [true, true, true, false]
        );
        assert_eq!(MadeWith::of(&BTreeMap::from([entry("seed", "1")])), None);
    }
}
