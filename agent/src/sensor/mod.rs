//! The sensor: keeps track of containers and pods, reads what is due, and makes one batch per tick.

mod announce;
mod lifecycle;
mod process_map;
mod read;

use std::{collections::HashMap, sync::Arc, time::Duration};

use vedette_proto::{
    Block,
    v1::{Batch, ContainerAdded, ContainerRemoved, PeersSeen, ProcessSeen},
};

use crate::{
    config::SensorConfig,
    container::{ContainerFiles, Limits},
    crosscheck::{Exchange, own::Now},
    facts::{Fact, Facts},
    files::{KernelFile, Reader},
    hierarchy::{Hierarchies, HierarchyError},
    metrics::{Metrics, PodNetwork},
    network::{Kind, Network},
    node::Node,
    oddness::Oddness,
    parse::process::Comm,
    processes::Processes,
    sample::Sample,
    slots::Slots,
    tree::{Found, Tree},
    watcher::{Event, Watcher},
};

/// The tree is looked at again this often, in case inotify missed something.
const RESCAN: Duration = Duration::from_secs(15);
/// Containers per pod; one pod with thousands of cgroups must not push out the others.
const MAX_CONTAINERS_PER_POD: usize = 128;
/// Pods remembered, with those that ended a while ago.
const MAX_PODS: usize = 8_192;
/// How long the places of a pod without containers are remembered: longer than a kubelet's longest back-off.
const REMEMBER_POD: Duration = Duration::from_secs(600);
/// Kernel files kept open; 4.8 kB of kernel memory each.
const MAX_OPEN_FILES: usize = 12_000;
/// Descriptors left for connections, the spool and what is read once.
const SPARE_FILES: u64 = 128;

/// Why the sensor cannot start or does not work.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// There is no readable cgroup tree.
    #[error(transparent)]
    Hierarchy(#[from] HierarchyError),
    /// The processes cannot be listed.
    #[error("cannot list processes in {path}: {source}")]
    Processes {
        /// The proc mount.
        path: String,
        /// Why.
        source: rustix::io::Errno,
    },
}

/// A container that is tracked.
#[derive(Debug)]
struct Container {
    found: Found,
    /// 0 until it is announced.
    reference: u32,
    pod: u32,
    slot: u32,
    first_seen_unix_ms: i64,
    already_running: bool,
    /// Ticks that it was held back for, waiting for the name of its first process.
    deferred: u8,
    sandbox: bool,
    files: ContainerFiles,
    limits: Limits,
    previous: Sample,
    main: Option<Main>,
    main_stat: KernelFile,
    facts: Facts,
    /// Facts of this tick, or of a container that is not announced yet: at most a burst.
    told: Vec<Told>,
    oddness: Oddness,
}

/// The first process of a container.
#[derive(Clone, Copy, Debug)]
struct Main {
    pid: u32,
    comm: Comm,
    start_ticks: u64,
}

/// A process fact that goes with the next batch.
#[derive(Clone, Copy, Debug)]
struct Told {
    fact: Fact,
    unix_ms: i64,
}

/// A pod, or a container outside any.
#[derive(Debug)]
struct Pod {
    key: String,
    path: String,
    /// Its containers that are there, in the order of their discovery.
    containers: Vec<u32>,
    slots: Slots,
    sandbox: Option<u32>,
    had_sandbox: bool,
    /// The sandbox was the only container at the slow look before, and nothing else lived since.
    sandbox_alone: bool,
    /// The pod's columns go on this container's row.
    carrier: Option<u32>,
    network: Network,
    network_settled: bool,
    sample: Sample,
    oom: KernelFile,
    oom_seen: Option<u64>,
    oom_pending: u64,
    slow_us: Option<u64>,
    /// Read all tiers at the next tick.
    fresh: bool,
    promoted_until_us: u64,
    peers_read_us: Option<u64>,
    empty_since_us: u64,
}

