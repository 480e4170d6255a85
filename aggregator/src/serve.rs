//! Puts the parts together, serves until told to stop, and stops without losing anything.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tonic::transport::Server;
use vedette_detect::{Detector, LoadError, Signed};
use vedette_history::{History, HistoryError};
use vedette_proto::v1::{Incident, Workload, ingest_service_server::IngestServiceServer};
use vedette_resolve::listen;

use crate::{
    CHANGES_KEPT, Config, Shared, accept,
    auth::{self, Auth, Gate, Reviews},
    clock,
    config::ConfigError,
    counters::Counters,
    data_dir::{DataDir, DataDirError},
    events::Events,
    fleet::{Fleet, Limits},
    gauges::Gauges,
    http::Pages,
    identity::Identity,
    ingest::{Door, IngestApi, Turns, Work},
    keep,
    kubernetes::{self, Kubernetes, KubernetesError},
    maintain,
    model::{ModelError, Registry},
    notify, pipeline,
    policy::{self, Desk},
    problems::{Problems, Source},
    publish, receive, reload,
    roll::Roll,
    services,
    store::{Store, StoreError, StoredIncident},
    tls::{Certificates, TlsError},
    token::{TokenError, Tokens},
};

/// Incident changes between the detector and the database; full means that the database is slower than the detector.
const INCIDENT_QUEUE: usize = 1_024;
/// Changes of what comparing with Prometheus came to, a node's round each; full means the same.
const CROSS_CHECK_QUEUE: usize = 64;
/// What was learnt of a thousand workloads each; while it is full, the rest waits in the detector.
const MEMORY_QUEUE: usize = 2;
/// What timers accepted; a handful a day.
const ACCEPTED_QUEUE: usize = 64;
/// HTTP/2 windows: with these a stream that is not read holds at most this much of our memory.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Calls at once on one connection.
const CALLS: u32 = 64;
/// Ingest streams that are still open this long after the stop began are cut.
const GRACE: Duration = Duration::from_secs(15);
/// Other calls, watches above all, have this long after the last ingest stream ended.
const CALL_GRACE: Duration = Duration::from_secs(1);

