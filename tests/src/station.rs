//! An aggregator and a stand-in for the API server in a pod's network of the range: reached from the other pods of that network only.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use vedette_range::network::PodNetwork;

use crate::{
    aggregator::Aggregator,
    apiserver::ApiServer,
    process::{self, Process},
};

/// Where its ConfigMap of CA certificates is.
pub const CA: (&str, &str) = ("vedette-agent", "vedette-ca");
/// A cold start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Both, running.
pub struct Station {
    /// Where they are.
    pub network: PodNetwork,
    /// What the aggregator asks.
    pub server: ApiServer,
    /// The aggregator; [`Station::sql`] asks it from its own network.
    pub aggregator: Arc<Aggregator>,
}

/// Runs this on a thread in a pod's network.
///
/// # Errors
/// Where there is no such network any more, or the work panics.
pub fn within<T: Send + 'static>(network: &PodNetwork, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let namespace = fs::File::open(network.path())?;
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        anyhow::Ok(work())
    });
    thread.join().map_err(|_| anyhow!("the work in a pod's network panicked"))?
}

/// Starts a program of this workspace in a pod's network, which it holds open from then on; it logs into the folder.
///
/// # Errors
/// Where it cannot be started.
pub fn start_within(network: &PodNetwork, program: &str, arguments: &[&str], folder: &Path) -> anyhow::Result<Process> {
    let (program, folder) = (program.to_owned(), folder.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    within(network, move || Process::start(&program, arguments, &folder))?
}

impl Station {
    /// Starts the stand-in, then the aggregator, whose data is in `folder`. `settings` makes its configuration of a kubeconfig, without
    /// `data_dir`; it must publish its CA in [`CA`]. Waits until it did.
    ///
    /// # Errors
    /// Where one of them does not start; holds the log.
    pub async fn start(folder: &Path, network: PodNetwork, settings: impl FnOnce(&Path) -> String) -> anyhow::Result<Self> {
        let listener = within(&network, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
        let server = ApiServer::start_on(listener).await?;
        server.empty_config_map(CA.0, CA.1);
        let settings = settings(&server.kubeconfig(folder)?);
        let config = folder.join("aggregator.toml");
        fs::write(&config, format!("data_dir = {:?}\n{settings}", folder.join("data")))?;
        let config = config.display().to_string();
        let process = start_within(&network, "vedette-aggregator", &["--config", &config], folder)?;
        let (grpc, http) = (SocketAddr::from((network.address, 7443)), SocketAddr::from((network.address, 9444)));
        let mut aggregator = Aggregator { process, folder: folder.to_owned(), grpc, http };
        let ready = || {
            let answers = within(&network, move || matches!(process::get(http, "/readyz"), Ok((200, _))));
            answers.is_ok_and(|answers| answers) && server.config_map(CA.0, CA.1, "ca.crt").is_some()
        };
        aggregator.process.wait_for("readyz answers 200, and the CA is published", START, ready)?;
        Ok(Self { network, server, aggregator: Arc::new(aggregator) })
    }

    /// The CA certificates that it published, PEM.
    ///
    /// # Errors
    /// Where they are gone.
    pub fn ca(&self) -> anyhow::Result<String> {
        self.server.config_map(CA.0, CA.1, "ca.crt").context("no CA is published")
    }

    /// The rows that a SELECT gives.
    ///
    /// # Errors
    /// What the aggregator says.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let (aggregator, network, sql) = (Arc::clone(&self.aggregator), self.network.clone(), sql.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            within(&network, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(aggregator.sql(&sql))
            })
        });
        asked.await??
    }

    /// The one number that a SELECT gives; nothing counts as 0.
    ///
    /// # Errors
    /// What the aggregator says.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        Ok(self.sql(sql).await?.first().and_then(|row| row.first()?.as_i64()).unwrap_or(0))
    }
}
