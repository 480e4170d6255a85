//! What is wrong with the aggregator itself, one line per source, for `status`, health and `/readyz`.

use std::{collections::BTreeMap, sync::Mutex};

/// Where a problem was noticed. One line each is kept, so the list cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Observations cannot be made durable.
    History,
    /// Sealing, merging or retention fails; observations are still durable.
    Sealing,
    /// Incidents cannot be saved.
    Store,
    /// Nodes cannot be saved.
    Roll,
    /// What the detector learnt cannot be saved.
    Memory,
    /// What an earlier run learnt cannot be read.
    Remembered,
    /// What comparing with Prometheus came to cannot be saved.
    CrossChecks,
    /// The configuration's file changed, and not all of it is in use.
    Configuration,
    /// The identity file has errors.
    Identity,
    /// The API server cannot be watched.
    Kubernetes,
    /// What nodes say of their pods is not what the API server says.
    Claims,
    /// The certificate cannot be renewed.
    Certificate,
    /// The API server cannot be asked about tokens.
    ApiServer,
    /// The CA's certificate cannot be published.
    Publishing,
    /// Somebody cannot be notified.
    Notify,
    /// Nodes that no agent watches.
    Agents,
    /// Kubernetes Events cannot be created.
    Events,
    /// Kubernetes Events were left out: too many at once.
    EventsDropped,
    /// The detector met a limit and does not judge everything.
    Detector,
}

impl Source {
    /// Whether the aggregator can take observations in while this is wrong.
    #[must_use]
    pub const fn blocks_ingest(self) -> bool {
        matches!(self, Self::History)
    }
}

/// The current problems.
#[derive(Debug, Default)]
pub struct Problems(Mutex<BTreeMap<Source, String>>);

impl Problems {
    /// States a problem; replaces what was stated for the same source.
    pub fn state(&self, source: Source, line: impl Into<String>) {
        self.lock().insert(source, line.into());
    }

    /// Withdraws it.
    pub fn clear(&self, source: Source) {
        self.lock().remove(&source);
    }

    /// One line per problem.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    /// Whether observations can be taken in.
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.lock().keys().any(|source| source.blocks_ingest())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Source, String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_history_that_cannot_write_makes_the_aggregator_unready() {
        let problems = Problems::default();

        problems.state(Source::Identity, "line 3: no pod_uid");
        let with_identity = problems.ready();
        problems.state(Source::History, "no space left");

        assert!(with_identity);
        assert!(!problems.ready());
        assert_eq!(problems.lines(), ["no space left", "line 3: no pod_uid"]);
    }
}
