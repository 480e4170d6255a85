//! `vedette explain ID`: an incident as somebody reads it at 3 a.m.

use std::fmt::Write as _;

use jiff::Timestamp;
use vedette_proto::v1::{Evidence, ExplainIncidentRequest, ExplainIncidentResponse, Incident, Series, Withheld};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::containers::{place, short_id};
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::incidents::{self, lasted, severity_tone};
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::{handle, json, sparkline, units, when, which};

/// Fits a narrow terminal beside its indent.
const SPARKLINE_WIDTH: usize = 60;
/// A page that scrolls away explains nothing; JSON has all.
const SHOWN: usize = 12;

/// Prints everything known about one incident.
pub async fn run(id: u64, client: &mut Client, output: &mut Output, now: Timestamp) -> anyhow::Result<Exit> {
    let request = ExplainIncidentRequest { incident_id: id };
    let answer = waiting("asking for the incident", client.query.explain_incident(request)).await;
    let explained = answer.map_err(Stop::from)?.into_inner();
    let Some(incident) = &explained.incident else {
        return Err(Stop::new(Exit::Failure, "the aggregator answered without the incident").into());
    };
    match output.format {
        Format::Table => {
            let text = page(output, incident, &explained, now.as_millisecond());
            output.sink.write_all(text.as_bytes())?;
            output.sink.flush()?;
        }
        Format::Json => {
            let (columns, cells) = whole(incident, &explained, now.as_millisecond());
            output.object(columns, &cells)?;
        }
        Format::Csv => {
            let names = [
                "incident_id",
                "family",
                "feature",
                "observed",
                "expected",
                "expected_low",
                "expected_high",
                "unit",
                "baseline",
                "time",
                "sentence",
            ];
            let mut rows = output.rows(names.map(Column::data).into())?;
            for evidence in &incident.evidence {
                rows.row(evidence_cells(id, evidence))?;
            }
            rows.end()?;
        }
    }
    Ok(Exit::Ok)
}

fn evidence_cells(id: u64, evidence: &Evidence) -> Vec<Cell> {
    let number = |value: Option<f64>| value.map_or(Cell::Absent, Cell::Number);
    vec![
        Cell::Unsigned(id),
        Cell::word(evidence.family().word(), Tone::Plain),
        Cell::text(&evidence.feature),
        number(evidence.observed),
        number(evidence.expected),
        number(evidence.expected_low),
        number(evidence.expected_high),
        Cell::text(&evidence.unit),
        Cell::text(&evidence.baseline),
        Cell::instant(evidence.unix_ms),
        Cell::text(&evidence.sentence),
    ]
}

fn whole(incident: &Incident, explained: &ExplainIncidentResponse, now_unix_ms: i64) -> (Vec<Column>, Vec<Cell>) {
    let mut columns = incidents::columns(None);
    let mut cells = incidents::cells(None, incident, now_unix_ms);
    let more = [
        ("reasoning", Cell::text(&explained.reasoning)),
        ("series", Cell::Json(json::series(explained))),
        ("peers", Cell::Json(json::peers(explained))),
        ("processes", Cell::List(explained.processes.clone())),
        ("answers", Cell::Json(json::answers(&explained.answers))),
        ("handlings", Cell::Json(json::handlings(&explained.handlings))),
        ("label_ids", Cell::Json(json::ids(explained.labels.iter().map(|label| label.id)))),
        ("related_ids", Cell::Json(json::ids(explained.related.iter().map(|related| related.id)))),
    ];
    for (name, cell) in more {
        columns.push(Column::data(name));
        cells.push(cell);
    }
    (columns, cells)
}

