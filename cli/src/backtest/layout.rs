//! What the columns of a table mean, and its rows as numbers.

use std::io::BufRead;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::BacktestArgs;
use super::read::{Records, failed};
use crate::exit::Stop;

/// Most characters of a value that an error quotes.
const QUOTED: usize = 40;
/// Numbers from here on are milliseconds since 1970, below it seconds, or a count of anything.
const MILLISECONDS_FROM: f64 = 1e11;

/// Places of the columns that have a meaning.
pub struct Layout {
    time: usize,
    entity: Option<usize>,
    label: Option<usize>,
    /// Columns to judge by: place and name.
    pub columns: Vec<(usize, String)>,
    header: Vec<String>,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its time as it was written.
    pub time: String,
    /// The same, Unix milliseconds or whatever it counts.
    pub unix_ms: i64,
    /// Whose it is; empty where all are of one.
    pub entity: String,
    /// What it was, as it was written.
    pub label: String,
    /// Whether that is anything but normal.
    pub abnormal: bool,
    /// Values of the columns; NaN is absent.
    pub values: Vec<f64>,
}

impl Layout {
    /// Reads the header.
    pub fn read<R: BufRead>(records: &mut Records<R>, args: &BacktestArgs) -> Result<Self, Stop> {
        let name = records.name.clone();
        let Some(line) = records.next()? else { return Err(failed(&name, 1, "no header: the file is empty")) };
        let header: Vec<String> = records.fields().iter().map(|field| field.trim().to_owned()).collect();
        let place = |flag: &str, wanted: &str| {
            let mut found = header.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(place, _)| place);
            match (found.next(), found.next()) {
                (Some(place), None) => Ok(place),
                (Some(_), Some(_)) => Err(Stop::usage(format!("{name}, line {line}: two columns are called {wanted:?}"))),
                _ => Err(Stop::usage(format!("{name}, line {line}: no column {wanted:?} for {flag}; there are {}", header.join(", ")))),
            }
        };
        let optional = |flag: &str, wanted: &Option<String>| wanted.as_deref().map(|wanted| place(flag, wanted)).transpose();
        let time = place("--time", args.time.as_deref().unwrap_or_default())?;
        let (entity, label) = (optional("--entity", &args.entity)?, optional("--label", &args.label)?);
        let meant = [Some(time), entity, label];
        let mut places = Vec::new();
        if args.column.is_empty() {
            let ignored = args.ignore.iter().map(|wanted| place("--ignore", wanted)).collect::<Result<Vec<_>, _>>()?;
            places.extend((0..header.len()).filter(|place| !meant.contains(&Some(*place)) && !ignored.contains(place)));
        } else {
            for wanted in &args.column {
                places.push(place("--column", wanted)?);
            }
            places.sort_unstable();
            places.dedup();
        }
        if let Some(twice) = places.iter().find(|place| meant.contains(&Some(**place))) {
            return Err(Stop::usage(format!("column {:?} is given two meanings", header[*twice])));
        }
        if places.is_empty() {
            return Err(Stop::usage(format!("{name}, line {line}: no column is left to judge by; there are {}", header.join(", "))));
        }
        let columns = places.into_iter().map(|place| (place, header[place].clone())).collect();
        Ok(Self { time, entity, label, columns, header })
    }

    /// Whether rows are of several.
    pub fn has_entity(&self) -> bool {
        self.entity.is_some()
    }

    /// Whether rows say what they were.
    pub fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Reads the record read last, which began on `line`, into `row`.
    pub fn row<R: BufRead>(&self, records: &Records<R>, line: u64, row: &mut Row) -> Result<(), Stop> {
        let (name, fields) = (&records.name, records.fields());
        if fields.len() != self.header.len() {
            let problem = format!("{} fields, the header has {}", fields.len(), self.header.len());
            return Err(failed(name, line, &problem));
        }
        let wrong = |place: usize, what: &str| {
            let quoted: String = fields[place].chars().take(QUOTED).collect();
            Stop::new(crate::exit::Exit::Failure, format!("{name}, line {line}, column {}: {quoted:?} is {what}", self.header[place]))
        };
        let into = |text: &mut String, place: usize| {
            text.clear();
            text.push_str(fields[place].trim());
        };
        into(&mut row.time, self.time);
        row.unix_ms = instant(&row.time).ok_or_else(|| wrong(self.time, "no time"))?;
        if let Some(place) = self.entity {
            into(&mut row.entity, place);
        }
        if let Some(place) = self.label {
            into(&mut row.label, place);
            row.abnormal = is_abnormal(&row.label);
        }
        row.values.clear();
        for (place, _) in &self.columns {
            let value = number(&fields[*place]).ok_or_else(|| wrong(*place, "no number; --ignore leaves a column out"))?;
            row.values.push(value);
        }
        Ok(())
    }
}