/// Reads one node.
pub struct Sensor {
    config: SensorConfig,
    proc: String,
    hierarchies: Hierarchies,
    controller: &'static str,
    tree: Tree,
    watcher: Option<Watcher>,
    reader: Reader,
    processes: Processes,
    node: Node,
    metrics: Metrics,
    clock: Clock,
    containers: Vec<Option<Container>>,
    by_path: HashMap<String, u32>,
    by_id: HashMap<String, u32>,
    /// Announced containers by ascending reference.
    order: Vec<u32>,
    pods: Vec<Option<Pod>>,
    pod_by_key: HashMap<String, u32>,
    unannounced: Vec<u32>,
    adopted: HashMap<String, ContainerAdded>,
    next_reference: u32,
    tick: u64,
    last_tick_us: Option<u64>,
    next_rescan_us: u64,
    peers_second: (u64, u32),
    block: Block,
    added: Vec<ContainerAdded>,
    removed: Vec<(ContainerRemoved, Option<u32>)>,
    peers: Vec<PeersSeen>,
    facts: Vec<ProcessSeen>,
    exchange: Option<Arc<Exchange>>,
}

/// A monotonic clock in microseconds.
pub type Clock = Box<dyn Fn() -> u64 + Send>;

/// The system's monotonic clock.
#[must_use]
pub fn monotonic() -> Clock {
    let start = std::time::Instant::now();
    // From one second on: 0 would stand at the edge of every subtraction.
    Box::new(move || 1_000_000 + start.elapsed().as_micros() as u64)
}

impl Sensor {
    /// Looks at what is there. `adopted` are the containers that an earlier run announced: those still there keep their reference, the others
    /// are reported as removed. `next_reference` must be above every reference ever used.
    ///
    /// # Errors
    /// [`SensorError`] names the directory that cannot be read.
    pub fn start(
        config: SensorConfig,
        metrics: Metrics,
        clock: Clock,
        unix_ms: i64,
        adopted: Vec<ContainerAdded>,
        next_reference: u32,
    ) -> Result<Self, SensorError> {
        let hierarchies = Hierarchies::find(&config.root)?;
        if let Hierarchies::PerController(found) = &hierarchies
            && found.disk_io.is_none()
        {
            tracing::info!("this kernel does not count the disk I/O of cgroups v1: the columns io_* of containers stay absent");
        }
        let (mount, controller) = hierarchies.primary();
        let tree = Tree::new(mount, &config.cgroup_subtree, &config.watch);
        let watcher =
            Watcher::new(mount).inspect_err(|error| tracing::warn!(%error, "no inotify: new containers are found by rescan only")).ok();
        let proc = config.root.join("proc").to_string_lossy().into_owned();
        let processes =
            Processes::new(&proc, config.max_processes_per_tick).map_err(|source| SensorError::Processes { path: proc.clone(), source })?;
        let reader = Reader::new(raise_file_limit(), metrics.clone());
        let mut sensor = Self {
            controller,
            tree,
            watcher,
            reader,
            processes,
            node: Node::default(),
            metrics,
            clock,
            containers: Vec::new(),
            by_path: HashMap::new(),
            by_id: HashMap::new(),
            order: Vec::new(),
            pods: Vec::new(),
            pod_by_key: HashMap::new(),
            unannounced: Vec::new(),
            adopted: adopted.into_iter().map(|added| (added.cgroup.clone(), added)).collect(),
            next_reference: next_reference.max(1),
            tick: 0,
            last_tick_us: None,
            next_rescan_us: 0,
            peers_second: (0, 0),
            block: Block::default(),
            added: Vec::new(),
            removed: Vec::new(),
            peers: Vec::new(),
            facts: Vec::new(),
            exchange: None,
            config,
            proc,
            hierarchies,
        };
        if !sensor.tree.exists(sensor.config.cgroup_subtree.trim_matches('/')) {
            tracing::warn!(subtree = %sensor.config.cgroup_subtree, "sensor.cgroup_subtree does not exist: nothing is observed until it does");
        }
        sensor.rescan(unix_ms, true);
        sensor.remove_unadopted(unix_ms);
        Ok(sensor)
    }

    /// Keeps what is read for the cross-check from now on, and sends what that says.
    pub fn exchange_with(&mut self, exchange: Arc<Exchange>) {
        self.exchange = Some(exchange);
    }

