//! What happens in a run: a plan as people write it, and the timeline that it becomes by a seed, both checked before anything starts.

pub mod act;
mod check;
mod draw;
mod expand;
pub mod file;
pub mod program;
mod rounds;
mod scatter;
pub mod sessions;
pub mod spans;
pub mod table;
pub mod timeline;
pub mod values;

use std::path::Path;

use act::Act;
pub use expand::expand;
use file::PlanFile;

/// The plans that come with the range, by their names.
const SHIPPED: &[(&str, &str)] = &[
    ("demo", include_str!("../../../plans/demo.yaml")),
    ("smoke", include_str!("../../../plans/smoke.yaml")),
    ("canary", include_str!("../../../plans/canary.yaml")),
    ("seed-session", include_str!("../../../plans/seed-session.yaml")),
    ("seed-session-short", include_str!("../../../plans/seed-session-short.yaml")),
    ("shop", include_str!("../../../plans/sessions/shop.yaml")),
    ("office", include_str!("../../../plans/sessions/office.yaml")),
    ("data", include_str!("../../../plans/sessions/data.yaml")),
    ("media", include_str!("../../../plans/sessions/media.yaml")),
    ("edge", include_str!("../../../plans/sessions/edge.yaml")),
];
/// Largest plan that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a plan cannot be used; one line that names the file and, as far as it is known, the field and the line.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No such plan.
    #[error("no plan named {0:?}: there are {1}; a file is named by its path, such as ./{0}.yaml")]
    Unknown(String, String),
    /// The file cannot be read.
    #[error("cannot read the plan {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It says what makes no sense.
    #[error("plan {file}: {problem}")]
    Wrong {
        /// The file, or the name of a shipped plan.
        file: String,
        /// What is wrong, with its field.
        problem: String,
    },
}

/// A plan that was checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it came from: a file, or the name of a shipped plan.
    pub source: String,
    /// What it says.
    pub file: PlanFile,
}

impl Plan {
    /// Reads and checks a plan: a shipped one by its name, or a file by its path.
    ///
    /// # Errors
    /// When there is none, or it makes no sense.
    pub fn load(name: &str) -> Result<Self, PlanError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        let is_path = name.contains('/') || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !is_path {
            return Err(PlanError::Unknown(name.to_owned(), Self::names().collect::<Vec<_>>().join(", ")));
        }
        let unreadable = |error| PlanError::Unreadable(name.to_owned(), error);
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_BYTES {
            return Err(PlanError::Wrong { file: name.to_owned(), problem: format!("{length} bytes, at most {MAX_BYTES} are read") });
        }
        Self::parse(name, &std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Names of the shipped plans.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Checks the text of a plan; `source` is named in errors.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn parse(source: &str, text: &str) -> Result<Self, PlanError> {
        let wrong = |problem: String| PlanError::Wrong { file: source.to_owned(), problem };
        let file: PlanFile = serde_norway::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let plan = Self { source: source.to_owned(), file };
        plan.check().map_err(wrong)?;
        Ok(plan)
    }

    /// An act of the plan's own or of the catalogue.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn act(&self, name: &str) -> Result<&Act, String> {
        let shipped = act::shipped()?;
        let act = self.file.acts.get(name).or_else(|| shipped.get(name));
        act.ok_or_else(|| format!("unknown act `{name}`; the catalogue has {}", shipped.keys()))
    }
}
