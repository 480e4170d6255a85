//! The budget: what was spent, by whom, and whether there is room for one more.

use std::collections::HashMap;

use vedette_proto::v1::{Severity, Withheld};

use super::Rota;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// Candidates for a page are ranked among those of so long.
pub const LOOK_BACK_MS: i64 = 4 * WEEK_MS;
/// Entries kept; beyond it the oldest that never paged go first.
const MAX_ENTRIES: usize = 20_000;

/// What was decided about one incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The incident.
    pub incident_id: u64,
    /// Its namespace.
    pub namespace: String,
    /// The rota that was called.
    pub rota: String,
    /// How loud it is among others.
    pub rank: f32,
    /// First event time, Unix milliseconds; so are those below.
    pub unix_ms: i64,
    /// What detection asked for, after exceptions.
    pub wanted: Severity,
    /// How loudly it speaks.
    pub given: Severity,
    /// Why not louder.
    pub withheld: Withheld,
    /// Name of the exception or the rota.
    pub by: String,
    /// When it asked for a page.
    pub asked_page_ms: Option<i64>,
    /// When it became a ticket.
    pub ticketed_ms: Option<i64>,
    /// When it paged.
    pub paged_ms: Option<i64>,
    /// When it would have paged, had the installation paged.
    pub would_page_ms: Option<i64>,
}

impl Entry {
    pub(super) fn new(incident_id: u64, namespace: &str, unix_ms: i64) -> Self {
        Self {
            incident_id,
            namespace: namespace.to_owned(),
            rota: String::new(),
            rank: 0.0,
            unix_ms,
            wanted: Severity::Unspecified,
            given: Severity::Note,
            withheld: Withheld::Unspecified,
            by: String::new(),
            asked_page_ms: None,
            ticketed_ms: None,
            paged_ms: None,
            would_page_ms: None,
        }
    }
}

/// What a budget was spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Pages within 7 days; while observing, those that would have been.
    pub pages: u32,
    /// Tickets within 24 hours.
    pub tickets: u32,
}

/// One of the two budgets at an instant.
struct Purse {
    cap: u32,
    spent: u32,
    by_namespace: u32,
    /// Others ask, too.
    has_neighbours: bool,
    /// Candidates of the look-back that were louder.
    louder: u32,
    /// Budgets of the look-back, together.
    cap_of_look_back: f64,
}

impl Purse {
    /// A hard cap; of what others left, half of it at most for one namespace; and the second half only for what is loud enough
    /// that there were not more of its loudness than budget.
    fn has_room(&self) -> bool {
        let left_by_others = self.cap.saturating_sub(self.spent - self.by_namespace);
        let share = if self.has_neighbours { left_by_others.div_ceil(2) } else { left_by_others };
        let first_half = u64::from(self.spent) * 2 < u64::from(self.cap);
        self.spent < self.cap && self.by_namespace < share && (first_half || f64::from(self.louder) < self.cap_of_look_back)
    }
}

/// The entries of the last weeks.
pub(super) struct Ledger {
    began_unix_ms: i64,
    entries: HashMap<u64, Entry>,
}

impl Ledger {
    pub fn new(began_unix_ms: i64, entries: HashMap<u64, Entry>) -> Self {
        Self { began_unix_ms, entries }
    }

    pub fn entry(&self, incident_id: u64) -> Option<&Entry> {
        self.entries.get(&incident_id)
    }

    pub fn take(&mut self, incident_id: u64) -> Option<Entry> {
        self.entries.remove(&incident_id)
    }

    pub fn put(&mut self, entry: Entry) {
        let now = entry.unix_ms;
        self.entries.insert(entry.incident_id, entry);
        if self.entries.len() <= MAX_ENTRIES {
            return;
        }
        self.entries.retain(|_, old| now - old.unix_ms < LOOK_BACK_MS);
        let mut order: Vec<(bool, i64, u64)> =
            self.entries.values().map(|one| (one.paged_ms.or(one.would_page_ms).is_some(), one.unix_ms, one.incident_id)).collect();
        order.sort_unstable();
        // A tenth at once, so that this is seldom.
        let too_many = self.entries.len().saturating_sub(MAX_ENTRIES * 9 / 10);
        for (_, _, id) in order.into_iter().take(too_many) {
            self.entries.remove(&id);
        }
    }

