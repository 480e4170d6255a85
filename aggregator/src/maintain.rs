//! Housekeeping: history's sealing and retention, certificates, health that follows the real state.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};
use vedette_history::History;

use crate::{
    clock,
    problems::{Problems, Source},
    store::Store,
    tls::Certificates,
};

/// How often history is sealed, merged and let go, and certificates looked at.
const MAINTAIN: Duration = Duration::from_secs(60);
/// How often health follows the problems.
const HEALTH: Duration = Duration::from_secs(1);
/// The services whose health is told by name; "" is the whole.
const SERVICES: [&str; 6] = [
    "",
    "vedette.v1.IngestService",
    "vedette.v1.QueryService",
    "vedette.v1.LabelService",
    "vedette.v1.ExportService",
    "vedette.v1.PolicyService",
];

/// Maintains history and certificates until told to stop.
pub async fn housekeeping(
    history: History,
    store: Store,
    certificates: Arc<Certificates>,
    problems: Arc<Problems>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(MAINTAIN);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => return,
            _ = tick.tick() => {}
        }
        match certificates.renew(SystemTime::now()) {
            Ok(true) => tracing::info!("new server certificate in service"),
            Ok(false) => problems.clear(Source::Certificate),
            Err(error) => {
                tracing::warn!(%error, "cannot renew the server certificate");
                problems.state(Source::Certificate, error.to_string());
            }
        }
        // Without knowing what is protected nothing may be let go.
        let protected = match store.protected_ranges().await {
            Ok(ranges) => ranges,
            Err(error) => {
                problems.state(Source::Store, error.to_string());
                continue;
            }
        };
        match history.maintain(clock::unix_ms(), &protected).await {
            Ok(()) => problems.clear(Source::Sealing),
            Err(error) => {
                tracing::error!(%error, "history maintenance");
                problems.state(Source::Sealing, error.to_string());
            }
        }
    }
}

/// Makes grpc.health.v1 say what is so: ingest serves while observations can be made durable; nothing serves once the stop began.
pub async fn health(reporter: HealthReporter, problems: Arc<Problems>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(HEALTH);
    let mut before = None;
    loop {
        let stopping = tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => true,
            _ = tick.tick() => false,
        };
        let now = (stopping, problems.ready());
        if before.replace(now) != Some(now) {
            for service in SERVICES {
                let takes_in = service.is_empty() || service == SERVICES[1];
                let serves = !stopping && (problems.ready() || !takes_in);
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                reporter.set_service_status(service, status).await;
            }
        }
        if stopping {
            return;
        }
    }
}
