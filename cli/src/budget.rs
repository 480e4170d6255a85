//! `vedette budget`: how often people were bothered, what was withheld, and how much is missed.

use clap::Args;
use jiff::Timestamp;
use vedette_proto::v1::{GetBudgetRequest, GetBudgetResponse, Incident, JudgedQuiet, Rate};

use crate::alerts::rate_json;
use crate::cell::Cell;
use crate::client::Client;
use crate::containers::place;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::units;
use crate::when::{self, When};

/// Flags of `vedette budget`.
#[derive(Debug, Args)]
pub struct BudgetArgs {
    /// Only from then on: 7d, 28d (ago), "2026-11-22 10:00" (local) or RFC 3339 [default: all so far]
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// List at most so many withheld incidents, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

/// Prints it.
pub async fn run(args: BudgetArgs, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let since_unix_ms = args.since.map_or(0, |since| since.unix_ms(now));
    let request = GetBudgetRequest { since_unix_ms, digest_limit: args.limit };
    let budget = waiting("asking for the budget", client.policy.get_budget(request)).await.map_err(Stop::from)?.into_inner();
    match output.format {
        Format::Table => table(output, &budget)?,
        Format::Json | Format::Csv => data(output, &budget)?,
    }
    Ok(Exit::Ok)
}

fn rates(budget: &GetBudgetResponse) -> [(&'static str, Rate); 4] {
    [
        ("pages", budget.pages.unwrap_or_default()),
        ("would have paged", budget.would_have_paged.unwrap_or_default()),
        ("tickets", budget.tickets.unwrap_or_default()),
        ("digest", budget.digest.unwrap_or_default()),
    ]
}

fn table(output: &mut Output, budget: &GetBudgetResponse) -> anyhow::Result<()> {
    let days = budget.tickets.unwrap_or_default().days;
    let since = when::local(budget.since_unix_ms, &output.zone);
    output.line(&format!("Since {since}: {} days of watching, on which every rate rests.", units::number(days)))?;
    output.line("")?;
    let mut rows = output.rows(["", "COUNT", "PER WEEK", "95 % INTERVAL"].map(Column::table).into())?;
    for (name, rate) in rates(budget) {
        let interval = match (rate.low_per_week, rate.high_per_week) {
            (Some(low), Some(high)) => Cell::Text(format!("{} to {}", units::number(low), units::number(high))),
            _ => Cell::Absent,
        };
        let per_week = rate.per_week.map_or(Cell::Absent, |per_week| Cell::Text(units::number(per_week)));
        rows.row(vec![Cell::text(name), Cell::Unsigned(rate.count), per_week, interval])?;
    }
    rows.end()?;
    if !budget.namespaces.is_empty() {
        output.line("")?;
        let mut rows = output.rows(["NAMESPACE", "PAGES", "WOULD HAVE PAGED", "TICKETS", "DIGEST"].map(Column::table).into())?;
        for one in &budget.namespaces {
            let counts = [one.pages, one.would_have_paged, one.tickets, one.digest].map(Cell::Unsigned);
            rows.row([Cell::text(&one.namespace)].into_iter().chain(counts).collect())?;
        }
        rows.end()?;
    }
    output.line("")?;
    for rota in &budget.rotas {
        output.line(&format!(
            "Rota {}: {} of {} pages in 7 days, {} of {} tickets in 24 hours.",
            escaped(&rota.name),
            rota.pages_spent,
            rota.pages_per_week,
            rota.tickets_spent,
            rota.tickets_per_day
        ))?;
    }
    if !budget.withheld.is_empty() {
        let counts = budget.withheld.iter().map(|one| format!("{} {}", one.count, one.withheld().word()));
        output.line(&format!("Withheld: {}.", counts.collect::<Vec<_>>().join(", ")))?;
        for incident in &budget.listed {
            let line = withheld(incident, output);
            output.line(&format!("  {line}"))?;
        }
    }
    output.line(&judged(&budget.judged.unwrap_or_default()))?;
    std::io::Write::flush(&mut output.sink)?;
    Ok(())
}

/// A withheld incident in one line.
fn withheld(incident: &Incident, output: &Output) -> String {
    let by = if incident.withheld_by.is_empty() { String::new() } else { format!(" {}", escaped(&incident.withheld_by)) };
    format!(
        "#{} {} instead of {} ({}{by}): {} in {}, since {}",
        incident.id,
        incident.severity().word(),
        incident.asked_severity().word(),
        incident.withheld().word(),
        escaped(&incident.effect),
        escaped(&place(&incident.workload.clone().unwrap_or_default())),
        when::local(incident.onset_unix_ms, &output.zone)
    )
}

/// How much is missed, in words.
fn judged(judged: &JudgedQuiet) -> String {
    match (judged.low, judged.high) {
        (Some(low), Some(high)) => {
            let [low, high] = [low, high].map(|share| units::number(share * 100.0));
            format!(
                "Judged quiet windows: {} of {} were attacks that nobody was told of (95 % interval {low} to {high} %); {} unsure.",
                judged.misses, judged.judged, judged.unsure
            )
        }
        _ => "Judged quiet windows: none yet, so nobody knows what is missed; `vedette judge` draws some.".to_owned(),
    }
}

fn data(output: &mut Output, budget: &GetBudgetResponse) -> anyhow::Result<()> {
    if output.format == Format::Csv {
        let columns = ["what", "count", "days", "per_week", "low_per_week", "high_per_week"].map(Column::data).into();
        let mut rows = output.rows(columns)?;
        for (name, rate) in rates(budget) {
            let number = |value: Option<f64>| value.map_or(Cell::Absent, Cell::Number);
            let ends = [rate.per_week, rate.low_per_week, rate.high_per_week].map(number);
            rows.row([Cell::text(name), Cell::Unsigned(rate.count), Cell::Number(rate.days)].into_iter().chain(ends).collect())?;
        }
        rows.end()?;
        return Ok(());
    }
    let json = |value: serde_json::Value| Cell::Json(value.to_string());
    let namespaces = budget.namespaces.iter().map(|one| {
        serde_json::json!({
            "namespace": one.namespace, "pages": one.pages, "would_have_paged": one.would_have_paged,
            "tickets": one.tickets, "digest": one.digest,
        })
    });
    let rotas = budget.rotas.iter().map(|rota| {
        serde_json::json!({
            "name": rota.name, "namespaces": rota.namespaces, "pages_per_week": rota.pages_per_week,
            "tickets_per_day": rota.tickets_per_day, "pages_spent": rota.pages_spent, "tickets_spent": rota.tickets_spent,
        })
    });
    let withheld = budget.withheld.iter().map(|one| serde_json::json!({ "reason": one.withheld().word(), "count": one.count }));
    let listed = budget.listed.iter().map(|incident| {
        serde_json::json!({
            "id": incident.id, "severity": incident.severity().word(), "asked_severity": incident.asked_severity().word(),
            "withheld": incident.withheld().word(), "withheld_by": incident.withheld_by, "summary": incident.summary,
        })
    });
    let judged = budget.judged.unwrap_or_default();
    let judged = serde_json::json!({
        "judged": judged.judged, "misses": judged.misses, "low": judged.low, "high": judged.high, "unsure": judged.unsure,
    });
    let names = ["since", "pages", "would_have_paged", "tickets", "digest", "namespaces", "rotas", "withheld", "listed", "judged"];
    let mut cells = vec![Cell::instant(budget.since_unix_ms)];
    cells.extend(rates(budget).map(|(_, rate)| json(rate_json(&rate))));
    cells.extend([json(namespaces.collect()), json(rotas.collect()), json(withheld.collect()), json(listed.collect()), json(judged)]);
    output.object(names.map(Column::data).into(), &cells)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_said_with_its_interval_and_nothing_is_said_of_none() {
        let some = JudgedQuiet { judged: 20, misses: 1, low: Some(0.0013), high: Some(0.2487), unsure: 2 };

        assert!(judged(&some).contains("1 of 20 were attacks that nobody was told of (95 % interval 0.13 to 24.9 %); 2 unsure"));
        assert!(judged(&JudgedQuiet::default()).contains("none yet"));
    }
}