    pub fn spent(&self, rota: &str, pages: bool, unix_ms: i64) -> Spent {
        let within = |at: Option<i64>, window: i64| at.is_some_and(|at| at > unix_ms - window);
        let of_rota = || self.entries.values().filter(|entry| entry.rota == rota);
        Spent {
            pages: of_rota().filter(|entry| within(entry.page_ms(pages), WEEK_MS)).count() as u32,
            tickets: of_rota().filter(|entry| within(entry.ticketed_ms, DAY_MS)).count() as u32,
        }
    }

    /// Decides about an incident that asks for more than before; `entry` is not in the ledger while that is done.
    pub fn decide(&self, entry: &mut Entry, wanted: Severity, rota: &Rota, pages: bool, has_neighbours: bool, unix_ms: i64) {
        if wanted == Severity::Page {
            entry.asked_page_ms.get_or_insert(unix_ms);
            if self.page_purse(entry, rota, pages, has_neighbours, unix_ms).has_room() {
                if pages {
                    entry.paged_ms.get_or_insert(unix_ms);
                    entry.given = Severity::Page;
                    return;
                }
                entry.would_page_ms.get_or_insert(unix_ms);
                entry.withheld = Withheld::Observing;
                entry.by.clear();
            } else {
                entry.withheld = Withheld::PageBudget;
                rota.name.clone_into(&mut entry.by);
            }
        }
        if wanted < Severity::Ticket || entry.given >= Severity::Ticket {
            return;
        }
        if entry.ticketed_ms.is_some() || self.ticket_purse(entry, wanted, rota, has_neighbours, unix_ms).has_room() {
            entry.ticketed_ms.get_or_insert(unix_ms);
            entry.given = Severity::Ticket;
        } else {
            entry.withheld = Withheld::TicketBudget;
            rota.name.clone_into(&mut entry.by);
        }
    }

    fn page_purse(&self, entry: &Entry, rota: &Rota, pages: bool, has_neighbours: bool, unix_ms: i64) -> Purse {
        let weeks = ((unix_ms - self.began_unix_ms) as f64 / WEEK_MS as f64).clamp(1.0, 4.0);
        let mut purse = Purse {
            cap: rota.pages_per_week,
            spent: 0,
            by_namespace: 0,
            has_neighbours,
            louder: 0,
            cap_of_look_back: weeks * f64::from(rota.pages_per_week),
        };
        for other in self.entries.values().filter(|other| other.rota == rota.name) {
            if other.page_ms(pages).is_some_and(|at| at > unix_ms - WEEK_MS) {
                purse.spend(other.namespace == entry.namespace);
            }
            let asked = other.asked_page_ms.is_some_and(|at| at > unix_ms - LOOK_BACK_MS);
            purse.louder += u32::from(asked && other.rank > entry.rank);
        }
        purse
    }

    fn ticket_purse(&self, entry: &Entry, wanted: Severity, rota: &Rota, has_neighbours: bool, unix_ms: i64) -> Purse {
        let days = ((unix_ms - self.began_unix_ms) as f64 / DAY_MS as f64).clamp(1.0, 7.0);
        // A quarter is for those that asked for a page: they are never lost among tickets.
        let kept = if wanted == Severity::Page { 0 } else { rota.tickets_per_day / 4 };
        let mut purse = Purse {
            cap: rota.tickets_per_day - kept,
            spent: 0,
            by_namespace: 0,
            has_neighbours,
            louder: 0,
            cap_of_look_back: days * f64::from(rota.tickets_per_day),
        };
        for other in self.entries.values().filter(|other| other.rota == rota.name) {
            if other.ticketed_ms.is_some_and(|at| at > unix_ms - DAY_MS) {
                purse.spend(other.namespace == entry.namespace);
            }
            let asked = other.wanted >= Severity::Ticket && other.unix_ms > unix_ms - WEEK_MS;
            purse.louder += u32::from(asked && other.rank > entry.rank);
        }
        purse
    }
}

impl Purse {
    fn spend(&mut self, same_namespace: bool) {
        self.spent += 1;
        self.by_namespace += u32::from(same_namespace);
    }
}

impl Entry {
    /// When it spent a page; while observing, when it would have.
    fn page_ms(&self, pages: bool) -> Option<i64> {
        if pages { self.paged_ms } else { self.would_page_ms }
    }
}
