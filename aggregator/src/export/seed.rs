//! The seed layout: a row per 10 s of cluster-wide sums, a pure fold over observations.
//!
//! The row of instant `T` (a multiple of 10 s) covers what ended in `(T - 10 s, T]`; the nodes' own rows are not counted.
//! - `restarts`: counted since the first exported observation;
//! - `cpu` (cores), `net_tx`, `net_rx` (bytes per second): what was counted in `(T - 60 s, T]`, divided by those 60 s, or by less in the
//!   first minute of the export;
//! - `memory` (bytes): of each container the latest value in `(T - 15 s, T]`, its working set or, where none was read in that time, all
//!   memory charged to it (page cache included, so a little more);
//! - `label`: `anomaly` where a label of an attack kind stands in the 10 s, else `normal`;
//! - NaN where nothing was observed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

/// Distance between rows, milliseconds.
pub const STEP_MS: i64 = 10_000;
/// Steps that rates look back: a minute.
const MINUTE_STEPS: usize = 6;
/// A level of memory counts for this long.
const MEMORY_MS: i64 = 15_000;

/// One observation, as far as this layout looks at it. `None` is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// End of its interval, Unix milliseconds.
    pub unix_ms: i64,
    /// Length of its interval, microseconds.
    pub interval_us: Option<i64>,
    /// CPU time, microseconds.
    pub cpu_usage_us: Option<i64>,
    /// Memory charged, bytes.
    pub memory_current_bytes: Option<i64>,
    /// Working set, bytes.
    pub memory_working_set_bytes: Option<i64>,
    /// Bytes sent.
    pub net_tx_bytes: Option<i64>,
    /// Bytes received.
    pub net_rx_bytes: Option<i64>,
    /// Restarts.
    pub restarts: Option<i64>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedRow {
    /// Its instant, Unix milliseconds.
    pub unix_ms: i64,
    /// NaN is absent, here and below.
    pub restarts: f64,
    /// Cores.
    pub cpu: f64,
    /// Bytes.
    pub memory: f64,
    /// Bytes per second.
    pub net_tx: f64,
    /// Bytes per second.
    pub net_rx: f64,
    /// A label of an attack kind stands in the 10 s.
    pub anomaly: bool,
}

/// The step whose row covers an instant.
#[must_use]
pub fn step_of(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(STEP_MS) + i64::from(unix_ms.rem_euclid(STEP_MS) > 0)
}

/// Sums of one step; `None` while nothing was observed.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cpu_us: Option<i64>,
    tx: Option<i64>,
    rx: Option<i64>,
    restarts: Option<i64>,
}

/// The latest level of a container within one step, with its instant.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    working_set: Option<(i64, i64)>,
    current: Option<(i64, i64)>,
}

/// What is kept while rows are made: the steps of the part of history that is being read, not all of it.
#[derive(Debug, Default)]
pub struct Fold {
    steps: BTreeMap<i64, Sums>,
    levels: HashMap<Arc<str>, BTreeMap<i64, Levels>>,
    minute: VecDeque<Sums>,
    restarts: Option<i64>,
    /// When the first observation's interval began, Unix milliseconds.
    began: Option<i64>,
}

