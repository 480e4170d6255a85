//! Where answers go: the format, the colours, the width and the zone.

use std::collections::HashMap;
use std::io::{self, BufWriter, IsTerminal, Write};

use clap::ValueEnum;
use jiff::tz::TimeZone;

use crate::cell::{Cell, Tone, quoted};
use crate::escape::escape;
use crate::table::Table;
use crate::{csv, when};

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: human units, local time
    #[default]
    Table,
    /// For programs: raw numbers, RFC 3339 in UTC
    Json,
    /// For spreadsheets: RFC 4180, no formulas
    Csv,
}

/// The place that answers go to.
pub struct Output {
    /// The format.
    pub format: Format,
    /// Colours are wanted.
    pub colour: bool,
    /// Columns of the terminal. `None` where nothing limits a line.
    pub width: Option<u16>,
    /// It is a terminal, which obeys control characters.
    pub terminal: bool,
    /// The zone of printed times.
    pub zone: TimeZone,
    /// The sink.
    pub sink: Box<dyn Write + Send>,
}

impl Output {
    /// Standard output. Colours only on a terminal, and only where `NO_COLOR` does not object.
    pub fn stdout(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            format,
            colour: terminal && !objection && !dumb,
            width: if terminal { comfy_table::Table::new().width() } else { None },
            terminal,
            zone: when::local_zone(),
            sink: Box::new(BufWriter::new(io::stdout())),
        }
    }

    /// Writes a text of our own, whatever the format, with what others wrote escaped by the caller.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.sink, "{text}")
    }

    /// Begins a list of rows.
    pub fn rows(&mut self, columns: Vec<Column>) -> io::Result<Rows<'_>> {
        Rows::begin(self, columns, false)
    }

    /// Begins rows that come over time: each is written at once, JSON as an object per line.
    pub fn stream(&mut self, columns: Vec<Column>) -> io::Result<Rows<'_>> {
        Rows::begin(self, columns, true)
    }

    /// Writes one object: in JSON not as a list of one.
    pub fn object(&mut self, columns: Vec<Column>, cells: &[Cell]) -> io::Result<()> {
        if self.format == Format::Json {
            writeln!(self.sink, "{}", object(&names(&columns), cells))?;
            return self.sink.flush();
        }
        let mut rows = self.rows(columns)?;
        rows.row(cells.to_vec())?;
        rows.end().map(drop)
    }

    /// Puts `text` into a tone, where colours are wanted.
    pub fn toned(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Makes `text` bold, where colours are wanted.
    pub fn bold(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// One column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in JSON and CSV. `None` means: only in the table.
    pub name: Option<String>,
    /// Its header in the table. `None` means: not in the table.
    pub header: Option<String>,
}

impl Column {
    /// A column of every format.
    pub fn both(name: &str, header: &str) -> Self {
        Self { name: Some(name.to_owned()), header: Some(header.to_owned()) }
    }

    /// A column that is too much for a table.
    pub fn data(name: &str) -> Self {
        Self { name: Some(name.to_owned()), header: None }
    }

    /// A column that only sums up others.
    pub fn table(header: &str) -> Self {
        Self { name: None, header: Some(header.to_owned()) }
    }
}

/// Rows on their way out. JSON and CSV are written as they come; a table waits for its last row.
pub struct Rows<'a> {
    output: &'a mut Output,
    columns: Vec<Column>,
    names: Vec<Option<String>>,
    table: Table,
    lines: bool,
    count: u64,
}

impl<'a> Rows<'a> {
    fn begin(output: &'a mut Output, columns: Vec<Column>, lines: bool) -> io::Result<Self> {
        let names = names(&columns);
        match output.format {
            Format::Csv => {
                let header = csv::header(names.iter().flatten().map(String::as_str));
                write!(output.sink, "{}", visible(&header, output.terminal))?;
            }
            Format::Json if !lines => write!(output.sink, "[")?,
            Format::Json | Format::Table => {}
        }
        let table = Table::new(columns.iter().filter_map(|column| column.header.clone()).collect());
        Ok(Self { output, columns, names, table, lines, count: 0 })
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Adds a row; one cell per column.
    pub fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.count += 1;
        match self.output.format {
            Format::Table => {
                let shown = self.columns.iter().zip(cells).filter(|(column, _)| column.header.is_some());
                self.table.row(shown.map(|(_, cell)| cell).collect(), &self.output.zone);
            }
            Format::Csv => {
                let kept = self.columns.iter().zip(&cells).filter(|(column, _)| column.name.is_some());
                let record = csv::record(kept.map(|(_, cell)| cell));
                write!(self.output.sink, "{}", visible(&record, self.output.terminal))?;
            }
            Format::Json => {
                let object = object(&self.names, &cells);
                match (self.lines, self.count) {
                    (true, _) => writeln!(self.output.sink, "{object}")?,
                    (false, 1) => write!(self.output.sink, "\n{object}")?,
                    (false, _) => write!(self.output.sink, ",\n{object}")?,
                }
            }
        }
        if self.lines { self.output.sink.flush() } else { Ok(()) }
    }

