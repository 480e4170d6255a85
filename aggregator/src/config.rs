//! The aggregator's configuration: one struct per part, nested here; unknown keys are errors; `aggregator.toml` equals the defaults.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::publish;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the cluster, 1 to 63 characters of `a-z 0-9 - .`; stands in every observation and workload.
    pub cluster: String,
    /// Where history, incidents, tokens and keys live. One aggregator at a time.
    pub data_dir: PathBuf,
    /// The gRPC listener.
    pub grpc: Listener,
    /// The HTTP listener: `/metrics`, `/healthz`, `/readyz`. Plain HTTP, nothing secret.
    pub http: HttpListener,
    /// Certificates.
    pub tls: Tls,
    /// Whose tokens are good.
    pub auth: crate::auth::Config,
    /// Checks at the door.
    pub ingest: Ingest,
    /// Who the containers are where no API server says it.
    pub identity: Identity,
    /// The API server, where there is one.
    pub kubernetes: Kubernetes,
    /// Write-ahead log, Parquet, retention. A relative `dir` is below `data_dir`.
    pub history: vedette_history::Config,
    /// What `/metrics` tells beyond the aggregator's own state.
    pub metrics: crate::gauges::Metrics,
    /// Other tools' alerts.
    pub receive: crate::receive::Receive,
    /// Who is notified of what.
    pub notify: crate::notify::Config,
    /// Facts, baselines, incidents.
    pub detect: vedette_detect::Config,
    /// Budgets, and how long an installation only observes.
    pub policy: vedette_detect::policy::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "default".into(),
            data_dir: "/var/lib/vedette".into(),
            grpc: Listener::default(),
            http: HttpListener::default(),
            tls: Tls::default(),
            auth: crate::auth::Config::default(),
            ingest: Ingest::default(),
            identity: Identity::default(),
            kubernetes: Kubernetes::default(),
            history: vedette_history::Config::default(),
            metrics: crate::gauges::Metrics::default(),
            receive: crate::receive::Receive::default(),
            notify: crate::notify::Config::default(),
            detect: vedette_detect::Config::default(),
            policy: vedette_detect::policy::Config::default(),
        }
    }
}

/// The gRPC listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// Address and port; port 0 takes a free one. `[::]` is every address, also where there are only those of IPv4.
    pub listen: SocketAddr,
    /// Connections at once; one more is closed before its handshake, and counted.
    pub max_connections: usize,
    /// Of these from one address, loopback apart: an agent makes one.
    pub max_connections_per_address: usize,
}

impl Default for Listener {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7443), max_connections: 4_096, max_connections_per_address: 256 }
    }
}

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpListener {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for HttpListener {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9444) }
    }
}

/// Certificates. Without files the aggregator makes a CA and a server certificate in `data_dir/tls` and renews the latter itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// DNS names of the server certificate.
    pub names: Vec<String>,
    /// IP addresses of the server certificate.
    pub ips: Vec<IpAddr>,
    /// A certificate chain of your own, PEM. Needs `key_file`; read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// A CA's life, in days. Clients pin it, so it is long; the next one is made after two thirds of it, or when `--rotate-ca` asks.
    pub ca_days: u32,
    /// The next CA signs once it was published for so long, in days, and the one before it stays published for as long again.
    pub ca_overlap_days: u32,
    /// `NAMESPACE/NAME` of the ConfigMap that the CA certificates are published in, under `ca.crt`. It must be there.
    pub ca_config_map: String,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            names: vec!["localhost".into(), "vedette-aggregator".into()],
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            cert_file: None,
            key_file: None,
            ca_days: 3_650,
            ca_overlap_days: 30,
            ca_config_map: String::new(),
        }
    }
}

/// Checks at the door.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// Streams at once; one more is refused.
    pub max_streams: usize,
    /// Nodes that are remembered, replays included; nodes that left or were replaced make room, else one more is refused.
    pub max_nodes: usize,
    /// A node that is not heard for so long has been replaced: it is forgotten, and its silence is over. In hours.
    pub node_retention_hours: u32,
    /// Replay clusters that are remembered; one more is refused.
    pub max_replays: usize,
    /// Containers of one stream; also bounds the rows of a block.
    pub max_containers: usize,
    /// Bytes of one message.
    pub max_message_bytes: usize,
    /// Batches between ingest and the detector; a full queue slows the streams down.
    pub queue_batches: usize,
    /// Batches between the detector and durability, in flight together; a full queue slows the detector down.
    pub durable_batches: usize,
    /// Observations older than this are refused unless replayed, in hours. The age limit of the agents' spools.
    pub age_limit_hours: u32,
    /// Agents are asked for a heartbeat this often, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// Gone containers remembered; the longest gone is forgotten first.
    pub max_gone_containers: usize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            max_streams: 4_096,
            max_nodes: 8_192,
            node_retention_hours: 24,
            max_replays: 64,
            max_containers: 10_000,
            max_message_bytes: 8 << 20,
            queue_batches: 256,
            durable_batches: 512,
            age_limit_hours: 24,
            heartbeat_interval_ms: 5_000,
            max_gone_containers: 50_000,
        }
    }
}

/// Who the containers are where no API server says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// JSON lines, one pod each; read again when it changes. See `docs/identity-file.md`.
    pub file: Option<PathBuf>,
}

