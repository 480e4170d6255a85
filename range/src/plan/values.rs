//! The values that a plan is written with: lengths with their unit, sizes, shares of a core, and what may be drawn.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};

/// Longest length that a plan may name: a recording with an hour before it is far below.
const MAX_LENGTH: Duration = Duration::from_secs(24 * 60 * 60);
/// Most entries of a mapping or list in a plan.
const MAX_ENTRIES: usize = 1_000;

/// A length such as `90s`, `5m`, `1h30m` or `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

/// A size such as `64MiB` or `2GiB`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of the machine's processors such as `500m` or `2`, in thousandths of a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cores(pub u64);

/// Splits `text` into its leading number and what follows it.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

impl std::str::FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a length such as 90s, 5m, 1h30m or 500ms");
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let (count, after) = number(rest).ok_or_else(wrong)?;
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let unit_ms = match &after[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong()),
            };
            total = total.saturating_add(Duration::from_millis(count.saturating_mul(unit_ms)));
            rest = &after[letters..];
        }
        if text.is_empty() {
            return Err(wrong());
        }
        if total > MAX_LENGTH { Err(format!("{text:?} is longer than a day")) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match (ms / 60_000, ms % 60_000) {
            (0, ms) if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            (0, ms) => write!(f, "{}.{}s", ms / 1_000, ms % 1_000 / 100),
            (minutes, 0) => write!(f, "{minutes}m"),
            (minutes, ms) => write!(f, "{minutes}m{:02}s", ms / 1_000),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, unit) = number(text).ok_or_else(|| format!("{text:?} is not a size such as 64MiB"))?;
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(format!("{text:?} is not a size such as 64MiB: the unit is KiB, MiB or GiB")),
        };
        count.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl std::str::FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match number(text) {
            Some((count, "m")) => Ok(Self(count)),
            Some((count, "")) => count.checked_mul(1_000).map(Self).ok_or_else(|| format!("{text:?} is too large")),
            _ => Err(format!("{text:?} is not a share of cores such as 500m or 2")),
        }
    }
}

/// A value that is parsed from a word or a number. The error is made while the value is read, so that it has its place.
struct Parsed<T>(PhantomData<T>);

impl<T: std::str::FromStr<Err = String>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        value.parse().map_err(E::custom)
    }
}

/// Reads a value that is parsed from a word or a number.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Parsed(PhantomData))
}

macro_rules! from_text {
    ($($type:ident),*) => { $(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }
    )* };
}
from_text!(Length, Size, Cores);

/// One plain value of a flag or an intensity.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A word.
    Text(String),
    /// A switch.
    Switch(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Switch(value) => write!(f, "{value}"),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A value, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub enum OneOrMany {
    /// One value.
    One(Scalar),
    /// A list.
    Many(Vec<Scalar>),
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a word, true or false")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Switch(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        i64::try_from(value).map(Scalar::Integer).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        if value.is_finite() { Ok(Scalar::Number(value)) } else { Err(E::custom("the number must be finite")) }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}

fn scalars<'de, A: SeqAccess<'de>>(mut values: A) -> Result<Vec<Scalar>, A::Error> {
    let mut many = Vec::new();
    while let Some(value) = values.next_element()? {
        if many.len() >= MAX_ENTRIES {
            return Err(de::Error::custom(format!("more than {MAX_ENTRIES} entries")));
        }
        many.push(value);
    }
    Ok(many)
}

/// A value or a list, made into something else while it is read.
struct Made<T>(fn(OneOrMany) -> Result<T, String>);

impl<'de, T> Visitor<'de> for Made<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a word, true, false, or a list of them")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        (self.0)(OneOrMany::One(ScalarVisitor.visit_bool(value)?)).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        (self.0)(OneOrMany::One(ScalarVisitor.visit_i64(value)?)).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        (self.0)(OneOrMany::One(ScalarVisitor.visit_u64(value)?)).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        (self.0)(OneOrMany::One(ScalarVisitor.visit_f64(value)?)).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        (self.0)(OneOrMany::One(ScalarVisitor.visit_str(value)?)).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<T, A::Error> {
        (self.0)(OneOrMany::Many(scalars(values)?)).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Made(Ok))
    }
}

/// A name, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Made(|value| match value {
            OneOrMany::One(name) => Ok(Self(vec![name.to_string()])),
            OneOrMany::Many(names) if names.is_empty() => Err("an empty list of names".to_owned()),
            OneOrMany::Many(names) => Ok(Self(names.iter().map(ToString::to_string).collect())),
        }))
    }
}

/// A fixed value, or the two ends between which it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between<T> {
    /// The least.
    pub from: T,
    /// The most; the same for a fixed value.
    pub to: T,
}

impl<'de, T: Copy + PartialOrd + std::str::FromStr<Err = String>> Deserialize<'de> for Between<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Made(|value| {
            let (from, to) = match &value {
                OneOrMany::One(value) => (value, value),
                OneOrMany::Many(ends) => match &ends[..] {
                    [from, to] => (from, to),
                    _ => return Err("a value, or a list of the least and the most".to_owned()),
                },
            };
            let (from, to) = (from.to_string().parse()?, to.to_string().parse()?);
            if from > to { Err("the first end lies above the second".to_owned()) } else { Ok(Self { from, to }) }
        }))
    }
}

/// How an intensity comes about.
#[derive(Clone, Debug, PartialEq)]
pub enum Draw {
    /// Always this.
    Fixed(Scalar),
    /// A whole number between two ends; where the upper is ten times the lower or more, evenly in the logarithm.
    Whole(i64, i64),
    /// Any number between two ends, in the same way.
    Real(f64, f64),
    /// One of these.
    OneOf(Vec<Scalar>),
}

