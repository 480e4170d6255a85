//! Which sessions are recorded: plan, seed, backend, and whether detectors are made with them (DEV) or thresholds set by them (CAL).
//!
//! A quarter is CAL, chosen before any detector saw them by nothing but their names: of all sessions in the order of
//! SHA-256 over `CAL_SEED PLAN SEED`, the first quarter.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Plan, PlanError, values::Length};

const SHIPPED: &str = include_str!("../../../plans/sessions.yaml");

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Set {
    /// Detectors are made with it.
    #[serde(rename = "DEV")]
    Dev,
    /// Thresholds are set by it, and nothing else.
    #[serde(rename = "CAL")]
    Cal,
}

/// What runs a session's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The range itself, on this machine.
    #[default]
    Local,
    /// A containerd that the range starts.
    Containerd,
    /// The range itself, in the cgroup v2 virtual machine.
    Vm,
}

impl Backend {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Containerd => "containerd",
            Self::Vm => "vm",
        }
    }
}

/// One session.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Name of its recording.
    pub name: String,
    /// The plan, by its shipped name.
    pub plan: String,
    /// Its seed.
    pub seed: u64,
    /// What runs the pods.
    #[serde(default)]
    pub backend: Backend,
    /// Ordinary work before the first phase, instead of the plan's own.
    pub warm_up: Option<Length>,
    /// What it is for.
    pub set: Set,
}

/// All of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// What the choice of the quarter comes from.
    pub cal_seed: u64,
    /// The sessions, in the order in which they are recorded.
    pub sessions: Vec<Session>,
}

impl Sessions {
    /// The list that comes with the range.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn shipped() -> Result<Self, PlanError> {
        let wrong = |problem: String| PlanError::Wrong { file: "sessions.yaml".to_owned(), problem };
        serde_norway::from_str(SHIPPED).map_err(|error| wrong(error.to_string()))
    }

    /// The set that each session belongs to by the rule.
    #[must_use]
    pub fn chosen(&self) -> Vec<Set> {
        let rank = |session: &Session| Sha256::digest(format!("{} {} {}", self.cal_seed, session.plan, session.seed));
        let mut ranked: Vec<_> = self.sessions.iter().enumerate().map(|(place, session)| (rank(session), place)).collect();
        ranked.sort_unstable();
        let quarter: Vec<_> = ranked.iter().take(self.sessions.len() / 4).map(|(_, place)| *place).collect();
        (0..self.sessions.len()).map(|place| if quarter.contains(&place) { Set::Cal } else { Set::Dev }).collect()
    }
}

impl Session {
    /// Its plan, with its own warm-up.
    ///
    /// # Errors
    /// When there is no such plan.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let mut plan = Plan::load(&self.plan)?;
        if let Some(warm_up) = self.warm_up {
            plan.file.warm_up = warm_up;
        }
        Ok(plan)
    }
}
