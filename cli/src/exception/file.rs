//! The file of `vedette apply`: exceptions in YAML.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use vedette_proto::v1::{Exception, Kind, Severity};

use crate::exit::Stop;
use crate::when::When;

/// Longest file, in bytes: 1,000 exceptions with long reasons.
const MAX_BYTES: u64 = 8 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    exceptions: Vec<Entry>,
}

/// One exception. Texts are globs; what is not given is any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    namespace: String,
    /// `KIND/NAME`.
    #[serde(default)]
    owner: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    kind: String,
    reason: String,
    /// A day (it ends as the day begins, UTC) or RFC 3339: a span would mean something else every time the file is applied.
    expires: String,
    #[serde(default)]
    images: Vec<String>,
    /// `note` or `ticket`.
    #[serde(default)]
    at_most: String,
}

/// Reads a file; `-` is standard input.
pub fn read(path: &Path, now: Timestamp) -> Result<Vec<Exception>, Stop> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    read.map_err(|error| Stop::usage(format!("cannot read {}: {error}", path.display())))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Stop::usage(format!("{} is longer than {MAX_BYTES} bytes", path.display())));
    }
    parse(&text, now).map_err(|problem| Stop::usage(format!("{}: {problem}", path.display())))
}

fn parse(text: &str, now: Timestamp) -> Result<Vec<Exception>, String> {
    let file: File = serde_norway::from_str(text).map_err(|error| error.to_string().replace('\n', " "))?;
    let read = |entry: Entry| {
        let name = entry.name.clone();
        entry.exception(now).map_err(|problem| format!("exception {name:?}: {problem}"))
    };
    file.exceptions.into_iter().map(read).collect()
}

impl Entry {
    fn exception(self, now: Timestamp) -> Result<Exception, String> {
        let kind = match self.kind.replace('-', "_").as_str() {
            "" => Kind::Unspecified,
            word => Kind::from_word(word).ok_or_else(|| format!("kind: {word:?} is none"))?,
        };
        let at_most = match &self.at_most[..] {
            "" => Severity::Note,
            word => Severity::from_word(word).ok_or_else(|| format!("at_most: {word:?} is none, note and ticket are"))?,
        };
        let super::Owner(owner_kind, owner_name) = super::owner(&self.owner).map_err(|problem| format!("owner: {problem}"))?;
        let expires_unix_ms =
            fixed(&self.expires).ok_or_else(|| format!("expires: {:?} is no day like 2026-12-31 and no RFC 3339", self.expires))?;
        if expires_unix_ms <= now.as_millisecond() {
            return Err(format!("expires: {} is over; remove the exception from the file", self.expires));
        }
        Ok(Exception {
            name: self.name,
            namespace: self.namespace,
            owner_kind,
            owner_name,
            container_name: self.container,
            kind: kind.into(),
            reason: self.reason,
            expires_unix_ms,
            image_digests: self.images,
            at_most: at_most.into(),
            ..Exception::default()
        })
    }
}

/// A day in UTC or RFC 3339: the same instant on every machine.
fn fixed(text: &str) -> Option<i64> {
    if let Ok(instant) = text.trim().parse::<Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let day: Date = text.trim().parse().ok()?;
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// When it ends, as a flag says: `90d` from now, a day in local time, RFC 3339.
pub fn expires(text: &str, now: Timestamp) -> Result<i64, String> {
    match When::parse(text)? {
        When::At(instant) => Ok(instant.as_millisecond()),
        When::Ago(span) if span.is_zero() => Err("that is now".to_owned()),
        // The same words that elsewhere mean before now.
        When::Ago(span) => {
            let ends = now.checked_add(span).map_err(|_| format!("{text} is too long"))?;
            Ok(ends.as_millisecond())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
exceptions:
  - name: nightly-backup
    namespace: shop
    owner: CronJob/backup-*
    kind: exfiltration
    reason: dump to the bucket
    expires: 2026-12-31
    images: [\"sha256:abc\"]
  - name: load-test
    namespace: load-*
    reason: until Friday
    expires: 2026-12-04T18:00:00Z
    at_most: ticket
";

    fn now() -> Timestamp {
        "2026-11-27T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_file_is_read() {
        let read = parse(FILE, now()).unwrap();

        assert_eq!((read[0].owner_kind.as_str(), read[0].owner_name.as_str(), read[0].kind()), ("CronJob", "backup-*", Kind::Exfiltration));
        assert_eq!(read[0].expires_unix_ms, "2026-12-31T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond());
        assert_eq!((read[1].kind(), read[1].at_most()), (Kind::Unspecified, Severity::Ticket));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (from, to, said) in [
            ("kind: exfiltration", "kind: burglary", "exception \"nightly-backup\": kind"),
            ("expires: 2026-12-31", "expires: 90d", "exception \"nightly-backup\": expires"),
            ("expires: 2026-12-31", "expires: 2026-01-01", "is over"),
            ("owner: CronJob/backup-*", "owner: backup", "owner"),
            ("namespace: shop", "namespaces: shop", "unknown field"),
        ] {
            let problem = parse(&FILE.replacen(from, to, 1), now()).unwrap_err();
            assert!(problem.contains(said) && !problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn a_span_is_from_now() {
        assert_eq!(expires("2d", now()).unwrap(), now().as_millisecond() + 2 * 86_400_000);
        assert!(expires("now", now()).is_err() && expires("soon", now()).is_err());
    }
}
