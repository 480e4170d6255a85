//! The file of a comparison of two models: one JSON object that `vedette evaluate` writes and `vedette model promote` reads.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vedette_proto::v1::{KindComparison, ModelComparison};

use crate::exit::Stop;

/// What the file holds; further fields are left alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Written {
    /// The model that it is about: its id, the beginning of its checksum.
    pub model: String,
    /// The model that was in service, likewise.
    pub against: String,
    /// All conditions hold.
    pub passed: bool,
    /// Each condition in words, with its figures.
    pub conditions: Vec<String>,
    /// Sessions compared.
    pub sessions: u32,
    /// Their names.
    pub session_names: Vec<String>,
    /// How often they were resampled.
    pub resamplings: u32,
    /// By kind.
    pub kinds: Vec<OfKind>,
    /// Pages about no attack, of the model.
    pub pages_of_model: u32,
    /// Likewise of the one in service.
    pub pages_of_against: u32,
}

/// Recall of one kind.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct OfKind {
    /// The kind.
    pub kind: String,
    /// Attacks.
    pub attacks: u32,
    /// Told by the model.
    pub told_by_model: u32,
    /// Told by the one in service.
    pub told_by_against: u32,
    /// The recall of the model minus the other's.
    pub difference: f64,
    /// Its interval: from.
    pub lower: f64,
    /// To.
    pub upper: f64,
}

impl Written {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Stop> {
        let bad = |why: String| Stop::usage(format!("{}: {why}", path.display()));
        let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| bad(format!("no comparison of models, as vedette evaluate writes it: {error}")))
    }
}

impl From<&ModelComparison> for Written {
    fn from(comparison: &ModelComparison) -> Self {
        let of_kind = |kind: &KindComparison| {
            let KindComparison { kind, attacks, told_by_model, told_by_against, difference, lower, upper } = kind.clone();
            OfKind { kind, attacks, told_by_model, told_by_against, difference, lower, upper }
        };
        let ModelComparison {
            against,
            sessions,
            resamplings,
            passed,
            conditions,
            model,
            session_names,
            kinds,
            pages_of_model,
            pages_of_against,
        } = comparison.clone();
        let kinds = kinds.iter().map(of_kind).collect();
        Self { model, against, passed, conditions, sessions, session_names, resamplings, kinds, pages_of_model, pages_of_against }
    }
}

impl From<Written> for ModelComparison {
    fn from(written: Written) -> Self {
        let of_kind = |kind: OfKind| {
            let OfKind { kind, attacks, told_by_model, told_by_against, difference, lower, upper } = kind;
            KindComparison { kind, attacks, told_by_model, told_by_against, difference, lower, upper }
        };
        let Written { model, against, passed, conditions, sessions, session_names, resamplings, kinds, pages_of_model, pages_of_against } =
            written;
        let kinds = kinds.into_iter().map(of_kind).collect();
        Self { model, against, passed, conditions, sessions, session_names, resamplings, kinds, pages_of_model, pages_of_against }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_is_read() {
        let kind = KindComparison { kind: "scan".into(), attacks: 3, told_by_model: 2, lower: -0.5, ..KindComparison::default() };
        let comparison = ModelComparison {
            model: "a".into(),
            against: "b".into(),
            sessions: 1,
            session_names: vec!["shop".into()],
            kinds: vec![kind],
            pages_of_against: 4,
            ..ModelComparison::default()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::to_string(&Written::from(&comparison)).unwrap()).unwrap();

        let read = Written::read(file.path()).unwrap();

        assert_eq!(ModelComparison::from(read), comparison);
    }

    #[test]
    fn what_is_no_comparison_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"passed\": true}").unwrap();

        let error = Written::read(file.path()).unwrap_err().to_string();

        assert!(error.contains("no comparison of models") && error.contains("missing field"), "{error}");
    }
}
