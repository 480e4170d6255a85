//! How notifying goes, on `/metrics`. Labels come from the configuration, so nothing here grows.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    receiver: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    receiver: String,
    reason: &'static str,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts {
    sent: Family<Of, Counter>,
    failed: Family<Failure, Counter>,
    /// Alerts that fire now.
    pub firing: Gauge,
    /// Incidents that nobody was told of, because of a limit or because a receiver was away too long.
    pub dropped: Counter,
}

impl Counts {
    /// Names them for `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("notifications_sent", "Calls that a receiver accepted", self.sent.clone());
        registry.register("notifications_failed", "Calls that failed, by reason", self.failed.clone());
        registry.register("notifications_firing", "Incidents that receivers are told of now", self.firing.clone());
        let help = "Incidents that a receiver was not told of: too many at once, refused for good, or away for too long";
        registry.register("notifications_dropped", help, self.dropped.clone());
    }

    /// A rate needs a zero to begin with.
    pub(super) fn begin(&self, receiver: &str) {
        let _ = self.sent.get_or_create(&Of { receiver: receiver.to_owned() });
        for reason in ["file", "unreachable", "refused"] {
            let _ = self.failed.get_or_create(&Failure { receiver: receiver.to_owned(), reason });
        }
    }

    pub(super) fn sent(&self, receiver: &str) {
        self.sent.get_or_create(&Of { receiver: receiver.to_owned() }).inc();
    }

    pub(super) fn failed(&self, receiver: &str, reason: &'static str) {
        self.failed.get_or_create(&Failure { receiver: receiver.to_owned(), reason }).inc();
    }
}
