//! The agent's configuration: one TOML file, unknown keys are errors, the shipped `agent.toml` equals the defaults.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::resolve::RESOLV_CONF;

/// Names the node where the configuration does not: in a pod only the downward API knows it.
pub const NODE_VARIABLE: &str = "VEDETTE_NODE";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Node name; empty means what the environment's [`NODE_VARIABLE`] says, and without that the host's name.
    pub node: String,
    /// How long a stop may wait for acknowledgements, in milliseconds.
    pub grace_ms: u64,
    /// What is read, and how often.
    pub sensor: SensorConfig,
    /// Where batches wait until they are acknowledged.
    pub outbox: OutboxConfig,
    /// Where batches go.
    pub uplink: UplinkConfig,
    /// The agent's own metrics and health.
    pub http: HttpConfig,
    /// A Prometheus to compare with.
    pub prometheus: PrometheusConfig,
}

/// What is read, and how often.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorConfig {
    /// Where the host's `/proc` and `/sys/fs/cgroup` are found below.
    pub root: PathBuf,
    /// Only this part of the cgroup tree is looked at; empty means all of it.
    pub cgroup_subtree: String,
    /// Length of a tick in milliseconds.
    pub interval_ms: u64,
    /// The slow tier is read every so many ticks.
    pub slow_every: u32,
    /// The rare tier is read every so many ticks.
    pub rare_every: u32,
    /// Most containers observed; more are counted and left out.
    pub max_containers: usize,
    /// Most processes of unknown containers looked at in one tick; the rest waits for a later one.
    pub max_processes_per_tick: usize,
    /// Cgroups to observe besides containers.
    pub watch: Vec<WatchConfig>,
}

/// Cgroups to observe besides containers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Name that goes with them.
    pub name: String,
    /// Path below the cgroup root; `*` and `?` within an element, `**` over any number of them.
    pub glob: String,
}

/// Where batches wait until they are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// Directory of the spool; nothing else may be in it.
    pub dir: PathBuf,
    /// Most bytes on disk; beyond, the oldest batches are dropped and counted.
    pub max_bytes: u64,
    /// Batches older than this are dropped and counted, in seconds.
    pub max_age_s: u64,
}

/// Where batches go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkConfig {
    /// `https://host:port` of the aggregator.
    pub endpoint: String,
    /// Says which name servers are asked, for an endpoint that is no address; `/etc/hosts` goes first.
    pub resolv_conf: PathBuf,
    /// Certificates that the aggregator's certificate must chain to, PEM.
    pub ca_file: PathBuf,
    /// Token sent with the stream; read anew for every connection. Empty means none.
    pub token_file: PathBuf,
    /// Name that the certificate must carry; empty means the endpoint's host.
    pub server_name: String,
    /// Most batches sent and not acknowledged.
    pub window: usize,
    /// First wait after a failure in milliseconds; it doubles, with jitter.
    pub backoff_min_ms: u64,
    /// Longest wait after a failure in milliseconds.
    pub backoff_max_ms: u64,
    /// Heartbeats are sent at least this often, in milliseconds.
    pub heartbeat_ms: u64,
}

/// The agent's own metrics and health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `[::]` is every address, also where there are only those of IPv4.
    pub listen: SocketAddr,
}

/// A Prometheus to compare with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// `http://host:port` or `https://host:port`, with a path if it has one; empty means that nothing is compared.
    pub url: String,
    /// Certificates that its certificate must chain to, PEM; empty means the system's.
    pub ca_file: PathBuf,
    /// Bearer token, read anew for every question; empty means none.
    pub token_file: PathBuf,
    /// User of basic authentication; empty means none.
    pub username: String,
    /// Its password, read anew for every question.
    pub password_file: PathBuf,
    /// Seconds from one round to the next.
    pub interval_s: u64,
    /// Matchers of cAdvisor's target on this node, as PromQL has them; `{node}` is the node's name.
    pub cadvisor: String,
    /// Matchers of kube-state-metrics.
    pub kube_state_metrics: String,
    /// Matchers of node_exporter's target on this node; empty means the one whose `node_uname_info` has the node's name.
    pub node_exporter: String,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            ca_file: PathBuf::new(),
            token_file: PathBuf::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            interval_s: 60,
            cadvisor: "metrics_path=\"/metrics/cadvisor\",node=\"{node}\"".to_owned(),
            kube_state_metrics: "job=\"kube-state-metrics\"".to_owned(),
            node_exporter: String::new(),
        }
    }
}

impl PrometheusConfig {
    /// Whether anything is compared.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// Whether whoever is on the way reads the token or the password.
    #[must_use]
    pub fn sends_secrets_in_the_clear(&self) -> bool {
        self.url.starts_with("http://") && !(self.username.is_empty() && self.token_file.as_os_str().is_empty())
    }

    fn check(&self) -> Result<(), String> {
        if self.is_on() && !["http://", "https://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(format!("prometheus.url is {:?}, must begin with http:// or https://", self.url));
        }
        if !self.username.is_empty() && self.password_file.as_os_str().is_empty() {
            return Err("prometheus.username needs prometheus.password_file".to_owned());
        }
        if !self.username.is_empty() && !self.token_file.as_os_str().is_empty() {
            return Err("prometheus.username and prometheus.token_file exclude each other".to_owned());
        }
        for (key, matchers) in [("cadvisor", &self.cadvisor), ("kube_state_metrics", &self.kube_state_metrics)] {
            if matchers.trim().is_empty() {
                return Err(format!("prometheus.{key} must have at least one matcher"));
            }
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            grace_ms: 10_000,
            sensor: SensorConfig::default(),
            outbox: OutboxConfig::default(),
            uplink: UplinkConfig::default(),
            http: HttpConfig::default(),
            prometheus: PrometheusConfig::default(),
        }
    }
}

