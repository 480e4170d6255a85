//! What a request may say: every field checked at the door, with a message that names it.

use tonic::Status;
use vedette_proto::v1::{Kind, Label, LabelSource, Selector, TimeRange};

/// Longest range of a label.
pub const MAX_RANGE_MS: i64 = 31 * 24 * 60 * 60 * 1000;
/// Latest instant that is taken for a time: the year 2286. Keeps sums of instants far from overflow.
pub const LATEST_UNIX_MS: i64 = 10_000_000_000_000;
/// Longest name of anything, as in Kubernetes; a cgroup path, which names a watched cgroup's owner, may be longer.
const MAX_NAME: usize = 253;
/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4096;
/// Most labels of one request.
const MAX_LABELS: usize = 10_000;
/// Most attributes of one label.
const MAX_ATTRIBUTES: usize = 32;
/// Longest key of an attribute, in characters.
const MAX_KEY: usize = 63;
/// Longest value of an attribute, in characters.
const MAX_VALUE: usize = 256;
/// Longest author, in characters.
const MAX_AUTHOR: usize = 128;
/// Longest note, in characters.
const MAX_NOTE: usize = 4096;

/// Refuses a request for what one of its fields says.
pub fn invalid(field: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}

/// Checks labels and completes them (an empty cluster is `own_cluster`).
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn labels(mut labels: Vec<Label>, own_cluster: &str) -> Result<Vec<Label>, Status> {
    if labels.is_empty() || labels.len() > MAX_LABELS {
        return Err(invalid("labels", format!("{} given, 1 to {MAX_LABELS} are allowed", labels.len())));
    }
    for (place, label) in labels.iter_mut().enumerate() {
        check_label(label, own_cluster).map_err(|status| Status::new(status.code(), format!("labels[{place}].{}", status.message())))?;
    }
    Ok(labels)
}

fn check_label(label: &mut Label, own_cluster: &str) -> Result<(), Status> {
    for (field, value) in [("id", label.id), ("retracted_by", label.retracted_by), ("created_unix_ms", label.created_unix_ms as u64)] {
        if value != 0 {
            return Err(invalid(field, "given by the aggregator, leave it 0"));
        }
    }
    let selected = label.selector.as_mut().ok_or_else(|| invalid("selector", "required"))?;
    selector("selector", selected)?;
    if *selected == (Selector { cluster: selected.cluster.clone(), ..Selector::default() }) {
        return Err(invalid("selector", "at least one field besides cluster must be set"));
    }
    if selected.cluster.is_empty() {
        selected.cluster = own_cluster.to_owned();
    }
    let range = label.range.ok_or_else(|| invalid("range", "required"))?;
    closed_range(&range)?;
    if !known(Kind::WORDS, label.kind) {
        return Err(invalid("kind", "required, one of the known kinds"));
    }
    if !known(LabelSource::WORDS, label.source) {
        return Err(invalid("source", "required, one of the known sources"));
    }
    author(&label.author)?;
    note(&label.note)?;
    if label.attributes.len() > MAX_ATTRIBUTES {
        return Err(invalid("attributes", format!("{} given, at most {MAX_ATTRIBUTES} are allowed", label.attributes.len())));
    }
    for (key, value) in &label.attributes {
        if key.is_empty() || key.chars().count() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(invalid("attributes", format!("a key must have 1 to {MAX_KEY} printable characters")));
        }
        if value.chars().count() > MAX_VALUE || value.chars().any(char::is_control) {
            return Err(invalid("attributes", format!("a value must have at most {MAX_VALUE} printable characters")));
        }
    }
    Ok(())
}

/// Whether an enumeration's number is one of its values; protobuf lets any number through.
pub fn known<T: Copy + Into<i32>>(values: &[T], number: i32) -> bool {
    values.iter().any(|&value| value.into() == number)
}

/// Checks a number of an enumeration that may be unspecified.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn known_or_any<T: Copy + Into<i32>>(field: &str, values: &[T], number: i32) -> Result<(), Status> {
    if number == 0 || known(values, number) { Ok(()) } else { Err(invalid(field, format!("unknown value {number}"))) }
}

