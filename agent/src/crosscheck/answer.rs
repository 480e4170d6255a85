//! Prometheus's answers, read as they come: what is not looked at is not kept, and what is kept has a limit, so that no answer, however made,
//! costs the agent its memory.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use vedette_crosscheck::Point;

use super::client::Labelled;

/// Labels that anybody looks at; the others of a series are left out.
const LABELS: [&str; 10] = ["__name__", "cpu", "device", "id", "instance", "interface", "job", "mode", "name", "uid"];
/// Latest time of a value, Unix seconds: the year 5138. Differences of such times in milliseconds cannot overflow.
const LATEST_S: f64 = 1e11;

/// How much the answers of one round may still hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Series. One takes some 700 bytes however short its text is.
    pub series: usize,
    /// Values, 16 bytes each.
    pub values: usize,
}

impl Room {
    /// Of a whole round: of 500 containers in 250 pods some 5,000 series are needed, with 36 values each where they are scraped every 10 s.
    pub const ROUND: Self = Self { series: 20_000, values: 600_000 };
}

/// What was answered.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// `success` or `error`.
    pub status: String,
    /// Why not.
    pub error: String,
    /// The result.
    pub data: Option<Data>,
}

/// A result.
#[derive(Debug, PartialEq)]
pub enum Data {
    /// Series with their values.
    Matrix(Vec<Labelled>),
    /// One number, as text.
    Scalar(String),
}

/// Reads an answer; what it holds is taken from `room`.
///
/// # Errors
/// Where it is not one, or holds more than there is room for.
pub fn read(text: &[u8], room: &mut Room) -> Result<Answer, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let answer = InAnswer(room).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(answer)
}

struct InAnswer<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for InAnswer<'_> {
    type Value = Answer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Answer, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InAnswer<'_> {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of Prometheus")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let mut answer = Answer::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "status" => answer.status = map.next_value()?,
                "error" => answer.error = map.next_value()?,
                "data" => answer.data = map.next_value_seed(InData(self.0))?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(answer)
    }
}

struct InData<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for InData<'_> {
    type Value = Option<Data>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Data>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InData<'_> {
    type Value = Option<Data>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result with its type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Data>, A::Error> {
        let mut data = None;
        while let Some(key) = map.next_key::<String>()? {
            // What it is shows in the result itself, in whichever order its type is said.
            match key.as_str() {
                "result" => data = Some(map.next_value_seed(InResult(self.0))?),
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(data)
    }
}

struct InResult<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for InResult<'_> {
    type Value = Data;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InResult<'_> {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series, or a time and a number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut series = Vec::new();
        let (mut times, mut number) = (0, None);
        while let Some(item) = items.next_element_seed(InItem(self.0))? {
            match item {
                Item::Series(one) => series.push(one),
                Item::Time => times += 1,
                Item::Number(text) => number = Some(text),
            }
        }
        match (series.is_empty(), times, number) {
            (_, 0, None) => Ok(Data::Matrix(series)),
            (true, 1, Some(number)) => Ok(Data::Scalar(number)),
            _ => Err(A::Error::custom("a result of several types")),
        }
    }
}

enum Item {
    Series(Labelled),
    Time,
    Number(String),
}

struct InItem<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for InItem<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InItem<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series, a time or a number in quotes")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Item, E> {
        Ok(Item::Time)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Item, E> {
        Ok(Item::Time)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Item, E> {
        Ok(Item::Time)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Number(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        self.0.series =
            self.0.series.checked_sub(1).ok_or_else(|| A::Error::custom(format_args!("more than {} series", Room::ROUND.series)))?;
        let mut one = Labelled::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metric" => one.labels = map.next_value_seed(InLabels)?,
                "values" => one.points = map.next_value_seed(InValues(self.0))?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Item::Series(one))
    }
}

struct InLabels;

impl<'de> DeserializeSeed<'de> for InLabels {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InLabels {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if LABELS.contains(&key.as_str()) {
                labels.insert(key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(labels)
    }
}

struct InValues<'a>(&'a mut Room);

impl<'de> DeserializeSeed<'de> for InValues<'_> {
    type Value = Vec<Point>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Point>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InValues<'_> {
    type Value = Vec<Point>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values with their times")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Point>, A::Error> {
        let mut points: Vec<Point> = Vec::new();
        while let Some((seconds, Value(value))) = items.next_element::<(f64, Value)>()? {
            self.0.values =
                self.0.values.checked_sub(1).ok_or_else(|| A::Error::custom(format_args!("more than {} values", Room::ROUND.values)))?;
            let unix_ms = (seconds * 1e3).round() as i64;
            let in_order = points.last().is_none_or(|last| last.unix_ms < unix_ms);
            if value.is_finite() && (0.0..=LATEST_S).contains(&seconds) && in_order {
                points.push(Point { unix_ms, value });
            }
        }
        points.shrink_to_fit();
        Ok(points)
    }
}

