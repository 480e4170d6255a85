//! Tells one replica of an Alertmanager everything that fires, again and again, as its API wants it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Notifier, SETTLE,
    alert::{self, Alert},
    backoff,
    client::{Client, NotifyError},
    stopped,
};
use crate::clock;

/// Alerts in one call: some hundred kilobytes.
const BATCH: usize = 200;
/// What fires ends by itself once it was not sent again for so many re-sends.
const MISSED: i64 = 4;
/// But not before, milliseconds: longer than a restart takes.
const LEAST_MS: i64 = 240_000;

/// Runs until the aggregator stops. What fires then is not ended: the next run goes on with it.
pub(super) async fn run(notifier: Arc<Notifier>, index: usize, mut client: Client, mut stop: watch::Receiver<bool>) {
    let mut news = notifier.news.subscribe();
    let resend = Duration::from_secs(u64::from(notifier.config.resend_seconds));
    let mut failures = 0;
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(wait) => {}
            Ok(()) = news.changed(), if failures == 0 => tokio::time::sleep(SETTLE).await,
        }
        news.mark_unchanged();
        let alerts = alerts(&notifier, index, clock::unix_ms());
        if alerts.is_empty() {
            wait = resend;
            continue;
        }
        let result = tokio::select! {
            () = stopped(&mut stop) => return,
            result = send(&mut client, &alerts) => result,
        };
        failures = if result.is_ok() { 0 } else { failures + 1 };
        wait = if result.is_ok() { resend } else { backoff(failures).min(resend) };
        notifier.fared(&notifier.receiver(index).name, client.url(), &result);
    }
}

fn alerts(notifier: &Notifier, index: usize, now_ms: i64) -> Vec<Alert> {
    let resend_ms = i64::from(notifier.config.resend_seconds) * 1_000;
    let until_ms = now_ms + (MISSED * resend_ms).max(LEAST_MS);
    let mut alerts = notifier.board().alerts(index, &notifier.config.link, until_ms, now_ms);
    if notifier.receiver(index).alive && notifier.alive() {
        // A dead man's switch is quicker: what it is for is that we are away.
        alerts.push(alert::alive(&notifier.shared.cluster, notifier.shared.started_unix_ms, now_ms + (3 * resend_ms).max(30_000)));
    }
    alerts
}

async fn send(client: &mut Client, alerts: &[Alert]) -> Result<(), NotifyError> {
    for batch in alerts.chunks(BATCH) {
        let body = serde_json::to_vec(batch).expect("alerts are maps of strings");
        client.post("/api/v2/alerts", &[], body).await?;
    }
    Ok(())
}