fn page(output: &Output, incident: &Incident, explained: &ExplainIncidentResponse, now_unix_ms: i64) -> String {
    let mut text = String::new();
    head(&mut text, output, incident, explained, now_unix_ms);
    moved(&mut text, output, incident, &explained.series);
    section(
        &mut text,
        output,
        "Talked with",
        explained.peers.iter().flat_map(|peers| {
            let seen = format!("{} at {}:", short_id(&peers.container_id), when::clock(peers.unix_ms, &output.zone));
            std::iter::once(seen).chain(peers.lines.iter().map(|line| format!("  {line}")))
        }),
    );
    let processes = explained.processes.join(", ");
    section(&mut text, output, "Processes seen", (!processes.is_empty()).then_some(processes).into_iter());
    section(
        &mut text,
        output,
        "Labels",
        explained.labels.iter().map(|label| {
            let about = label.selector.as_ref().map(which::describe).unwrap_or_default();
            format!("#{} {} by {} ({}): {about} {}", label.id, label.kind().word(), label.author, label.source().word(), label.note)
        }),
    );
    section(
        &mut text,
        output,
        "Near it in time",
        explained.related.iter().map(|related| {
            let place = place(&related.workload.clone().unwrap_or_default());
            format!("#{} {} {}, since {}", related.id, related.effect, place, when::clock(related.onset_unix_ms, &output.zone))
        }),
    );
    section(
        &mut text,
        output,
        "Answers",
        explained.answers.iter().map(|answer| {
            let at = when::local(answer.unix_ms, &output.zone);
            let note = if answer.note.is_empty() { String::new() } else { format!(": {}", answer.note) };
            let undone = if answer.undone_unix_ms == 0 { "" } else { ", taken back" };
            format!("{} {}, {at}{undone}{note}", answer.author, answer.answer().word())
        }),
    );
    section(&mut text, output, "Done about it", explained.handlings.iter().map(|one| handle::line(one, output)));
    how_to_answer(&mut text, output, incident);
    text
}

fn head(text: &mut String, output: &Output, incident: &Incident, explained: &ExplainIncidentResponse, now_unix_ms: i64) {
    let workload = incident.workload.clone().unwrap_or_default();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<9} {value}");
        }
    };
    let severity = output.toned(incident.severity().word(), severity_tone(incident.severity()));
    let state = if incident.resolved_unix_ms == 0 { "open" } else { "resolved" };
    let withheld = match incident.withheld() {
        Withheld::Unspecified => String::new(),
        reason => format!("asked for a {}: {} {}", incident.asked_severity().word(), reason.word(), escaped(&incident.withheld_by)),
    };
    line("Incident", format!("#{}: {} [{severity}, {state}]", incident.id, output.bold(&escaped(&incident.effect))));
    line("", escaped(&incident.summary));
    line("Where", format!("{}, cluster {}", escaped(&place(&workload)), escaped(&workload.cluster)));
    line("Withheld", withheld.trim_end().to_owned());
    line("Who", escaped(&handle::standing(incident, output, now_unix_ms)));
    line("Pods", few(&incident.pods));
    line("Nodes", few(&incident.nodes));
    let ids: Vec<_> = incident.container_ids.iter().map(|id| short_id(id).to_owned()).collect();
    line("Container", few(&ids));
    let detected = when::span(incident.opened_unix_ms - incident.onset_unix_ms);
    line("Since", format!("{} ({})", when::local(incident.onset_unix_ms, &output.zone), lasted(incident, now_unix_ms)));
    line("Noticed", format!("{detected} after it began"));
    if incident.resolved_unix_ms != 0 {
        line("Until", when::local(incident.resolved_unix_ms, &output.zone));
    }
    let techniques = match incident.attack_techniques.as_slice() {
        [] => String::new(),
        techniques => format!("; ATT&CK {}", escaped(&techniques.join(", "))),
    };
    let score = units::number(incident.peak_score);
    line("Kind", format!("{}{techniques}; score {score} of 1; data {}", incident.kind().word(), incident.origin().word()));
    line("Because", escaped(&explained.reasoning));
}

