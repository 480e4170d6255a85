//! The cross-check with Prometheus: asks now and then what it has of this node and compares it with what the agent counted itself.
//!
//! It runs beside the sampler and never holds it up: both sides give up at once where the other is busy.

pub mod client;
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

    fn own(&self) -> Own {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, round: CrossCheckRound) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = Some(round);
    }
}

/// Asks Prometheus until the agent ends.
pub struct CrossChecker {
    config: PrometheusConfig,
    client: Client,
    node: String,
    exchange: Arc<Exchange>,
    metrics: Metrics,
}

impl CrossChecker {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`ClientError`] names the key and the file.
    pub fn new(config: PrometheusConfig, node: &str, exchange: Arc<Exchange>, metrics: Metrics) -> Result<Self, ClientError> {
        let client = Client::new(&config)?;
        Ok(Self { config, client, node: node.to_owned(), exchange, metrics })
    }

    /// One round after the other, for ever.
    pub async fn run(self) {
        let every = Duration::from_secs(self.config.interval_s);
        // Agents that started together do not ask together.
        let mut ticks = interval_at(Instant::now() + every.mul_f64(rand::random::<f64>()), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let theirs = self.ask().await;
            let own = self.exchange.own();
            let (checks, error) = match theirs {
                Ok(theirs) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(url = %self.config.url, "Prometheus answers again");
                    }
                    (round::compare(&own, &theirs), String::new())
                }
                Err(error) => {
                    self.metrics.cross_check_failures.get_or_create(&Reason { reason: error.label() }).inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Prometheus cannot be asked; sampling goes on, the cross-check says unknown");
                    }
                    (round::unreachable(&own), error.to_string())
                }
            };
            self.count(&checks);
            self.metrics.cross_check_rounds.inc();
            self.exchange.tell(CrossCheckRound { unix_ms: unix_ms(), checks, error });
        }
    }

    async fn ask(&self) -> Result<Theirs, ClientError> {
        let before = unix_ms();
        let their_ms = self.client.time().await?;
        let after = unix_ms();
        let clock_ahead_ms = Some(their_ms as i64 - i64::midpoint(before, after));

        let cadvisor = self.matchers(&self.config.cadvisor);
        let names = [theirs::CPU, theirs::WORKING_SET, theirs::RX, theirs::TX].join("|");
        let of_cadvisor = self.client.range(&format!("{{__name__=~\"{names}\",{cadvisor}}}{RANGE}")).await?;
        let cadvisor_up = self.client.range(&format!("up{{{cadvisor}}}{RANGE}")).await?;
        let kube_state = self.matchers(&self.config.kube_state_metrics);
        let kube_state_up = self.client.range(&format!("up{{{kube_state}}}{RANGE}")).await?;
        let restarts = if kube_state_up.is_empty() { HashMap::new() } else { self.restarts(&kube_state).await? };
        let (exporter_up, of_exporter) = self.exporter().await?;

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
    async fn restarts(&self, matchers: &str) -> Result<HashMap<String, Vec<vedette_crosscheck::Point>>, ClientError> {
        let uids: Vec<String> = self.exchange.own().pods.into_keys().collect();
        let mut series = Vec::new();
        for uids in uids.chunks(PODS_PER_QUESTION) {
            let names = theirs::RESTARTS.join("|");
            let selector = format!("{{__name__=~\"{names}\",{matchers},uid=~\"{}\"}}{RANGE}", uids.join("|"));
            series.extend(self.client.range(&selector).await?);
        }
        Ok(theirs::restarts(series))
    }

    /// The target's `up`, and its series: by configuration, else the one whose `node_uname_info` has this node's name.
    async fn exporter(&self) -> Result<(Vec<Labelled>, Vec<Labelled>), ClientError> {
        let matchers = if self.config.node_exporter.is_empty() {
            let named = self.client.range(&format!("node_uname_info{{nodename=\"{}\"}}{RANGE}", escaped(&self.node))).await?;
            let Some(newest) = named.iter().max_by_key(|one| one.points.last().map(|point| point.unix_ms)) else {
                return Ok((Vec::new(), Vec::new()));
            };
            format!("instance=\"{}\",job=\"{}\"", escaped(newest.label("instance")), escaped(newest.label("job")))
        } else {
            self.matchers(&self.config.node_exporter)
        };
        let names = [theirs::NODE_CPU, theirs::NODE_AVAILABLE, theirs::NODE_RX, theirs::NODE_TX].join("|");
        let up = self.client.range(&format!("up{{{matchers}}}{RANGE}")).await?;
        Ok((up, self.client.range(&format!("{{__name__=~\"{names}\",{matchers}}}{RANGE}")).await?))
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
