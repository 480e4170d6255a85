//! Incidents as Kubernetes Events, where that is configured: one when an incident becomes a ticket or a page, another when a ticket becomes a page.
//!
//! An Event can be read by whoever may read a namespace, the owner of an attacked pod among them: it tells an attacker that he was seen. Hence off by default.

mod budget;
mod message;
mod told;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use vedette_proto::v1;

use crate::{
    Shared,
    auth::kubernetes::{Unasked, unasked},
    counters::Counters,
    kubernetes::Kubernetes,
    problems::{Problems, Source},
};
use budget::Budget;
use told::Told;

/// An API server answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a failure that may pass an Event is tried again; as often as this says.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// What became of an incident that should have been told. Prints its own metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An Event was created, or was there from an earlier run.
    Created,
    /// The API server refused it or did not answer.
    Failed,
    /// The rate was spent.
    Rate,
    /// More incidents changed than are kept for who is slow.
    Missed,
    /// No object that the API server knows: a container outside of Kubernetes, or a pod that is gone.
    NoObject,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Created, Self::Failed, Self::Rate, Self::Missed, Self::NoObject];

    /// The label on `/metrics`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Failed => "failed",
            Self::Rate => "rate",
            Self::Missed => "missed",
            Self::NoObject => "no_object",
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can tell any more: the changes end by themselves.
        std::future::pending::<()>().await;
    }
}

/// Tells of incidents until told to stop.
pub struct Events {
    client: Client,
    kubernetes: Arc<Kubernetes>,
    counters: Arc<Counters>,
    problems: Arc<Problems>,
    told: Told,
    budget: Budget,
    /// Not told since the start because of the rate or because too many changed at once.
    dropped: u64,
}

impl Events {
    /// `open` are incidents that an earlier run left open: they were told then.
    #[must_use]
    pub fn new(client: Client, kubernetes: Arc<Kubernetes>, shared: &Shared, open: &[v1::Incident]) -> Self {
        let (counters, problems) = (Arc::clone(&shared.counters), Arc::clone(&shared.problems));
        Self { client, kubernetes, counters, problems, told: Told::new(open), budget: Budget::default(), dropped: 0 }
    }

    /// Follows the changes. These are the queue: as many as the broadcast keeps, older ones are missed and counted.
    pub async fn run(mut self, mut changes: broadcast::Receiver<v1::WatchIncidentsResponse>, mut stop: watch::Receiver<bool>) {
        loop {
            let received = tokio::select! {
                () = stopped(&mut stop) => return,
                received = changes.recv() => received,
            };
            match received {
                Ok(change) => {
                    let Some(incident) = change.incident else { continue };
                    tokio::select! {
                        () = stopped(&mut stop) => return,
                        () = self.take(&incident) => {}
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.dropped += missed;
                    self.counters.events_told(Outcome::Missed, missed);
                    self.tell_dropped();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn take(&mut self, incident: &v1::Incident) {
        let own = incident.workload.as_ref().is_some_and(|workload| workload.cluster == self.kubernetes.cluster());
        if !own || !self.told.is_news(incident) {
            return;
        }
        let Some(event) = message::event(incident, |namespace, pod| self.kubernetes.pod_object(namespace, pod)) else {
            self.counters.events_told(Outcome::NoObject, 1);
            return;
        };
        let page = incident.severity() == v1::Severity::Page;
        if !self.budget.take(page, Instant::now()) {
            if page {
                // A page is said as soon as there is room; it changes every few seconds.
                self.told.take_back(incident);
            }
            self.dropped += 1;
            self.counters.events_told(Outcome::Rate, 1);
            self.tell_dropped();
            return;
        }
        match self.create(&event).await {
            Ok(()) => {
                self.counters.events_told(Outcome::Created, 1);
                self.problems.clear(Source::Events);
            }
            Err(error) => {
                self.counters.events_told(Outcome::Failed, 1);
                tracing::warn!(incident = incident.id, %error, "cannot create an Event");
                self.problems.state(Source::Events, format!("Events: incident {} is not told: {error}", incident.id));
            }
        }
    }

    fn tell_dropped(&self) {
        let line = format!("Events: {} changes of incidents not told since the start: too many at once", self.dropped);
        self.problems.state(Source::EventsDropped, line);
    }

    async fn create(&self, event: &Event) -> Result<(), Unasked> {
        let api = Api::<Event>::namespaced(self.client.clone(), event.metadata.namespace.as_deref().unwrap_or_default());
        let mut waits = AGAIN.into_iter();
        loop {
            let answer = tokio::time::timeout(PATIENCE, api.create(&PostParams::default(), event)).await;
            let (passing, error) = match answer {
                Ok(Ok(_)) => return Ok(()),
                // Its name says which incident and severity: an earlier run told it.
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Ok(()),
                Ok(Err(kube::Error::Api(status))) => {
                    let passing = status.code == 429 || status.code >= 500;
                    (passing, unasked("events", &kube::Error::Api(status)))
                }
                Ok(Err(error)) => (true, unasked("events", &error)),
                Err(_) => (true, Unasked(format!("events: no answer within {} s", PATIENCE.as_secs()))),
            };
            match waits.next().filter(|_| passing) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
