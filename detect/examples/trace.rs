//! Runs recorded observations through the detector and prints what it thought, tick by tick: for tuning thresholds.
//!
//! `cargo run -p vedette-detect --example trace -- FILE.csv|FILE.jsonl|- [--all] [--only TEXT]`
//!
//! Rows must be in the order of time. Columns are those of SQL's `observations` and of an export: `time` (Unix milliseconds, or
//! `YYYY-MM-DDTHH:MM:SS.mmm`), `cluster`, `node`, `namespace`, `owner_kind`, `owner_name`, `container_name`, `pod_name`,
//! `pod_uid`, `container_id` (or `container`), `origin`, then any observation columns by name; an empty field is absent.
//! Printed are rows that score above 0.05 (all of them with `--all`; only workloads that contain TEXT with `--only`),
//! every change of an incident with its evidence, and a summary.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read},
};

use vedette_detect::{Change, Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::{
    Column, Observation,
    v1::{ContainerAdded, ContainerRemoved, IncidentChange, Kind, Origin, Severity, Workload},
};

/// One row as names and texts.
type Row = HashMap<String, String>;

/// A container not seen for this long, while its cluster went on, is gone.
const GONE_MS: i64 = 15_000;

struct Seen {
    key: SubjectKey,
    last_ms: i64,
    pod: String,
}

struct Trace {
    detector: Detector,
    seen: HashMap<String, Seen>,
    restarts: HashMap<String, u32>,
    next_key: u64,
    first_ms: i64,
    now_ms: i64,
    last: BTreeMap<u64, Change>,
    all: bool,
    only: String,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let only = args.iter().position(|arg| arg == "--only").and_then(|place| args.get(place + 1)).cloned().unwrap_or_default();
    let Some(path) = args.iter().find(|arg| !arg.starts_with("--") && **arg != only) else {
        eprintln!("usage: trace FILE.csv|FILE.jsonl|- [--all] [--only TEXT]");
        std::process::exit(2);
    };
    let reader: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        match std::fs::File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => {
                eprintln!("cannot read {path}: {error}");
                std::process::exit(1);
            }
        }
    };
    let mut trace = Trace {
        detector: Detector::new(Config::default(), 1),
        seen: HashMap::new(),
        restarts: HashMap::new(),
        next_key: 0,
        first_ms: i64::MAX,
        now_ms: i64::MIN,
        last: BTreeMap::new(),
        all: args.iter().any(|arg| arg == "--all"),
        only,
    };
    let mut header: Option<Vec<String>> = None;
    for line in BufReader::new(reader).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        let row = if line.trim_start().starts_with('{') {
            json(&line)
        } else if let Some(header) = &header {
            header.iter().cloned().zip(fields(&line)).collect()
        } else {
            header = Some(fields(&line));
            continue;
        };
        trace.take(&row);
    }
    trace.summary();
}

fn json(line: &str) -> Row {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(line) else { return Row::new() };
    object
        .into_iter()
        .filter_map(|(name, value)| match value {
            serde_json::Value::String(text) => Some((name, text)),
            serde_json::Value::Number(number) => Some((name, number.to_string())),
            _ => None,
        })
        .collect()
}

/// Fields of a CSV line; quotes as RFC 4180 has them, without line breaks inside.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        let place = fields.len() - 1;
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[place].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            '\r' => {}
            char => fields[place].push(char),
        }
    }
    fields
}

/// Unix milliseconds of a number, or of an ISO time in UTC.
fn time(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number);
    }
    let digits: Vec<i64> =
        text.split(|char: char| !char.is_ascii_digit()).filter(|part| !part.is_empty()).filter_map(|part| part.parse().ok()).collect();
    let &[year, month, day, hour, minute, second, ..] = digits.as_slice() else { return None };
    // Days since 1970 in the proleptic Gregorian calendar, the year beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let millis = text.split('.').nth(1).map_or(0, |rest| {
        let rest: String = rest.chars().take_while(char::is_ascii_digit).chain("000".chars()).take(3).collect();
        rest.parse().unwrap_or(0)
    });
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

