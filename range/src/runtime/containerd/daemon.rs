//! A containerd of the run's own: configured, started in namespaces of its own, given the image, and gone with the run.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};
use tracing::info;

use super::{
    cni,
    config::{self, Places},
    cri::v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
    image,
};
use crate::{cgroups::Cgroups, home::Home};

/// Cgroup of containerd and its shims below the run's subtree: what a node's services are beside `kubepods`.
pub const CGROUP: &str = "system";
/// What must be installed.
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];
/// Where administrators' programs are, also for whoever has them not in their path.
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest that a socket's path may be, with `.ttrpc` that containerd appends for a second one.
const MAX_SOCKET_BYTES: usize = 107 - ".ttrpc".len();
/// How long containerd may take until it answers, on a machine that is busy.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long any one call may take.
const CALL_PATIENCE: Duration = Duration::from_secs(120);
/// Complaints in its log that are shown when it does not start.
const LOG_LINES: usize = 5;

/// Why containerd could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Not installed.
    #[error("{0} is not installed; the containerd backend needs Debian's packages containerd and runc (apt-get install containerd runc)")]
    Missing(&'static str),
    /// Another machine.
    #[error("the containerd backend knows x86-64 only")]
    Machine,
    /// The run's name makes the socket's path too long.
    #[error("socket {0} has too long a path; choose a shorter --root-cgroup")]
    Long(PathBuf),
    /// A file operation.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// A program could not be started.
    #[error("cannot start {0}: {1}")]
    Spawn(&'static str, io::Error),
    /// It ended, or never answered.
    #[error("containerd {0}; it complains: {1}")]
    Silent(&'static str, String),
    /// The image was not taken.
    #[error("ctr cannot import the image: {0}")]
    Import(String),
    /// Mounts of the run's own.
    #[error("cannot make a mount namespace (root is needed): {0}")]
    Mounts(io::Error),
}

/// The daemon. Dropping it kills it and all it started.
pub struct Daemon {
    /// Speaks the CRI.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Where namespaces are laid out for the network plugin.
    pub pods: PathBuf,
    /// Logs of the containers. They are not rotated, and go with the life they are of.
    pub logs: PathBuf,
    process: Child,
}

impl Daemon {
    /// Starts it and waits until it knows the image.
    ///
    /// # Errors
    /// When something is not installed, or containerd does not work here.
    pub async fn start(cgroups: &Cgroups, home: &Home) -> Result<Self, DaemonError> {
        let path = search_path();
        if let Some(program) = PROGRAMS.into_iter().find(|program| !env::split_paths(&path).any(|dir| dir.join(program).is_file())) {
            return Err(DaemonError::Missing(program));
        }
        if !cfg!(target_arch = "x86_64") {
            return Err(DaemonError::Machine);
        }
        let dir = home.dir().join("containerd");
        let at = |name: &str| dir.join(name);
        let socket = home.dir().join("cri.sock");
        if socket.as_os_str().len() > MAX_SOCKET_BYTES {
            return Err(DaemonError::Long(socket));
        }
        for name in ["root", "logs"] {
            fs::create_dir_all(at(name)).map_err(|error| DaemonError::File("create", at(name), error))?;
        }
        let (bin, conf, pods) = (at("cni/bin"), at("cni/conf"), at("cni/pods"));
        cni::install(&bin, &conf, &pods, home.executable()).map_err(|error| DaemonError::File("prepare", at("cni"), error))?;
        let places = Places { root: &at("root"), socket: &socket, cni_bin: &bin, cni_conf: &conf };
        write(&at("config.toml"), config::text(&places).as_bytes())?;
        write(&at("image.tar"), &image::tar())?;
        let process = spawn(cgroups, home, &path, &at("config.toml"), &at("log"))?;
        let mut daemon = Self { runtime: client(&socket), pods, logs: at("logs"), process };
        daemon.answers(&at("log")).await?;
        import(&path, &socket, &at("image.tar")).await?;
        daemon.knows_image(&socket, &at("log")).await?;
        Ok(daemon)
    }

    async fn answers(&mut self, log: &Path) -> Result<(), DaemonError> {
        let until = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(version) = self.runtime.version(v1::VersionRequest {}).await {
                let version = version.into_inner();
                info!(version = version.runtime_version, "containerd answers");
                return Ok(());
            }
            self.lives(until, log)?;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// An import is known to the CRI a moment later.
    async fn knows_image(&mut self, socket: &Path, log: &Path) -> Result<(), DaemonError> {
        let until = Instant::now() + START_PATIENCE;
        let mut images = ImageServiceClient::new(channel(socket));
        loop {
            let image = v1::ImageSpec { image: image::NAME.to_owned() };
            let known = images.image_status(v1::ImageStatusRequest { image: Some(image) }).await;
            if known.is_ok_and(|known| known.into_inner().image.is_some()) {
                return Ok(());
            }
            self.lives(until, log)?;
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn lives(&mut self, until: Instant, log: &Path) -> Result<(), DaemonError> {
        let problem = match self.process.try_wait() {
            Ok(None) if Instant::now() < until => return Ok(()),
            Ok(None) => "does not answer",
            _ => "ended",
        };
        let text = fs::read_to_string(log).unwrap_or_default();
        // Routine is not what it died of.
        let mut lines: Vec<_> = text.lines().rev().filter(|line| !line.contains("level=info")).take(LOG_LINES).collect();
        lines.reverse();
        Err(DaemonError::Silent(problem, lines.join(" | ")))
    }
}

fn spawn(cgroups: &Cgroups, home: &Home, path: &OsStr, config: &Path, log: &Path) -> Result<Child, DaemonError> {
    let output = File::create(log).map_err(|error| DaemonError::File("create", log.to_owned(), error))?;
    let errors = output.try_clone().map_err(|error| DaemonError::File("open", log.to_owned(), error))?;
    let mut command = Command::new(home.executable());
    command.arg("enter").arg("--parent").arg(std::process::id().to_string());
    for dir in cgroups.dirs(CGROUP) {
        command.arg("--cgroup").arg(dir);
    }
    command.arg("--").arg(home.executable()).args(["contain", "--"]);
    command.arg("containerd").arg("--config").arg(config);
    command.env_clear().env("PATH", path).stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
    command.spawn().map_err(|error| DaemonError::Spawn("containerd", error))
}

async fn import(path: &OsStr, socket: &Path, tar: &Path) -> Result<(), DaemonError> {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]).arg(tar);
    command.env_clear().env("PATH", path).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| DaemonError::Spawn("ctr", error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(DaemonError::Import(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}

fn client(socket: &Path) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(channel(socket))
}

/// Connects on the first call, and again when that failed.
fn channel(socket: &Path) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("any path is the address of a socket");
    endpoint.timeout(CALL_PATIENCE).connect_lazy()
}

fn search_path() -> OsString {
    let mut path = env::var_os("PATH").filter(|path| !path.is_empty()).map_or_else(OsString::new, |mut path| {
        path.push(":");
        path
    });
    path.push(PATHS);
    path
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DaemonError> {
    fs::write(path, bytes).map_err(|error| DaemonError::File("write", path.to_owned(), error))
}
