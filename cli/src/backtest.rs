//! `vedette backtest`: history through a fresh detector (`history`), or the unsupervised layers over any table.

mod history;
mod judged;
mod layout;
mod read;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use flate2::read::MultiGzDecoder;
use vedette_detect::table::{Scored, Scorer};

use self::judged::{Histogram, Judged};
use self::layout::{Layout, Row};
use self::read::Records;
use crate::cell::Cell;
use crate::client::ConnectArgs;
use crate::csv;
use crate::exit::{Exit, Stop};
use crate::export::Sink;
use crate::output::{Column, Output};
use crate::progress::Transfer;
use crate::when::RangeArgs;
use crate::which::SelectorArgs;

/// Rows that are shown where nothing says which were abnormal.
const SHOWN: usize = 10;

/// Flags of `vedette backtest`.
#[derive(Clone, Debug, Args)]
pub struct BacktestArgs {
    /// Not history but this table; - is standard input
    #[arg(long, value_name = "FILE", requires = "time", conflicts_with_all = ["since", "until"])]
    csv: Option<PathBuf>,
    /// Of a table: the column with the time, as RFC 3339, `2026-11-22 10:00:00` (UTC), seconds or milliseconds, or just a number that grows
    #[arg(long, value_name = "COL", requires = "csv")]
    time: Option<String>,
    /// Of a table: the column that names whose row it is [default: all rows are of one]
    #[arg(long, value_name = "COL", requires = "csv")]
    entity: Option<String>,
    /// Of a table: the column that says what a row was: normal, 0, false, no or nothing is normal, everything else is not
    #[arg(long, value_name = "COL", requires = "csv")]
    label: Option<String>,
    /// Of a table: a column to judge by; may be given several times [default: all that have no other meaning]
    #[arg(long, value_name = "COL", requires = "csv")]
    column: Vec<String>,
    /// Of a table: a column to leave out; may be given several times
    #[arg(long, value_name = "COL", requires = "csv", conflicts_with = "column")]
    ignore: Vec<String>,
    /// Of a table: of the first N rows the threshold is made, of the others it is judged
    #[arg(long, value_name = "N", default_value_t = 0, requires = "csv")]
    train_rows: u64,
    /// Of a table: write a row with its score for each row to this file, as CSV; - is standard output
    #[arg(long, value_name = "FILE", requires = "csv")]
    scores_out: Option<PathBuf>,
    /// Of history: minutes before --since that only teach baselines
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_440))]
    warm_up_minutes: u32,
    /// Of history: play it with this model of the aggregator (its id, or a beginning of it), and with the one in service beside it
    #[arg(long, value_name = "ID", conflicts_with = "csv")]
    model: Option<String>,
    #[command(flatten)]
    when: RangeArgs,
    #[command(flatten)]
    which: SelectorArgs,
}

/// Plays history, or scores a table.
pub async fn run(args: &BacktestArgs, connect: &ConnectArgs, output: &mut Output) -> anyhow::Result<Exit> {
    match &args.csv {
        Some(path) => table(args, path, output),
        None => history::run(args, connect, output).await,
    }
}

fn table(args: &BacktestArgs, path: &Path, output: &mut Output) -> anyhow::Result<Exit> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let mut records = Records::new(BufReader::with_capacity(1 << 16, source(path)?), &name);
    let layout = Layout::read(&mut records, args)?;
    let mut sink = args.scores_out.as_deref().map(|out| ScoresOut::open(out, &layout)).transpose()?;
    let mut scorer = Scorer::new(layout.columns.len());
    let mut seen = Seen::new(args);
    let mut transfer = Transfer::begin(true);
    let mut row = Row::default();
    while let Some(line) = records.next()? {
        layout.row(&records, line, &mut row)?;
        let scored = scorer.score(&row.entity, row.unix_ms, &row.values);
        if let Some(sink) = &mut sink {
            sink.write(&layout, &row, &scored)?;
        }
        seen.take(&row, &scored);
        if seen.rows.is_multiple_of(4_096) {
            transfer.at(seen.rows, 0, records.bytes());
        }
    }
    drop(transfer);
    if let Some(sink) = sink {
        sink.finish()?;
    }
    if seen.rows == 0 {
        return Err(Stop::new(Exit::NothingFound, format!("{name}: there is a header and no row")).into());
    }
    let counts = scorer.counts();
    if counts.refused > 0 {
        eprintln!("vedette: {} rows are of more entities than are kept ({}): not scored", counts.refused, counts.entities);
    }
    if counts.out_of_order > 0 {
        eprintln!(
            "vedette: {} rows are earlier than the one before of their entity; they were taken in the order of the file",
            counts.out_of_order
        );
    }
    seen.report(&layout, args, counts.entities, output)?;
    Ok(Exit::Ok)
}

