//! The cross-check with Prometheus: asks now and then what it has of this node and compares it with what the agent counted itself.
//!
//! It runs beside the sampler and never holds it up: both sides give up at once where the other is busy.

pub mod answer;
pub mod client;
#[cfg(test)]
mod faults;
pub mod own;
pub mod round;
pub mod theirs;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use vedette_proto::v1::{CrossCheck, CrossCheckMetric, CrossCheckOutcome, CrossCheckRound};

use self::{
    client::{Client, ClientError, Labelled},
    own::Own,
    round::Theirs,
    theirs::{Cadvisor, Exporter},
};
use crate::{
    agent::unix_ms,
    config::PrometheusConfig,
    metrics::{Compared, Metrics, Reason},
};

/// Range of every question: what [`own::KEEP_MS`] keeps less what clocks may be apart.
const RANGE: &str = "[6m]";
/// Pods named in one question for restarts.
const PODS_PER_QUESTION: usize = 250;

/// What sampler and cross-check hand to each other.
#[derive(Debug, Default)]
pub struct Exchange {
    own: Mutex<Own>,
    round: Mutex<Option<CrossCheckRound>>,
}

impl Exchange {
    /// Lets the sampler add to what is kept, unless it is being read; whether it did.
    pub fn record(&self, add: impl FnOnce(&mut Own)) -> bool {
        match self.own.try_lock() {
            Ok(mut own) => {
                add(&mut own);
                true
            }
            Err(_) => false,
        }
    }

    /// The last round, once.
    pub fn take_round(&self) -> Option<CrossCheckRound> {
        self.round.try_lock().ok()?.take()
    }

    /// Reads what is kept. The sampler leaves out a point meanwhile; a copy would be as large again as all of it.
    fn with_own<T>(&self, read: impl FnOnce(&Own) -> T) -> T {
        read(&self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, round: CrossCheckRound) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = Some(round);
    }
}

/// Asks Prometheus until the agent ends.
pub struct CrossChecker {
    config: PrometheusConfig,
    /// Made at the first round: what the configuration names may come later, and its lack must not keep the agent from sampling.
    client: Option<Client>,
    node: String,
    exchange: Arc<Exchange>,
    metrics: Metrics,
}

impl CrossChecker {
    /// Nothing is opened or asked yet.
    #[must_use]
    pub fn new(config: PrometheusConfig, node: &str, exchange: Arc<Exchange>, metrics: Metrics) -> Self {
        Self { config, client: None, node: node.to_owned(), exchange, metrics }
    }