/// The API server as a source of names, owners, nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether it is watched.
    pub enabled: bool,
    /// How it is reached; empty: as a pod of the cluster, by its service account.
    pub kubeconfig: PathBuf,
    /// Objects of one answer when listing.
    pub page_size: u32,
    /// Pods known, those deleted in the last ten minutes included: these make room first, then a new pod stays unnamed, counted.
    pub max_pods: usize,
    /// Whether incidents that are tickets or pages are told as Kubernetes Events, beside the pods they are of. Who may read a namespace's
    /// Events learns from them that he was seen: an attacker, too.
    pub events: bool,
    /// Strings that pods share, and ReplicaSets and Jobs known; beyond it each pod keeps its own, and an owner is not known, counted.
    pub max_names: usize,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { enabled: false, kubeconfig: PathBuf::new(), page_size: 500, max_pods: 150_000, events: false, max_names: 300_000 }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, or has a key or type that is not known.
    #[error("configuration {path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why, on one line.
        error: String,
    },
    /// A value is out of its bounds.
    #[error("configuration {key}: {problem}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the file or key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
        let config: Self = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(0, |span| text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1);
            ConfigError::Parse { path: path.into(), error: format!("line {line}: {}", error.message().replace('\n', " ")) }
        })?;
        config.check()?;
        Ok(config)
    }

    /// History's configuration: its default or a relative `dir` is below `data_dir`.
    #[must_use]
    pub fn history(&self) -> vedette_history::Config {
        let mut history = self.history.clone();
        let default = history.dir == vedette_history::Config::default().dir;
        history.dir = self.data_dir.join(if default { Path::new("history") } else { &history.dir });
        history
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.into() });
        if !is_cluster_name(&self.cluster) {
            return value("cluster", "must be 1 to 63 characters of a-z 0-9 - .");
        }
        if self.data_dir.as_os_str().is_empty() {
            return value("data_dir", "must not be empty");
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return value("tls.cert_file", "cert_file and key_file go together");
        }
        if self.tls.names.is_empty() && self.tls.ips.is_empty() {
            return value("tls.names", "names and ips must not both be empty");
        }
        if self.tls.ca_overlap_days == 0 || u64::from(self.tls.ca_overlap_days) * 6 > u64::from(self.tls.ca_days) {
            return value("tls.ca_overlap_days", "must be at least 1 and at most a sixth of ca_days");
        }
        let at = &self.tls.ca_config_map;
        if !at.is_empty() && !self.kubernetes.enabled {
            return value("tls.ca_config_map", "needs kubernetes.enabled = true");
        }
        if !at.is_empty() && publish::place(at).is_none() {
            return value("tls.ca_config_map", "must be NAMESPACE/NAME");
        }
        self.auth.check().map_err(|(key, problem)| ConfigError::Value { key, problem })?;
        self.receive.check().map_err(|(key, problem)| ConfigError::Value { key, problem })?;
        self.notify.check().map_err(|(key, problem)| ConfigError::Value { key, problem })?;
        if self.auth.token_review && !self.kubernetes.enabled {
            return value("auth.token_review", "needs kubernetes.enabled = true");
        }
        if self.kubernetes.events && !self.kubernetes.enabled {
            return value("kubernetes.events", "needs kubernetes.enabled = true");
        }
        let limits = [
            ("grpc.max_connections", self.grpc.max_connections),
            ("grpc.max_connections_per_address", self.grpc.max_connections_per_address),
            ("ingest.max_streams", self.ingest.max_streams),
            ("ingest.max_nodes", self.ingest.max_nodes),
            ("ingest.node_retention_hours", self.ingest.node_retention_hours as usize),
            ("ingest.max_replays", self.ingest.max_replays),
            ("ingest.max_containers", self.ingest.max_containers),
            ("ingest.queue_batches", self.ingest.queue_batches),
            ("ingest.durable_batches", self.ingest.durable_batches),
            ("ingest.age_limit_hours", self.ingest.age_limit_hours as usize),
            ("ingest.heartbeat_interval_ms", self.ingest.heartbeat_interval_ms as usize),
            ("ingest.max_gone_containers", self.ingest.max_gone_containers),
            ("kubernetes.page_size", self.kubernetes.page_size as usize),
            ("kubernetes.max_pods", self.kubernetes.max_pods),
            ("kubernetes.max_names", self.kubernetes.max_names),
        ];
        if let Some((key, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return value(key, "must be at least 1");
        }
        if self.history.retention_replay_percent > 100 {
            return value("history.retention_replay_percent", "must be at most 100");
        }
        if self.ingest.max_message_bytes < 64 << 10 {
            return value("ingest.max_message_bytes", "must be at least 65536");
        }
        Ok(())
    }
}

/// Whether a text can be a cluster or replay name.
#[must_use]
pub fn is_cluster_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../aggregator.toml");

    #[test]
    fn the_shipped_file_equals_the_defaults() {
        let shipped: Config = toml::from_str(SHIPPED).unwrap();

        assert_eq!(shipped, Config::default());
    }

    #[test]
    fn the_shipped_file_shows_every_default() {
        let shipped: toml::Table = toml::from_str(SHIPPED).unwrap();

        let defaults = toml::Table::try_from(Config::default()).unwrap();

        assert_eq!(shipped, defaults);
    }

    #[test]
    fn an_unknown_key_is_an_error_on_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, "cluster = \"x\"\n[ingest]\nmax_strems = 3\n").unwrap();

        let error = Config::load(&path).unwrap_err().to_string();

        assert!(error.contains("line 3") && error.contains("max_strems") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_certificate_without_its_key_is_an_error() {
        let config = Config { tls: Tls { cert_file: Some("c.pem".into()), ..Tls::default() }, ..Config::default() };

        let error = config.check().unwrap_err().to_string();

        assert!(error.contains("tls.cert_file"), "{error}");
    }
}
