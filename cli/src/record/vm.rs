//! A session in the cgroup v2 virtual machine: agent and range in there, the aggregator out here.
//!
//! The machine's network card leads to one address only, behind which is the aggregator's port (`tests/vm/record.sh` is the other
//! side). Identities, events and the schedule come out over serial lines, each into a file of the stage's folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::cpio;
use super::load::seconds_of;
use super::session::{Ran, Session};
use crate::demo::schedule::{Event, Said, Schedule};
use crate::exit::{Exit, Stop};
use crate::progress::Course;
use crate::stage::{Process, Setting, Stage, stopped, tied};

/// Cluster of what is recorded; a replay gets a name of its own.
const CLUSTER: &str = "range";
/// Node name of the virtual machine.
const NODE: &str = "range-vm";
/// The only address that the machine can reach.
const OUTSIDE: &str = "10.0.2.100:7443";
/// From the start of the emulator to the range's plan, and from the plan's end to the machine's.
const MARGIN: Duration = Duration::from_secs(600);
/// The emulator ends at once.
const STOP: Duration = Duration::from_secs(5);
/// The machine's disk, a sparse file that goes with the stage.
const DISK_BYTES: u64 = 4 << 30;
/// Most that is read of what the machine says; the schedule of an hour is some hundred kilobytes.
const MAX_SAID: u64 = 64 << 20;

/// Runs a session in the machine; gives the stage on this side, on which everything is delivered.
pub async fn run(session: &Session) -> anyhow::Result<(Stage, Ran)> {
    let image = Image::find()?;
    let mut stage = Stage::open(Setting { cluster: CLUSTER, identities: "" }).await?;
    let folder = stage.folder().to_owned();
    let initramfs = folder.join("initramfs");
    image.with(&session_files(session, &stage)?, &initramfs)?;
    let lines = Lines::below(&folder);
    let disk = File::create_new(&lines.disk).and_then(|disk| disk.set_len(DISK_BYTES));
    disk.with_context(|| format!("cannot make {}", lines.disk.display()))?;
    let from_unix_ms = jiff::Timestamp::now().as_millisecond();
    let mut machine = boot(&image, &initramfs, &stage, &lines)?;
    let mut machine_seconds = 0.0;
    let followed = tokio::select! {
        followed = follow(session, &mut stage, &mut machine, &lines, &mut machine_seconds) => followed,
        stopped = stopped() => stopped.and(Err(Stop::new(Exit::Failure, "stopped; what was recorded before stays").into())),
    };
    if let Err(error) = followed {
        machine.stop(STOP).await;
        return Err(error);
    }
    let console = Console::read(&lines.console)?;
    console.check(session)?;
    let text = said(&lines.schedule)?;
    let schedule: Schedule = serde_json::from_str(&text).context("the machine's schedule is not one")?;
    let own_cpu_seconds = machine_seconds + stage.aggregator_id().and_then(seconds_of).unwrap_or(0.0);
    let ran = Ran {
        schedule,
        text,
        cluster: CLUSTER,
        from_unix_ms,
        observations: console.number("OBSERVATIONS"),
        acknowledged: console.number("ACKNOWLEDGED"),
        cgroup_version: 2,
        kernel: console.after("BOOTED").next().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned(),
        own_cpu_seconds,
    };
    Ok((stage, ran))
}

/// Kernel and files of the machine, as `make vm-image` leaves them.
struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Image {
    fn find() -> anyhow::Result<Self> {
        let cache = std::env::var_os("VEDETTE_CACHE").map(PathBuf::from).or_else(|| {
            let base = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
            base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).map(|base| base.join("vedette"))
        });
        let folder = cache.context("there is no VEDETTE_CACHE and no HOME")?.join("vm");
        let image = Self { kernel: folder.join("vmlinuz"), initramfs: folder.join("initramfs.cpio.gz") };
        for path in [&image.kernel, &image.initramfs] {
            if !path.is_file() {
                let told = format!("{} is not there: run make prepare vm-image in a checkout", path.display());
                return Err(Stop::new(Exit::Failure, told).into());
            }
        }
        Ok(image)
    }

    /// Writes the image's files and those of a session into one archive.
    fn with(&self, files: &[(&str, Vec<u8>)], to: &Path) -> anyhow::Result<()> {
        let writing = || format!("cannot write {}", to.display());
        let mut image = File::open(&self.initramfs).with_context(|| format!("cannot read {}", self.initramfs.display()))?;
        // It holds tokens.
        let mut out = File::options().write(true).create_new(true).mode(0o600).open(to).with_context(writing)?;
        let bytes = std::io::copy(&mut image, &mut out).with_context(writing)?;
        cpio::pad(&mut out, bytes).and_then(|()| cpio::write(&mut out, "etc/session", files)).with_context(writing)
    }
}