    /// One round after the other, for ever.
    pub async fn run(mut self) {
        if self.config.sends_secrets_in_the_clear() {
            tracing::warn!(url = %self.config.url, "the token or password for Prometheus is sent unencrypted; https:// would not");
        }
        let every = Duration::from_secs(self.config.interval_s);
        // Agents that started together do not ask together.
        let mut ticks = interval_at(Instant::now() + every.mul_f64(rand::random::<f64>()), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        let mut last: Vec<CrossCheck> = Vec::new();
        loop {
            ticks.tick().await;
            let (checks, error) = match self.ask().await {
                Ok(theirs) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(url = %self.config.url, "Prometheus answers again");
                    }
                    (self.exchange.with_own(|own| round::compare(own, &theirs)), String::new())
                }
                Err(error) => {
                    self.metrics.cross_check_failures.get_or_create(&Reason { reason: error.label() }).inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Prometheus cannot be asked; sampling goes on, the cross-check says unknown");
                    }
                    (self.exchange.with_own(|own| round::unreachable(own, &last)), error.to_string())
                }
            };
            last.clone_from(&checks);
            self.count(&checks);
            self.metrics.cross_check_rounds.inc();
            self.exchange.tell(CrossCheckRound { unix_ms: unix_ms(), checks, error });
        }
    }

    async fn ask(&mut self) -> Result<Theirs, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::new(&self.config)?,
        };
        let theirs = self.theirs(&client).await;
        self.client = Some(client);
        theirs
    }

    async fn theirs(&self, client: &Client) -> Result<Theirs, ClientError> {
        let before = unix_ms();
        client.begin_round();
        let their_ms = client.time().await?;
        let after = unix_ms();
        let clock_ahead_ms = Some(their_ms - i64::midpoint(before, after));

        let cadvisor = self.matchers(&self.config.cadvisor);
        let names = [theirs::CPU, theirs::WORKING_SET, theirs::RX, theirs::TX].join("|");
        let of_cadvisor = client.range(&format!("{{__name__=~\"{names}\",{cadvisor}}}{RANGE}")).await?;
        let cadvisor_up = client.range(&format!("up{{{cadvisor}}}{RANGE}")).await?;
        let kube_state = self.matchers(&self.config.kube_state_metrics);
        let kube_state_up = client.range(&format!("up{{{kube_state}}}{RANGE}")).await?;
        let restarts = if kube_state_up.is_empty() { HashMap::new() } else { self.restarts(client, &kube_state).await? };
        let (exporter_up, of_exporter) = self.exporter(client).await?;

        let now = unix_ms();
        let scrape = |up: &[Labelled]| theirs::scrape(up, now, clock_ahead_ms);
        Ok(Theirs {
            cadvisor_scrape: scrape(&cadvisor_up),
            cadvisor: Cadvisor::new(of_cadvisor),
            restarts_scrape: (!kube_state_up.is_empty()).then(|| scrape(&kube_state_up)),
            restarts,
            exporter_scrape: (!exporter_up.is_empty()).then(|| scrape(&exporter_up)),
            exporter: Exporter::new(of_exporter),
        })
    }

    /// Of this node's pods only: kube-state-metrics has those of the whole cluster.
    async fn restarts(&self, client: &Client, matchers: &str) -> Result<HashMap<String, Vec<vedette_crosscheck::Point>>, ClientError> {
        let uids: Vec<String> = self.exchange.with_own(|own| own.pods.keys().cloned().collect());
        let mut series = Vec::new();
        for uids in uids.chunks(PODS_PER_QUESTION) {
            let names = theirs::RESTARTS.join("|");
            let selector = format!("{{__name__=~\"{names}\",{matchers},uid=~\"{}\"}}{RANGE}", uids.join("|"));
            series.extend(client.range(&selector).await?);
        }
        Ok(theirs::restarts(series))
    }

    /// The target's `up`, and its series: by configuration, else the one whose `node_uname_info` has this node's name.
    async fn exporter(&self, client: &Client) -> Result<(Vec<Labelled>, Vec<Labelled>), ClientError> {
        let matchers = if self.config.node_exporter.is_empty() {
            let named = client.range(&format!("node_uname_info{{nodename=\"{}\"}}{RANGE}", escaped(&self.node))).await?;
            let Some(newest) = named.iter().max_by_key(|one| one.points.last().map(|point| point.unix_ms)) else {
                return Ok((Vec::new(), Vec::new()));
            };
            format!("instance=\"{}\",job=\"{}\"", escaped(newest.label("instance")), escaped(newest.label("job")))
        } else {
            self.matchers(&self.config.node_exporter)
        };
        let names = [theirs::NODE_CPU, theirs::NODE_AVAILABLE, theirs::NODE_RX, theirs::NODE_TX].join("|");
        let up = client.range(&format!("up{{{matchers}}}{RANGE}")).await?;
        Ok((up, client.range(&format!("{{__name__=~\"{names}\",{matchers}}}{RANGE}")).await?))
    }

    fn matchers(&self, configured: &str) -> String {
        configured.replace("{node}", &escaped(&self.node))
    }

    /// How many of each metric came to what, for /metrics.
    fn count(&self, checks: &[CrossCheck]) {
        for &metric in CrossCheckMetric::WORDS {
            for &outcome in CrossCheckOutcome::WORDS {
                let same = |check: &&CrossCheck| check.metric() == metric && check.outcome() == outcome;
                let count = checks.iter().filter(same).count();
                self.metrics.cross_checks.get_or_create(&Compared { metric: metric.word(), outcome: outcome.word() }).set(count as i64);
            }
        }
    }
}

/// A text within the quotes of PromQL.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_name_cannot_leave_its_quotes() {
        assert_eq!(escaped("a\"} or up{x=\"\\"), "a\\\"} or up{x=\\\"\\\\");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_told_and_tried_again() {
        let config =
            PrometheusConfig { url: "https://localhost:1".into(), ca_file: "/nowhere/ca.crt".into(), ..PrometheusConfig::default() };
        let mut checker = CrossChecker::new(config, "n", Arc::default(), Metrics::default());

        for _ in 0..2 {
            let error = checker.ask().await.unwrap_err();
            assert!(error.to_string().starts_with("prometheus.ca_file: /nowhere/ca.crt: "), "{error}");
            assert_eq!(error.label(), "file");
        }
    }

    #[test]
    fn a_round_is_handed_over_once() {
        let exchange = Exchange::default();
        exchange.tell(CrossCheckRound { unix_ms: 7, ..CrossCheckRound::default() });

        assert_eq!(exchange.take_round().unwrap().unix_ms, 7);
        assert_eq!(exchange.take_round(), None);
    }

    #[test]
    fn the_sampler_does_not_wait_for_the_cross_check() {
        let exchange = Exchange::default();
        let held = exchange.own.lock().unwrap();

        assert!(!exchange.record(|_| panic!("it was held")));
        drop(held);
        assert!(exchange.record(|_| ()));
    }
}