impl Default for SensorConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            cgroup_subtree: String::new(),
            interval_ms: 1_000,
            slow_every: 5,
            rare_every: 10,
            max_containers: 2_000,
            max_processes_per_tick: 2_000,
            watch: Vec::new(),
        }
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/vedette-agent"), max_bytes: 64 << 20, max_age_s: 6 * 3_600 }
    }
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self {
            endpoint: "https://127.0.0.1:7443".to_owned(),
            resolv_conf: PathBuf::from(RESOLV_CONF),
            ca_file: PathBuf::from("/etc/vedette/ca.crt"),
            token_file: PathBuf::from("/var/run/secrets/vedette/token"),
            server_name: String::new(),
            window: 64,
            backoff_min_ms: 500,
            backoff_max_ms: 30_000,
            heartbeat_ms: 5_000,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9_464)) }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which key, and why; one line.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, std::env::var(NODE_VARIABLE).ok()).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    fn parse(text: &str, node: Option<String>) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(String::new(), |span| format!("line {}: ", text[..span.start].matches('\n').count() + 1));
            format!("{line}{}", error.message().replace('\n', " "))
        })?;
        if config.node.is_empty() {
            config.node = node.unwrap_or_default();
        }
        if config.node.is_empty() {
            config.node = String::from_utf8_lossy(rustix::system::uname().nodename().to_bytes()).into_owned();
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let ranges = [
            ("sensor.interval_ms", self.sensor.interval_ms, 100, 60_000),
            ("sensor.slow_every", self.sensor.slow_every.into(), 1, 1_000),
            ("sensor.rare_every", self.sensor.rare_every.into(), 1, 1_000),
            ("sensor.max_containers", self.sensor.max_containers as u64, 1, 10_000),
            ("sensor.max_processes_per_tick", self.sensor.max_processes_per_tick as u64, 1, 100_000),
            ("outbox.max_bytes", self.outbox.max_bytes, 1 << 20, 1 << 40),
            ("outbox.max_age_s", self.outbox.max_age_s, 60, 30 * 86_400),
            ("uplink.window", self.uplink.window as u64, 1, 1_024),
            ("uplink.backoff_min_ms", self.uplink.backoff_min_ms, 10, self.uplink.backoff_max_ms),
            ("uplink.heartbeat_ms", self.uplink.heartbeat_ms, 100, 60_000),
            ("grace_ms", self.grace_ms, 0, 600_000),
            ("prometheus.interval_s", self.prometheus.interval_s, 5, 3_600),
        ];
        if let Some((key, value, low, high)) = ranges.into_iter().find(|(_, value, low, high)| value < low || value > high) {
            return Err(format!("{key} is {value}, must be between {low} and {high}"));
        }
        if self.node.is_empty() || self.node.len() > 253 {
            return Err("node must have 1 to 253 characters".to_owned());
        }
        if !self.uplink.endpoint.starts_with("https://") {
            return Err(format!("uplink.endpoint is {:?}, must begin with https://", self.uplink.endpoint));
        }
        self.prometheus.check()?;
        if let Some(watch) = self
            .sensor
            .watch
            .iter()
            .find(|watch| watch.name.is_empty() || watch.name.len() > 128 || watch.glob.trim_matches('/').is_empty())
        {
            return Err(format!("watch {:?} needs a name of at most 128 bytes and a glob", watch.name));
        }
        Ok(())
    }

    /// How long a stop may wait for acknowledgements.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl SensorConfig {
    /// Length of a tick.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_equals_the_defaults() {
        let shipped: Config = toml::from_str(include_str!("../agent.toml")).unwrap();

        assert_eq!(shipped, Config::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::parse("node = \"n\"\n[sensor]\nintervall_ms = 5\n", None).unwrap_err();

        assert!(error.starts_with("line 3: unknown field `intervall_ms`"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn a_prometheus_that_cannot_be_asked_is_refused_with_its_key() {
        for (text, expected) in [
            ("url = \"prometheus:9090\"", "prometheus.url is \"prometheus:9090\", must begin with http:// or https://"),
            ("username = \"u\"", "prometheus.username needs prometheus.password_file"),
            (
                "username = \"u\"\npassword_file = \"p\"\ntoken_file = \"t\"",
                "prometheus.username and prometheus.token_file exclude each other",
            ),
            ("cadvisor = \" \"", "prometheus.cadvisor must have at least one matcher"),
            ("interval_s = 1", "prometheus.interval_s is 1, must be between 5 and 3600"),
        ] {
            assert_eq!(Config::parse(&format!("[prometheus]\n{text}\n"), Some("n".into())).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_key() {
        let error = Config::parse("[sensor]\ninterval_ms = 1\n", None).unwrap_err();

        assert_eq!(error, "sensor.interval_ms is 1, must be between 100 and 60000");
    }

    #[test]
    fn the_environment_names_a_node_that_the_file_leaves_open() {
        let node = |text, variable: &str| Config::parse(text, Some(variable.to_owned())).unwrap().node;

        assert_eq!(node("", "worker-7"), "worker-7");
        assert_eq!(node("node = \"n\"\n", "worker-7"), "n");
        assert!(!node("", "").is_empty());
    }
}