impl Trace {
    fn take(&mut self, row: &Row) {
        let text = |name: &str| row.get(name).map_or("", String::as_str);
        let Some(unix_ms) = time(text("time")) else { return };
        if unix_ms > self.now_ms {
            self.tick(unix_ms);
        }
        let or = |value: &str, other: &str| if value.is_empty() { other.to_owned() } else { value.to_owned() };
        let id = or(text("container_id"), text("container"));
        let cluster = or(text("cluster"), "trace");
        let node = or(text("node"), "node");
        let is_node = id.is_empty();
        let workload = Workload {
            cluster: cluster.clone(),
            namespace: text("namespace").to_owned(),
            owner_kind: or(text("owner_kind"), if is_node { "Node" } else { "Cgroup" }),
            owner_name: or(text("owner_name"), if is_node { &node } else { &id }),
            container_name: text("container_name").to_owned(),
        };
        let full = format!("{cluster}/{node}/{id}");
        if !self.seen.contains_key(&full) {
            let key = SubjectKey(self.next_key);
            self.next_key += 1;
            let pod = or(text("pod_uid"), &full);
            let place = format!("{pod}/{}", workload.container_name);
            let restarts = *self.restarts.entry(place).and_modify(|count| *count += 1).or_insert(0);
            let at = ContainerAt {
                key,
                cluster: &cluster,
                node: &node,
                workload: &workload,
                pod_uid: text("pod_uid"),
                pod_name: text("pod_name"),
                container_id: &id,
            };
            let first_seen_unix_ms = unix_ms - 1_000;
            let already_running = unix_ms <= self.first_ms;
            let added = ContainerAdded { first_seen_unix_ms, restarts, already_running, ..ContainerAdded::default() };
            self.detector.container_added(at, &added, true);
            self.seen.insert(full.clone(), Seen { key, last_ms: unix_ms, pod });
        }
        let Some(seen) = self.seen.get_mut(&full) else { return };
        seen.last_ms = unix_ms;
        let key = seen.key;
        let mut observation = Observation::default();
        for (name, value) in row {
            if let (Some(column), Ok(value)) = (Column::from_name(name), value.parse::<f64>()) {
                observation.set(column, value as u64);
            }
        }
        let origin = Origin::from_word(text("origin")).unwrap_or(Origin::Live);
        let verdict = self.detector.observe(key, origin, unix_ms, &observation);
        let name = workload.to_string();
        if (self.all || verdict.score > 0.05) && name.contains(&self.only) {
            let state = self.detector.container_state(key).map_or("", |state| state.baseline.word());
            println!("{:8.1} {:.2} {:12} {state:8} {name}", self.since(unix_ms), verdict.score, verdict.kind.word());
        }
        self.told();
    }

    fn since(&self, unix_ms: i64) -> f64 {
        (unix_ms - self.first_ms) as f64 / 1e3
    }

    /// Time moves on: containers that are not seen any more are gone, and what is quiet resolves.
    fn tick(&mut self, unix_ms: i64) {
        self.first_ms = self.first_ms.min(unix_ms);
        self.now_ms = unix_ms;
        let gone: Vec<String> =
            self.seen.iter().filter(|(_, seen)| unix_ms - seen.last_ms > GONE_MS).map(|(full, _)| full.clone()).collect();
        for full in gone {
            let Some(seen) = self.seen.remove(&full) else { continue };
            let pod_remains = self.seen.values().any(|other| other.pod == seen.pod);
            let removed = ContainerRemoved { unix_ms: seen.last_ms, pod_remains, ..ContainerRemoved::default() };
            self.detector.container_removed(seen.key, &removed, Origin::Live);
        }
        let clusters: std::collections::BTreeSet<String> =
            self.seen.keys().filter_map(|full| Some(full.split_once('/')?.0.to_owned())).collect();
        clusters.iter().for_each(|cluster| self.detector.advance(cluster, unix_ms));
        self.told();
    }

    fn told(&mut self) {
        for change in self.detector.changes() {
            let incident = &change.incident;
            let what = match change.change {
                IncidentChange::Opened => "OPENED",
                IncidentChange::Resolved => "RESOLVED",
                _ => "updated",
            };
            let at = self.since(incident.updated_unix_ms);
            println!("{at:8.1} #{} {what} {}: {}", incident.id, severity(incident.severity), incident.summary);
            incident.evidence.iter().for_each(|evidence| println!("{:12} - {}", "", evidence.sentence));
            println!("{:12} = {}", "", change.reasoning);
            self.last.insert(incident.id, change);
        }
    }

    fn summary(&self) {
        println!("\n{} incidents, {:?}", self.last.len(), self.detector.stats());
        for Change { incident, .. } in self.last.values() {
            let kind = Kind::try_from(incident.kind).map_or("", Kind::word);
            let end = if incident.resolved_unix_ms == 0 { f64::INFINITY } else { self.since(incident.resolved_unix_ms) };
            println!(
                "#{} {kind} {} onset {:.1} opened {:.1} resolved {end:.1}: {}",
                incident.id,
                severity(incident.severity),
                self.since(incident.onset_unix_ms),
                self.since(incident.opened_unix_ms),
                incident.workload.as_ref().map(ToString::to_string).unwrap_or_default()
            );
        }
    }
}

fn severity(severity: i32) -> &'static str {
    Severity::try_from(severity).map_or("", Severity::word)
}
