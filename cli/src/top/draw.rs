//! A snapshot as lines of a screen: pure, so that it can be looked at without a terminal.

use vedette_proto::v1::{BaselineState, Incident, NodeState};

use crate::cell::Tone;
use crate::containers::place;
use crate::escape::escaped;
use crate::incidents::severity_tone;
use crate::output::Output;
use crate::units;
use crate::when;

use super::snapshot::{Busy, Snapshot};

/// Of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// Incidents have at most this share of the lines below the head, so that workloads are seen too.
const INCIDENTS_OF: usize = 2;
/// Widths of the columns after the workload's name.
const COLUMNS: [(&str, usize); 7] = [("SCORE", 5), ("N", 4), ("CPU", 7), ("MEMORY", 9), ("RECEIVED", 11), ("SENT", 11), ("BASELINE", 8)];

/// The lines, none wider and no more of them than the terminal has; all of them where there is none. `lost` says why the aggregator does
/// not answer.
pub fn lines(snapshot: &Snapshot, lost: Option<&str>, size: Option<Size>, now_unix_ms: i64, output: &Output) -> Vec<String> {
    let width = size.map_or(usize::MAX, |size| size.columns.max(20));
    let mut lines = head(snapshot, lost, width, now_unix_ms, output);
    let room = size.map_or(usize::MAX, |size| size.rows.saturating_sub(lines.len()));
    // A title, the incidents, an empty line.
    let most = (room / INCIDENTS_OF).saturating_sub(2).max(1);
    let title = match snapshot.incidents.len() {
        0 => output.toned("No open incident", Tone::Good),
        1 => output.bold(&fit("1 open incident (vedette explain ID)", width)),
        count => output.bold(&fit(&format!("{count} open incidents (vedette explain ID)"), width)),
    };
    lines.push(title);
    let shown = most.min(snapshot.incidents.len());
    lines.extend(snapshot.incidents[..shown].iter().map(|one| incident(one, width, now_unix_ms, output)));
    if shown < snapshot.incidents.len() {
        lines.push(fit(&format!("… {} more: vedette incidents --open", snapshot.incidents.len() - shown), width));
    }
    lines.push(String::new());
    let room = size.map_or(usize::MAX, |size| size.rows.saturating_sub(lines.len() + 1));
    let shown = room.min(snapshot.workloads.len());
    let columns = columns(width);
    let names: usize = columns.iter().map(|(_, column)| column + 1).sum();
    let longest = snapshot.workloads[..shown].iter().map(|one| cells(&escaped(&place(&one.workload)))).max().unwrap_or(0).max(8);
    let name = longest.min(width.saturating_sub(names));
    let mut header = pad("WORKLOAD", name);
    for &(title, column) in &columns {
        header.push_str(&format!(" {title:>column$}"));
    }
    lines.push(output.bold(header.trim_end()));
    lines.extend(snapshot.workloads[..shown].iter().map(|one| workload(one, name, &columns, output)));
    if let Some(size) = size {
        lines.truncate(size.rows);
    }
    lines
}

fn head(snapshot: &Snapshot, lost: Option<&str>, width: usize, now_unix_ms: i64, output: &Output) -> Vec<String> {
    let status = &snapshot.status;
    let clock = when::clock(now_unix_ms, &output.zone);
    let title =
        format!("vedette top  {clock}  cluster {}  {} containers", escaped(&status.cluster), units::grouped(status.containers_alive));
    let mut lines = vec![output.bold(&fit(&title, width))];
    let count = |state: NodeState| snapshot.nodes.iter().filter(|node| node.state() == state && node.cluster == status.cluster).count();
    let states: Vec<_> = NodeState::WORDS
        .iter()
        .map(|&state| (state, count(state)))
        .filter(|(state, count)| *count > 0 || *state == NodeState::Live)
        .collect();
    let text = states.iter().map(|(state, count)| format!("{count} {}", state.word())).collect::<Vec<_>>().join(", ");
    let wrong = states.iter().any(|(state, _)| matches!(state, NodeState::Silent | NodeState::Blind));
    lines.push(output.toned(&fit(&format!("nodes: {text}"), width), if wrong { Tone::Warning } else { Tone::Plain }));
    if let Some(first) = status.problems.first() {
        let more =
            if status.problems.len() > 1 { format!(" (and {} more: vedette status)", status.problems.len() - 1) } else { String::new() };
        lines.push(output.toned(&fit(&format!("problem: {}{more}", escaped(first)), width), Tone::Warning));
    }
    if let Some(lost) = lost {
        lines.push(output.toned(&fit(&format!("no answer: {}; what follows is old", escaped(lost)), width), Tone::Bad));
    }
    if snapshot.truncated {
        lines.push(fit("more containers than can be shown: narrow with --namespace", width));
    }
    lines.push(String::new());
    lines
}

