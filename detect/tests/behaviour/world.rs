//! A made-up cluster: containers with loads, ticked as an agent would tick them.

use vedette_detect::{Change, Config, ContainerAt, Detector, SubjectKey, Verdict};
use vedette_proto::{
    Column, Observation,
    v1::{self, IncidentChange, Kind, Origin},
};

/// What a container does, per second or as a level.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub cpu: f64,
    pub rx_bytes: f64,
    pub tx_bytes: f64,
    pub rx_packets: f64,
    pub tx_packets: f64,
    pub opens: f64,
    pub accepts: f64,
    pub fails: f64,
    pub estab_resets: f64,
    pub out_resets: f64,
    pub established: f64,
    pub syn_retransmits: f64,
    pub arp_incomplete: f64,
    pub pids: f64,
    pub child_faults: f64,
    pub anon: f64,
    pub throttled: f64,
    pub oom_kills: f64,
    pub raw_sockets: f64,
    pub files: f64,
    pub written: f64,
}

impl Load {
    pub const IDLE: Self = Self {
        cpu: 0.005,
        rx_bytes: 100.0,
        tx_bytes: 100.0,
        rx_packets: 1.0,
        tx_packets: 1.0,
        opens: 0.0,
        accepts: 0.0,
        fails: 0.0,
        estab_resets: 0.0,
        out_resets: 0.0,
        established: 1.0,
        syn_retransmits: 0.0,
        arp_incomplete: 0.0,
        pids: 3.0,
        child_faults: 0.0,
        anon: 20e6,
        throttled: 0.0,
        oom_kills: 0.0,
        raw_sockets: 0.0,
        files: 2e6,
        written: 0.0,
    };

    /// A web service that answers `requests` per second, a connection each.
    pub fn web(requests: f64) -> Self {
        Self {
            cpu: 0.01 + requests * 0.001,
            rx_bytes: requests * 700.0,
            tx_bytes: requests * 3_000.0,
            rx_packets: requests * 6.0,
            tx_packets: requests * 6.0,
            accepts: requests,
            established: 2.0 + requests * 0.05,
            pids: 6.0,
            anon: 60e6,
            ..Self::IDLE
        }
    }

    /// Its client.
    pub fn client(requests: f64) -> Self {
        let web = Self::web(requests);
        Self { rx_bytes: web.tx_bytes, tx_bytes: web.rx_bytes, opens: requests, accepts: 0.0, ..web }
    }

    pub fn mining(self, cores: f64) -> Self {
        Self { cpu: self.cpu + cores, ..self }
    }

    /// A connect scan: most ports are closed, some addresses empty.
    pub fn scan(self, probes: f64) -> Self {
        Self {
            cpu: self.cpu + 0.02,
            opens: self.opens + probes,
            fails: self.fails + probes * 0.4,
            rx_packets: self.rx_packets + probes * 0.5,
            tx_packets: self.tx_packets + probes,
            rx_bytes: self.rx_bytes + probes * 30.0,
            tx_bytes: self.tx_bytes + probes * 60.0,
            arp_incomplete: 12.0,
            ..self
        }
    }

    /// An upload over one connection; acknowledgements come back.
    pub fn upload(self, bytes: f64) -> Self {
        Self {
            cpu: self.cpu + bytes / 100e6,
            tx_bytes: self.tx_bytes + bytes,
            rx_bytes: self.rx_bytes + bytes / 40.0,
            tx_packets: self.tx_packets + bytes / 3_000.0,
            rx_packets: self.rx_packets + bytes / 3_000.0,
            established: self.established + 1.0,
            ..self
        }
    }

    /// Both at once, in one container.
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            rx_packets: self.rx_packets + other.rx_packets,
            tx_packets: self.tx_packets + other.tx_packets,
            opens: self.opens + other.opens,
            accepts: self.accepts + other.accepts,
            fails: self.fails + other.fails,
            established: self.established + other.established,
            arp_incomplete: self.arp_incomplete.max(other.arp_incomplete),
            pids: self.pids + other.pids,
            anon: self.anon + other.anon,
            ..self
        }
    }

    /// The other end of an upload.
    pub fn sink(self, bytes: f64) -> Self {
        let up = Self::IDLE.upload(bytes);
        Self { rx_bytes: up.tx_bytes, tx_bytes: up.rx_bytes, rx_packets: up.tx_packets, tx_packets: up.rx_packets, ..self }
    }
}

