//! The other binaries of Vedette as child processes: found beside this one, logging into a file, stopped before they are killed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Lines of a log that an error shows.
const LOG_LINES: usize = 15;

/// A running binary of Vedette.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The binary with this name beside the present one.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        bail!("{} is not there: build the whole workspace (make build), or install {name} beside vedette", path.display());
    }
    Ok(path)
}

/// A command whose process is stopped when this one is gone, however that went; where `setpriv` is not here, only when it is told to.
pub fn tied(program: &Path) -> Command {
    match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The program of util-linux that gives privileges up.
pub fn setpriv() -> Option<&'static Path> {
    ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().map(Path::new).find(|path| path.is_file())
}

impl Process {
    /// Starts a command, its output going to `<folder>/<name>.log`.
    pub fn start(name: &str, command: Command, folder: &Path) -> anyhow::Result<Self> {
        Self::spawn(name, command, folder, false)
    }

    /// Starts a command whose standard output is read by the caller.
    pub fn start_piped(name: &str, command: Command, folder: &Path) -> anyhow::Result<(Self, ChildStdout)> {
        let mut process = Self::spawn(name, command, folder, true)?;
        let out = process.child.stdout.take().with_context(|| format!("{name} has no output"))?;
        Ok((process, out))
    }

    fn spawn(name: &str, mut command: Command, folder: &Path, piped: bool) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let out = if piped { Stdio::piped() } else { Stdio::from(file.try_clone()?) };
        // A group of its own: Ctrl-C is for us, who then stop the others in order.
        command.stdin(Stdio::null()).stdout(out).stderr(file).process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `GET path` is answered with 200.
    pub async fn ready(&mut self, address: SocketAddr, path: &str, limit: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            if matches!(get(address, path).await, Ok((200, _))) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", self.name, self.log_end());
            }
            if began.elapsed() > limit {
                bail!("{} is not ready after {} s:\n{}", self.name, limit.as_secs(), self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for its end, which must be a success.
    pub async fn done(&mut self, limit: Duration) -> anyhow::Result<()> {
        let status = timeout(limit, self.child.wait()).await.with_context(|| format!("{} goes on", self.name))??;
        if status.success() { Ok(()) } else { bail!("{} failed ({status}):\n{}", self.name, self.log_end()) }
    }

    /// SIGTERM, time to clean up, then SIGKILL. One that ended already is as good.
    pub async fn stop(&mut self, grace: Duration) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(grace, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Whether it ended, however it did.
    pub fn ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// An error if it ended although nobody stopped it.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.log_end()),
        }
    }

    fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Waits until somebody wants an end: Ctrl-C, SIGTERM, or the terminal is gone.
pub async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// A port of loopback that was free a moment ago; taken by somebody else meanwhile, the process says so.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// `GET path` over plain HTTP: the status and the body.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        // A page of metrics is some kilobytes; whatever answers here, it is not to fill memory.
        stream.take(4 << 20).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(Duration::from_secs(5), exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    Ok((status, body.to_owned()))
}
