//! A model: a forest, what its columns and classes are called, how sure it may be, and where it comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Curve, Forest, Table, Tree, TreeError};

/// Longest name of a column or class, bytes.
const MAX_NAME: usize = 64;
/// Most entries of a card, and bytes of each.
const MAX_CARD: usize = 64;
const MAX_ENTRY: usize = 4_096;

/// What a model holds besides its trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Names of the columns, in the order of a row's values.
    pub columns: Vec<String>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How a class's share becomes its probability.
    pub curves: Vec<Curve>,
    /// A class named with less probability than this is not named.
    pub unknown_below: f32,
    /// What people are told of it: what it was trained on, when, with which figures. In order of its keys.
    pub card: BTreeMap<String, String>,
}

/// Why there is no such model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A tree.
    #[error("tree {0}: {1}")]
    Tree(usize, TreeError),
    /// Columns, classes, curves.
    #[error("{what}: {problem}")]
    Description {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// A forest with its description.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    description: Description,
    forest: Forest,
}

impl Model {
    /// A model of a forest.
    ///
    /// # Errors
    /// Where the description is not of this forest.
    pub fn new(description: Description, forest: Forest) -> Result<Self, ModelError> {
        check(&description, forest.columns(), forest.classes())?;
        Ok(Self { description, forest })
    }

    /// The same of trees from outside.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(crate) fn of_trees(description: Description, trees: &[Tree]) -> Result<Self, ModelError> {
        let (columns, classes) = (description.columns.len(), description.classes.len());
        check(&description, columns, classes)?;
        let forest = Forest::new(columns, classes, trees).map_err(|error| {
            let one = |tree: &Tree| Forest::new(columns, classes, std::slice::from_ref(tree)).is_err();
            ModelError::Tree(trees.iter().position(one).unwrap_or(0), error)
        })?;
        Ok(Self { description, forest })
    }

    /// What it is called and where it comes from.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its trees.
    #[must_use]
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// The probability of each class for every row; they make 1. `rows` are one after the other; so are the probabilities.
    ///
    /// # Panics
    /// Where `rows` is no whole number of rows, or `probabilities` has not as many.
    pub fn probabilities(&self, rows: &[f32], probabilities: &mut [f32]) {
        self.forest.score(rows, probabilities);
        for row in probabilities.chunks_exact_mut(self.forest.classes()) {
            row.iter_mut().zip(&self.description.curves).for_each(|(share, curve)| *share = curve.at(*share));
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|probability| *probability /= sum);
        }
    }

    /// The most probable class of a row's probabilities; `None` where none is probable enough: unknown.
    #[must_use]
    pub fn named(&self, probabilities: &[f32]) -> Option<usize> {
        let best = probabilities.iter().enumerate().reduce(|best, one| if one.1 > best.1 { one } else { best })?;
        (*best.1 >= self.description.unknown_below).then_some(best.0)
    }

    /// Fits the curves to rows that no tree has seen: every episode weighs the same.
    pub fn calibrate(&mut self, unseen: &Table) {
        let mut shares = vec![0.0; unseen.len() * self.forest.classes()];
        self.forest.score(unseen.values(), &mut shares);
        self.calibrate_by(unseen, &shares);
    }

    /// The same by what other forests of its sort said of rows that they had not seen: `shares` holds those of each row, one after the other.
    ///
    /// # Panics
    /// Where `shares` are not those of as many rows.
    pub fn calibrate_by(&mut self, unseen: &Table, shares: &[f32]) {
        let classes = self.forest.classes();
        assert_eq!(shares.len(), unseen.len() * classes, "a share of every class for each row");
        let weights = unseen.episode_weights();
        for (class, curve) in self.description.curves.iter_mut().enumerate() {
            let rows = shares.chunks_exact(classes).zip(unseen.classes()).zip(&weights);
            let rows: Vec<_> = rows.map(|((shares, of), weight)| (shares[class], usize::from(*of) == class, *weight)).collect();
            *curve = Curve::fit(&rows);
        }
    }
}

fn check(description: &Description, columns: usize, classes: usize) -> Result<(), ModelError> {
    let bad = |what, problem: String| Err(ModelError::Description { what, problem });
    let Description { columns: of_columns, classes: of_classes, curves, unknown_below, card } = description;
    for (what, names, count) in [("columns", of_columns, columns), ("classes", of_classes, classes)] {
        if names.len() != count {
            return bad(what, format!("{} names for {count}", names.len()));
        }
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return bad(what, format!("{name:?} is no name: 1 to {MAX_NAME} small letters, digits and underscores"));
        }
        let mut sorted: Vec<_> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|two| two[0] == two[1]) {
            return bad(what, format!("{:?} is there twice", twice[0]));
        }
    }
    if curves.len() != classes || !curves.iter().all(|curve| curve.is_finite()) {
        return bad("curves", format!("{classes} finite ones are needed"));
    }
    if !(0.0..=1.0).contains(unknown_below) {
        return bad("unknown_below", format!("{unknown_below} is no probability"));
    }
    if card.len() > MAX_CARD || card.iter().any(|(key, value)| !is_name(key) || value.len() > MAX_ENTRY) {
        return bad("card", format!("at most {MAX_CARD} entries with a name, of {MAX_ENTRY} bytes each"));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain)
}
