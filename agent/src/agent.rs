//! Puts the stages together: one thread samples on time, one runtime sends and serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::watch;
use vedette_resolve::listen;

use crate::{
    config::Config,
    crosscheck::{
        CrossChecker, Exchange,
        client::{Client, ClientError},
    },
    http,
    metrics::Metrics,
    outbox::{Outbox, OutboxError},
    sensor::{Sensor, SensorError, monotonic},
    uplink::{SensorStatus, Speaker, Uplink},
};

/// After a container came, processes are looked at so much later: soon enough for one that lives 50 ms to have a name.
const EARLY_LOOK: Duration = Duration::from_millis(15);
/// The uplink may be within a connection attempt when the grace is over; it is not waited for longer than this.
const AFTER_GRACE: Duration = Duration::from_secs(3);
/// A sensor without a tick for so long, or for three intervals, counts as hung.
const HUNG: Duration = Duration::from_secs(10);
/// Early looks per tick; a storm of containers waits for the tick.
const MAX_EARLY_LOOKS: u32 = 5;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The sensor.
    #[error(transparent)]
    Sensor(#[from] SensorError),
    /// The address is in use, or is not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address of the configuration.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file that the configuration names.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the configuration says of Prometheus.
    #[error(transparent)]
    CrossCheck(#[from] ClientError),
    /// The sampling thread ended by itself.
    #[error("the sampler ended by itself")]
    SamplerEnded,
    /// No thread or signal handler to be had.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

/// Wall clock, Unix milliseconds.
#[must_use]
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Checks what a configuration names, without starting: the cgroup tree, the processes, the certificates.
///
/// # Errors
/// [`AgentError`] names what cannot be used.
pub fn check(config: &Config) -> Result<(), AgentError> {
    Sensor::start(config.sensor.clone(), Metrics::default(), monotonic(), unix_ms(), Vec::new(), 1)?;
    if config.prometheus.is_on() {
        Client::new(&config.prometheus)?;
    }
    std::fs::read(&config.uplink.ca_file).map_err(|source| AgentError::File { path: config.uplink.ca_file.clone(), source })?;
    trusted(config)
}

/// A CA file that is there must hold certificates: waiting will not mend one that does not. One that is not there yet may come.
fn trusted(config: &Config) -> Result<(), AgentError> {
    let path = &config.uplink.ca_file;
    let Ok(pem) = std::fs::read(path) else { return Ok(()) };
    if !pem.is_empty() && matches!(CertificateDer::pem_slice_iter(&pem).next(), Some(Ok(_))) {
        return Ok(());
    }
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "holds no certificate in PEM form");
    Err(AgentError::File { path: path.clone(), source })
}

/// Samples and sends until `shutdown` resolves, then drains.
///
/// # Errors
/// [`AgentError`] when it cannot start, or when the sampling thread ends by itself; nothing else that happens later ends the agent.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    trusted(&config)?;
    let metrics = Metrics::default();
    let boot_id = std::fs::read_to_string(config.sensor.root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned();
    let listener = listen::bind(config.http.listen).await.map_err(|source| AgentError::Listen { address: config.http.listen, source })?;
    let outbox = Arc::new(Outbox::open(config.outbox.clone(), &boot_id, metrics.clone())?);
    let (adopted, next_reference) = outbox.containers();
    let mut sensor = Sensor::start(config.sensor.clone(), metrics.clone(), monotonic(), unix_ms(), adopted, next_reference)?;
    let cross_check = if config.prometheus.is_on() {
        let exchange: Arc<Exchange> = Arc::default();
        sensor.exchange_with(Arc::clone(&exchange));
        let checker = CrossChecker::new(config.prometheus.clone(), &config.node, exchange, metrics.clone());
        Some(tokio::spawn(checker.run()))
    } else {
        None
    };
    let hung = (config.sensor.interval() * 3).max(HUNG);
    let starting = SensorStatus { ready: false, error: "no tick yet".to_owned(), ticked: Some((tokio::time::Instant::now(), hung)) };
    let (status, status_seen) = watch::channel(starting);
    let (stop, stop_seen) = watch::channel(None);
    let server = http::router(metrics.registry(), status_seen.clone());
    let server = tokio::spawn(async move { axum::serve(listener, server).await });
    let stopping = Arc::new(AtomicBool::new(false));
    let (ended, sampler_ended) = tokio::sync::oneshot::channel::<()>();
    let sampler = std::thread::Builder::new()
        .name("sampler".to_owned())
        .spawn({
            let (stopping, outbox, metrics, interval) = (stopping.clone(), outbox.clone(), metrics.clone(), config.sensor.interval());
            move || {
                // Dropped however the thread ends.
                let _ended = ended;
                sample(sensor, interval, hung, &outbox, &status, &metrics, &stopping);
            }
        })
        .map_err(AgentError::Start)?;
    let speaker = Speaker { node: config.node.clone(), interval_ms: config.sensor.interval_ms as u32, boot_id };
    let uplink = Uplink { config: config.uplink.clone(), speaker, outbox: outbox.clone(), sensor: status_seen, stop: stop_seen, metrics };
    let uplink = tokio::spawn(uplink.run());

    let failed = tokio::select! {
        () = shutdown => false,
        // Nobody sends: it resolves when the thread is gone, whatever took it.
        _ = sampler_ended => true,
    };
    if failed {
        tracing::error!("the sampler ended by itself; the agent stops");
    }
    tracing::info!(waiting = outbox.waiting(), grace_ms = config.grace_ms, "stopping: draining until acknowledged");
    stopping.store(true, Ordering::Release);
    // The sampler wakes within a tick at most; its last batch is to be sent as well.
    let joined = tokio::task::spawn_blocking(move || sampler.join());
    if tokio::time::timeout(Duration::from_secs(2), joined).await.is_err() {
        tracing::warn!("the sampler did not stop in time");
    }
    // The receiver is the uplink's; it lives until it has drained.
    let _ = stop.send(Some(tokio::time::Instant::now() + config.grace()));
    let mut uplink = uplink;
    let drained = match tokio::time::timeout(config.grace() + AFTER_GRACE, &mut uplink).await {
        Ok(drained) => drained.unwrap_or(false),
        Err(_) => {
            uplink.abort();
            false
        }
    };
    tracing::info!(drained, waiting = outbox.waiting(), "stopped");
    server.abort();
    if let Some(cross_check) = cross_check {
        cross_check.abort();
    }
    if failed { Err(AgentError::SamplerEnded) } else { Ok(()) }
}

/// The sampling thread: a tick at every multiple of the interval, never two for one.
fn sample(
    mut sensor: Sensor,
    interval: Duration,
    hung: Duration,
    outbox: &Outbox,
    status: &watch::Sender<SensorStatus>,
    metrics: &Metrics,
    stopping: &AtomicBool,
) {
    let mut due = Instant::now();
    let mut last: Option<Instant> = None;
    while !stopping.load(Ordering::Acquire) {
        wait_until(due, &mut sensor, stopping);
        let now = Instant::now();
        if last.is_some_and(|last| now - last > interval.mul_f64(1.5)) {
            metrics.late_ticks.inc();
        }
        last = Some(now);
        metrics.ticks.inc();
        let at = unix_ms();
        let (ready, error) = match sensor.tick(at) {
            Ok(batch) => {
                outbox.append(batch, at);
                (true, String::new())
            }
            Err(error) => (false, error.to_string()),
        };
        let new = SensorStatus { ready, error, ticked: Some((tokio::time::Instant::now(), hung)) };
        status.send_if_modified(|old| {
            let changed = (old.ready, &old.error) != (new.ready, &new.error);
            if changed && !new.ready {
                tracing::error!(error = %new.error, "the sensor does not work; trying again at every tick");
            }
            *old = new;
            changed
        });
        metrics.tick_seconds.observe(now.elapsed().as_secs_f64());
        due += interval;
        while due <= Instant::now() {
            metrics.missed_ticks.inc();
            due += interval;
        }
    }
}

/// Waits for the next tick, and meanwhile takes note of containers that come and go.
fn wait_until(due: Instant, sensor: &mut Sensor, stopping: &AtomicBool) {
    let mut early: Option<Instant> = None;
    let mut looks = 0;
    loop {
        let now = Instant::now();
        if now >= due || stopping.load(Ordering::Acquire) {
            return;
        }
        let until = early.map_or(due, |early| early.min(due));
        // Wakes now and then to see a stop.
        let came = sensor.wait(until.saturating_duration_since(now).min(Duration::from_millis(250))) && sensor.take_events(unix_ms());
        if came && early.is_none() && looks < MAX_EARLY_LOOKS {
            early = Some(Instant::now() + EARLY_LOOK);
        }
        if early.is_some_and(|early| Instant::now() >= early) {
            looks += 1;
            early = None;
            // A failure shows at the tick.
            let _ = sensor.map_processes(unix_ms());
        }
    }
}