fn incident(incident: &Incident, width: usize, now_unix_ms: i64, output: &Output) -> String {
    let since = when::span(now_unix_ms - incident.onset_unix_ms);
    let workload = incident.workload.clone().unwrap_or_default();
    let severity = incident.severity().word();
    let text = format!("{:>5}  {severity:<6}  {}  {}  {since}", incident.id, escaped(&incident.effect), escaped(&place(&workload)));
    output.toned(&fit(&text, width), severity_tone(incident.severity()))
}

/// As many columns as leave half of the line to the name.
fn columns(width: usize) -> Vec<(&'static str, usize)> {
    let mut room = if width == usize::MAX { width } else { width.saturating_sub(width / 3) };
    let mut shown = Vec::new();
    for (title, column) in COLUMNS {
        match room.checked_sub(column + 1) {
            Some(rest) => room = rest,
            None => break,
        }
        shown.push((title, column));
    }
    shown
}

fn workload(one: &Busy, name: usize, columns: &[(&str, usize)], output: &Output) -> String {
    let measured = |value: Option<u64>, text: fn(u64) -> String| value.map_or_else(|| "-".to_owned(), text);
    let rate = |value: u64| units::bytes_per_second(value as f64);
    let mut line = pad(&fit(&escaped(&place(&one.workload)), name), name);
    for &(title, column) in columns {
        let text = match title {
            "SCORE" => format!("{:.2}", one.score),
            "N" => one.containers.to_string(),
            "CPU" => measured(one.cpu_millicores, |value| format!("{value}m")),
            "MEMORY" => measured(one.memory_bytes, |value| units::bytes(value as f64)),
            "RECEIVED" => measured(one.rx, rate),
            "SENT" => measured(one.tx, rate),
            _ => one.baseline.word().to_owned(),
        };
        line.push_str(&format!(" {text:>column$}"));
    }
    let tone = match one.score {
        score if score >= 0.8 => Tone::Bad,
        score if score >= 0.5 => Tone::Warning,
        _ => Tone::Plain,
    };
    let tone = if tone == Tone::Plain && one.baseline == BaselineState::Frozen { Tone::Warning } else { tone };
    output.toned(line.trim_end(), tone)
}

/// Places that a text takes: where a character may be wide, two for safety.
fn cells(text: &str) -> usize {
    text.chars().map(places).sum()
}

fn places(c: char) -> usize {
    // Punctuation and arrows lie between, and are as narrow as letters.
    if matches!(c as u32, 0..0x1100 | 0x2000..0x2e80) { 1 } else { 2 }
}

