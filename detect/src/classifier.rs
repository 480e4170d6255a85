//! The kind classifier: a forest that says what the window of a straying container is, and from which probability on people hear of it.

use vedette_forest::{MAX_CLASSES, Model};
use vedette_proto::v1::Kind;

use crate::window::{self, Seen};

/// Where a model's card says from which probability of an attack on a ticket opens.
pub const TICKET_FROM: &str = "ticket_from";
/// Likewise a page, which takes two families besides.
pub const PAGE_FROM: &str = "page_from";

/// Why a model cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassifierError {
    /// A column that nobody has.
    #[error("the model needs the column {0:?}, which this version does not have")]
    Column(String),
    /// A class that is no kind.
    #[error("the model's class {0:?} is no kind")]
    Class(String),
    /// Without it everything is an attack.
    #[error("the model has no class {:?}", Kind::Normal.word())]
    NoNormal,
    /// Its card.
    #[error("the model's card says {0} = {1:?}, which must be a probability, and page_from not below ticket_from")]
    Threshold(&'static str, String),
}

/// A model, ready to be asked.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    name: String,
    /// Of each of the model's columns: where a window has it.
    columns: Vec<usize>,
    kinds: Vec<Kind>,
    ticket_from: f32,
    page_from: f32,
}

/// What is said of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinion {
    /// Probability that it is an attack of any kind.
    pub abnormal: f32,
    /// The kind; `unknown` where none has enough of it.
    pub kind: Kind,
    /// The kind's own probability.
    pub of_kind: f32,
}

impl Classifier {
    /// A model, ready to be asked.
    ///
    /// # Errors
    /// [`ClassifierError`]: columns, classes or thresholds that are not of windows.
    pub fn new(model: Model) -> Result<Self, ClassifierError> {
        let known = window::names();
        let description = model.description();
        let column = |name: &String| known.iter().position(|known| known == name).ok_or_else(|| ClassifierError::Column(name.clone()));
        let columns = description.columns.iter().map(column).collect::<Result<_, _>>()?;
        let kind = |name: &String| Kind::from_word(name).ok_or_else(|| ClassifierError::Class(name.clone()));
        let kinds: Vec<Kind> = description.classes.iter().map(kind).collect::<Result<_, _>>()?;
        if !kinds.contains(&Kind::Normal) {
            return Err(ClassifierError::NoNormal);
        }
        let threshold = |key: &'static str| {
            let text = description.card.get(key).map_or("", String::as_str);
            let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value));
            value.ok_or_else(|| ClassifierError::Threshold(key, text.to_owned()))
        };
        let (ticket_from, page_from) = (threshold(TICKET_FROM)?, threshold(PAGE_FROM)?);
        if page_from < ticket_from {
            return Err(ClassifierError::Threshold(PAGE_FROM, page_from.to_string()));
        }
        Ok(Self { name: "unnamed".to_owned(), columns, kinds, ticket_from, page_from, model })
    }

    /// The same with a name, which is told beside what it says.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// From which probability of an attack on a ticket opens, and a page.
    #[must_use]
    pub fn thresholds(&self) -> (f32, f32) {
        (self.ticket_from, self.page_from)
    }

    /// The probability of each class of a window, in the order of the model's.
    #[must_use]
    pub fn probabilities(&self, seen: &Seen) -> [f32; MAX_CLASSES] {
        let mut row = [f32::NAN; window::COLUMNS];
        row.iter_mut().zip(&self.columns).for_each(|(value, &column)| *value = seen[column]);
        let mut probabilities = [0.0; MAX_CLASSES];
        self.model.probabilities(&row[..self.columns.len()], &mut probabilities[..self.kinds.len()]);
        probabilities
    }

    /// What probabilities, smoothed over time, come to. A crash loop is a fact: its probability is nobody's suspicion.
    #[must_use]
    pub fn opinion(&self, said: &[f32; MAX_CLASSES]) -> Opinion {
        let kinds = || self.kinds.iter().zip(said).filter(|(kind, _)| !matches!(kind, Kind::Normal | Kind::CrashLoop));
        let abnormal: f32 = kinds().map(|(_, said)| said).sum();
        let (best, of_kind) = kinds().fold((Kind::Unknown, 0.0), |best, (&kind, &said)| if said > best.1 { (kind, said) } else { best });
        let kind = if of_kind >= self.model.description().unknown_below * abnormal { best } else { Kind::Unknown };
        Opinion { abnormal, kind, of_kind }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vedette_forest::{Curve, Description, Forest, Node, Tree};

    use super::*;

    fn model(columns: &[&str], classes: &[&str], card: &[(&str, &str)]) -> Model {
        let shares = vec![1.0 / classes.len() as f32; classes.len()];
        let forest = Forest::new(columns.len(), classes.len(), &[Tree { nodes: vec![Node::Leaf(shares)] }]).unwrap();
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        let description = Description {
            columns: words(columns),
            classes: words(classes),
            curves: vec![Curve::STRAIGHT; classes.len()],
            unknown_below: 0.4,
            card: card.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        };
        Model::new(description, forest).unwrap()
    }

    const CARD: [(&str, &str); 2] = [(TICKET_FROM, "0.6"), (PAGE_FROM, "0.8")];

    #[test]
    fn a_model_that_is_not_of_windows_is_refused_with_what_is_wrong() {
        let of = |columns: &[&str], classes: &[&str], card: &[(&str, &str)]| Classifier::new(model(columns, classes, card)).unwrap_err();

        assert_eq!(of(&["age"], &["normal", "mining"], &CARD), ClassifierError::Column("age".into()));
        assert_eq!(of(&["window_born"], &["normal", "sabotage"], &CARD), ClassifierError::Class("sabotage".into()));
        assert_eq!(of(&["window_born"], &["scan", "mining"], &CARD), ClassifierError::NoNormal);
        assert_eq!(of(&["window_born"], &["normal", "mining"], &[]), ClassifierError::Threshold(TICKET_FROM, String::new()));
        let turned = [(TICKET_FROM, "0.8"), (PAGE_FROM, "0.6")];
        assert_eq!(of(&["window_born"], &["normal", "mining"], &turned), ClassifierError::Threshold(PAGE_FROM, "0.6".into()));
    }

    #[test]
    fn a_kind_is_named_by_its_part_of_what_is_abnormal() {
        let classifier = Classifier::new(model(&["window_born"], &["normal", "mining", "scan", "crash_loop", "flood"], &CARD)).unwrap();
        let opinion = |parts: [f32; 5]| {
            let mut said = [0.0; MAX_CLASSES];
            said[..5].copy_from_slice(&parts);
            classifier.opinion(&said)
        };

        assert_eq!(opinion([0.2, 0.5, 0.25, 0.0, 0.0]), Opinion { abnormal: 0.75, kind: Kind::Mining, of_kind: 0.5 });
        assert_eq!(opinion([0.25, 0.25, 0.25, 0.0, 0.25]).kind, Kind::Unknown);
        assert_eq!(opinion([0.25, 0.25, 0.0, 0.5, 0.0]).abnormal, 0.25, "a crash loop is a fact");
    }
}
