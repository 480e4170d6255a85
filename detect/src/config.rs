//! What an operator may set, under `[detect]` of the aggregator's configuration.

use serde::{Deserialize, Serialize};

use crate::{Namespaces, shipped};

/// Limits and delays of detection. Thresholds of single signatures are in `signature.rs`: they are stated, not tuned per site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most workloads whose baseline is kept; beyond it, those without a living container go first.
    pub max_workloads: usize,
    /// Most containers watched at once; further ones are scored normal and counted.
    pub max_containers: usize,
    /// Most incidents open at once; further ones are counted, not opened.
    pub max_open_incidents: usize,
    /// Most pods, containers and nodes listed in one incident.
    pub max_listed: usize,
    /// Seconds of samples after which a workload's own baseline serves.
    pub baseline_ready_seconds: u32,
    /// Seconds without an abnormal sample after which an incident resolves.
    pub resolve_after_seconds: u32,
    /// Seconds after a resolution in which the same kind in the same workload continues the old incident.
    pub reopen_within_seconds: u32,
    /// Seconds in which the third failure of a container's place in its pod is a crash loop.
    pub crash_loop_window_seconds: u32,
    /// Seconds of silence, not meant, that open a ticket.
    pub silence_ticket_seconds: u32,
    /// Seconds of silence, not meant, that page.
    pub silence_page_seconds: u32,
    /// Seconds after the start of the aggregator in which silence says nothing.
    pub silence_start_grace_seconds: u32,
    /// The kind classifier: `shipped`, the path of a model's file, or `none`, where signatures decide.
    pub model: String,
    /// Public keys (64 hexadecimal digits each) whose models are trusted besides that of the shipped one.
    pub model_keys: Vec<String>,
    /// How loudly incidents of a namespace may speak, by its name or a pattern.
    pub namespaces: Namespaces,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_workloads: 150_000,
            max_containers: 150_000,
            max_open_incidents: 10_000,
            max_listed: 100,
            baseline_ready_seconds: 55,
            resolve_after_seconds: 30,
            reopen_within_seconds: 15,
            crash_loop_window_seconds: 600,
            silence_ticket_seconds: 25,
            silence_page_seconds: 90,
            silence_start_grace_seconds: 60,
            model: "shipped".to_owned(),
            model_keys: Vec::new(),
            namespaces: Namespaces::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit of nothing detects nothing.
    #[error("detect.{0} must be at least 1")]
    Zero(&'static str),
    /// The page would come before the ticket.
    #[error("detect.silence_page_seconds must not be below detect.silence_ticket_seconds")]
    PageBeforeTicket,
    /// No key.
    #[error("detect.model_keys has {0:?}, which is not 64 hexadecimal digits")]
    Key(String),
    /// A pattern that no namespace can match.
    #[error("detect.namespaces: {0:?} is not 1 to 63 characters of a-z 0-9 - *")]
    Namespace(String),
    /// More patterns than are allowed.
    #[error("detect.namespaces: more than {0} patterns")]
    ManyNamespaces(usize),
}

impl Config {
    /// Checks what types cannot say; call once, after loading.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_workloads", self.max_workloads),
            ("max_containers", self.max_containers),
            ("max_open_incidents", self.max_open_incidents),
            ("max_listed", self.max_listed),
            ("baseline_ready_seconds", self.baseline_ready_seconds as usize),
            ("resolve_after_seconds", self.resolve_after_seconds as usize),
            ("crash_loop_window_seconds", self.crash_loop_window_seconds as usize),
            ("silence_ticket_seconds", self.silence_ticket_seconds as usize),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(key));
        }
        if self.silence_page_seconds < self.silence_ticket_seconds {
            return Err(ConfigError::PageBeforeTicket);
        }
        self.trusted()?;
        self.namespaces.check()
    }

    /// All public keys whose models are trusted.
    ///
    /// # Errors
    /// [`ConfigError::Key`] names the one that is none.
    pub fn trusted(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        let own = self.model_keys.iter().map(|text| shipped::key(text).ok_or_else(|| ConfigError::Key(text.clone())));
        shipped::trusted().into_iter().map(Ok).chain(own).collect()
    }
}