/// Checks the fields of a selector, any of which may be empty.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn selector(prefix: &str, selector: &Selector) -> Result<(), Status> {
    let names = [
        ("cluster", &selector.cluster, MAX_NAME),
        ("node", &selector.node, MAX_NAME),
        ("namespace", &selector.namespace, MAX_NAME),
        ("owner_kind", &selector.owner_kind, MAX_NAME),
        ("owner_name", &selector.owner_name, MAX_PATH),
        ("container_name", &selector.container_name, MAX_NAME),
        ("pod_uid", &selector.pod_uid, MAX_NAME),
        ("container_id", &selector.container_id, MAX_NAME),
    ];
    for (field, text, limit) in names {
        let field = format!("{prefix}.{field}");
        if text.len() > limit {
            return Err(invalid(&field, format!("{} bytes, at most {limit} are allowed", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid(&field, "control characters are not allowed"));
        }
    }
    pod_uid(&format!("{prefix}.pod_uid"), &selector.pod_uid)?;
    container_id(&format!("{prefix}.container_id"), &selector.container_id)
}

/// A pod uid as a kubelet writes it: 36 characters, or 32 hexadecimal digits for a static pod. Empty is any.
fn pod_uid(field: &str, uid: &str) -> Result<(), Status> {
    let dashes = [8, 13, 18, 23];
    let hex = |(place, byte): (usize, u8)| if dashes.contains(&place) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    let uuid = uid.len() == 36 && uid.bytes().enumerate().all(hex);
    let static_pod = uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
    if uid.is_empty() || uuid || static_pod {
        return Ok(());
    }
    Err(invalid(field, "not a pod uid: 36 characters as in 8-4-4-4-12 hexadecimal digits, or 32 hexadecimal digits"))
}

/// A runtime's id in full, a prefix of at least 12 digits, or the whole name of a watched cgroup. Empty is any.
fn container_id(field: &str, id: &str) -> Result<(), Status> {
    if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(field, "not a container id: only printable ASCII without spaces is allowed"));
    }
    let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !id.is_empty() && hex && !(12..=64).contains(&id.len()) {
        return Err(invalid(field, format!("{} hexadecimal digits, 64 or a prefix of at least 12 are expected", id.len())));
    }
    Ok(())
}

/// Checks an instant, Unix milliseconds; 0 is allowed.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn instant(field: &str, unix_ms: i64) -> Result<(), Status> {
    if (0..=LATEST_UNIX_MS).contains(&unix_ms) {
        return Ok(());
    }
    Err(invalid(field, format!("{unix_ms} is not a time in Unix milliseconds between 1970 and 2286")))
}

fn closed_range(range: &TimeRange) -> Result<(), Status> {
    if range.start_unix_ms == 0 || range.end_unix_ms == 0 {
        return Err(invalid("range", "both ends are required"));
    }
    let (start, end) = open_range("range", Some(range))?;
    if end - start > MAX_RANGE_MS {
        return Err(invalid("range", "longer than 31 days"));
    }
    Ok(())
}

/// Checks a range whose ends may be missing, and returns `start <= t < end` in Unix milliseconds.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn open_range(field: &str, range: Option<&TimeRange>) -> Result<(i64, i64), Status> {
    let Some(range) = range else { return Ok((0, LATEST_UNIX_MS)) };
    instant(&format!("{field}.start_unix_ms"), range.start_unix_ms)?;
    instant(&format!("{field}.end_unix_ms"), range.end_unix_ms)?;
    let end = if range.end_unix_ms == 0 { LATEST_UNIX_MS } else { range.end_unix_ms };
    if range.start_unix_ms >= end {
        return Err(invalid(field, format!("the start {} is not before the end {}", range.start_unix_ms, range.end_unix_ms)));
    }
    Ok((range.start_unix_ms, end))
}

/// Checks an author.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn author(author: &str) -> Result<(), Status> {
    let length = author.chars().count();
    if !(1..=MAX_AUTHOR).contains(&length) {
        return Err(invalid("author", format!("{length} characters, 1 to {MAX_AUTHOR} are allowed")));
    }
    if author.chars().any(char::is_control) {
        return Err(invalid("author", "control characters are not allowed"));
    }
    Ok(())
}

/// Checks a note: free text, line breaks and tabs among it.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn note(note: &str) -> Result<(), Status> {
    let length = note.chars().count();
    if length > MAX_NOTE {
        return Err(invalid("note", format!("{length} characters, at most {MAX_NOTE} are allowed")));
    }
    if note.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(invalid("note", "control characters are not allowed"));
    }
    Ok(())
}

/// A limit as asked for, with its default for 0.
///
/// # Errors
/// `INVALID_ARGUMENT` beyond the most that is allowed.
pub fn limit(field: &str, asked: u32, default: u32, most: u32) -> Result<u32, Status> {
    match asked {
        0 => Ok(default),
        asked if asked <= most => Ok(asked),
        asked => Err(invalid(field, format!("{asked}, at most {most} is allowed"))),
    }
}

#[cfg(test)]
mod tests;
