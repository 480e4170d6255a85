//! `vedette alerts`: whether this installation pages, what it would have paged, and saying that it shall.

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use vedette_proto::v1::{AlertState, GetAlertsRequest, GetAlertsResponse, Rate, SetAlertsRequest};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::{units, when};

/// The commands below `vedette alerts`.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Show whether it pages, and day by day what it would have paged
    #[command(after_help = "\
Days are those of the calendar in UTC.

Example:
  vedette alerts status")]
    Status,
    /// Page from now on; says first how often to expect it
    #[command(after_help = "\
Examples:
  vedette alerts enable
  vedette alerts enable --yes
  vedette alerts enable --early --yes     # before the days of observing are over")]
    Enable(EnableArgs),
    /// Page nobody from now on: pages become tickets that say so
    #[command(after_help = "\
Example:
  vedette alerts disable")]
    Disable,
}

/// Flags of `vedette alerts enable`.
#[derive(Debug, Args)]
pub struct EnableArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Do not wait until the days of observing are over
    #[arg(long)]
    early: bool,
}

impl AlertsCommand {
    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Status)
    }
}

/// Runs a command below `vedette alerts`.
pub async fn run(command: AlertsCommand, client: &mut Client, output: &mut Output, now_unix_ms: i64) -> anyhow::Result<Exit> {
    match command {
        AlertsCommand::Status => status(client, output, now_unix_ms).await,
        AlertsCommand::Enable(args) => enable(&args, client, output).await,
        AlertsCommand::Disable => set(client, output, SetAlertsRequest { enabled: false, early: false }).await,
    }
}

async fn asked(client: &mut Client) -> Result<GetAlertsResponse, Stop> {
    let answer = waiting("asking whether it pages", client.policy.get_alerts(GetAlertsRequest {})).await;
    Ok(answer.map_err(Stop::from)?.into_inner())
}

async fn status(client: &mut Client, output: &mut Output, now_unix_ms: i64) -> anyhow::Result<Exit> {
    let alerts = asked(client).await?;
    let expected = alerts.expected.unwrap_or_default();
    if output.format == Format::Table {
        let said = match alerts.state() {
            AlertState::Enabled => output.toned("enabled", Tone::Good),
            _ if alerts.observes_until_unix_ms > now_unix_ms => {
                let left = when::span(alerts.observes_until_unix_ms - now_unix_ms);
                format!("{}: it only observes, for {left} more", output.toned(alerts.state().word(), Tone::Warning))
            }
            _ => format!("{}: `vedette alerts enable` makes it page", output.toned(alerts.state().word(), Tone::Warning)),
        };
        output.line(&format!("Paging is {said}."))?;
        if alerts.changed_unix_ms != 0 {
            let at = when::local(alerts.changed_unix_ms, &output.zone);
            output.line(&format!("Last said by {} at {at}.", crate::escape::escaped(&alerts.changed_by)))?;
        }
        output.line(&format!("To expect: {}.", spoken(&expected)))?;
        output.line("")?;
        let columns = ["DAY (UTC)", "WATCHED", "PAGES", "WOULD HAVE PAGED", "TICKETS", "DIGEST"].map(Column::table).into();
        let mut rows = output.rows(columns)?;
        for day in &alerts.days {
            rows.row(vec![
                Cell::Text(when::utc(day.start_unix_ms).chars().take(10).collect()),
                Cell::Text(when::span(i64::from(day.watched_seconds) * 1_000)),
                Cell::Unsigned(day.pages.into()),
                Cell::Unsigned(day.would_have_paged.into()),
                Cell::Unsigned(day.tickets.into()),
                Cell::Unsigned(day.digest.into()),
            ])?;
        }
        rows.end()?;
        return Ok(Exit::Ok);
    }
    let days: Vec<_> = alerts
        .days
        .iter()
        .map(|day| {
            serde_json::json!({
                "start": when::utc(day.start_unix_ms), "watched_seconds": day.watched_seconds, "pages": day.pages,
                "would_have_paged": day.would_have_paged, "tickets": day.tickets, "digest": day.digest,
            })
        })
        .collect();
    let columns = ["state", "installed", "observes_until", "changed_by", "changed", "expected", "days"].map(Column::data).into();
    let cells = [
        Cell::word(alerts.state().word(), Tone::Plain),
        Cell::instant(alerts.installed_unix_ms),
        Cell::instant(alerts.observes_until_unix_ms),
        Cell::text(&alerts.changed_by),
        Cell::instant(alerts.changed_unix_ms),
        Cell::Json(rate_json(&expected).to_string()),
        Cell::Json(serde_json::Value::from(days).to_string()),
    ];
    output.object(columns, &cells)?;
    Ok(Exit::Ok)
}

async fn enable(args: &EnableArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let alerts = asked(client).await?;
    let expected = alerts.expected.unwrap_or_default();
    eprintln!("vedette: to expect: {}.", spoken(&expected));
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Stop::usage("nobody is there to confirm it; give --yes").into());
        }
        eprint!("Page from now on? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Err(Stop::new(Exit::Failure, "nothing was changed").into());
        }
    }
    set(client, output, SetAlertsRequest { enabled: true, early: args.early }).await
}

async fn set(client: &mut Client, output: &mut Output, request: SetAlertsRequest) -> anyhow::Result<Exit> {
    let answer = waiting("saying whether to page", client.policy.set_alerts(request)).await;
    let state = answer.map_err(Stop::from)?.into_inner().state();
    if output.format == Format::Table {
        output.line(&format!("paging is {}", state.word()))?;
        output.sink.flush()?;
    } else {
        output.object(vec![Column::data("state")], &[Cell::word(state.word(), Tone::Plain)])?;
    }
    Ok(Exit::Ok)
}

/// A rate in words: `1.4 pages per week (95 % interval 0.5 to 3.1), from 6 in 29.9 days of watching`.
fn spoken(rate: &Rate) -> String {
    let rests = format!("from {} in {} days of watching", rate.count, units::number(rate.days));
    match (rate.per_week, rate.low_per_week, rate.high_per_week) {
        (Some(per_week), Some(low), Some(high)) => {
            let [per_week, low, high] = [per_week, low, high].map(units::number);
            format!("{per_week} pages per week (95 % interval {low} to {high}), {rests}; the budget caps them")
        }
        _ => format!("nobody can say how many pages: {rests}"),
    }
}

/// A rate as JSON.
pub fn rate_json(rate: &Rate) -> serde_json::Value {
    serde_json::json!({
        "count": rate.count, "days": rate.days, "per_week": rate.per_week,
        "low_per_week": rate.low_per_week, "high_per_week": rate.high_per_week,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_says_its_interval_and_the_days_it_rests_on() {
        let rate = Rate { count: 6, days: 30.0, per_week: Some(1.4), low_per_week: Some(0.514), high_per_week: Some(3.05) };

        let said = spoken(&rate);

        assert!(said.starts_with("1.4 pages per week (95 % interval 0.514 to 3.05), from 6 in 30 days"), "{said}");
        assert!(spoken(&Rate::default()).starts_with("nobody can say"));
    }
}