/// Why the aggregator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value is out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A detector value is out of its bounds.
    #[error("configuration {0}")]
    Detect(#[from] vedette_detect::ConfigError),
    /// A policy value is out of its bounds.
    #[error("configuration {0}")]
    Policy(#[from] vedette_detect::policy::ConfigError),
    /// The models that people brought.
    #[error(transparent)]
    Models(#[from] ModelError),
    /// The kind classifier cannot be read.
    #[error("cannot read detect.model = {path:?}: {error}")]
    ModelFile {
        /// The path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It cannot be asked.
    #[error("detect.model = {path:?}: {error}")]
    Model {
        /// The path, or `shipped`.
        path: String,
        /// Why.
        error: LoadError,
    },
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A port.
    #[error("cannot listen on {key} = {address}: {error}")]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS itself.
    #[error("tls: {0}")]
    Rustls(#[from] rustls::Error),
    /// Observations.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Labels and incidents.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API server.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// Threads for SQL.
    #[error("cannot start threads for queries: {0}")]
    Threads(std::io::Error),
    /// Reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running aggregator.
pub struct Aggregator {
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// What the services read.
    pub shared: Shared,
    stop: watch::Sender<bool>,
    work: mpsc::Sender<Work>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    http_server: JoinHandle<std::io::Result<()>>,
    roll: JoinHandle<Roll>,
    tasks: Vec<JoinHandle<()>>,
    chain: Vec<JoinHandle<()>>,
    _data_dir: DataDir,
}

/// The kind classifier that the configuration names; `None` where signatures decide.
fn classifier(config: &vedette_detect::Config) -> Result<Option<Signed>, StartError> {
    let path = config.model.clone();
    let loaded = match path.as_str() {
        "none" => return Ok(None),
        "shipped" => Signed::shipped(),
        _ => match std::fs::read(&path) {
            Ok(bytes) => Signed::read(bytes, &config.trusted()?),
            Err(error) => return Err(StartError::ModelFile { path, error }),
        },
    };
    let signed = loaded.map_err(|error| StartError::Model { path, error })?;
    tracing::info!(model = signed.classifier.name(), "the kind classifier decides");
    Ok(Some(signed))
}

/// Listens first, so that a port in use touches nothing; then opens what is in the data directory; then serves.
///
/// # Errors
/// [`StartError`], one line.
pub async fn start(config: Config) -> Result<Aggregator, StartError> {
    config.check()?;
    config.detect.check()?;
    config.policy.check()?;
    let (grpc, grpc_address) = listener("grpc.listen", config.grpc.listen).await?;
    let (http, http_address) = listener("http.listen", config.http.listen).await?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let tokens = Tokens::open(data_dir.path())?;
    let certificates = Certificates::open(&config.tls, data_dir.path(), SystemTime::now())?;
    let tls = certificates.server_config()?;
    let client = if config.kubernetes.enabled { Some(kubernetes::client(&config.kubernetes.kubeconfig).await?) } else { None };
    let history = History::open(config.history()).await?;
    let store = Store::open(&data_dir.path().join("store.sqlite")).await?;

    let started_unix_ms = clock::unix_ms();
    let mut detector = Detector::new(config.detect.clone(), store.next_incident_id().await?);
    let problems = Arc::new(Problems::default());
    remember(&store, &mut detector, &config, &problems).await?;
    // Where the configuration names keys, nobody else's models are taken; else those that an admin brings.
    let trusted = if config.detect.model_keys.is_empty() { Vec::new() } else { config.detect.trusted()? };
    let models = Arc::new(Registry::open(store.clone(), classifier(&config.detect)?, trusted).await?);
    detector.set_classifier(models.choice().borrow().serving.clone());
    let open = restore(&store, &mut detector, &config.cluster, started_unix_ms).await?;
    let cluster: Arc<str> = config.cluster.as_str().into();
    let fleet = Arc::new(Fleet::new(
        &config.cluster,
        Limits {
            max_nodes: config.ingest.max_nodes,
            max_replays: config.ingest.max_replays,
            max_gone_containers: config.ingest.max_gone_containers,
            node_retention_ms: i64::from(config.ingest.node_retention_hours) * 3_600_000,
        },
    ));
    let desk = Desk::open(Arc::clone(&cluster), config.policy.clone(), store.clone(), Arc::clone(&fleet), started_unix_ms).await?;
    let shared = Shared {
        cluster,
        history: history.clone(),
        store: store.clone(),
        fleet,
        policy: Arc::new(desk),
        counters: Arc::default(),
        problems,
        changes: broadcast::Sender::new(CHANGES_KEPT),
        started_unix_ms,
    };
    let known = store.nodes(&config.cluster).await?;
    let roll = Roll::new(Arc::clone(&shared.cluster), Arc::clone(&shared.fleet), store.clone(), Arc::clone(&shared.problems), &known);
    shared.fleet.restore(known);
    let (stop, stopping) = watch::channel(false);
    let roll = tokio::spawn(roll.run(stopping.clone()));
    let (kubernetes, watches) = client.as_ref().map(|client| watches(&config, client, &shared, &stopping)).unzip();
    // Before the first change: what is open is told again as it was.
    let notifying = notify::start(&config.notify, &shared, &stopping).await?;
    let told = client.clone().zip(kubernetes.clone()).filter(|_| config.kubernetes.events).map(|(client, kubernetes)| {
        // Listening begins before the first incident can open.
        tokio::spawn(Events::new(client, kubernetes, &shared, &open).run(shared.changes.subscribe(), stopping.clone()))
    });
    let (work, chain) = chain(&config, &shared, detector, &models, open, kubernetes);

    let door = Arc::new(Door {
        cluster: Arc::clone(&shared.cluster),
        limits: config.ingest.clone(),
        fleet: Arc::clone(&shared.fleet),
        history: history.clone(),
        counters: Arc::clone(&shared.counters),
        turns: Turns::default(),
        work: work.clone(),
        stop: stopping.clone(),
        streams: AtomicU64::new(1),
    });
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut tasks = vec![
        tokio::spawn(maintain::housekeeping(history, store, Arc::clone(&certificates), Arc::clone(&shared.problems), stopping.clone())),
        tokio::spawn(maintain::health(reporter, Arc::clone(&shared.problems), stopping.clone())),
        tokio::spawn(policy::watching(shared.clone(), stopping.clone())),
    ];
    tasks.extend(watches.into_iter().flatten());
    tasks.extend(notifying);
    tasks.extend(told);
    if let Some(client) = client.as_ref().filter(|_| !config.tls.ca_config_map.is_empty()) {
        let at = config.tls.ca_config_map.clone();
        let (certificates, problems) = (Arc::clone(&certificates), Arc::clone(&shared.problems));
        tasks.push(tokio::spawn(publish::ca(client.clone(), at, certificates, problems, stopping.clone())));
    }
    let ingest = IngestServiceServer::new(IngestApi::new(door)).max_decoding_message_size(config.ingest.max_message_bytes);
    let auth = authority(&config, tokens, client.as_ref(), &shared);
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(16 << 10)
        .add_service(health)
        .add_service(Gate::new(&auth, ingest));
    let router = services::add(router, &shared, &auth, &work, &models)?;
    let connections = accept::accept(
        grpc,
        tls,
        accept::Most { connections: config.grpc.max_connections, of_one_address: config.grpc.max_connections_per_address },
        Arc::clone(&shared.counters),
    );
    let mut until = stopping.clone();
    let server = tokio::spawn(router.serve_with_incoming_shutdown(connections, async move {
        let _ = until.wait_for(|stop| *stop).await;
    }));
    let gauges = Gauges {
        fleet: Arc::clone(&shared.fleet),
        open: Arc::clone(&shared.counters.open),
        problems: Arc::clone(&shared.problems),
        queues: [("pipeline", config.ingest.queue_batches), ("durable", config.ingest.durable_batches)],
        config: config.metrics.clone(),
    };
    let alerts =
        config.receive.enabled.then(|| receive::Door::new(shared.clone(), Arc::clone(&auth), config.receive.clone(), &config.notify.link));
    let pages = Pages::new(Arc::clone(&shared.counters), gauges).router(alerts);
    let mut until = stopping;
    let shutdown = async move {
        let _ = until.wait_for(|stop| *stop).await;
    };
    let http_server = tokio::spawn(async move { axum::serve(http, pages).with_graceful_shutdown(shutdown).await });
    tracing::info!(grpc = %grpc_address, http = %http_address, cluster = %config.cluster, data_dir = %config.data_dir.display(), "serving");
    let (grpc, http) = (grpc_address, http_address);
    Ok(Aggregator { grpc, http, shared, stop, work, server, http_server, roll, tasks, chain, _data_dir: data_dir })
}

/// Starts watching the API server; what it says is known as soon as it does.
fn watches(
    config: &Config,
    client: &kube::Client,
    shared: &Shared,
    stop: &watch::Receiver<bool>,
) -> (Arc<Kubernetes>, Vec<JoinHandle<()>>) {
    let limits = kubernetes::Limits { max_pods: config.kubernetes.max_pods, max_names: config.kubernetes.max_names };
    let kubernetes = Arc::new(Kubernetes::new(Arc::clone(&shared.cluster), limits));
    let tasks = kubernetes::start(client, config.kubernetes.page_size, &kubernetes, &shared.problems, stop);
    (kubernetes, tasks)
}

/// Who decides about callers: the tokens of files, and in Kubernetes the API server.
fn authority(config: &Config, tokens: Tokens, client: Option<&kube::Client>, shared: &Shared) -> Arc<Auth> {
    let client = client.filter(|_| config.auth.token_review);
    let reviews = client.map(|client| {
        let review = auth::kubernetes::reviewer(client.clone(), &config.auth.audience);
        let pods = auth::kubernetes::AskedPods::new(client.clone());
        Reviews::new((&config.auth).into(), review, pods, Arc::clone(&shared.problems))
    });
    Arc::new(Auth::new(tokens, reviews, Arc::clone(&shared.counters)))
}

async fn listener(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |error| StartError::Listen { key, address, error };
    let listener = listen::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address))
}

/// Gives the detector what an earlier run learnt of the own cluster's workloads. What cannot be read is a problem, and is learnt anew.
async fn remember(store: &Store, detector: &mut Detector, config: &Config, problems: &Problems) -> Result<(), StoreError> {
    let (mut known, mut refused, mut first) = (0_usize, 0_usize, None);
    let tell = |workload: Workload, bytes: &[u8]| match detector.remember(&workload, bytes) {
        Ok(()) => known += 1,
        Err(error) => {
            refused += 1;
            first.get_or_insert_with(|| format!("{workload}: {error}"));
        }
    };
    store.for_each_baseline(&config.cluster, config.detect.max_workloads, tell).await?;
    if let Some(first) = first {
        tracing::warn!(refused, first, "baselines of an earlier run cannot be read");
        problems.state(
            Source::Remembered,
            format!("{refused} baselines of an earlier run cannot be read and are learnt anew, such as {first}"),
        );
    }
    tracing::info!(known, "baselines of an earlier run");
    Ok(())
}

/// Gives the detector the incidents of the own cluster that an earlier run left open, and resolves the others: a replay ended with the
/// run. Gives those that are open.
async fn restore(store: &Store, detector: &mut Detector, cluster: &str, now_unix_ms: i64) -> Result<Vec<Incident>, StoreError> {
    let mut open = Vec::new();
    for stored in store.open_incidents().await? {
        let StoredIncident { mut incident, reasoning } = stored.clone();
        // Detection goes on with what it asked for; policy decided less, and decides it again.
        incident.severity = policy::asked(&incident).into();
        (incident.asked_severity, incident.withheld) = (0, 0);
        incident.withheld_by.clear();
        let own = incident.workload.as_ref().is_some_and(|workload| workload.cluster == cluster);
        if own && detector.restore(incident, reasoning) {
            open.push(stored.incident);
        } else {
            tracing::warn!(incident = stored.incident.id, "closed an incident that was open when the aggregator ended");
            store.close_stale_incident(stored, now_unix_ms).await?;
        }
    }
    Ok(open)
}

/// Starts pipeline, keeper and incident writer: each ends when the one before it did and its queue is empty.
fn chain(
    config: &Config,
    shared: &Shared,
    detector: Detector,
    models: &Registry,
    open: Vec<Incident>,
    kubernetes: Option<Arc<Kubernetes>>,
) -> (mpsc::Sender<Work>, Vec<JoinHandle<()>>) {
    let (work, queue) = mpsc::channel(config.ingest.queue_batches);
    let (keep, kept) = mpsc::channel(config.ingest.durable_batches);
    let (incidents, saved) = mpsc::channel(INCIDENT_QUEUE);
    let (cross_checks, compared) = mpsc::channel(CROSS_CHECK_QUEUE);
    let (memories, learnt) = mpsc::channel(MEMORY_QUEUE);
    let (accepted, by_timer) = mpsc::channel(ACCEPTED_QUEUE);
    let mut identity = Identity::new(config.identity.file.clone()).with_kubernetes(kubernetes);
    if let Err(error) = identity.refresh() {
        tracing::warn!(%error, "identity file");
        shared.problems.state(Source::Identity, error.to_string());
    }
    let mut pipeline = pipeline::Pipeline::new(pipeline::Parts {
        detector,
        identity,
        fleet: Arc::clone(&shared.fleet),
        counters: Arc::clone(&shared.counters),
        problems: Arc::clone(&shared.problems),
        cluster: Arc::clone(&shared.cluster),
        started_unix_ms: shared.started_unix_ms,
        keep,
        incidents,
        cross_checks,
        memories,
        accepted,
    });
    let mut choice = models.choice();
    // What watches was chosen before this start.
    choice.mark_changed();
    pipeline.models = Some(choice);
    let (counters, problems): (Arc<Counters>, Arc<Problems>) = (Arc::clone(&shared.counters), Arc::clone(&shared.problems));
    let keeper = keep::batches(shared.history.clone(), kept, config.ingest.durable_batches, Arc::clone(&counters), Arc::clone(&problems));
    let comparisons = keep::cross_checks(shared.store.clone(), compared, Arc::clone(&problems));
    let memory = keep::memories(shared.store.clone(), learnt, config.detect.max_workloads, Arc::clone(&problems));
    let acceptances = keep::accepted(shared.store.clone(), by_timer, Arc::clone(&problems));
    let writer = keep::incidents(shared.store.clone(), Arc::clone(&shared.policy), saved, open, shared.changes.clone(), counters, problems);
    let others = [tokio::spawn(writer), tokio::spawn(comparisons), tokio::spawn(memory), tokio::spawn(acceptances)];
    (work, [tokio::spawn(pipeline.run(queue)), tokio::spawn(keeper)].into_iter().chain(others).collect())
}

impl Aggregator {
    /// Looks at the configuration's file from now on: profiles of namespaces take effect while it runs. `config` is what it was started with.
    pub fn follow(&mut self, path: PathBuf, config: Config) {
        let (work, problems) = (self.work.clone(), Arc::clone(&self.shared.problems));
        self.tasks.push(tokio::spawn(reload::follow(path, config, work, problems, self.stop.subscribe())));
    }

    /// Stops: no new connections, streams drain and acknowledge, what is queued becomes durable, the files are closed.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let abort = self.server.abort_handle();
        let streams = &self.shared.counters.streams;
        let drained = async {
            while streams.get() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(GRACE, drained).await.is_err() {
            tracing::warn!(streams = streams.get(), "streams were still open after {} s and were cut", GRACE.as_secs());
        }
        if tokio::time::timeout(CALL_GRACE, self.server).await.is_err() {
            tracing::info!("calls that were still open were cut");
            abort.abort();
        }
        let abort = self.http_server.abort_handle();
        if tokio::time::timeout(Duration::from_secs(1), self.http_server).await.is_err() {
            abort.abort();
        }
        let _ = self.work.send(Work::Stop).await;
        for task in self.tasks.into_iter().chain(self.chain) {
            let _ = task.await;
        }
        // Who said goodbye until the last moment left.
        if let Ok(mut roll) = self.roll.await {
            roll.save(0).await;
        }
        self.shared.store.close().await;
        if let Err(error) = self.shared.history.close().await {
            tracing::error!(%error, "history does not close");
        }
        tracing::info!("stopped");
    }

    /// Ends once the server has, which is an error unless it was stopped.
    pub async fn failed(&mut self) {
        let _ = (&mut self.server).await;
    }
}
