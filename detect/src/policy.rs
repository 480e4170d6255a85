//! The last layer: how loudly an incident may speak. It lowers what detection asks for, and never raises it.
//!
//! Pure: event time in, a decision out. An exception comes first, then what was answered before, then the budget.
//! A decision is kept as an [`Entry`]; whoever stores entries gives those of the last [`LOOK_BACK_MS`] back after a restart.

mod budget;
mod config;
mod exception;
mod glob;
mod likeness;
mod rank;

use std::collections::HashMap;

use vedette_proto::v1::{Incident, Origin, Severity, Withheld};

pub use budget::{Entry, LOOK_BACK_MS, Spent};
pub use config::{Config, ConfigError, MAX_ROTAS, Rota};
pub use exception::Exception;
pub use glob::{MAX_GLOB, matches};
pub use likeness::alike;
pub use rank::rank;

use budget::Ledger;

/// What policy made of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How loudly it speaks.
    pub severity: Severity,
    /// Why not as loudly as detection asked.
    pub withheld: Withheld,
    /// Name of the exception, or of the rota whose budget is spent.
    pub by: String,
    /// The entry changed and is to be stored.
    pub entry_changed: bool,
}

impl Decision {
    fn as_asked(severity: Severity) -> Self {
        Self { severity, withheld: Withheld::Unspecified, by: String::new(), entry_changed: false }
    }
}

/// What is true around an incident when it is decided about.
pub struct Around<'a> {
    /// Whether others than its own namespace have containers: some of the budget is kept for them. Asked only where a budget decides.
    pub has_neighbours: &'a dyn Fn() -> bool,
    /// Digests of the images that its containers run; `None` where one of them is not known. Asked only if an exception is bound to images.
    pub images: &'a dyn Fn() -> Option<Vec<String>>,
}

/// Decides about every incident of one cluster.
pub struct Policy {
    cluster: String,
    config: Config,
    exceptions: Vec<Exception>,
    ledger: Ledger,
    pages: bool,
}

impl Policy {
    /// For one cluster, whose installation began then (Unix milliseconds); with the entries of before.
    #[must_use]
    pub fn new(cluster: &str, config: Config, began_unix_ms: i64, entries: Vec<Entry>) -> Self {
        let by_id: HashMap<u64, Entry> = entries.into_iter().map(|entry| (entry.incident_id, entry)).collect();
        let ledger = Ledger::new(began_unix_ms, by_id);
        Self { cluster: cluster.to_owned(), config, exceptions: Vec::new(), ledger, pages: false }
    }

    /// Whether it pages, or turns pages into tickets that say so.
    pub fn set_pages(&mut self, pages: bool) {
        self.pages = pages;
    }

    /// Whether it pages.
    #[must_use]
    pub fn pages(&self) -> bool {
        self.pages
    }

    /// Replaces the exceptions, those of answers among them.
    pub fn set_exceptions(&mut self, exceptions: Vec<Exception>) {
        self.exceptions = exceptions;
    }

    /// What was configured.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What a rota's budget was spent on, at an instant of event time.
    #[must_use]
    pub fn spent(&self, rota: &str, unix_ms: i64) -> Spent {
        self.ledger.spent(rota, self.pages, unix_ms)
    }

    /// The entry of an incident.
    #[must_use]
    pub fn entry(&self, incident_id: u64) -> Option<&Entry> {
        self.ledger.entry(incident_id)
    }

    /// Decides about an incident as detection asks for it now, at the event time of its last change.
    ///
    /// What was decided stands until detection asks for more, or exceptions say something else. Replays and other clusters are not
    /// anybody's on-call: they pass as they are.
    pub fn decide(&mut self, incident: &Incident, around: &Around<'_>) -> Decision {
        let asked = incident.severity();
        let own = incident.workload.as_ref().is_some_and(|workload| workload.cluster == self.cluster);
        if !own || incident.origin() == Origin::Replay || asked < Severity::Ticket {
            return Decision::as_asked(asked);
        }
        let unix_ms = incident.updated_unix_ms.max(incident.opened_unix_ms);
        let lowest = self
            .exceptions
            .iter()
            .filter(|exception| exception.covers(incident, unix_ms, around.images))
            .min_by_key(|exception| (exception.at_most, exception.is_answer()));
        let excepted = lowest.filter(|exception| exception.at_most < asked);
        let wanted = excepted.map_or(asked, |exception| exception.at_most);
        let why = excepted
            .map(|exception| (if exception.is_answer() { Withheld::Answered } else { Withheld::Exception }, exception.name.clone()));

        let namespace = incident.workload.as_ref().map_or("", |workload| &workload.namespace);
        let rota = self.config.rota(namespace);
        let mut entry = self.ledger.take(incident.id).unwrap_or_else(|| Entry::new(incident.id, namespace, unix_ms));
        let before = entry.clone();
        rota.name.clone_into(&mut entry.rota);
        entry.rank = entry.rank.max(rank(incident));
        if wanted > entry.wanted {
            self.ledger.decide(&mut entry, wanted, &rota, self.pages, (around.has_neighbours)(), unix_ms);
        } else if wanted < entry.wanted {
            entry.given = entry.given.min(wanted);
        }
        entry.wanted = wanted;
        if let Some((withheld, by)) = why {
            (entry.withheld, entry.by) = (withheld, by);
        } else if entry.given >= asked {
            (entry.withheld, entry.by) = (Withheld::Unspecified, String::new());
        }
        let decision = Decision { severity: entry.given, withheld: entry.withheld, by: entry.by.clone(), entry_changed: entry != before };
        self.ledger.put(entry);
        decision
    }
}

#[cfg(test)]
mod tests;
