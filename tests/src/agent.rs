//! A real agent that watches this machine and reports to an aggregator of the test.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::process::{self, Process};

/// A cold start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How an agent is set up.
pub struct Setup {
    /// Its node name.
    pub node: String,
    /// Where its spool lies.
    pub spool: PathBuf,
    /// The aggregator's gRPC address.
    pub aggregator: SocketAddr,
    /// The certificate it trusts.
    pub ca_file: PathBuf,
    /// The token it shows.
    pub token_file: PathBuf,
    /// Further lines at the end of the configuration.
    pub more: String,
}

/// A running agent.
pub struct Agent {
    /// The process.
    pub process: Process,
    /// Where it serves its metrics and health.
    pub http: SocketAddr,
}

/// Writes `<folder>/agent.toml`: ten ticks a second, quick to come back.
///
/// # Errors
/// Where there is no free port, or the file cannot be written.
pub fn configure(folder: &Path, setup: &Setup) -> anyhow::Result<SocketAddr> {
    let http = process::free_port()?;
    let text = format!(
        "node = {node:?}\ngrace_ms = 5000\n[sensor]\ninterval_ms = 100\n[outbox]\ndir = {spool:?}\n[uplink]\nendpoint = \
         \"https://{address}\"\nca_file = {ca:?}\ntoken_file = {token:?}\nserver_name = \"localhost\"\nbackoff_min_ms = 50\n\
         backoff_max_ms = 500\nheartbeat_ms = 500\n[http]\nlisten = \"127.0.0.1:{http}\"\n{more}\n",
        node = setup.node,
        spool = setup.spool.display().to_string(),
        address = setup.aggregator,
        ca = setup.ca_file.display().to_string(),
        token = setup.token_file.display().to_string(),
        more = setup.more,
    );
    fs::write(folder.join("agent.toml"), text)?;
    Ok(SocketAddr::from(([127, 0, 0, 1], http)))
}

impl Agent {
    /// Starts one, and waits until its sensor works.
    ///
    /// # Errors
    /// Where it ends or is not ready in time; holds its log.
    pub fn start(folder: &Path, setup: &Setup) -> anyhow::Result<Self> {
        Self::start_configured(folder, configure(folder, setup)?)
    }

    /// Starts one whose configuration is written already, and waits until it answers.
    ///
    /// # Errors
    /// Where it ends or does not answer in time; holds its log.
    pub fn start_configured(folder: &Path, http: SocketAddr) -> anyhow::Result<Self> {
        let arguments = ["--config".into(), folder.join("agent.toml").into_os_string()];
        let mut process = Process::start("vedette-agent", arguments, folder)?;
        process.wait_for("healthz answers 200", START, || matches!(process::get(http, "/healthz"), Ok((200, _))))?;
        Ok(Self { process, http })
    }

    /// The sum of a metric over its labels; `None` where it has no such metric.
    ///
    /// # Errors
    /// Where nobody answers.
    pub fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let (_, text) = process::get(self.http, "/metrics")?;
        Ok(value(&text, name))
    }
}

/// The sum of a metric over its labels in a text of metrics; `None` where there is no such metric.
#[must_use]
pub fn value(text: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{'])))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}
