//! The nested parts of answers as JSON, fields in the order of the contract.

use serde::Serialize;
use vedette_proto::v1::{Evidence, ExplainIncidentResponse, RecordedAnswer, RecordedHandling};

use crate::when::utc;

#[derive(Serialize)]
struct EvidenceOut<'a> {
    sentence: &'a str,
    family: &'static str,
    feature: &'a str,
    observed: Option<f64>,
    expected: Option<f64>,
    expected_low: Option<f64>,
    expected_high: Option<f64>,
    unit: &'a str,
    baseline: &'a str,
    time: Option<String>,
}

/// The evidence of an incident as a JSON list.
pub fn evidence(evidence: &[Evidence]) -> String {
    let list = evidence.iter().map(|one| EvidenceOut {
        sentence: &one.sentence,
        family: one.family().word(),
        feature: &one.feature,
        observed: one.observed,
        expected: one.expected,
        expected_low: one.expected_low,
        expected_high: one.expected_high,
        unit: &one.unit,
        baseline: &one.baseline,
        time: instant(one.unix_ms),
    });
    text(&list.collect::<Vec<_>>())
}

#[derive(Serialize)]
struct SeriesOut<'a> {
    feature: &'a str,
    unit: &'a str,
    container_id: &'a str,
    /// Time and value; serde_json writes a value that is not finite as null.
    points: Vec<(String, f64)>,
}

/// The series of an explanation as a JSON list.
pub fn series(explained: &ExplainIncidentResponse) -> String {
    let list = explained.series.iter().map(|one| SeriesOut {
        feature: &one.feature,
        unit: &one.unit,
        container_id: &one.container_id,
        points: one.unix_ms.iter().map(|&at| utc(at)).zip(one.values.iter().copied()).collect(),
    });
    text(&list.collect::<Vec<_>>())
}

#[derive(Serialize)]
struct PeersOut<'a> {
    container_id: &'a str,
    time: Option<String>,
    lines: &'a [String],
}

/// The peers of an explanation as a JSON list.
pub fn peers(explained: &ExplainIncidentResponse) -> String {
    let list =
        explained.peers.iter().map(|one| PeersOut { container_id: &one.container_id, time: instant(one.unix_ms), lines: &one.lines });
    text(&list.collect::<Vec<_>>())
}

#[derive(Serialize)]
struct AnswerOut<'a> {
    id: u64,
    answer: &'static str,
    kind: Option<&'static str>,
    author: &'a str,
    note: &'a str,
    time: Option<String>,
    undone: Option<String>,
}

/// The answers of an explanation as a JSON list.
pub fn answers(answers: &[RecordedAnswer]) -> String {
    let list = answers.iter().map(|one| AnswerOut {
        id: one.id,
        answer: one.answer().word(),
        kind: Some(one.kind().word()).filter(|word| !word.is_empty()),
        author: &one.author,
        note: &one.note,
        time: instant(one.unix_ms),
        undone: instant(one.undone_unix_ms),
    });
    text(&list.collect::<Vec<_>>())
}

#[derive(Serialize)]
struct HandlingOut<'a> {
    id: u64,
    handling: &'static str,
    author: &'a str,
    note: &'a str,
    time: Option<String>,
    until: Option<String>,
}

/// What was done about an incident as a JSON list.
pub fn handlings(handlings: &[RecordedHandling]) -> String {
    let list = handlings.iter().map(|one| HandlingOut {
        id: one.id,
        handling: one.handling().word(),
        author: &one.author,
        note: &one.note,
        time: instant(one.unix_ms),
        until: instant(one.until_unix_ms),
    });
    text(&list.collect::<Vec<_>>())
}

/// Ids as a JSON list.
pub fn ids(ids: impl Iterator<Item = u64>) -> String {
    text(&ids.collect::<Vec<_>>())
}

fn instant(unix_ms: i64) -> Option<String> {
    (unix_ms != 0).then(|| utc(unix_ms))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("lists of plain structs are JSON")
}