    /// Ends the list; says how many rows it had.
    pub fn end(self) -> io::Result<u64> {
        match self.output.format {
            Format::Table => {
                if self.count > 0 {
                    write!(self.output.sink, "{}", self.table.print(self.output.width, self.output.colour))?;
                }
            }
            Format::Json if !self.lines => writeln!(self.output.sink, "{}]", if self.count > 0 { "\n" } else { "" })?,
            Format::Json | Format::Csv => {}
        }
        self.output.sink.flush()?;
        Ok(self.count)
    }
}

/// The names of the columns, each made unique: `count(*)`, `count(*)_2`.
fn names(columns: &[Column]) -> Vec<Option<String>> {
    let mut seen = HashMap::<&str, u32>::new();
    columns
        .iter()
        .map(|column| {
            let name = column.name.as_deref()?;
            let times = seen.entry(name).or_default();
            *times += 1;
            Some(if *times == 1 { name.to_owned() } else { format!("{name}_{times}") })
        })
        .collect()
}

/// An object in the order of its columns.
fn object(names: &[Option<String>], cells: &[Cell]) -> String {
    let members = names.iter().zip(cells).filter_map(|(name, cell)| Some(format!("{}:{}", quoted(name.as_deref()?), cell.json())));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// CSV as it is for a file or a program; on a terminal without what a terminal obeys.
fn visible(record: &str, terminal: bool) -> String {
    if !terminal {
        return record.to_owned();
    }
    let line = record.strip_suffix("\r\n").unwrap_or(record);
    escape(line).into_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(format: Format, width: Option<u16>, terminal: bool) -> String {
        let sink = Sink::default();
        let mut output = Output { format, colour: false, width, terminal, zone: TimeZone::UTC, sink: Box::new(sink.clone()) };
        let columns = vec![
            Column::both("name", "NAME"),
            Column::both("sent", "SENT"),
            Column::data("uid"),
            Column::table("WHERE"),
            Column::both("sent", "AGAIN"),
        ];
        let mut rows = output.rows(columns).unwrap();
        for (name, sent) in [("web", 1_258_291), ("a\u{1b}[2J, b", 7)] {
            let cells = [Cell::text(name), Cell::BytesPerSecond(sent), Cell::text("u-1"), Cell::text("shop"), Cell::Absent];
            rows.row(cells.to_vec()).unwrap();
        }
        assert_eq!(rows.end().unwrap(), 2);
        drop(output);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_table_is_for_people() {
        let lines = ["NAME                SENT  WHERE  AGAIN", "web            1.2 MiB/s  shop   -", "a\\u{1b}[2J, b      7 B/s  shop   -"];

        assert_eq!(check(Format::Table, None, false), lines.join("\n") + "\n");
    }

    #[test]
    fn a_narrow_terminal_wraps_inside_cells() {
        let text = check(Format::Table, Some(30), true);

        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.contains("1.2"), "{text}");
    }

    #[test]
    fn json_has_raw_numbers_and_unique_names() {
        let text = check(Format::Json, None, false);

        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rows[1]["name"], "a\u{1b}[2J, b");
        assert!(text.starts_with("[\n{\"name\":\"web\",\"sent\":1258291,\"uid\":\"u-1\",\"sent_2\":null},\n"), "{text}");
    }

    #[test]
    fn csv_is_faithful_to_a_file_and_harmless_to_a_terminal() {
        assert_eq!(check(Format::Csv, None, false), "name,sent,uid,sent_2\r\nweb,1258291,u-1,\r\n\"a\u{1b}[2J, b\",7,u-1,\r\n");
        assert!(check(Format::Csv, None, true).ends_with("\"a\\u{1b}[2J, b\",7,u-1,\n"));
    }
}
