//! Where a session takes place: a folder of its own, an aggregator and an agent as in production, on free ports of loopback.

mod delivery;
mod machine;
mod process;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

pub use delivery::delivered;
pub use machine::{cgroup_version, checkout_commit, kernel};
pub use process::{Process, beside, stopped, tied};
use process::{free_address, setpriv};

use crate::client::{Client, Target};

/// A cold start on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The agent delivers what it holds within its own grace of 10 s.
const STOP: Duration = Duration::from_secs(20);
/// The user that the agent runs as, everywhere.
const AGENT_USER: u32 = 65532;

/// A stage is up for minutes, and shows the signatures: the shipped model was made to bother few over days.
const SIGNATURES: &str = "[detect]\nmodel = \"none\"\n";

/// A session is a demonstration of minutes: it pages at once, and nobody's sleep is spent.
const POLICY: &str = "[policy]\nobserve_days = 0\npages_per_week = 1000\ntickets_per_day = 1000\n";

/// What an aggregator is to be.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Its cluster.
    pub cluster: &'a str,
    /// Lines of its identity file to begin with.
    pub identities: &'a str,
}

/// The folder and the aggregator in it.
pub struct Stage {
    /// The folder, removed at the end unless it is kept.
    folder: tempfile::TempDir,
    aggregator: Process,
    /// How to reach the aggregator.
    pub target: Target,
    /// A connection to it.
    pub client: Client,
}

/// The agent and where it serves its metrics.
pub struct Agent {
    /// The process.
    pub process: Process,
    /// Metrics and health.
    pub http: SocketAddr,
    /// It runs as [`AGENT_USER`]; else as root.
    pub unprivileged: bool,
}

impl Stage {
    /// Makes the folder and starts the aggregator.
    pub async fn open(setting: Setting<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vedette-stage-").tempdir().context("cannot make a temporary folder")?;
        // The agent is another user and must reach its own part; what lies beside it is closed by its own mode.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        let (grpc, http) = (free_address()?, free_address()?);
        fs::write(folder.path().join("identity.jsonl"), setting.identities)?;
        let config = format!(
            "cluster = {:?}\ndata_dir = {:?}\n[grpc]\nlisten = \"{grpc}\"\n[http]\nlisten = \"{http}\"\n\
             [identity]\nfile = {:?}\n{SIGNATURES}{POLICY}",
            setting.cluster,
            text(&data)?,
            text(&folder.path().join("identity.jsonl"))?,
        );
        let config_file = folder.path().join("aggregator.toml");
        fs::write(&config_file, config)?;
        let mut command = tied(&beside("vedette-aggregator")?);
        command.arg("--config").arg(&config_file);
        let mut aggregator = Process::start("vedette-aggregator", command, folder.path())?;
        aggregator.ready(http, "/readyz", START).await?;
        let target = Target::in_data_dir(format!("https://{grpc}"), &data);
        let client = target.connect().await?;
        Ok(Self { folder, aggregator, target, client })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The aggregator's data directory.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The file of identities that the aggregator reads.
    pub fn identity_file(&self) -> PathBuf {
        self.folder().join("identity.jsonl")
    }

    /// An error if the aggregator ended although nobody stopped it.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        self.aggregator.alive()
    }

    /// Starts the agent of a node that looks at one subtree of the cgroups only; without privilege if `setpriv` is here.
    pub async fn agent(&self, node: &str, subtree: &str) -> anyhow::Result<Agent> {
        let folder = self.folder().join("agent");
        fs::create_dir(&folder)?;
        let (ca, token, spool, config_file) =
            (folder.join("ca.pem"), folder.join("token"), folder.join("spool"), folder.join("agent.toml"));
        fs::copy(&self.target.ca, &ca).context("cannot copy the CA certificate")?;
        fs::copy(self.data().join("agent.token"), &token).context("cannot copy the agent's token")?;
        fs::create_dir(&spool)?;
        let http = free_address()?;
        let config = format!(
            "node = {node:?}\n[sensor]\ncgroup_subtree = {subtree:?}\n[outbox]\ndir = {:?}\n\
             [uplink]\nendpoint = {:?}\nca_file = {:?}\ntoken_file = {:?}\n[http]\nlisten = \"{http}\"\n",
            text(&spool)?,
            self.target.endpoint,
            text(&ca)?,
            text(&token)?,
        );
        fs::write(&config_file, config)?;
        let setpriv = setpriv();
        let mut command = match setpriv {
            Some(setpriv) => {
                // A copy, since the folder of the original may be closed to other users.
                let binary = folder.join("vedette-agent");
                fs::copy(beside("vedette-agent")?, &binary).context("cannot copy vedette-agent")?;
                for path in [&folder, &token, &spool, &ca, &config_file] {
                    chown(path, Some(AGENT_USER), Some(AGENT_USER)).with_context(|| format!("cannot chown {}", path.display()))?;
                }
                let mut command = Command::new(setpriv);
                let user = AGENT_USER.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
                command.args(["--inh-caps=-all", "--bounding-set=-all", "--pdeathsig", "TERM", "--"]).arg(binary);
                command
            }
            None => Command::new(beside("vedette-agent")?),
        };
        command.arg("--config").arg(&config_file);
        let mut process = Process::start("vedette-agent", command, self.folder())?;
        process.ready(http, "/readyz", START).await?;
        Ok(Agent { process, http, unprivileged: setpriv.is_some() })
    }

    /// Process id of the aggregator, while it runs.
    pub fn aggregator_id(&self) -> Option<u32> {
        self.aggregator.id()
    }

    /// Stops the aggregator and removes the folder.
    pub async fn close(mut self) {
        self.aggregator.stop(STOP).await;
    }

    /// Leaves everything until Ctrl-C. What was replayed is in a cluster of its own, which a person has to name.
    pub async fn keep(mut self, agent: Option<Agent>, replayed: Option<&str>) -> anyhow::Result<()> {
        println!();
        println!("Serving until Ctrl-C; in another terminal:");
        println!("  export VEDETTE_ENDPOINT={} VEDETTE_DATA_DIR={}", self.target.endpoint, self.data().display());
        println!("  vedette incidents{}", replayed.map_or_else(String::new, |cluster| format!(" --cluster {cluster}")));
        println!("  vedette explain 1");
        tokio::select! {
            signal = stopped() => signal?,
            status = self.aggregator.done(Duration::MAX) => status?,
        }
        if let Some(mut agent) = agent {
            agent.stop().await;
        }
        self.close().await;
        Ok(())
    }
}

impl Agent {
    /// Stops it; what it holds is delivered first.
    pub async fn stop(&mut self) {
        self.process.stop(STOP).await;
    }
}

/// TOML strings are UTF-8; a temporary folder that is not is nothing we can name in one.
fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