/// A container of the world.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    key: u64,
}

impl Handle {
    pub fn key(self) -> u64 {
        self.key
    }
}

pub struct Alive {
    key: u64,
    name: String,
    pod: String,
    restarts: u32,
    born_ms: i64,
    slow: Observation,
    slow_ms: i64,
    slow_since_ms: i64,
    rare: Observation,
    rare_since_ms: i64,
    rng: u64,
}

/// A cluster of one node, its detector, and everything that was said.
pub struct World {
    pub detector: Detector,
    pub now_ms: i64,
    pub changes: Vec<Change>,
    pub tick_ms: i64,
    pub origin: Origin,
    pub owner_kind: &'static str,
    /// Of every workload; empty while nobody named them.
    pub namespace: &'static str,
    pub last: Verdict,
    pub alive: Vec<Alive>,
    pub next_key: u64,
}

pub const START_MS: i64 = 1_700_000_000_000;

impl World {
    pub fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub fn with_config(config: Config) -> Self {
        Self {
            detector: Detector::new(config, 1),
            now_ms: START_MS,
            changes: Vec::new(),
            tick_ms: 1_000,
            origin: Origin::Live,
            owner_kind: "Deployment",
            namespace: "shop",
            last: Verdict::NORMAL,
            alive: Vec::new(),
            next_key: 1,
        }
    }

    /// Starts a container of the workload `name`; `pod` makes replicas differ.
    pub fn start(&mut self, name: &str, pod: &str, restarts: u32) -> Handle {
        let key = self.next_key;
        self.next_key += 1;
        self.alive.push(Alive {
            key,
            name: name.into(),
            pod: pod.into(),
            restarts,
            born_ms: self.now_ms,
            slow: Observation::default(),
            slow_ms: self.now_ms + 2_000 + (key as i64 * 1_000) % 5_000,
            slow_since_ms: self.now_ms,
            rare: Observation::default(),
            rare_since_ms: self.now_ms,
            rng: key.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        });
        self.announce(self.alive.len() - 1);
        self.collect();
        Handle { key }
    }

    /// Every container is in this namespace from now on.
    pub fn named(&mut self, namespace: &'static str) {
        self.namespace = namespace;
        (0..self.alive.len()).for_each(|place| self.announce(place));
    }

    fn announce(&mut self, place: usize) {
        let Alive { key, name, pod, restarts, born_ms, .. } = &self.alive[place];
        let workload = v1::Workload {
            cluster: "test".into(),
            namespace: self.namespace.into(),
            owner_kind: self.owner_kind.into(),
            owner_name: name.clone(),
            container_name: "main".into(),
        };
        let at = ContainerAt {
            key: SubjectKey(*key),
            cluster: "test",
            node: "node-1",
            workload: &workload,
            pod_uid: pod,
            pod_name: pod,
            container_id: &format!("{key:064x}"),
        };
        let added = v1::ContainerAdded { first_seen_unix_ms: *born_ms, restarts: *restarts, ..Default::default() };
        self.detector.container_added(at, &added, self.origin == Origin::Live);
    }

    /// The aggregator starts anew: the detector knows the incidents that were open, and learns of the containers again.
    pub fn restart(&mut self) {
        let open: Vec<_> = self.last_told().into_values().filter(|change| change.incident.resolved_unix_ms == 0).cloned().collect();
        self.detector = Detector::new(Config::default(), 1);
        for change in open {
            assert!(self.detector.restore(change.incident, change.reasoning));
        }
        (0..self.alive.len()).for_each(|place| self.announce(place));
    }