/// What the machine needs to know of this session.
fn session_files(session: &Session, stage: &Stage) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let agent = format!(
        "node = {NODE:?}\n[sensor]\ncgroup_subtree = \"vedette-record\"\n[outbox]\ndir = \"/run/agent/spool\"\n[uplink]\nendpoint = \
         \"https://{OUTSIDE}\"\nserver_name = \"localhost\"\nca_file = \"/run/agent/ca.pem\"\ntoken_file = \"/run/agent/agent.token\"\n\
         [http]\nlisten = \"127.0.0.1:9464\"\n"
    );
    let mut files = vec![
        ("agent.toml", agent.into_bytes()),
        ("ca.pem", read(&stage.target.ca)?),
        ("agent.token", read(&stage.data().join("agent.token"))?),
        ("admin.token", read(&stage.target.token_file)?),
    ];
    let mut arguments = session.range_arguments();
    // A plan of its own is not in the range's program.
    if Path::new(&session.plan).is_file() {
        files.push(("plan.yaml", read(Path::new(&session.plan))?));
        arguments
            .iter_mut()
            .filter(|argument| **argument == session.plan)
            .for_each(|argument| "/etc/session/plan.yaml".clone_into(argument));
    }
    if let Some(odd) = arguments.iter().find(|argument| argument.contains(char::is_whitespace)) {
        bail!("{odd:?} cannot be passed to the virtual machine: it has spaces");
    }
    files.push(("arguments", arguments.join("\n").into_bytes()));
    Ok(files)
}

/// The files that the machine's serial lines end in, and its disk.
struct Lines {
    disk: PathBuf,
    console: PathBuf,
    identities: PathBuf,
    events: PathBuf,
    schedule: PathBuf,
}

impl Lines {
    fn below(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            disk: file("disk"),
            console: file("console"),
            identities: file("identity.jsonl"),
            events: file("events"),
            schedule: file("schedule.json"),
        }
    }
}

fn boot(image: &Image, initramfs: &Path, stage: &Stage, lines: &Lines) -> anyhow::Result<Process> {
    let port = stage.target.endpoint.rsplit(':').next().context("the aggregator has no port")?;
    let mut command = tied(&emulator()?);
    // KVM is not available where sessions are recorded; the emulator takes what two processors give.
    command.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "3072"]);
    command.args(["-display", "none", "-no-reboot", "-nodefaults", "-rtc", "base=utc"]);
    for line in [&lines.console, &lines.identities, &lines.events, &lines.schedule] {
        command.arg("-serial").arg(format!("file:{}", line.display()));
    }
    // Closed to everything but one port of loopback: what goes wrong in there stays in there.
    let forward = format!("user,id=outside,restrict=on,guestfwd=tcp:{OUTSIDE}-cmd:busybox nc 127.0.0.1 {port}");
    command.args(["-netdev", &forward, "-device", "virtio-net-pci,netdev=outside"]);
    command.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", lines.disk.display()));
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(initramfs).arg("-append");
    command.arg("console=ttyS0 quiet loglevel=1 panic=-1 psi=1 cgroup_no_v1=all mitigations=off scenario=record");
    Process::start("qemu-system-x86_64", command, stage.folder())
}

