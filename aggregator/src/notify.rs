//! Tells the world of incidents: Alertmanagers, signed webhooks, and a dead man's switch.
//!
//! The board holds what there is to say; each target has a task of its own that says it. Nothing is queued: a target that is slow or
//! away finds on the board what is so when it is back, and holds up nobody. See `docs/decisions/062`.

mod alert;
mod alertmanager;
mod board;
mod client;
mod config;
mod counts;
mod listen;
mod route;
mod text;
mod webhook;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

pub use alert::{NAME_PREFIX, OURS};
pub use config::{Kind as ReceiverKind, Notify as Config, Receiver, Route};
pub use counts::Counts;

use crate::{
    Shared,
    notify::{board::Board, client::Client, route::Routes},
    problems::Source,
    store::StoreError,
};

/// After a failure a target is tried again within so long, doubling ...
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// ... up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Changes within this time go out together.
const SETTLE: Duration = Duration::from_millis(500);

/// What the tasks share.
pub(crate) struct Notifier {
    shared: Shared,
    config: Config,
    board: Mutex<Board>,
    /// Counts up when there is something new to say.
    news: watch::Sender<u64>,
    /// What each target last failed with; bounded by the configuration.
    failing: Mutex<BTreeMap<String, String>>,
}

/// Starts a task that listens and one for each target; none where there is no receiver. What was open when an earlier run ended is
/// firing again as it was.
///
/// # Errors
/// What the store says.
pub async fn start(config: &Config, shared: &Shared, stop: &watch::Receiver<bool>) -> Result<Vec<JoinHandle<()>>, StoreError> {
    if config.receivers.is_empty() {
        return Ok(Vec::new());
    }
    let board = Board::new(&shared.cluster, Routes::new(config), config.resolved_ms());
    let notifier = Arc::new(Notifier {
        shared: shared.clone(),
        config: config.clone(),
        board: Mutex::new(board),
        news: watch::Sender::new(0),
        failing: Mutex::default(),
    });
    // Listening begins before the list is read: a change in between is taken twice rather than missed.
    let changes = shared.changes.subscribe();
    listen::restore(&notifier).await?;
    let mut tasks = vec![tokio::spawn(listen::run(Arc::clone(&notifier), changes, stop.clone()))];
    for (index, receiver) in config.receivers.iter().enumerate() {
        if receiver.sends_secrets_in_the_clear() {
            tracing::warn!(receiver = %receiver.name, "its token or password is sent unencrypted; https:// would not");
        }
        shared.counters.notify.begin(&receiver.name);
        for url in &receiver.urls {
            let client = Client::new(receiver, url);
            let (notifier, stop) = (Arc::clone(&notifier), stop.clone());
            tasks.push(match receiver.kind {
                ReceiverKind::Alertmanager => tokio::spawn(alertmanager::run(notifier, index, client, stop)),
                ReceiverKind::Webhook => tokio::spawn(webhook::run(notifier, index, client, stop)),
            });
        }
    }
    Ok(tasks)
}

impl Notifier {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self, index: usize) -> &Receiver {
        &self.config.receivers[index]
    }

    /// Whether the dead man's switch may be told that we live: an aggregator that takes nothing in is as good as dead.
    fn alive(&self) -> bool {
        self.shared.problems.ready()
    }

    /// Notes how a target fared, as a problem and in the counts.
    fn fared(&self, receiver: &str, url: &str, result: &Result<(), client::NotifyError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                self.shared.counters.notify.sent(receiver);
                if failing.remove(url).is_some() {
                    tracing::info!(receiver, url, "can be notified again");
                }
            }
            Err(error) => {
                self.shared.counters.notify.failed(receiver, error.label());
                if failing.insert(url.to_owned(), error.to_string()).is_none() {
                    tracing::warn!(receiver, url, %error, "cannot notify");
                }
            }
        }
        let problem = failing.values().next().map(|first| match failing.len() - 1 {
            0 => format!("notifications: {first}"),
            more => format!("notifications: {first}; and {more} more"),
        });
        match problem {
            Some(line) => self.shared.problems.state(Source::Notify, line),
            None => self.shared.problems.clear(Source::Notify),
        }
    }
}

/// How long to wait after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8));
    // Targets that failed together do not come back together.
    doubled.min(LAST_RETRY).mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

/// Ends once the aggregator stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