/// At most so many places of a text; `…` says that it was cut.
fn fit(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut room = width.saturating_sub(1);
    for c in text.chars() {
        match room.checked_sub(places(c)) {
            Some(rest) => room = rest,
            None => break,
        }
        out.push(c);
    }
    out + "…"
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(cells(text))))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use vedette_proto::v1::{GetStatusResponse, Kind, Node, Severity, Workload};

    use super::*;
    use crate::output::Format;

    const NOW: i64 = 1_800_000_000_000;

    fn output() -> Output {
        Output { format: Format::Table, colour: false, width: None, terminal: true, zone: TimeZone::UTC, sink: Box::new(std::io::sink()) }
    }

    fn workload(name: &str) -> Workload {
        Workload {
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: name.into(),
            container_name: "app".into(),
            ..Workload::default()
        }
    }

    fn snapshot(workloads: usize, incidents: u64) -> Snapshot {
        let busy = |place| Busy {
            workload: workload(&format!("web-{place}")),
            containers: 3,
            score: 0.91,
            cpu_millicores: Some(1_200),
            memory_bytes: Some(64 << 20),
            ..Busy::default()
        };
        let incident = |id| Incident {
            id,
            workload: Some(workload("web-0")),
            effect: Kind::Scan.effect().into(),
            severity: Severity::Page.into(),
            onset_unix_ms: NOW - 65_000,
            ..Incident::default()
        };
        Snapshot {
            status: GetStatusResponse { cluster: "lab".into(), containers_alive: 1_234, ..GetStatusResponse::default() },
            nodes: [NodeState::Live, NodeState::Live, NodeState::Silent]
                .map(|state| Node { state: state.into(), cluster: "lab".into(), ..Node::default() })
                .into(),
            workloads: (0..workloads).map(busy).collect(),
            incidents: (1..=incidents).map(incident).collect(),
            truncated: false,
        }
    }

    fn drawn(snapshot: &Snapshot, columns: usize, rows: usize) -> Vec<String> {
        lines(snapshot, None, Some(Size { columns, rows }), NOW, &output())
    }

    #[test]
    fn an_ordinary_terminal_shows_all_three() {
        let lines = drawn(&snapshot(100, 2), 80, 24);

        let text = lines.join("\n");
        assert_eq!(lines.len(), 24, "{text}");
        assert!(lines.iter().all(|line| cells(line) <= 80), "{text}");
        assert!(text.contains("cluster lab  1,234 containers") && text.contains("nodes: 2 live, 1 silent"), "{text}");
        assert!(text.contains("    1  page    connection sweep (scan?)  shop/Deployment/web-0/app  1 min 5 s"), "{text}");
        assert!(text.contains("shop/Deployment/web-0/app   0.91    3   1200m"), "{text}");
    }

    #[test]
    fn no_size_breaks_a_line_or_the_screen() {
        for (columns, rows) in [(20, 5), (40, 10), (80, 24), (200, 60), (1, 1)] {
            let lines = drawn(&snapshot(300, 50), columns, rows);

            assert!(lines.len() <= rows, "{columns}x{rows}: {}", lines.len());
            assert!(lines.iter().all(|line| cells(line) <= columns.max(20)), "{columns}x{rows}: {lines:#?}");
        }
    }

    #[test]
    fn many_incidents_leave_room_for_workloads() {
        let lines = drawn(&snapshot(100, 50), 80, 24);

        assert!(lines.iter().any(|line| line.starts_with("… 42 more")), "{lines:#?}");
        assert!(lines.iter().filter(|line| line.starts_with("shop/")).count() >= 8, "{lines:#?}");
    }

    #[test]
    fn hostile_names_move_no_cursor() {
        let mut snapshot = snapshot(1, 1);
        let hostile = "\u{1b}[2J<script>\u{202e}gip\u{7}\n漢字";
        snapshot.workloads[0].workload.owner_name = hostile.into();
        snapshot.incidents[0].effect = hostile.into();
        snapshot.status.cluster = hostile.into();
        snapshot.status.problems = vec![hostile.into(), "b".into()];

        for line in lines(&snapshot, Some(hostile), Some(Size { columns: 80, rows: 24 }), NOW, &output()) {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(cells(&line) <= 80, "{line:?}");
        }
    }

    #[test]
    fn a_lost_aggregator_is_said_above_what_is_old() {
        let text = lines(&snapshot(1, 0), Some("connection refused"), None, NOW, &output()).join("\n");

        assert!(text.contains("no answer: connection refused; what follows is old"), "{text}");
        assert!(text.contains("No open incident"), "{text}");
    }
}