/// The emulator, wherever the search path has it.
fn emulator() -> anyhow::Result<PathBuf> {
    const NAME: &str = "qemu-system-x86_64";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|file| file.is_file());
    found.ok_or_else(|| Stop::new(Exit::Failure, format!("{NAME} is not installed: run make prepare in a checkout")).into())
}

/// Follows the machine until it is off.
async fn follow(
    session: &Session,
    stage: &mut Stage,
    machine: &mut Process,
    lines: &Lines,
    machine_seconds: &mut f64,
) -> anyhow::Result<()> {
    let mut events = Tail::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut course = Course::begin(&session.name);
    let mut limit = MARGIN;
    loop {
        tick.tick().await;
        for line in events.read(&lines.events)? {
            match serde_json::from_str::<Event>(&line) {
                Ok(Event { said: Said::Plan { seconds }, .. }) => {
                    course.length(seconds);
                    limit = Duration::from_secs(seconds) + MARGIN;
                }
                Ok(Event { said: Said::Phase { name }, .. }) => course.phase(&name),
                Ok(_) => {}
                Err(error) => bail!("the machine said something that is no event ({error}): {line}"),
            }
        }
        course.tick();
        stage.alive()?;
        match machine.id().and_then(seconds_of) {
            Some(seconds) => *machine_seconds = seconds,
            None => return machine.done(STOP).await,
        }
        if machine.ended()? {
            return machine.done(STOP).await;
        }
        if course.elapsed() > limit {
            let console = Console::read(&lines.console)?;
            bail!("the machine was not done within {} s; it said last:\n{}", limit.as_secs(), console.last());
        }
    }
}

/// What was added to a file since it was read last, whole lines only.
#[derive(Default)]
struct Tail {
    at: u64,
}

impl Tail {
    fn read(&mut self, path: &Path) -> anyhow::Result<Vec<String>> {
        use std::io::{Seek, SeekFrom};

        let Ok(mut file) = File::open(path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.at))?;
        let mut reader = BufReader::new(file.take(MAX_SAID));
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let bytes = reader.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                return Ok(lines);
            }
            self.at += bytes as u64;
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }
}

fn said(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(MAX_SAID).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

/// What the machine printed: lines that begin with "VM ", without that.
struct Console(Vec<String>);

impl Console {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        // The firmware leaves escape codes before the first line.
        Ok(Self(text.lines().filter_map(|line| Some(line.trim_end()[line.find("VM ")? + 3..].to_owned())).collect()))
    }

    fn after<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    fn number(&self, word: &str) -> Option<u64> {
        self.after(word).next()?.trim().parse().ok()
    }

    fn last(&self) -> String {
        self.0[self.0.len().saturating_sub(40)..].join("\n")
    }

    /// The machine got to its end, and nothing in it failed.
    fn check(&self, session: &Session) -> anyhow::Result<()> {
        let failed: Vec<_> = self.after("FAIL").collect();
        if !failed.is_empty() || !self.0.iter().any(|line| line == "DONE") {
            bail!("{}: in the machine failed {failed:?}; it said last:\n{}", session.name, self.last());
        }
        for loss in self.after("LOSS").filter(|loss| !loss.starts_with("0 ")) {
            eprintln!("vedette: {}: the agent counted {}", session.name, loss.replace('_', " "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_gives_each_line_once_and_only_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::default();

        write!(file, "one\r\ntwo").unwrap();
        let first = tail.read(file.path()).unwrap();
        writeln!(file, " and a half\nthree").unwrap();
        let second = tail.read(file.path()).unwrap();

        assert_eq!(first, ["one"]);
        assert_eq!(second, ["two and a half", "three"]);
        assert!(tail.read(file.path()).unwrap().is_empty());
    }

    #[test]
    fn the_console_is_read_past_what_the_firmware_left() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\u{1b}[2JVM BOOTED 6.1.0 psi=on\r\nnoise\r\nVM OBSERVATIONS 42\r\nVM DONE\r\n").unwrap();

        let console = Console::read(file.path()).unwrap();

        assert_eq!(console.number("OBSERVATIONS"), Some(42));
        assert_eq!(console.after("BOOTED").collect::<Vec<_>>(), ["6.1.0 psi=on"]);
    }
}
