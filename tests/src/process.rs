//! A binary under test, run as in production: its own process, its own folder, its log in a file.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::checkout;

/// How often a condition outside of this process is looked at: there is no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a binary of this workspace, its output in `<folder>/<name>.log` (appended).
    ///
    /// # Errors
    /// Where it cannot be started; names the file.
    pub fn start<S: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = S>, folder: &Path) -> anyhow::Result<Self> {
        Self::start_program(&checkout::binary(name), arguments, folder)
    }

    /// Starts any program, its output in `<folder>/<its name>.log` (appended).
    ///
    /// # Errors
    /// Where it cannot be started; names the file.
    pub fn start_program<S: AsRef<OsStr>>(binary: &Path, arguments: impl IntoIterator<Item = S>, folder: &Path) -> anyhow::Result<Self> {
        let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(binary)
            .args(arguments)
            // What it prints is compared: plain, whatever the surroundings ask for.
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {} (cargo build --workspace --bins)", binary.display()))?;
        Ok(Self { child, name, log })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until `done`; the error holds the log's end.
    ///
    /// # Errors
    /// Where the process ends first, or the time is over.
    pub fn wait_for(&mut self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        while !done() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before: {what}\n{}", self.name, self.log());
            }
            if started.elapsed() > limit {
                bail!("{}: not within {limit:?}: {what}\n{}", self.name, self.log());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it goes on; it is killed then.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                self.kill()?;
                bail!("{} did not end within {limit:?}\n{}", self.name, self.log());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
        Ok(rustix::process::kill_process(id, rustix::process::Signal::TERM)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that was free a moment ago.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// `GET path` over plain HTTP; the status code and the body.
///
/// # Errors
/// Where nobody answers.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the header")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
