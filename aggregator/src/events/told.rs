//! Which incidents were told, and how loudly.

use std::collections::BTreeMap;

use vedette_proto::v1::{self, Origin, Severity};

/// Open incidents remembered; beyond it the oldest are forgotten, and told once more if they change.
const MOST: usize = 16_384;

/// Open incidents by id, with the severity that was told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<u64, Severity>);

impl Told {
    /// These were told before.
    pub fn new(open: &[v1::Incident]) -> Self {
        let mut told = Self::default();
        for incident in open {
            told.is_news(incident);
        }
        told
    }

    /// Whether this is the first that is heard of an open incident at this severity. Notes, late data and replays are nobody's news.
    pub fn is_news(&mut self, incident: &v1::Incident) -> bool {
        if incident.resolved_unix_ms != 0 {
            self.0.remove(&incident.id);
            return false;
        }
        let severity = incident.severity();
        if severity < Severity::Ticket || incident.origin() != Origin::Live {
            return false;
        }
        let louder = self.0.get(&incident.id).is_none_or(|told| *told < severity);
        if louder {
            self.0.insert(incident.id, severity);
            if self.0.len() > MOST {
                self.0.pop_first();
            }
        }
        louder
    }

    /// It was not told after all: the incident's next change is news again.
    pub fn take_back(&mut self, incident: &v1::Incident) {
        self.0.remove(&incident.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(id: u64, severity: Severity, resolved_unix_ms: i64) -> v1::Incident {
        v1::Incident { id, severity: severity.into(), resolved_unix_ms, origin: Origin::Live.into(), ..v1::Incident::default() }
    }

    #[test]
    fn an_incident_is_news_as_a_ticket_and_once_more_as_a_page() {
        let mut told = Told::default();
        let mut news = |severity, resolved| told.is_news(&incident(7, severity, resolved));

        assert!(!news(Severity::Note, 0));
        assert!(news(Severity::Ticket, 0));
        assert!(!news(Severity::Ticket, 0), "an update");
        assert!(news(Severity::Page, 0));
        assert!(!news(Severity::Page, 0) && !news(Severity::Ticket, 0));
        assert!(!news(Severity::Page, 9), "its end");
    }

    #[test]
    fn what_an_earlier_run_told_is_news_only_when_it_becomes_a_page() {
        let mut told = Told::new(&[incident(7, Severity::Ticket, 0)]);

        assert!(!told.is_news(&incident(7, Severity::Ticket, 0)));
        assert!(told.is_news(&incident(7, Severity::Page, 0)));
    }

    #[test]
    fn late_data_and_replays_are_nobodys_news() {
        for origin in [Origin::Late, Origin::Replay] {
            let incident = v1::Incident { origin: origin.into(), ..incident(1, Severity::Page, 0) };

            assert!(!Told::default().is_news(&incident), "{origin:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut told = Told::default();
        for id in 0..MOST as u64 + 100 {
            told.is_news(&incident(id, Severity::Ticket, 0));
        }

        assert_eq!(told.0.len(), MOST);
    }
}
