//! What an operator may set, under `[policy]` of the aggregator's configuration.

use serde::{Deserialize, Serialize};

use super::glob;

/// Most rotas beside the default one.
pub const MAX_ROTAS: usize = 64;
/// The rota of every namespace that no other has.
const DEFAULT_ROTA: &str = "default";

/// Budgets, and how long an installation only observes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Days after its first start in which an installation pages nobody; afterwards it pages once somebody enables it. 0: it pages at once.
    pub observe_days: u32,
    /// Most pages in 7 days.
    pub pages_per_week: u32,
    /// Most tickets in 24 hours.
    pub tickets_per_day: u32,
    /// Days for which an answer (expected, nothing there) keeps what is like it from paging.
    pub answer_days: u32,
    /// On-call rotas with budgets of their own; every other namespace shares the budget above.
    pub rotas: Vec<Rota>,
}

/// Who is called for some namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rota {
    /// Its name.
    pub name: String,
    /// Its namespaces, as globs with `*` and `?`; the first rota that has one is called.
    pub namespaces: Vec<String>,
    /// Most pages in 7 days.
    #[serde(default = "pages")]
    pub pages_per_week: u32,
    /// Most tickets in 24 hours.
    #[serde(default = "tickets")]
    pub tickets_per_day: u32,
}

fn pages() -> u32 {
    Config::default().pages_per_week
}

fn tickets() -> u32 {
    Config::default().tickets_per_day
}

impl Default for Config {
    fn default() -> Self {
        Self { observe_days: 7, pages_per_week: 2, tickets_per_day: 20, answer_days: 90, rotas: Vec::new() }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An exception lasts a year at most, and so does what follows from an answer.
    #[error("policy.answer_days must be 1 to 366")]
    AnswerDays,
    /// Longer than anybody waits.
    #[error("policy.observe_days must be at most 365")]
    ObserveDays,
    /// Too many.
    #[error("policy.rotas: at most {MAX_ROTAS} are allowed")]
    Rotas,
    /// A rota that is not told from others, or is called for nobody.
    #[error("policy.rotas: rota {0:?} needs a name of its own, and namespaces of 1 to {limit} characters each", limit = glob::MAX_GLOB)]
    Rota(String),
}

impl Config {
    /// Checks what types cannot say; call once, after loading.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=366).contains(&self.answer_days) {
            return Err(ConfigError::AnswerDays);
        }
        if self.observe_days > 365 {
            return Err(ConfigError::ObserveDays);
        }
        if self.rotas.len() > MAX_ROTAS {
            return Err(ConfigError::Rotas);
        }
        for (place, rota) in self.rotas.iter().enumerate() {
            let named = !rota.name.is_empty() && rota.name != DEFAULT_ROTA;
            let alone = self.rotas.iter().take(place).all(|other| other.name != rota.name);
            let called = !rota.namespaces.is_empty() && rota.namespaces.iter().all(|glob| (1..=glob::MAX_GLOB).contains(&glob.len()));
            if !named || !alone || !called {
                return Err(ConfigError::Rota(rota.name.clone()));
            }
        }
        Ok(())
    }

    /// The rota that is called for a namespace.
    #[must_use]
    pub fn rota(&self, namespace: &str) -> Rota {
        let own = self.rotas.iter().find(|rota| rota.namespaces.iter().any(|glob| glob::matches(glob, namespace)));
        own.cloned().unwrap_or_else(|| self.default_rota())
    }

    /// Every rota, the default one last.
    #[must_use]
    pub fn all_rotas(&self) -> Vec<Rota> {
        self.rotas.iter().cloned().chain([self.default_rota()]).collect()
    }

    fn default_rota(&self) -> Rota {
        let (pages_per_week, tickets_per_day) = (self.pages_per_week, self.tickets_per_day);
        Rota { name: DEFAULT_ROTA.to_owned(), namespaces: Vec::new(), pages_per_week, tickets_per_day }
    }
}
