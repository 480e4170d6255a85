//! One value of an answer, and how it reads in a table, in JSON and in CSV.

use jiff::tz::TimeZone;

use crate::escape::{escaped, is_unsafe};
use crate::{units, when};

/// A value with its meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing: empty in CSV, `null` in JSON, `-` in a table.
    Absent,
    /// Text that anybody may have written.
    Text(String),
    /// One of our own words, with a colour.
    Word(&'static str, Tone),
    /// A signed number.
    Integer(i64),
    /// A number without a unit.
    Unsigned(u64),
    /// A number with a fraction.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// Unix milliseconds.
    Instant(i64),
    /// Bytes.
    Bytes(u64),
    /// Bytes per second.
    BytesPerSecond(u64),
    /// Thousandths of a core.
    Millicores(u64),
    /// Several texts.
    List(Vec<String>),
    /// Bytes without meaning to us.
    Binary(Vec<u8>),
    /// JSON as it is; as such also in CSV.
    Json(String),
}

/// What a word means to somebody who looks for trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Look now.
    Bad,
    /// Nothing.
    Plain,
}

impl Cell {
    /// An instant, absent where the contract says 0.
    pub fn instant(unix_ms: i64) -> Self {
        if unix_ms == 0 { Self::Absent } else { Self::Instant(unix_ms) }
    }

    /// A text, absent where the contract says "".
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Absent } else { Self::Text(text) }
    }

    /// A word, absent where the contract says unspecified.
    pub fn word(word: &'static str, tone: Tone) -> Self {
        if word.is_empty() { Self::Absent } else { Self::Word(word, tone) }
    }

    /// The colour.
    pub fn tone(&self) -> Tone {
        if let Self::Word(_, tone) = self { *tone } else { Tone::Plain }
    }

    /// For a table: human units, local time, nothing a terminal would obey.
    pub fn human(&self, zone: &TimeZone) -> String {
        match self {
            Self::Absent => "-".to_owned(),
            Self::Text(text) => escaped(text),
            Self::Word(word, _) => (*word).to_owned(),
            Self::Integer(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Number(value) if value.is_nan() => "-".to_owned(),
            Self::Number(value) => shortest(*value),
            Self::Boolean(value) => value.to_string(),
            Self::Instant(unix_ms) => when::local(*unix_ms, zone),
            Self::Bytes(value) => units::bytes(*value as f64),
            Self::BytesPerSecond(value) => units::bytes_per_second(*value as f64),
            Self::Millicores(value) => format!("{value}m"),
            Self::List(texts) if texts.is_empty() => "-".to_owned(),
            Self::List(texts) => texts.iter().map(|text| escaped(text)).collect::<Vec<_>>().join(", "),
            Self::Binary(bytes) => hex(bytes),
            Self::Json(text) => escaped(text),
        }
    }

    /// A JSON value. What a terminal might obey is escaped there too, which JSON allows anywhere in a string.
    pub fn json(&self) -> String {
        match self {
            Self::Absent => "null".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Word(word, _) => quoted(word),
            Self::Integer(value) => value.to_string(),
            Self::Unsigned(value) | Self::Bytes(value) | Self::BytesPerSecond(value) | Self::Millicores(value) => value.to_string(),
            Self::Number(value) if value.is_finite() => shortest(*value),
            Self::Number(_) => "null".to_owned(),
            Self::Boolean(value) => value.to_string(),
            Self::Instant(unix_ms) => quoted(&when::utc(*unix_ms)),
            Self::List(texts) => format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",")),
            Self::Binary(bytes) => quoted(&hex(bytes)),
            Self::Json(text) => harmless(text),
        }
    }

    /// The text of a CSV field, before quoting; `true` where it is a number and no formula is possible.
    pub fn csv(&self) -> (String, bool) {
        match self {
            Self::Absent => (String::new(), true),
            Self::Text(text) => (text.clone(), false),
            Self::Word(word, _) => ((*word).to_owned(), false),
            Self::Number(value) if value.is_finite() => (shortest(*value), true),
            Self::Number(_) => (String::new(), true),
            Self::Integer(_) | Self::Unsigned(_) | Self::Bytes(_) | Self::BytesPerSecond(_) | Self::Millicores(_) | Self::Boolean(_) => {
                (self.json(), true)
            }
            Self::Instant(unix_ms) => (when::utc(*unix_ms), true),
            Self::List(texts) => (texts.join(";"), false),
            Self::Binary(bytes) => (hex(bytes), false),
            Self::Json(text) => (text.clone(), false),
        }
    }

    /// Numbers stand right in a table.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Integer(_) | Self::Unsigned(_) | Self::Number(_) | Self::Bytes(_) | Self::BytesPerSecond(_) | Self::Millicores(_)
        )
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    harmless(&serde_json::Value::from(text).to_string())
}

/// JSON with what a terminal would obey or hide written as `\uXXXX`: it can only stand inside strings.
pub fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        // Line ends between values stay; inside strings serde_json has escaped them already.
        if c == '\n' || !is_unsafe(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// The shortest text that reads back as the same number.
fn shortest(value: f64) -> String {
    // Without an exponent 1e300 would take 300 digits.
    if value != 0.0 && !(1e-6..1e16).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_for_people_and_numbers_for_programs() {
        let cell = Cell::BytesPerSecond(1_258_291);

        assert_eq!(cell.human(&TimeZone::UTC), "1.2 MiB/s");
        assert_eq!(cell.json(), "1258291");
        assert_eq!(cell.csv(), ("1258291".to_owned(), true));
    }

    #[test]
    fn absence_and_nan_are_never_zero() {
        assert_eq!((Cell::Absent.json(), Cell::Absent.csv().0, Cell::Absent.human(&TimeZone::UTC)), ("null".into(), "".into(), "-".into()));
        assert_eq!(Cell::Number(f64::NAN).json(), "null");
        assert_eq!(Cell::instant(0), Cell::Absent);
    }

    #[test]
    fn hostile_text_is_harmless_and_json_still_carries_it() {
        let text = "a\u{9b}31m\u{202e}\u{1b}\"\u{e0041}ü";

        let json = Cell::Text(text.into()).json();

        assert_eq!(json, r#""a\u009b31m\u202e\u001b\"\udb40\udc41ü""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert_eq!(Cell::List(vec!["x\n".into()]).human(&TimeZone::UTC), "x\\n");
    }

    #[test]
    fn every_number_is_valid_json() {
        for value in [0.0, -1.5, 1e300, 1e-9, 0.1 + 0.2, 1e16] {
            assert_eq!(serde_json::from_str::<f64>(&Cell::Number(value).json()).unwrap(), value);
        }
    }
}