impl Draw {
    /// The extremes, for checks: every value that matters to whether a program takes it.
    #[must_use]
    pub fn samples(&self) -> Vec<Scalar> {
        match self {
            Self::Fixed(value) => vec![value.clone()],
            Self::Whole(from, to) => vec![Scalar::Integer(*from), Scalar::Integer(*to)],
            Self::Real(from, to) => vec![Scalar::Number(*from), Scalar::Number(*to)],
            Self::OneOf(values) => values.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Draw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DrawVisitor;
        impl<'de> Visitor<'de> for DrawVisitor {
            type Value = Draw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of the least and the most, or one_of with a list of values")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Draw, E> {
                Ok(Draw::Fixed(Scalar::Switch(value)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Draw, E> {
                Ok(Draw::Fixed(Scalar::Integer(value)))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Draw, E> {
                i64::try_from(value).map(|value| Draw::Fixed(Scalar::Integer(value))).map_err(|_| E::custom("the number is too large"))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Draw, E> {
                Ok(Draw::Fixed(Scalar::Number(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Draw, E> {
                Ok(Draw::Fixed(Scalar::Text(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Draw, A::Error> {
                let draw = match &scalars(values)?[..] {
                    [Scalar::Integer(from), Scalar::Integer(to)] if from <= to => Some(Draw::Whole(*from, *to)),
                    [Scalar::Number(from), Scalar::Number(to)] if from <= to => Some(Draw::Real(*from, *to)),
                    [Scalar::Integer(from), Scalar::Number(to)] if *from as f64 <= *to => Some(Draw::Real(*from as f64, *to)),
                    [Scalar::Number(from), Scalar::Integer(to)] if *from <= *to as f64 => Some(Draw::Real(*from, *to as f64)),
                    _ => None,
                };
                draw.ok_or_else(|| de::Error::custom("a list here is the least and the most, two numbers; write one_of for a choice"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Draw, A::Error> {
                match entries.next_entry::<String, OneOrMany>()? {
                    Some((key, OneOrMany::Many(values))) if key == "one_of" && !values.is_empty() => match entries.next_key::<String>()? {
                        None => Ok(Draw::OneOf(values)),
                        Some(key) => Err(de::Error::custom(format!("unknown field `{key}` beside `one_of`"))),
                    },
                    Some((key, _)) if key != "one_of" => Err(de::Error::custom(format!("unknown field `{key}`, expected `one_of`"))),
                    _ => Err(de::Error::custom("one_of needs a list of at least one value")),
                }
            }
        }
        deserializer.deserialize_any(DrawVisitor)
    }
}

/// A mapping in the order of the file; a key that comes twice is an error.
#[derive(Clone, Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Ordered<T> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The keys, as an error message lists them.
    #[must_use]
    pub fn keys(&self) -> String {
        let keys: Vec<_> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedVisitor<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for OrderedVisitor<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ordered<T>, A::Error> {
                let mut ordered = Ordered::default();
                while let Some(key) = entries.next_key::<String>()? {
                    if ordered.get(&key).is_some() {
                        return Err(de::Error::custom(format!("`{key}` is there twice")));
                    }
                    if ordered.0.len() >= MAX_ENTRIES {
                        return Err(de::Error::custom(format!("more than {MAX_ENTRIES} entries")));
                    }
                    ordered.0.push((key, entries.next_value()?));
                }
                Ok(ordered)
            }
        }
        deserializer.deserialize_map(OrderedVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        serde_norway::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn lengths_sizes_and_cores_have_units() {
        assert_eq!(read("1h30m"), Ok(Length(Duration::from_secs(5_400))).map_err(|()| String::new()));
        assert_eq!(read("500ms"), Ok(Length(Duration::from_millis(500))).map_err(|()| String::new()));
        assert_eq!(read("64MiB"), Ok(Size(64 << 20)).map_err(|()| String::new()));
        assert_eq!(read("500m"), Ok(Cores(500)).map_err(|()| String::new()));
        assert_eq!(read("2"), Ok(Cores(2_000)).map_err(|()| String::new()));
        for wrong in ["30", "30 seconds", "''", "25h", "1d"] {
            assert!(read::<Length>(wrong).is_err(), "{wrong}");
        }
        for wrong in ["64", "64MB", "99999999999GiB"] {
            assert!(read::<Size>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_printed_as_people_write_them() {
        let print = |ms| Length(Duration::from_millis(ms)).to_string();

        assert_eq!([print(500), print(26_000), print(300_000), print(95_500)], ["0.5s", "26s", "5m", "1m35s"]);
    }

    #[test]
    fn draws_are_told_apart() {
        assert_eq!(read("[10, 100]"), Ok(Draw::Whole(10, 100)));
        assert_eq!(read("[0.5, 2]"), Ok(Draw::Real(0.5, 2.0)));
        assert_eq!(read("full"), Ok(Draw::Fixed(Scalar::Text("full".to_owned()))));
        assert_eq!(read("{one_of: [1, 2]}"), Ok(Draw::OneOf(vec![Scalar::Integer(1), Scalar::Integer(2)])));
        for wrong in ["[100, 10]", "[1]", "[a, b]", "{one: [1]}", "{one_of: []}", "{one_of: [1], two: 3}"] {
            assert!(read::<Draw>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_an_error_with_its_line() {
        let error = read::<Ordered<Ordered<i64>>>("x:\n  a: 1\n  b: 2\n  a: 3\n").unwrap_err();

        assert_eq!(error, "x: `a` is there twice at line 2 column 3");
    }
}
