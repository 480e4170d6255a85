//! A batch job: cycles of hashing and disk writes, then rest.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{BehaviourError, hash::hash_for};

/// A work-and-rest cycle inside the working phase.
const CYCLE: Duration = Duration::from_millis(50);
/// Written once per second of work.
const CHUNK_BYTES: usize = 512 * 1024;

/// The job's rhythm.
#[derive(clap::Args, Debug)]
pub struct BatchArgs {
    /// Seconds of work per cycle
    #[arg(long, default_value_t = 8)]
    work_seconds: u64,
    /// Seconds of rest per cycle
    #[arg(long, default_value_t = 12)]
    rest_seconds: u64,
    /// Share of the working time spent hashing, percent
    #[arg(long, default_value_t = 45)]
    duty_pct: u32,
    /// Directory for its one output file, rewritten in every cycle (at most 64 MiB)
    #[arg(long)]
    dir: PathBuf,
}

/// Works and rests until killed.
pub(super) fn run(args: &BatchArgs) -> Result<(), BehaviourError> {
    let path = args.dir.join(format!("index-{}", std::process::id()));
    let work_seconds = args.work_seconds.min(128);
    loop {
        let mut output = File::create(&path).map_err(|error| BehaviourError::Io("create the output file", error))?;
        let began = Instant::now();
        for second in 1..=work_seconds {
            let mut digest = [0; 32];
            while began.elapsed() < Duration::from_secs(second) {
                let cycle = Instant::now();
                digest = hash_for(CYCLE.mul_f64(f64::from(args.duty_pct.min(100)) / 100.0), second as u32);
                thread::sleep(CYCLE.saturating_sub(cycle.elapsed()));
            }
            let chunk: Vec<u8> = digest.iter().copied().cycle().take(CHUNK_BYTES).collect();
            let written = output.write_all(&chunk).and_then(|()| output.sync_data());
            written.map_err(|error| BehaviourError::Io("write the output file", error))?;
        }
        drop(output);
        let _ = fs::remove_file(&path);
        thread::sleep(Duration::from_secs(args.rest_seconds));
    }
}