fn moved(text: &mut String, output: &Output, incident: &Incident, series: &[Series]) {
    let _ = writeln!(text, "\n{}", output.bold("What moved"));
    if incident.evidence.is_empty() {
        let _ = writeln!(text, "  nothing was recorded");
    }
    let mut drawn = Vec::new();
    for evidence in incident.evidence.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", escaped(&evidence.sentence));
        let baseline = match (evidence.expected_low, evidence.expected_high) {
            (Some(low), Some(high)) => {
                format!("{} to {}", units::with_unit(low, &evidence.unit), units::with_unit(high, &evidence.unit))
            }
            _ => "no band".to_owned(),
        };
        let whose = if evidence.baseline.is_empty() { "none" } else { &evidence.baseline };
        let _ = writeln!(text, "    {}; against baseline: {} ({})", evidence.family().word(), escaped(whose), escaped(&baseline));
        for (i, one) in series.iter().enumerate().filter(|(_, one)| one.feature == evidence.feature).take(2) {
            drawn.push(i);
            picture(text, output, one, incident.onset_unix_ms);
        }
    }
    let rest = incident.evidence.len().saturating_sub(SHOWN);
    if rest > 0 {
        let _ = writeln!(text, "  and {rest} more (-o json)");
    }
    let others = series.iter().enumerate().filter(|(i, _)| !drawn.contains(i)).map(|(_, one)| one);
    for one in others.filter(|one| !incident.evidence.iter().any(|evidence| evidence.feature == one.feature)).take(4) {
        let _ = writeln!(text, "  {}", escaped(&one.feature));
        picture(text, output, one, incident.onset_unix_ms);
    }
}

fn picture(text: &mut String, output: &Output, series: &Series, onset_unix_ms: i64) {
    let Some(line) = sparkline::draw(&series.unix_ms, &series.values, onset_unix_ms, SPARKLINE_WIDTH) else {
        return;
    };
    let ends = [series.unix_ms.first(), series.unix_ms.last()].map(|at| at.map(|&at| when::clock(at, &output.zone)).unwrap_or_default());
    let range =
        format!("{} to {}", escaped(&units::with_unit(line.low, &series.unit)), escaped(&units::with_unit(line.high, &series.unit)));
    let _ = writeln!(text, "    {}  {range}, {} to {}, {}", line.blocks, ends[0], ends[1], escaped(short_id(&series.container_id)));
    if let Some(mark) = line.mark {
        let _ = writeln!(text, "    {:mark$}^ onset {}", "", when::clock(onset_unix_ms, &output.zone));
    }
}

fn section(text: &mut String, output: &Output, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", output.bold(title));
    for line in lines.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", escaped(line));
    }
    if lines.len() > SHOWN {
        let _ = writeln!(text, "  and {} more (-o json)", lines.len() - SHOWN);
    }
}

fn how_to_answer(text: &mut String, output: &Output, incident: &Incident) {
    let (id, kind) = (incident.id, incident.kind().word());
    if incident.resolved_unix_ms == 0 {
        let _ = writeln!(text, "\n{}", output.bold("What to do first"));
        let _ = writeln!(text, "  vedette acknowledge {id} {:<9} you are looking at it", "");
        let _ = writeln!(text, "  vedette snooze {id} --for 2h {:<5} nobody is told of it until then, unless it becomes more severe", "");
    }
    let _ = writeln!(text, "\n{}", output.bold("How to answer"));
    for (word, meaning) in [
        ("attack", format!("it was one (--kind KIND where it was not {kind})")),
        ("expected", "it was real but allowed: what is like it does not page".to_owned()),
        ("nothing-there", "nothing unusual happened".to_owned()),
        ("unsure", "looked at, and undecided".to_owned()),
    ] {
        let _ = writeln!(text, "  vedette answer {id} {word:<14} {meaning}");
    }
    if incident.resolved_unix_ms == 0 {
        let _ = writeln!(text, "  vedette accept {id} {:<14} this level is the workload's normal from now on", "");
    }
}

fn few(texts: &[String]) -> String {
    let shown = texts.iter().take(5).map(|text| escaped(text)).collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
