//! `vedette judge`: quiet minutes drawn by chance, so that what nobody was told of is seen, too.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use vedette_proto::v1::{Answer, JudgeQuietRequest, Kind, QuietWindow, SampleQuietRequest};

use crate::cell::Cell;
use crate::client::Client;
use crate::containers::place;
use crate::escape::escaped;
use crate::exit::{Exit, Stop, found};
use crate::label::{AuthorArgs, said};
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::{sparkline, units, vocabulary, when};

/// Characters of a picture.
const WIDTH: usize = 60;

/// Flags of `vedette judge`.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// A window that was drawn before; without it some are drawn
    #[arg(requires = "verdict")]
    id: Option<u64>,
    /// What it was: attack, nothing-there or unsure
    #[arg(value_name = "ANSWER", value_parser = vocabulary::answer())]
    verdict: Option<Answer>,
    /// How many to draw
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    count: u32,
    /// From the last so many days
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
    /// Only list them; without a terminal nothing is asked either
    #[arg(long)]
    list: bool,
    /// The kind, where it was an attack
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Option<Kind>,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Draws windows and asks, or records what one was.
pub async fn run(args: JudgeArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let JudgeArgs { id, verdict, count, days, list, kind, note, author } = args;
    if let (Some(id), Some(answer)) = (id, verdict) {
        let request = JudgeQuietRequest { id, answer: answer.into(), kind: kind.unwrap_or_default().into(), author: author.name()?, note };
        let label = record(client, request).await?;
        let labelled = if label == 0 { String::new() } else { format!("; label {label} added") };
        let cell = if label == 0 { Cell::Absent } else { Cell::Unsigned(label) };
        return said(output, &format!("window {id}: {}{labelled}", answer.word()), &[("id", Cell::Unsigned(id)), ("label_id", cell)]);
    }
    let request = SampleQuietRequest { count, days, seed: 0 };
    let windows = waiting("drawing", client.policy.sample_quiet(request)).await.map_err(Stop::from)?.into_inner().windows;
    if output.format != Format::Table {
        return data(output, &windows);
    }
    let asks = !list && std::io::stdin().is_terminal();
    let name = if asks { author.name()? } else { String::new() };
    for window in &windows {
        let shown = picture(window, output);
        output.line(&shown)?;
        output.sink.flush()?;
        if !asks {
            continue;
        }
        let Some(answer) = ask()? else { break };
        let author = name.clone();
        record(client, JudgeQuietRequest { id: window.id, answer: answer.into(), author, ..JudgeQuietRequest::default() }).await?;
    }
    if !asks && !windows.is_empty() {
        output.line("To judge one: vedette judge ID attack|nothing-there|unsure")?;
        output.sink.flush()?;
    }
    Ok(found(windows.len() as u64, "history has no quiet five minutes of any container yet"))
}

async fn record(client: &mut Client, request: JudgeQuietRequest) -> Result<u64, Stop> {
    let answer = waiting("recording it", client.policy.judge_quiet(request)).await;
    Ok(answer.map_err(Stop::from)?.into_inner().label_id)
}

/// What a person says at the terminal; `None` ends it.
fn ask() -> anyhow::Result<Option<Answer>> {
    loop {
        eprint!("attack, normal, unsure or quit? [a/n/u/q] ");
        std::io::stderr().flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim() {
            "a" | "attack" => return Ok(Some(Answer::Attack)),
            "n" | "normal" => return Ok(Some(Answer::NothingThere)),
            "u" | "unsure" => return Ok(Some(Answer::Unsure)),
            "q" | "quit" => return Ok(None),
            _ => {}
        }
    }
}

/// A window with a picture per series.
fn picture(window: &QuietWindow, output: &Output) -> String {
    let range = window.range.unwrap_or_default();
    let place = escaped(&place(&window.workload.clone().unwrap_or_default()));
    let (from, until) = (when::local(range.start_unix_ms, &output.zone), when::clock(range.end_unix_ms, &output.zone));
    let mut text = format!("{} {place}, {from} to {until}\n", output.bold(&format!("Window {}", window.id)));
    for series in &window.series {
        let Some(line) = sparkline::draw(&series.unix_ms, &series.values, i64::MAX, WIDTH) else { continue };
        let (low, high) = (units::with_unit(line.low, &series.unit), units::with_unit(line.high, &series.unit));
        text.push_str(&format!("  {:<26} {}  {} to {}\n", escaped(&series.feature), line.blocks, escaped(&low), escaped(&high)));
    }
    text
}

fn data(output: &mut Output, windows: &[QuietWindow]) -> anyhow::Result<Exit> {
    let names = ["id", "cluster", "namespace", "owner_kind", "owner_name", "container_name", "container_id", "start", "end", "series"];
    let mut rows = output.rows(names.map(Column::data).into())?;
    for window in windows {
        let (workload, range) = (window.workload.clone().unwrap_or_default(), window.range.unwrap_or_default());
        let series = window.series.iter().map(|one| {
            let points: Vec<_> = one.unix_ms.iter().map(|&at| when::utc(at)).zip(one.values.iter().copied()).collect();
            serde_json::json!({ "feature": one.feature, "unit": one.unit, "points": points })
        });
        rows.row(vec![
            Cell::Unsigned(window.id),
            Cell::text(workload.cluster),
            Cell::text(workload.namespace),
            Cell::text(workload.owner_kind),
            Cell::text(workload.owner_name),
            Cell::text(workload.container_name),
            Cell::text(&window.container_id),
            Cell::instant(range.start_unix_ms),
            Cell::instant(range.end_unix_ms),
            Cell::Json(series.collect::<serde_json::Value>().to_string()),
        ])?;
    }
    Ok(found(rows.end()?, "history has no quiet five minutes of any container yet"))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use vedette_proto::v1::{Series, TimeRange, Workload};

    use super::*;

    #[test]
    fn a_window_is_shown_with_its_pictures_and_hostile_names_are_harmless() {
        let output = Output {
            format: Format::Table,
            colour: false,
            width: None,
            terminal: false,
            zone: TimeZone::UTC,
            sink: Box::new(std::io::sink()),
        };
        let series =
            Series { feature: "cpu_cores".into(), unit: "cores".into(), unix_ms: vec![0, 1], values: vec![0.0, 2.0], ..Series::default() };
        let window = QuietWindow {
            id: 7,
            workload: Some(Workload { namespace: "shop\u{1b}[2J".into(), owner_kind: "Deployment".into(), ..Workload::default() }),
            range: Some(TimeRange { start_unix_ms: 0, end_unix_ms: 300_000 }),
            series: vec![series],
            ..QuietWindow::default()
        };

        let text = picture(&window, &output);

        assert!(text.starts_with("Window 7 ") && text.contains("cpu_cores") && text.contains("▁█  0 cores to 2 cores"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
