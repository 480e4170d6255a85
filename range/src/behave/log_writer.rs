//! A service's log file: lines at a rate, rotated by size, old files removed. With bursts it fills the disk fast for a while and gives it
//! back, which is what a disk fill does not.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{BehaviourError, text::Language};

/// Most lines per second, whatever is asked for.
const MAX_RATE: u32 = 100_000;
/// Most bytes per second, whatever the lines are; lines beyond that are not written.
const MAX_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
/// Most disk for all of its files, KiB.
const MAX_DISK_KIB: u64 = 512 * 1024;
const TICK: Duration = Duration::from_millis(50);
/// Lines generated beforehand; each gets a new number in front.
const LINES: usize = 512;

/// Which file, how many lines.
#[derive(clap::Args, Debug)]
pub struct LogWriterArgs {
    /// The file; rotated ones are beside it as `FILE.1`, `FILE.2`
    #[arg(long)]
    file: PathBuf,
    /// Lines per second, at most 100,000 and 32 MiB
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Mean bytes per line, at most 4,096
    #[arg(long, default_value_t = 160)]
    line_bytes: usize,
    /// Lines per second in a burst, at most 100,000; 0 for none
    #[arg(long, default_value_t = 0)]
    burst_rate: u32,
    /// Length of a burst
    #[arg(long, default_value_t = 10)]
    burst_seconds: u64,
    /// Seconds from the start of one burst to the next; the first begins after a fifth of it
    #[arg(long, default_value_t = 120)]
    burst_every: u64,
    /// Length at which the file is rotated, KiB
    #[arg(long, default_value_t = 8192)]
    rotate_kib: u64,
    /// Rotated files kept; all files together stay below 512 MiB
    #[arg(long, default_value_t = 2)]
    keep: u64,
    /// Ends by itself after this long; without it, it writes until it is killed
    #[arg(long)]
    seconds: Option<u64>,
}

/// Writes until its time is over.
pub(super) fn run(args: &LogWriterArgs) -> Result<(), BehaviourError> {
    let keep = args.keep.min(16);
    let rotate_bytes = args.rotate_kib.clamp(64, MAX_DISK_KIB / (keep + 1)) * 1024;
    let mut language = Language::new(u64::from(std::process::id()));
    let lines: Vec<_> = (0..LINES).map(|place| language.line(length(args.line_bytes, place))).collect();
    let failed = |error| BehaviourError::File("write", args.file.clone(), error);
    let mut file = File::options().create(true).append(true).open(&args.file).map_err(failed)?;
    let mut bytes = file.metadata().map_err(failed)?.len();
    let began = Instant::now();
    let lasts = args.seconds.map(Duration::from_secs);
    let (mut number, mut owed, mut last) = (0usize, 0.0, began);
    while lasts.is_none_or(|lasts| began.elapsed() < lasts) {
        let now = Instant::now();
        // What a stalled disk made late is not made up for.
        let passed = (now - last).as_secs_f64().min(0.25);
        owed += passed * f64::from(rate(args, now - began));
        last = now;
        let mut out = Vec::new();
        while owed >= 1.0 {
            if out.len() as f64 > passed * MAX_BYTES {
                owed = 0.0;
                break;
            }
            owed -= 1.0;
            number += 1;
            out.extend_from_slice(format!("{number:010} ").as_bytes());
            out.extend_from_slice(lines[number % LINES].as_bytes());
        }
        file.write_all(&out).map_err(failed)?;
        bytes += out.len() as u64;
        if bytes >= rotate_bytes {
            file.sync_data().map_err(failed)?;
            rotate(&args.file, keep).map_err(failed)?;
            file = File::create(&args.file).map_err(failed)?;
            bytes = 0;
        }
        thread::sleep(TICK.saturating_sub(now.elapsed()));
    }
    Ok(())
}

fn rate(args: &LogWriterArgs, elapsed: Duration) -> u32 {
    let every = args.burst_every.max(1);
    let place = (elapsed.as_secs() + every - every / 5) % every;
    let burst = args.burst_rate > 0 && elapsed.as_secs() >= every / 5 && place < args.burst_seconds;
    (if burst { args.burst_rate } else { args.rate }).min(MAX_RATE)
}

/// Between half and three halves of the mean.
fn length(mean: usize, place: usize) -> usize {
    mean.clamp(40, 4_096) * (LINES / 2 + place) / LINES
}

fn rotate(file: &Path, keep: u64) -> std::io::Result<()> {
    let named = |number: u64| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(file);
    }
    for number in (1..keep).rev() {
        // Not there yet in the first rounds.
        let _ = fs::rename(named(number), named(number + 1));
    }
    fs::rename(file, named(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_comes_once_per_period() {
        let args = LogWriterArgs {
            file: PathBuf::new(),
            rate: 10,
            line_bytes: 160,
            burst_rate: 1_000,
            burst_seconds: 10,
            burst_every: 100,
            rotate_kib: 64,
            keep: 1,
            seconds: None,
        };

        let loud: Vec<_> = (0..300).filter(|&second| rate(&args, Duration::from_secs(second)) == 1_000).collect();

        assert_eq!(loud, (20..30).chain(120..130).chain(220..230).collect::<Vec<u64>>());
    }

    #[test]
    fn rotation_keeps_so_many_files_and_no_more() {
        let dir = std::env::temp_dir().join(format!("vedette-rotate-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("log");
        for round in 0..5 {
            fs::write(&file, format!("{round}")).unwrap();
            rotate(&file, 2).unwrap();
        }

        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        assert_eq!(fs::read_to_string(dir.join("log.1")).unwrap(), "4");
        assert_eq!(fs::read_to_string(dir.join("log.2")).unwrap(), "3");
        fs::remove_dir_all(&dir).unwrap();
    }
}
