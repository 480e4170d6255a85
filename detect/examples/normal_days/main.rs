//! A hundred container-days of made-up ordinary work through the detector: what it would have told people, though nothing happened.
//!
//! `cargo run --release -p vedette-detect --example normal_days [container-days] [seed]`
//!
//! Web services with a daily rhythm, clients in bursts, caches, databases with checkpoints, hourly jobs that take a core, a batch worker, log
//! shippers and a scraper, on three nodes; every service rolls out several times a day. Event time, a row a second, as an agent sends them.
//! Prints a list of figures as JSON; what was told, and how often, goes to standard error.

mod cluster;
mod load;

use std::collections::BTreeMap;

use vedette_proto::v1::Severity;

use self::cluster::Cluster;

/// One-sided confidence of the upper bounds.
const CONFIDENCE: f64 = 0.95;

fn main() {
    let mut args = std::env::args().skip(1);
    let days: f64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(100.0);
    let seed: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut cluster = Cluster::new(seed);
    let mut said = 0;
    while cluster.container_seconds() < days * 86_400.0 {
        cluster.tick();
        let done = (cluster.container_seconds() / 864.0 / days) as u32;
        if done >= said + 10 {
            said = done;
            eprintln!("normal days: {done} %, {} incidents so far", cluster.told.len());
        }
    }
    let of = |severity: Severity| cluster.told.values().filter(|(most, _)| *most == severity).count();
    let (pages, tickets) = (of(Severity::Page), of(Severity::Ticket) + of(Severity::Page));
    let mut sorts: BTreeMap<(Severity, &str), usize> = BTreeMap::new();
    cluster.told.values().for_each(|(most, summary)| *sorts.entry((*most, summary.as_str())).or_default() += 1);
    for ((severity, summary), count) in sorts.iter().filter(|((severity, _), _)| *severity >= Severity::Ticket) {
        eprintln!("{count:>5} x {severity:?}: {summary}");
    }
    let days = cluster.container_seconds() / 86_400.0;
    eprintln!("normal days: {days:.1} container-days, {} rows, seed {seed}", cluster.rows);
    let figure = |metric: &str, value: f64, target: &str| {
        format!(
            "{{\"dataset\":\"made-up normal days, seed {seed}\",\"split\":\"none: nothing is trained\",\"model\":\"vedette\",\"metric\":\"{metric}\",\"value\":{value},\"target\":\"{target}\"}}"
        )
    };
    let figures = [
        figure("container-days", days, ">= 100"),
        figure("pages", pages as f64, "0"),
        figure("pages per container-day, upper bound", upper(pages) / days, ""),
        figure("tickets, pages among them", tickets as f64, ""),
        figure("tickets per container-day, upper bound", upper(tickets) / days, ""),
    ];
    println!("[{}]", figures.join(",\n "));
}

/// The mean count that is exceeded in 95 of 100 runs where so many were counted (F. Garwood, Biometrika 28, 1936), by bisection.
fn upper(count: usize) -> f64 {
    let at_most = |mean: f64| {
        let mut term = (-mean).exp();
        (1..=count).fold(term, |sum, n| {
            term *= mean / n as f64;
            sum + term
        })
    };
    let (mut low, mut high) = (0.0, 10.0 + 3.0 * count as f64);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if at_most(middle) > 1.0 - CONFIDENCE { low = middle } else { high = middle }
    }
    high
}
