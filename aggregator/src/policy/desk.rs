//! Where the pure policy meets the store and the fleet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vedette_detect::policy::{Around, Config, Exception, LOOK_BACK_MS, Policy};
use vedette_proto::v1::{AlertState, Incident, Severity, Withheld};

use crate::{
    fleet::Fleet,
    store::{DAY_MS, Store, StoreError, StoredAlerts, StoredException},
};

/// Decides about incidents, and keeps what it decided.
pub struct Desk {
    cluster: Arc<str>,
    store: Store,
    fleet: Arc<Fleet>,
    config: Config,
    /// Held for a decision only, never while something is awaited.
    policy: Mutex<Policy>,
}

impl Desk {
    /// Over what was decided before. The first call on a store is when the installation begins.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(cluster: Arc<str>, config: Config, store: Store, fleet: Arc<Fleet>, now_unix_ms: i64) -> Result<Self, StoreError> {
        let alerts = store.alerts(now_unix_ms).await?;
        let entries = store.decisions(now_unix_ms - LOOK_BACK_MS).await?;
        let policy = Policy::new(&cluster, config.clone(), alerts.installed_unix_ms, entries);
        let desk = Self { cluster, store, fleet, config, policy: Mutex::new(policy) };
        desk.reload(now_unix_ms).await?;
        Ok(desk)
    }

    /// What was configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads exceptions, and whether to page, again: call it after they changed.
    ///
    /// # Errors
    /// What the store says.
    pub async fn reload(&self, now_unix_ms: i64) -> Result<(), StoreError> {
        let alerts = self.store.alerts(now_unix_ms).await?;
        let exceptions = self.store.exceptions(now_unix_ms, false).await?;
        let mut policy = self.policy();
        policy.set_exceptions(exceptions.into_iter().map(pure).collect());
        policy.set_pages(self.state(&alerts) == AlertState::Enabled);
        Ok(())
    }

    /// Whether it pages, by what somebody said.
    pub fn state(&self, alerts: &StoredAlerts) -> AlertState {
        match alerts.pages {
            Some(true) => AlertState::Enabled,
            Some(false) => AlertState::Disabled,
            None if self.config.observe_days == 0 => AlertState::Enabled,
            None => AlertState::Observing,
        }
    }

    /// Until when it only observes, Unix milliseconds.
    pub fn observes_until(&self, alerts: &StoredAlerts) -> i64 {
        alerts.installed_unix_ms + i64::from(self.config.observe_days) * DAY_MS
    }

    /// Gives an incident the severity that policy decides, and says in it why; stores the decision. An incident whose decision cannot be
    /// stored has it all the same.
    ///
    /// # Errors
    /// What the store says.
    pub async fn decide(&self, incident: &mut Incident) -> Result<(), StoreError> {
        let namespace = incident.workload.as_ref().map_or("", |workload| &workload.namespace);
        let ids = &incident.container_ids;
        let (decision, entry) = {
            let images = || self.fleet.image_digests(&self.cluster, ids);
            let neighbours = || self.fleet.has_other_namespaces(&self.cluster, namespace);
            let around = Around { has_neighbours: &neighbours, images: &images };
            let mut policy = self.policy();
            let decision = policy.decide(incident, &around);
            let entry = decision.entry_changed.then(|| policy.entry(incident.id).cloned()).flatten();
            (decision, entry)
        };
        if decision.severity < incident.severity() {
            incident.asked_severity = incident.severity;
            incident.severity = decision.severity.into();
            incident.withheld = decision.withheld.into();
            let said = words(decision.withheld, incident.asked_severity(), &decision.by);
            incident.withheld_by = decision.by;
            incident.summary.push_str(&said);
        }
        match entry {
            Some(entry) => self.store.save_decision(&entry).await,
            None => Ok(()),
        }
    }

    /// What a rota's budget was spent on, at an instant of event time: pages in 7 days, tickets in 24 hours.
    pub fn spent(&self, rota: &str, unix_ms: i64) -> (u32, u32) {
        let spent = self.policy().spent(rota, unix_ms);
        (spent.pages, spent.tickets)
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        // A decision is whole or not there at all.
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How loudly detection asked an incident to speak.
pub(crate) fn asked(incident: &Incident) -> Severity {
    incident.asked_severity().max(incident.severity())
}

/// What an incident's summary ends with, so that it is seen wherever the incident is.
fn words(withheld: Withheld, asked: Severity, by: &str) -> String {
    match withheld {
        Withheld::Unspecified => String::new(),
        Withheld::Observing => "; would have paged".to_owned(),
        Withheld::PageBudget => format!("; asked for a page beyond the budget of rota {by}"),
        Withheld::TicketBudget => format!("; asked for a {} beyond the budget of rota {by}", asked.word()),
        Withheld::Exception => format!("; exception {by}"),
        Withheld::Answered => format!("; like an answered incident ({by})"),
    }
}

/// An exception as the pure policy knows it.
pub(super) fn pure(stored: StoredException) -> Exception {
    let StoredException { exception, answered } = stored;
    let (kind, at_most) = (exception.kind(), exception.at_most());
    Exception {
        name: exception.name,
        namespace: exception.namespace,
        owner_kind: exception.owner_kind,
        owner_name: exception.owner_name,
        container_name: exception.container_name,
        kind,
        expires_unix_ms: exception.expires_unix_ms,
        image_digests: exception.image_digests,
        at_most: at_most.max(Severity::Note),
        like: answered.map(Box::new),
    }
}
