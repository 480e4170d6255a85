//! A parallel build: so many short processes at a time, as `make -j` has, then their objects are put together and removed. To the kernel
//! it is process churn, as a fork bomb is; but their number has a ceiling and each ends by itself.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use super::{BehaviourError, offspring::tended, scratch::Scratch, unit::start_unit};

/// Most processes at a time, whatever is asked for.
const MAX_JOBS: usize = 64;
/// Most processes per build.
const MAX_UNITS: usize = 5_000;
/// Between two starts: at most 100 a second.
const SPACING: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(2);
/// Output of one process, KiB.
const OBJECT_KIB: usize = 64;

/// How large the build is.
#[derive(clap::Args, Debug)]
pub struct BuildArgs {
    /// The workload's directory; objects go to `build` below it, at most 313 MiB
    #[arg(long)]
    dir: PathBuf,
    /// Processes at a time, at most 64
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Processes per build, at most 5,000; started at most 100 a second
    #[arg(long, default_value_t = 200)]
    units: usize,
    /// CPU time of each, milliseconds, at most 20 s
    #[arg(long, default_value_t = 80)]
    unit_ms: u64,
    /// Rest between two builds, milliseconds
    #[arg(long, default_value_t = 3000)]
    rest_ms: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Builds again and again until its time is over.
pub(super) fn run(args: &BuildArgs) -> Result<(), BehaviourError> {
    tended(|| {
        let scratch = Scratch::empty(&args.dir, "build")?;
        let until = Instant::now() + Duration::from_secs(args.seconds);
        while Instant::now() < until {
            compile(args, &scratch, until).map_err(|error| BehaviourError::Io("start a compilation", error))?;
            link(&scratch).map_err(|error| BehaviourError::File("link in", scratch.path().to_owned(), error))?;
            scratch.clear()?;
            thread::sleep(Duration::from_millis(args.rest_ms).min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    })
}

fn compile(args: &BuildArgs, scratch: &Scratch, until: Instant) -> io::Result<()> {
    let mut running: Vec<Child> = Vec::new();
    let mut left = 0..args.units.clamp(1, MAX_UNITS);
    let mut next = left.next();
    while let Some(unit) = next
        && Instant::now() < until
    {
        running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if running.len() >= args.jobs.clamp(1, MAX_JOBS) {
            thread::sleep(LOOK);
            continue;
        }
        match start_unit(&scratch.join(format!("{unit}.o")), args.unit_ms, OBJECT_KIB) {
            Ok(child) => {
                running.push(child);
                next = left.next();
            }
            // At the pod's limit of processes: a build waits for its own to end.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !running.is_empty() => {}
            Err(error) => return Err(error),
        }
        thread::sleep(SPACING);
    }
    running.iter_mut().try_for_each(|child| child.wait().map(drop))
}

/// Every object into one file, on disk.
fn link(scratch: &Scratch) -> io::Result<()> {
    let mut objects: Vec<_> = fs::read_dir(scratch.path())?.flatten().map(|entry| entry.path()).collect();
    objects.sort();
    let mut program = File::create(scratch.join("program"))?;
    for object in objects {
        program.write_all(&fs::read(&object)?)?;
        fs::remove_file(&object)?;
    }
    program.sync_data()
}