    /// The same, and what was learnt was kept.
    pub fn restart_remembering(&mut self) {
        let kept = self.detector.memory("test", true, usize::MAX);
        let open: Vec<_> = self.last_told().into_values().filter(|change| change.incident.resolved_unix_ms == 0).cloned().collect();
        self.detector = Detector::new(Config::default(), 1_000);
        for memory in kept {
            self.detector.remember(&memory.workload, &memory.bytes).unwrap();
        }
        for change in open {
            assert!(self.detector.restore(change.incident, change.reasoning));
        }
        (0..self.alive.len()).for_each(|place| self.announce(place));
    }

    /// A container of a workload that runs.
    pub fn handle(&self, name: &str) -> Handle {
        Handle { key: self.alive.iter().find(|alive| alive.name == name).unwrap().key }
    }

    pub fn stop(&mut self, handle: Handle) {
        self.alive.retain(|alive| alive.key != handle.key);
        let removed = v1::ContainerRemoved { unix_ms: self.now_ms, pod_remains: true, ..Default::default() };
        self.detector.container_removed(SubjectKey(handle.key), &removed, self.origin);
        self.collect();
    }

    pub fn process(&mut self, handle: Handle, comm: &str) {
        self.saw(handle, v1::ProcessSeen { comm: comm.into(), ..Default::default() });
    }

    /// A process seen now.
    pub fn saw(&mut self, handle: Handle, seen: v1::ProcessSeen) {
        let seen = v1::ProcessSeen { unix_ms: self.now_ms, ..seen };
        self.detector.process_seen(SubjectKey(handle.key), &seen, self.origin);
        self.collect();
    }

    pub fn score(&self, handle: Handle) -> f32 {
        self.detector.container_state(SubjectKey(handle.key)).unwrap().score
    }

    pub fn baseline(&self, handle: Handle) -> v1::BaselineState {
        self.detector.container_state(SubjectKey(handle.key)).unwrap().baseline
    }

    /// Time goes on for `seconds`; each load is a function of the seconds since now. Rates jitter by a fifth.
    pub fn run(&mut self, seconds: i64, loads: &[(Handle, &dyn Fn(f64) -> Load)]) {
        let from_ms = self.now_ms;
        while self.now_ms < from_ms + seconds * 1_000 {
            self.now_ms += self.tick_ms;
            for (handle, load) in loads {
                let load = load((self.now_ms - from_ms) as f64 / 1e3);
                self.tick(*handle, load);
            }
            self.detector.advance("test", self.now_ms);
            self.collect();
        }
    }

    /// Nothing is heard of anybody for a while.
    pub fn gap(&mut self, seconds: i64) {
        self.now_ms += seconds * 1_000;
        for alive in &mut self.alive {
            alive.slow_since_ms = self.now_ms;
            alive.rare_since_ms = self.now_ms;
            alive.slow = Observation::default();
            alive.rare = Observation::default();
            alive.slow_ms = self.now_ms + 5_000;
        }
    }

    fn tick(&mut self, handle: Handle, load: Load) {
        let (now_ms, tick_ms, origin) = (self.now_ms, self.tick_ms, self.origin);
        let alive = self.alive.iter_mut().find(|alive| alive.key == handle.key).unwrap();
        if now_ms <= alive.born_ms {
            return;
        }
        let row = alive.row(now_ms, tick_ms, &load);
        self.last = self.detector.observe(SubjectKey(handle.key), origin, now_ms, &row);
    }

    pub fn collect(&mut self) {
        self.changes.extend(self.detector.changes());
    }

    /// Incidents that opened at or above a ticket, as they were last told.
    pub fn incidents(&self) -> Vec<&v1::Incident> {
        let last = self.last_told().into_values().map(|change| &change.incident);
        last.filter(|incident| incident.severity >= v1::Severity::Ticket as i32).collect()
    }

    fn last_told(&self) -> std::collections::BTreeMap<u64, &Change> {
        self.changes.iter().map(|change| (change.incident.id, change)).collect()
    }