/// The bytes of the table, unpacked.
fn source(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

/// The file of scores.
struct ScoresOut {
    path: PathBuf,
    sink: Sink,
    pending: String,
}

impl ScoresOut {
    /// Bytes that are written at once.
    const PENDING: usize = 1 << 16;

    fn open(path: &Path, layout: &Layout) -> anyhow::Result<Self> {
        let mut names = vec!["time"];
        if layout.has_entity() {
            names.push("entity");
        }
        names.extend(["score", "level", "slope", "moved"]);
        if layout.has_label() {
            names.push("label");
        }
        Ok(Self { path: path.to_owned(), sink: Sink::open(path, false)?, pending: csv::header(names) })
    }

    fn write(&mut self, layout: &Layout, row: &Row, scored: &Scored) -> anyhow::Result<()> {
        let number = |value: f32| Cell::Number((f64::from(value) * 1e6).round() / 1e6);
        let mut cells = vec![Cell::text(&row.time)];
        if layout.has_entity() {
            cells.push(Cell::text(&row.entity));
        }
        let moved = scored.column.map_or(Cell::Absent, |place| Cell::text(&layout.columns[place].1));
        cells.extend([number(scored.score), number(scored.level), number(scored.slope), moved]);
        if layout.has_label() {
            cells.push(Cell::text(&row.label));
        }
        self.pending.push_str(&csv::record(&cells));
        if self.pending.len() >= Self::PENDING {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.sink.write_all(self.pending.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.sink.finish(&self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What is kept of the rows seen: as much for a thousand as for a billion.
struct Seen {
    rows: u64,
    train_rows: u64,
    labelled: bool,
    train: Histogram,
    test: Histogram,
    /// The most abnormal rows: score, time, entity, column.
    most: Vec<(f32, String, String, Option<usize>)>,
}

impl Seen {
    fn new(args: &BacktestArgs) -> Self {
        let (train, test) = (Histogram::default(), Histogram::default());
        Self { rows: 0, train_rows: args.train_rows, labelled: args.label.is_some(), train, test, most: Vec::new() }
    }

    fn take(&mut self, row: &Row, scored: &Scored) {
        let histogram = if self.rows < self.train_rows { &mut self.train } else { &mut self.test };
        self.rows += 1;
        if self.labelled {
            histogram.add(scored.score, row.abnormal);
            return;
        }
        let least = self.most.last().map_or(0.0, |least| least.0);
        if scored.score > 0.0 && (self.most.len() < SHOWN || scored.score > least) {
            let place = self.most.partition_point(|one| one.0 >= scored.score);
            self.most.insert(place, (scored.score, row.time.clone(), row.entity.clone(), scored.column));
            self.most.truncate(SHOWN);
        }
    }

    fn report(&self, layout: &Layout, args: &BacktestArgs, entities: usize, output: &mut Output) -> anyhow::Result<()> {
        // Scores on standard output are what somebody asked for; nothing else goes there.
        if args.scores_out.as_deref().is_some_and(|out| out.as_os_str() == "-") {
            return Ok(());
        }
        if self.labelled {
            let judged = Judged::of(&self.train, &self.test);
            if judged.areas.is_none() {
                eprintln!("vedette: the rows after --train-rows are all of one label: areas under curves do not exist");
            }
            return judged.print(self.rows, entities, output);
        }
        let columns = [("time", "TIME"), ("entity", "ENTITY"), ("score", "SCORE"), ("moved", "MOVED")];
        let mut rows = output.rows(columns.map(|(name, header)| Column::both(name, header)).into())?;
        for (score, time, entity, column) in &self.most {
            let moved = column.map_or(Cell::Absent, |place| Cell::text(&layout.columns[place].1));
            rows.row(vec![Cell::text(time), Cell::text(entity), Cell::Number((f64::from(*score) * 1e3).round() / 1e3), moved])?;
        }
        rows.end()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use clap::Parser;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::output::Format;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BacktestArgs,
    }

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A table of two calm pods, in which one surges twice for three rows; what is printed of it, and the scores.
    fn backtest(flags: &str, packed: bool) -> (serde_json::Value, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if packed { "pods.csv.gz" } else { "pods.csv" });
        let mut text = "at,pod,cpu,what\n".to_owned();
        for row in 0..400 {
            let surges = (200..203).contains(&row) || (350..353).contains(&row);
            let (cpu, what) = if surges { (90.0, "fault") } else { (5.0 + f64::from(row * 7 % 5) * 0.1, "normal") };
            text += &format!("{},web,{cpu},{what}\n{},cart,{},normal\n", row * 60, row * 60, 40 + row % 3);
        }
        let file = File::create(&path).unwrap();
        if packed {
            flate2::write::GzEncoder::new(file, flate2::Compression::fast()).write_all(text.as_bytes()).unwrap();
        } else {
            (&file).write_all(text.as_bytes()).unwrap();
        }
        let out = folder.path().join("scores.csv");
        let line = ["x", "--csv", path.to_str().unwrap(), "--time", "at", "--entity", "pod", "--scores-out", out.to_str().unwrap()];
        let args = Line::try_parse_from(line.into_iter().chain(flags.split_whitespace())).unwrap().args;
        let said = Said::default();
        let sink = Box::new(said.clone());
        let mut output = Output { format: Format::Json, colour: false, width: None, terminal: false, zone: TimeZone::UTC, sink };

        assert_eq!(table(&args, &path, &mut output).unwrap(), Exit::Ok);

        drop(output);
        let scores = std::fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect();
        (serde_json::from_slice(&said.0.lock().unwrap()).unwrap(), scores)
    }

    #[test]
    fn a_labelled_table_is_judged_after_its_training_rows_and_every_row_has_a_score() {
        let (said, scores) = backtest("--label what --train-rows 500", false);

        assert_eq!((&said["rows"], &said["judged"], &said["abnormal"]), (&800.into(), &300.into(), &3.into()));
        assert!(said["recall"] == 1.0 && said["pr_auc"].as_f64().unwrap() > 0.5, "{said}");
        assert_eq!(said["threshold_of"], "training rows, best F1");
        assert_eq!((scores.len(), scores[0].as_str()), (801, "time,entity,score,level,slope,moved,label"));
        assert!(scores[401].starts_with("12000,web,0.") && scores[401].ends_with(",cpu,fault"), "{}", scores[401]);
    }

    #[test]
    fn without_labels_the_oddest_rows_are_shown() {
        let (said, scores) = backtest("--ignore what", true);

        let first: Vec<_> = (0..2).map(|place| (said[place]["entity"].as_str(), said[place]["moved"].as_str())).collect();
        assert_eq!(first, [(Some("web"), Some("cpu")); 2]);
        assert_eq!(scores.len(), 801);
    }
}
