//! Counts how long was watched, which rates rest on; and says every day what it would have paged.

use std::time::Duration;

use tokio::{sync::watch, time::MissedTickBehavior};

use super::report;
use crate::{
    Shared, clock,
    problems::Source,
    store::{DAY_MS, StoreError},
};

/// How often; a kill loses as much.
const TICK: Duration = Duration::from_secs(15);

/// Counts until told to stop.
pub async fn watching(shared: Shared, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let mut day = clock::unix_ms().div_euclid(DAY_MS);
    loop {
        tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => return,
            _ = tick.tick() => {}
        }
        let now = clock::unix_ms();
        if shared.fleet.status().nodes_connected > 0
            && let Err(error) = shared.store.add_watched(now, TICK.as_millis() as i64).await
        {
            shared.problems.state(Source::Store, error.to_string());
        }
        let today = now.div_euclid(DAY_MS);
        if today != std::mem::replace(&mut day, today)
            && let Err(error) = say(&shared, now).await
        {
            tracing::warn!(%error, "cannot read what was decided yesterday");
        }
    }
}

/// Says what yesterday came to.
async fn say(shared: &Shared, now_unix_ms: i64) -> Result<(), StoreError> {
    let since = now_unix_ms - 2 * DAY_MS;
    let (entries, watched) = (shared.store.decisions(since).await?, shared.store.watched(since).await?);
    if let Some(day) = report::days(&entries, &watched, now_unix_ms).get(1) {
        let (pages, would_have_paged, tickets, digest) = (day.pages, day.would_have_paged, day.tickets, day.digest);
        tracing::info!(pages, would_have_paged, tickets, digest, watched_seconds = day.watched_seconds, "yesterday");
    }
    Ok(())
}
