//! What a request may say of an exception.

use tonic::Status;
use vedette_detect::policy::MAX_GLOB;
use vedette_proto::v1::{Exception, ExceptionSource, Kind, Severity};

use crate::{
    label::check::{invalid, known_or_any, note},
    store::DAY_MS,
};

/// Longest life of an exception.
const MAX_DAYS: i64 = 366;
/// Longest name, in characters.
const MAX_NAME: usize = 63;
/// Most images that one exception is bound to.
pub const MAX_IMAGES: usize = 16;
/// Longest digest, in bytes; sha512 in hexadecimal digits has 135.
const MAX_DIGEST: usize = 200;
/// Names of what answers make.
pub const OF_ANSWERS: &str = "answer-";

/// Checks an exception and completes it: who asks, now, from where.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn exception(mut asked: Exception, source: ExceptionSource, author: &str, now_unix_ms: i64) -> Result<Exception, Status> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if !(1..=MAX_NAME).contains(&asked.name.len()) || !asked.name.bytes().all(allowed) {
        return Err(invalid("exception.name", format!("1 to {MAX_NAME} characters of a-z 0-9 - . are needed")));
    }
    if asked.name.starts_with(OF_ANSWERS) {
        return Err(invalid("exception.name", format!("names that begin with {OF_ANSWERS} are given to what answers make")));
    }
    selector(&asked)?;
    if asked.reason.trim().is_empty() {
        return Err(invalid("exception.reason", "required"));
    }
    note(&asked.reason)?;
    let ahead = asked.expires_unix_ms.saturating_sub(now_unix_ms);
    if ahead <= 0 || ahead > MAX_DAYS * DAY_MS {
        return Err(invalid("exception.expires_unix_ms", format!("required, in the future and at most {MAX_DAYS} days ahead")));
    }
    let given = [
        ("source", asked.source != 0),
        ("author", !asked.author.is_empty()),
        ("created_unix_ms", asked.created_unix_ms != 0),
        ("incident_id", asked.incident_id != 0),
        ("removed_unix_ms", asked.removed_unix_ms != 0),
        ("lowered", asked.lowered != 0),
    ];
    if let Some((field, _)) = given.into_iter().find(|(_, set)| *set) {
        return Err(invalid(&format!("exception.{field}"), "given by the aggregator, leave it empty"));
    }
    asked.at_most = asked.at_most().max(Severity::Note).into();
    asked.source = source.into();
    author.clone_into(&mut asked.author);
    asked.created_unix_ms = now_unix_ms;
    Ok(asked)
}

/// Checks what an exception is about: all that a preview needs.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn selector(asked: &Exception) -> Result<(), Status> {
    let globs = [
        ("namespace", &asked.namespace),
        ("owner_kind", &asked.owner_kind),
        ("owner_name", &asked.owner_name),
        ("container_name", &asked.container_name),
    ];
    for (field, glob) in globs {
        if glob.len() > MAX_GLOB || glob.chars().any(char::is_control) {
            return Err(invalid(&format!("exception.{field}"), format!("at most {MAX_GLOB} printable characters are allowed")));
        }
    }
    let says_something = |glob: &str| glob.chars().any(|c| !matches!(c, '*' | '?'));
    if ![&asked.namespace, &asked.owner_name, &asked.container_name].into_iter().any(|glob| says_something(glob)) {
        return Err(invalid(
            "exception",
            "namespace, owner_name or container_name must say something: an exception for all would hide all",
        ));
    }
    known_or_any("exception.kind", Kind::WORDS, asked.kind)?;
    if asked.kind() == Kind::Normal {
        return Err(invalid("exception.kind", "nothing is told of what is normal"));
    }
    known_or_any("exception.at_most", Severity::WORDS, asked.at_most)?;
    if asked.at_most() == Severity::Page {
        return Err(invalid("exception.at_most", "note or ticket"));
    }
    if asked.image_digests.len() > MAX_IMAGES {
        return Err(invalid("exception.image_digests", format!("at most {MAX_IMAGES} are allowed")));
    }
    let digest =
        |digest: &String| (1..=MAX_DIGEST).contains(&digest.len()) && digest.contains(':') && digest.bytes().all(|b| b.is_ascii_graphic());
    if !asked.image_digests.iter().all(digest) {
        return Err(invalid("exception.image_digests", "not a digest such as sha256:0123..."));
    }
    Ok(())
}
