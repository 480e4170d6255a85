//! Counts over decisions: pure.

use std::collections::BTreeMap;

use vedette_detect::policy::Entry;
use vedette_proto::v1::{AlertDay, NamespaceBudget, Rate, Severity, Withheld, WithheldCount};

use super::rate::rate;
use crate::store::DAY_MS;

/// Most namespaces told.
const MAX_NAMESPACES: usize = 100;
/// Days told.
const MAX_DAYS: i64 = 14;

/// How often people were bothered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Pages.
    pub pages: Rate,
    /// What would have paged.
    pub would_have_paged: Rate,
    /// Tickets.
    pub tickets: Rate,
    /// Notes that policy made.
    pub digest: Rate,
    /// The most bothering first.
    pub namespaces: Vec<NamespaceBudget>,
    /// By reason.
    pub withheld: Vec<WithheldCount>,
}

/// Paged, would have, ticket, digest: each at most once.
fn of(entry: &Entry) -> [bool; 4] {
    let paged = entry.paged_ms.is_some();
    let would = entry.would_page_ms.is_some() && !paged;
    let digest = entry.withheld != Withheld::Unspecified && entry.given < Severity::Ticket && !paged && entry.ticketed_ms.is_none();
    [paged, would, entry.ticketed_ms.is_some(), digest]
}

/// Counts entries of so many watched milliseconds.
pub fn report(entries: &[Entry], watched_ms: i64) -> Report {
    let days = watched_ms as f64 / DAY_MS as f64;
    let mut totals = [0u64; 4];
    let mut namespaces: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    let mut withheld: BTreeMap<Withheld, u64> = BTreeMap::new();
    for entry in entries {
        let of_namespace = namespaces.entry(&entry.namespace).or_default();
        for (place, holds) in of(entry).into_iter().enumerate() {
            totals[place] += u64::from(holds);
            of_namespace[place] += u64::from(holds);
        }
        if entry.withheld != Withheld::Unspecified {
            *withheld.entry(entry.withheld).or_default() += 1;
        }
    }
    let mut by_namespace: Vec<_> = namespaces.into_iter().collect();
    by_namespace.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let namespace = |(name, [pages, would_have_paged, tickets, digest]): (&str, [u64; 4])| NamespaceBudget {
        namespace: name.to_owned(),
        pages,
        would_have_paged,
        tickets,
        digest,
    };
    let [pages, would_have_paged, tickets, digest] = totals.map(|count| rate(count, days));
    Report {
        pages,
        would_have_paged,
        tickets,
        digest,
        namespaces: by_namespace.into_iter().take(MAX_NAMESPACES).map(namespace).collect(),
        withheld: withheld.into_iter().map(|(withheld, count)| WithheldCount { withheld: withheld.into(), count }).collect(),
    }
}

/// The last days of the calendar (UTC), the newest first; `watched` is days since 1970 with milliseconds.
pub fn days(entries: &[Entry], watched: &[(i64, i64)], now_unix_ms: i64) -> Vec<AlertDay> {
    let today = now_unix_ms.div_euclid(DAY_MS);
    let first = watched.first().map_or(today, |(day, _)| *day).max(today - MAX_DAYS + 1).min(today);
    let on = |at: Option<i64>, day: i64| at.is_some_and(|at| at.div_euclid(DAY_MS) == day);
    let count = |holds: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| holds(entry)).count() as u32;
    (first..=today)
        .rev()
        .map(|day| AlertDay {
            start_unix_ms: day * DAY_MS,
            watched_seconds: watched.iter().find(|(of, _)| *of == day).map_or(0, |(_, ms)| (ms / 1_000) as u32),
            pages: count(&|entry| on(entry.paged_ms, day)),
            would_have_paged: count(&|entry| of(entry)[1] && on(entry.would_page_ms, day)),
            tickets: count(&|entry| on(entry.ticketed_ms, day)),
            digest: count(&|entry| of(entry)[3] && on(Some(entry.unix_ms), day)),
        })
        .collect()
}