    /// The only incident, of which workload and kind; seconds from `onset_ms` to its opening.
    #[track_caller]
    pub fn one(&self, workload: &str, kind: Kind, onset_ms: i64) -> f64 {
        let told: Vec<_> = self.incidents().iter().map(|incident| incident.summary.clone()).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
        let incident = self.incidents()[0];
        assert_eq!(incident.workload.as_ref().unwrap().owner_name, workload, "{told:#?}");
        assert_eq!(Kind::try_from(incident.kind).unwrap(), kind, "{told:#?}");
        (incident.opened_unix_ms - onset_ms) as f64 / 1e3
    }

    #[track_caller]
    pub fn none(&self) {
        let told: Vec<_> = self.incidents().iter().map(|incident| incident.summary.clone()).collect();
        assert!(told.is_empty(), "{told:#?}");
    }

    pub fn count(&self, change: IncidentChange) -> usize {
        self.changes.iter().filter(|one| one.change == change).count()
    }
}

impl Alive {
    fn jitter(&mut self, x: f64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        let share = (self.rng >> 11) as f64 / (1u64 << 53) as f64;
        let x = x * (0.8 + 0.4 * share);
        // A fraction of an event is an event now and then.
        let whole = x.floor();
        whole as u64 + u64::from((self.rng & 0xffff) as f64 / 65_536.0 < x - whole)
    }

    fn row(&mut self, now_ms: i64, tick_ms: i64, load: &Load) -> Observation {
        use Column as C;
        let seconds = tick_ms as f64 / 1e3;
        let mut row = Observation::default();
        row.set(C::IntervalUs, tick_ms as u64 * 1_000);
        for (column, rate) in [
            (C::CpuUsageUs, load.cpu * 1e6),
            (C::NetRxBytes, load.rx_bytes),
            (C::NetTxBytes, load.tx_bytes),
            (C::NetRxPackets, load.rx_packets),
            (C::NetTxPackets, load.tx_packets),
        ] {
            row.set(column, self.jitter(rate * seconds));
        }
        for (column, rate) in [
            (C::CpuSystemUs, load.cpu * 0.2e6),
            (C::CpuPeriods, 10.0),
            (C::CpuThrottledPeriods, load.throttled * 10.0),
            (C::TcpActiveOpens, load.opens),
            (C::TcpPassiveOpens, load.accepts),
            (C::TcpAttemptFails, load.fails),
            (C::TcpEstabResets, load.estab_resets),
            (C::TcpOutResets, load.out_resets),
            (C::ChildMinorFaults, load.child_faults),
            (C::OomKills, load.oom_kills),
            (C::IoWriteBytes, load.written),
        ] {
            let more = self.jitter(rate * seconds);
            self.slow.set(column, self.slow.get(column).unwrap_or(0) + more);
        }
        let more = self.jitter(load.syn_retransmits * seconds);
        self.rare.set(C::TcpSynRetransmits, self.rare.get(C::TcpSynRetransmits).unwrap_or(0) + more);
        if now_ms >= self.slow_ms {
            self.slow.iter().for_each(|(column, value)| row.set(column, value));
            row.set(C::SlowIntervalUs, (now_ms - self.slow_since_ms) as u64 * 1_000);
            for (column, level) in [
                (C::MemoryAnonBytes, load.anon),
                (C::MemoryFileBytes, load.files),
                (C::MemoryWorkingSetBytes, load.anon * 1.1),
                (C::TcpEstablished, load.established),
                (C::PidsCurrent, load.pids),
                (C::ArpIncomplete, load.arp_incomplete),
                (C::RawSockets, load.raw_sockets),
                (C::PacketSockets, 0.0),
            ] {
                row.set(column, level as u64);
            }
            row.set(C::PidsLimit, 1_000);
            self.slow = Observation::default();
            self.slow_since_ms = now_ms;
            self.slow_ms += 5_000.max(tick_ms);
        }
        if now_ms - self.rare_since_ms >= 10_000 {
            self.rare.iter().for_each(|(column, value)| row.set(column, value));
            row.set(C::RareIntervalUs, (now_ms - self.rare_since_ms) as u64 * 1_000);
            self.rare = Observation::default();
            self.rare_since_ms = now_ms;
        }
        row
    }
}
