//! `vedette export`: the labelled history as a file.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tempfile::NamedTempFile;
use vedette_proto::v1::{ExportFormat, ExportLayout, ExportRequest, Kind};

use crate::client::Client;
use crate::exit::{Exit, Stop, found};
use crate::progress::{Transfer, waiting};
use crate::when::RangeArgs;
use crate::which::SelectorArgs;
use crate::{units, vocabulary};

/// File formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// A row per observation: identity, every column, verdict, label
    Full,
    /// A row per 10 s of cluster-wide sums, as the original data set has it
    Seed,
}

/// Flags of `vedette export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The format of the file
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: FileFormat,
    /// What a row is
    #[arg(long, value_name = "LAYOUT", default_value = "full")]
    layout: Layout,
    /// Only rows labelled so; may be given several times
    #[arg(long, value_name = "KIND", value_parser = vocabulary::kind())]
    kind: Vec<Kind>,
    /// The file; it appears once it is complete. - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    #[command(flatten)]
    when: RangeArgs,
    #[command(flatten)]
    which: SelectorArgs,
}

/// Exports into the file.
pub async fn run(args: ExportArgs, client: &mut Client, now: Timestamp) -> anyhow::Result<Exit> {
    let format = match args.format {
        FileFormat::Csv => ExportFormat::Csv,
        FileFormat::Jsonl => ExportFormat::Jsonl,
        FileFormat::Parquet => ExportFormat::Parquet,
    };
    let layout = match args.layout {
        Layout::Full => ExportLayout::Full,
        Layout::Seed => ExportLayout::Seed,
    };
    let request = ExportRequest {
        format: format.into(),
        layout: layout.into(),
        range: args.when.range(now)?,
        kinds: args.kind.iter().map(|&kind| kind.into()).collect(),
        selector: args.which.selector(),
    };
    let exported = to_file(client, request, &args.out).await?;
    if exported.rows > 0 && args.out.as_os_str() != "-" {
        let bytes = units::bytes(exported.bytes as f64);
        eprintln!("vedette: {} rows, {bytes} in {}", units::grouped(exported.rows), args.out.display());
    }
    Ok(found(exported.rows, "no rows match; the file holds none"))
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Rows in the file.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Exports into `out`, which is whole or untouched; `-` is standard output.
pub async fn to_file(client: &mut Client, request: ExportRequest, out: &Path) -> anyhow::Result<Exported> {
    // Before the question, so that a path that cannot be written costs nothing.
    let mut sink = Sink::open(out, request.format() == ExportFormat::Parquet)?;
    let mut transfer = Transfer::begin(!(sink.is_stdout() && io::stdout().is_terminal()));
    let stream = waiting("waiting for the first rows", client.export.export(request)).await;
    let mut stream = stream.map_err(Stop::from)?.into_inner();
    let mut exported = Exported { rows: 0, bytes: 0 };
    let mut complete = false;
    let writing = || format!("cannot write {}", out.display());
    while let Some(part) = waiting("waiting for rows", stream.message()).await.map_err(Stop::from)? {
        exported.rows = part.rows;
        exported.bytes += part.data.len() as u64;
        // The contract ends an export with a message without data.
        complete = part.data.is_empty();
        sink.write_all(&part.data).with_context(writing)?;
        transfer.at(part.rows, part.total_rows, exported.bytes);
    }
    if !complete {
        return Err(Stop::new(Exit::Failure, "the export broke off before its end; run it again").into());
    }
    sink.finish(out).with_context(writing)?;
    Ok(exported)
}

/// Where a file goes that appears once it is complete.
pub(crate) enum Sink {
    /// Standard output.
    Stdout(io::Stdout),
    /// A pipe or a device: it cannot be replaced, only written to.
    Special(File),
    /// A file beside the one wanted, renamed once it is complete.
    Temporary(NamedTempFile),
}

impl Sink {
    /// Opens `out`, of which `-` is standard output; `binary` is not for a terminal.
    pub(crate) fn open(out: &Path, binary: bool) -> anyhow::Result<Self> {
        if out.as_os_str() == "-" {
            if binary && io::stdout().is_terminal() {
                return Err(Stop::usage("Parquet is not for a terminal; give --out FILE").into());
            }
            return Ok(Self::Stdout(io::stdout()));
        }
        let writing = || format!("cannot write {}", out.display());
        match out.metadata() {
            Ok(found) if found.is_dir() => return Err(Stop::usage(format!("{} is a directory; name a file in it", out.display())).into()),
            Ok(found) if !found.is_file() => return Ok(Self::Special(OpenOptions::new().write(true).open(out).with_context(writing)?)),
            _ => {}
        }
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // As any program's file; the umask takes away what it must.
        builder.prefix(".vedette-export-").permissions(Permissions::from_mode(0o666));
        Ok(Self::Temporary(builder.tempfile_in(dir).with_context(writing)?))
    }

    fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// Writes some of it.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.write_all(bytes),
            Self::Special(file) => file.write_all(bytes),
            Self::Temporary(file) => file.write_all(bytes),
        }
    }

    /// It is complete.
    pub(crate) fn finish(self, out: &Path) -> io::Result<()> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush(),
            Self::Special(mut file) => file.flush(),
            Self::Temporary(file) => {
                file.as_file().sync_all()?;
                file.persist(out).map(drop).map_err(|failed| failed.error)
            }
        }
    }
}
