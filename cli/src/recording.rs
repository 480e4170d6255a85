//! A recorded session: a folder of observations, containers and labels, with a manifest that says what they must be.
//!
//! `docs/recordings.md` describes the files for people who read them with other tools.

mod containers;
mod history;
mod labels;
mod manifest;
mod save;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use vedette_history::Recording;

pub use containers::{Process, Seen};
pub use labels::Said;
pub use manifest::{FORMAT, Manifest, Missing, Set, is_session_name, sha256};
pub use save::{Facts, save};

use crate::escape::escaped;
use crate::exit::Stop;

/// What the recording is, and what its files must be.
pub const MANIFEST: &str = "manifest.json";
/// The history's Parquet.
pub const OBSERVATIONS: &str = "observations.parquet";
/// What agents told of each container, one JSON object a line.
pub const CONTAINERS: &str = "containers.jsonl";
/// What was said of stretches of time, one JSON object a line.
pub const LABELS: &str = "labels.jsonl";
/// Everything that the injector knew, as it wrote it.
pub const SCHEDULE: &str = "schedule.json";

/// Most lines of a file; an aggregator lists no more labels or containers at once.
const MAX_LINES: usize = 100_000;
/// Longest line, bytes: a container with 32 process names and 4 looks at peers is some 8 kB.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A recording, open and checked against its manifest.
pub struct Recorded {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// Its observations.
    pub observations: Recording,
    /// Its containers.
    pub containers: Vec<Seen>,
    /// Its labels.
    pub labels: Vec<Said>,
    /// What the injector knew, as it wrote it; empty where there was none.
    pub schedule: String,
}

impl Recorded {
    /// Reads a recording whole. What is not as the manifest says is an error that names the file.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::read(&dir.join(MANIFEST))?;
        manifest.check_files(dir)?;
        let path = dir.join(OBSERVATIONS);
        let observations = Recording::open(&path)?;
        let rows = observations.observations() as u64;
        if rows != manifest.rows {
            bail!("{} has {rows} rows, the manifest says {}", path.display(), manifest.rows);
        }
        let (containers, labels) = (lines(&dir.join(CONTAINERS))?, lines(&dir.join(LABELS))?);
        let path = dir.join(SCHEDULE);
        let schedule = if manifest.files.contains_key(SCHEDULE) {
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        Ok(Self { dir: dir.to_owned(), manifest, observations, containers, labels, schedule })
    }
}

/// The folders of recordings that a path stands for: a recording, one of its files, or a folder of recordings, by name.
pub fn find(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = || escaped(&path.display().to_string());
    if path.is_file() {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if dir.join(MANIFEST).is_file() {
            return Ok(vec![dir.to_owned()]);
        }
        return Err(Stop::usage(format!("{} is no recording: there is no {MANIFEST} beside it", name())).into());
    }
    if path.join(MANIFEST).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| Stop::usage(format!("cannot read {}: {error}", name())))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|dir| dir.join(MANIFEST).is_file()).collect();
    found.sort();
    if found.is_empty() {
        return Err(Stop::usage(format!("{} is no recording and holds none: no {MANIFEST} in it", name())).into());
    }
    Ok(found)
}

/// Reads a file of JSON lines.
fn lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let (mut read, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        let reading = || format!("cannot read {}, line {}", path.display(), read.len() + 1);
        let bytes = std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_line(&mut line).with_context(reading)?;
        if bytes == 0 {
            return Ok(read);
        }
        if bytes as u64 == MAX_LINE_BYTES || read.len() == MAX_LINES {
            bail!("{}, line {}: beyond the limit of {MAX_LINES} lines of {MAX_LINE_BYTES} bytes", path.display(), read.len() + 1);
        }
        read.push(serde_json::from_str(&line).with_context(reading)?);
    }
}

/// Writes a file of JSON lines.
fn write_lines<T: serde::Serialize>(path: &Path, all: &[T]) -> anyhow::Result<()> {
    let mut text = String::new();
    for one in all {
        text.push_str(&serde_json::to_string(one)?);
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