fn add(sum: &mut Option<i64>, value: Option<i64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

fn latest(kept: &mut Option<(i64, i64)>, unix_ms: i64, value: Option<i64>) {
    if let Some(value) = value.filter(|_| kept.is_none_or(|(at, _)| at <= unix_ms)) {
        *kept = Some((unix_ms, value));
    }
}

impl Fold {
    /// Adds an observation of a container, in any order within the steps not yet made into rows.
    pub fn add(&mut self, container: &Arc<str>, point: &Point) {
        let step = step_of(point.unix_ms);
        let sums = self.steps.entry(step).or_default();
        add(&mut sums.cpu_us, point.cpu_usage_us);
        add(&mut sums.tx, point.net_tx_bytes);
        add(&mut sums.rx, point.net_rx_bytes);
        add(&mut sums.restarts, point.restarts);
        if !self.levels.contains_key(container) {
            self.levels.insert(Arc::clone(container), BTreeMap::new());
        }
        if let Some(levels) = self.levels.get_mut(container) {
            let levels = levels.entry(step).or_default();
            latest(&mut levels.working_set, point.unix_ms, point.memory_working_set_bytes);
            latest(&mut levels.current, point.unix_ms, point.memory_current_bytes);
        }
        // The first minute is shorter; later steps are never before this.
        if self.minute.is_empty() {
            let start = point.unix_ms - point.interval_us.unwrap_or(0) / 1000;
            self.began = Some(self.began.map_or(start, |began| began.min(start)));
        }
    }

    /// How many containers are kept.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.levels.len()
    }

    /// Makes the rows of the steps `first..=last`, of which every observation has been added, and forgets what no later row needs.
    /// `attacks` are the stretches in which a label of an attack kind stands, merged and in order, Unix milliseconds.
    pub fn rows(&mut self, first: i64, last: i64, attacks: &[(i64, i64)]) -> Vec<SeedRow> {
        let rows = (first..=last).map(|step| self.row(step, attacks)).collect();
        self.steps.retain(|step, _| *step > last);
        // The last step's levels may count 5 s into the next.
        self.levels.retain(|_, steps| {
            steps.retain(|step, _| *step >= last);
            !steps.is_empty()
        });
        rows
    }

    fn row(&mut self, step: i64, attacks: &[(i64, i64)]) -> SeedRow {
        let unix_ms = step * STEP_MS;
        let sums = self.steps.get(&step).copied().unwrap_or_default();
        add(&mut self.restarts, sums.restarts);
        self.minute.push_back(sums);
        if self.minute.len() > MINUTE_STEPS {
            self.minute.pop_front();
        }
        let whole = STEP_MS * MINUTE_STEPS as i64;
        let covered_ms = self.began.map_or(whole, |began| (unix_ms - began).clamp(1, whole));
        let per_second = |of: fn(&Sums) -> Option<i64>| {
            let mut sum = None;
            self.minute.iter().for_each(|sums| add(&mut sum, of(sums)));
            sum.map_or(f64::NAN, |sum| sum as f64 * 1000.0 / covered_ms as f64)
        };
        SeedRow {
            unix_ms,
            restarts: self.restarts.map_or(f64::NAN, |restarts| restarts as f64),
            cpu: per_second(|sums| sums.cpu_us) / 1e6,
            memory: self.memory(step),
            net_tx: per_second(|sums| sums.tx),
            net_rx: per_second(|sums| sums.rx),
            anomaly: touches(attacks, unix_ms - STEP_MS, unix_ms),
        }
    }

    fn memory(&self, step: i64) -> f64 {
        let oldest = step * STEP_MS - MEMORY_MS;
        let mut sum = None;
        for steps in self.levels.values() {
            let level = |of: fn(&Levels) -> Option<(i64, i64)>| {
                let within = |at: i64| steps.get(&at).and_then(of).filter(|(unix_ms, _)| *unix_ms > oldest);
                within(step).or_else(|| within(step - 1)).map(|(_, bytes)| bytes)
            };
            add(&mut sum, level(|levels| levels.working_set).or_else(|| level(|levels| levels.current)));
        }
        sum.map_or(f64::NAN, |sum| sum as f64)
    }
}

/// Whether one of the stretches (half open, merged, in order) reaches into `(after, until]`.
fn touches(stretches: &[(i64, i64)], after: i64, until: i64) -> bool {
    let next = stretches.partition_point(|stretch| stretch.1 <= after + 1);
    stretches.get(next).is_some_and(|stretch| stretch.0 <= until)
}

/// The columns of the layout.
#[must_use]
pub fn schema() -> SchemaRef {
    let mut fields = vec![Field::new("timestamp", DataType::Utf8, false)];
    fields.extend(["restarts", "cpu", "memory", "net_tx", "net_rx"].map(|name| Field::new(name, DataType::Float64, false)));
    fields.push(Field::new("label", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Rows as a batch. Timestamps are UTC without a zone, as in the original.
///
/// # Errors
/// None that the types allow.
pub fn batch(rows: &[SeedRow]) -> Result<RecordBatch, ArrowError> {
    let timestamp = |row: &SeedRow| match jiff::Timestamp::from_millisecond(row.unix_ms) {
        Ok(instant) => instant.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string(),
        Err(_) => row.unix_ms.to_string(),
    };
    let numbers = |of: fn(&SeedRow) -> f64| Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Float64Array>()) as ArrayRef;
    let timestamps: StringArray = rows.iter().map(|row| Some(timestamp(row))).collect();
    let labels: StringArray = rows.iter().map(|row| Some(if row.anomaly { "anomaly" } else { "normal" })).collect();
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(timestamps),
            numbers(|row| row.restarts),
            numbers(|row| row.cpu),
            numbers(|row| row.memory),
            numbers(|row| row.net_tx),
            numbers(|row| row.net_rx),
            Arc::new(labels),
        ],
    )
}

#[cfg(test)]
mod tests;
