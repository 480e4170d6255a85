//! One short job in a process of its own: makes text, compresses it, writes the result, ends. Builds and cron start it.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    BehaviourError,
    compress::pack,
    duty::own_cpu_time,
    offspring::{own_program, start},
    text::Language,
};

/// Most CPU time of one, whatever is asked for, and four times that as wall time.
const MAX_CPU: Duration = Duration::from_secs(20);
/// Most bytes of one's output.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Compressed at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// How much work, and where its result goes.
#[derive(clap::Args, Clone, Debug)]
pub struct UnitArgs {
    /// The output file
    #[arg(long)]
    file: PathBuf,
    /// CPU time, milliseconds, at most 20 s
    #[arg(long)]
    cpu_ms: u64,
    /// Length of the output, KiB, at most 8 MiB
    #[arg(long)]
    kib: usize,
}

/// Does the work and ends.
pub(super) fn run(args: &UnitArgs) -> Result<(), BehaviourError> {
    let began = Instant::now();
    let budget = Duration::from_millis(args.cpu_ms).min(MAX_CPU);
    let bytes = (args.kib * 1024).min(MAX_BYTES);
    let failed = |error| BehaviourError::File("write", args.file.clone(), error);
    let mut language = Language::new(u64::from(std::process::id()));
    let mut output = Vec::new();
    while own_cpu_time() < budget && began.elapsed() < budget * 4 {
        let packed = pack(&language.text(PIECE_BYTES), 6).map_err(failed)?;
        output.extend_from_slice(&packed[..packed.len().min(bytes.saturating_sub(output.len()))]);
    }
    output.resize(bytes, b'.');
    File::create(&args.file).and_then(|mut file| file.write_all(&output)).map_err(failed)
}

/// Starts one.
pub(super) fn start_unit(file: &std::path::Path, cpu_ms: u64, kib: usize) -> std::io::Result<std::process::Child> {
    let mut command = own_program()?;
    command.args(["behave", "unit", "--cpu-ms", &cpu_ms.to_string(), "--kib", &kib.to_string(), "--file"]).arg(file);
    start(&mut command)
}