/// A number in quotes; what is none is not a number.
struct Value(f64);

impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InQuotes;
        impl Visitor<'_> for InQuotes {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value(text.parse().unwrap_or(f64::NAN)))
            }
        }
        deserializer.deserialize_str(InQuotes)
    }
}

/// Milliseconds of a scalar that is a time in Unix seconds; `None` for anything that is none.
#[must_use]
pub fn unix_ms(scalar: &str) -> Option<i64> {
    let seconds: f64 = scalar.parse().ok()?;
    (0.0..=LATEST_S).contains(&seconds).then(|| (seconds * 1e3).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(text: &str) -> Result<Answer, serde_json::Error> {
        let mut room = Room::ROUND;
        read(text.as_bytes(), &mut room)
    }

    fn series(rows: &str) -> String {
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{rows}]}}}}")
    }

    #[test]
    fn series_are_read_with_the_labels_that_matter_in_whichever_order() {
        let text = r#"{"data":{"result":[{"values":[[1700000000.781,"0.5"],[1700000030,"1e3"]],"metric":{"__name__":"up","pod":"x","id":"/a"}}],
            "resultType":"matrix"},"warnings":["w"],"status":"success"}"#;

        let answer = result(text).unwrap();

        let labels = [("__name__", "up"), ("id", "/a")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let points = vec![Point { unix_ms: 1_700_000_000_781, value: 0.5 }, Point { unix_ms: 1_700_000_030_000, value: 1_000.0 }];
        let data = Some(Data::Matrix(vec![Labelled { labels, points }]));
        assert_eq!(answer, Answer { status: "success".into(), error: String::new(), data });
    }

    #[test]
    fn a_scalar_and_an_error_are_read() {
        let scalar = result(r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.1,"1700000000.25"]}}"#).unwrap();
        let refused = result(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).unwrap();

        assert_eq!(scalar.data, Some(Data::Scalar("1700000000.25".into())));
        assert_eq!(unix_ms("1700000000.25"), Some(1_700_000_000_250));
        assert_eq!((refused.error.as_str(), refused.data), ("parse error", None));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_while_it_is_read() {
        let empty = r#"{"metric":{"id":"a"},"values":[]}"#;
        let crowd = result(&series(&vec![empty; Room::ROUND.series + 1].join(","))).unwrap_err().to_string();
        let values = vec!["[1,\"1\"]"; Room::ROUND.values + 1].join(",");
        let long = result(&series(&format!("{{\"metric\":{{}},\"values\":[{values}]}}"))).unwrap_err().to_string();

        assert!(crowd.starts_with("more than 20000 series"), "{crowd}");
        assert!(long.starts_with("more than 600000 values"), "{long}");
    }

    #[test]
    fn the_answers_of_a_round_share_one_room() {
        let mut room = Room { series: 3, values: 2 };
        let one = series(r#"{"metric":{},"values":[[1,"1"]]}"#);

        let outcomes = [(); 3].map(|()| read(one.as_bytes(), &mut room).is_ok());

        assert_eq!((outcomes, room), ([true, true, false], Room { series: 0, values: 0 }));
    }

    #[test]
    fn times_that_are_none_and_values_out_of_order_are_left_out() {
        let text = series(r#"{"metric":{},"values":[[5,"1"],[1e300,"2"],[-7,"3"],[4,"4"],[5,"5"],[6,"NaN"],[7,"no"],[8,"+Inf"],[9,"6"]]}"#);

        let Some(Data::Matrix(all)) = result(&text).unwrap().data else { panic!("no series") };

        assert_eq!(all[0].points, [Point { unix_ms: 5_000, value: 1.0 }, Point { unix_ms: 9_000, value: 6.0 }]);
        assert_eq!(["1e300", "-1", "NaN", "x", ""].map(unix_ms), [None; 5]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let deep = series(&"[".repeat(100_000));
        let mixed = series(r#"{"metric":{},"values":[]},7"#);
        for text in ["", "[]", "{}x", r#"{"status":7}"#, r#"{"data":[]}"#, r#"{"data":{"result":{}}}"#, &deep, &mixed] {
            assert!(result(text).is_err(), "{}", &text[..text.len().min(100)]);
        }
    }
}