/// A value; NaN where it is absent, `None` where it is no number.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let absent = ["", "nan", "null", "na", "n/a", "none", "-"];
    if absent.iter().any(|word| text.eq_ignore_ascii_case(word)) { Some(f64::NAN) } else { text.parse().ok() }
}

fn is_abnormal(label: &str) -> bool {
    let normal = ["", "normal", "0", "0.0", "false", "no"];
    !normal.iter().any(|word| label.eq_ignore_ascii_case(word))
}

/// An instant, Unix milliseconds; without a zone it is UTC.
fn instant(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number.abs() >= MILLISECONDS_FROM { number } else { number * 1e3 };
        return number.is_finite().then_some(ms as i64);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let zoned = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BacktestArgs,
    }

    fn rows(text: &str, flags: &str) -> Result<Vec<Row>, String> {
        let line = ["x", "--csv", "t.csv", "--time", "t"].into_iter().chain(flags.split_whitespace());
        let args = Line::try_parse_from(line).unwrap().args;
        let mut records = Records::new(text.as_bytes(), "t.csv");
        let layout = Layout::read(&mut records, &args).map_err(|stop| stop.message)?;
        let mut all = Vec::new();
        while let Some(line) = records.next().map_err(|stop| stop.message)? {
            let mut row = Row::default();
            layout.row(&records, line, &mut row).map_err(|stop| stop.message)?;
            all.push(row);
        }
        Ok(all)
    }

    #[test]
    fn rows_are_read_by_the_meaning_of_their_columns() {
        let text = "t,pod,cpu,memory,what\n2026-01-01T00:00:00Z,a,1.5,,normal\n2026-01-01 00:00:01,b,nan,7,scan\n";

        let read = rows(text, "--entity pod --label what").unwrap();

        assert_eq!((read[0].unix_ms, read[1].unix_ms), (1_767_225_600_000, 1_767_225_601_000));
        assert_eq!((read[0].entity.as_str(), read[0].abnormal, read[1].abnormal), ("a", false, true));
        assert!(read[0].values[0] == 1.5 && read[0].values[1].is_nan() && read[1].values[0].is_nan() && read[1].values[1] == 7.0);
    }

    #[test]
    fn times_of_many_makes_are_read() {
        let instants = ["1767225600", "1767225600000", "1767225600.0", "2026-01-01T01:00:00+01:00", "2026-01-01 00:00:00.000"].map(instant);

        assert_eq!(instants, [Some(1_767_225_600_000); 5]);
        assert_eq!((instant("7"), instant("yesterday"), instant("nan")), (Some(7_000), None, None));
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let error = |text: &str, flags: &str| rows(text, flags).unwrap_err();

        assert_eq!(error("", ""), "t.csv, line 1: no header: the file is empty");
        assert_eq!(error("a,b\n", ""), "t.csv, line 1: no column \"t\" for --time; there are a, b");
        assert_eq!(error("t,a,a\n", "--column a"), "t.csv, line 1: two columns are called \"a\"");
        assert_eq!(error("t\n", ""), "t.csv, line 1: no column is left to judge by; there are t");
        assert_eq!(error("t,a\n", "--entity a --column a"), "column \"a\" is given two meanings");
        assert_eq!(error("t,a\n1,2\n1,2,3\n", ""), "t.csv, line 3: 3 fields, the header has 2");
        assert_eq!(error("t,a\n1,2\nnow,2\n", ""), "t.csv, line 3, column t: \"now\" is no time");
        assert_eq!(error("t,a\n1,many\n", ""), "t.csv, line 2, column a: \"many\" is no number; --ignore leaves a column out");
        assert_eq!(rows("t,a,b\n1,2,many\n", "--ignore b").unwrap().len(), 1);
    }
}