    /// Waits for containers to come or go, at most this long. Says whether some did.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.watcher {
            Some(watcher) => watcher.wait(timeout),
            None => {
                std::thread::sleep(timeout);
                false
            }
        }
    }

    /// Takes note of containers that came or went. Says whether one came.
    pub fn take_events(&mut self, unix_ms: i64) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let events = watcher.take();
        let mut came = false;
        for event in events {
            match event {
                Event::Created(path) => came |= self.created(&path, unix_ms),
                Event::Removed(path) => self.path_gone(&path, unix_ms),
                Event::Overflow => {
                    self.metrics.limited("inotify_queue");
                    self.next_rescan_us = 0;
                }
            }
        }
        came
    }

    /// One tick: everything that is due is read, and what changed is told. The batch has no sequence yet.
    ///
    /// # Errors
    /// When the cgroup tree or the processes cannot be read any more; the next tick tries again.
    pub fn tick(&mut self, unix_ms: i64) -> Result<Batch, SensorError> {
        self.tick += 1;
        self.reader.next_tick();
        self.tree.readable().map_err(|source| HierarchyError::Unreadable { path: self.hierarchies.primary().0.into(), source })?;
        self.take_events(unix_ms);
        if (self.clock)() >= self.next_rescan_us {
            self.rescan(unix_ms, false);
        }
        self.map(unix_ms, false)?;
        self.announce_due();
        self.choose_networks();
        self.read_due(unix_ms);
        self.last_tick_us = Some((self.clock)());
        self.record(unix_ms);
        self.metrics.containers.set(self.order.len() as i64);
        self.count_pods();
        Ok(self.batch(unix_ms))
    }

    /// What was just read, for the cross-check.
    fn record(&self, unix_ms: i64) {
        let Some(exchange) = &self.exchange else { return };
        let now = Now { us: (self.clock)(), unix_ms };
        let recorded = exchange.record(|own| {
            for container in self.order.iter().filter_map(|&index| self.container(index)) {
                if !own.container(container.reference, &container.found.identity.container_id, now, &container.previous) {
                    self.metrics.limited("cross_check_containers");
                }
            }
            for pod in self.pods.iter().flatten().filter(|pod| !pod.path.is_empty()) {
                let Some(carrier) = pod.carrier.and_then(|carrier| self.container(carrier)) else { continue };
                let network = matches!(pod.network.kind, Kind::Own).then_some(&pod.sample);
                own.pod(&pod.key, carrier.reference, now, network, pod.slots.restarts());
            }
            own.node(now, self.node.latest());
            own.forget_gone(unix_ms);
        });
        if !recorded {
            self.metrics.limited("cross_check_points");
        }
    }

    fn count_pods(&self) {
        let mut counts = [("own", 0), ("host", 0), ("unknown", 0)];
        for pod in self.pods.iter().flatten().filter(|pod| !pod.containers.is_empty()) {
            let place = match pod.network.kind {
                Kind::Own => 0,
                Kind::Host => 1,
                Kind::Unknown => 2,
            };
            counts[place].1 += 1;
        }
        for (network, count) in counts {
            self.metrics.pods.get_or_create(&PodNetwork { network }).set(count);
        }
    }

    fn batch(&mut self, unix_ms: i64) -> Batch {
        let processes = self.take_facts(unix_ms);
        let removed = std::mem::take(&mut self.removed);
        let removed = removed
            .into_iter()
            .map(|(mut removed, pod)| {
                removed.pod_remains = pod.is_some_and(|pod| self.pod_remains(pod));
                removed
            })
            .collect();
        let block = (!self.block.rows.is_empty()).then(|| {
            self.block.unix_ms = unix_ms;
            self.block.encode()
        });
        self.forget_pods();
        Batch {
            sequence: 0,
            added: std::mem::take(&mut self.added),
            removed,
            processes,
            block,
            dropped: None,
            peers: std::mem::take(&mut self.peers),
            cross_check: self.exchange.as_ref().and_then(|exchange| exchange.take_round()),
        }
    }

    fn container(&self, index: u32) -> Option<&Container> {
        self.containers.get(index as usize)?.as_ref()
    }

    fn container_mut(&mut self, index: u32) -> Option<&mut Container> {
        self.containers.get_mut(index as usize)?.as_mut()
    }

    fn pod(&self, index: u32) -> Option<&Pod> {
        self.pods.get(index as usize)?.as_ref()
    }

    fn pod_mut(&mut self, index: u32) -> Option<&mut Pod> {
        self.pods.get_mut(index as usize)?.as_mut()
    }
}

/// Raises the soft limit on open files to the hard one, and says how many kernel files may stay open.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only where it would not help anyway.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(SPARE_FILES)).unwrap_or(MAX_OPEN_FILES).min(MAX_OPEN_FILES)
}
