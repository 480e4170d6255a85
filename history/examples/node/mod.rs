//! A node of 110 containers that looks like one: idle, steady and busy ones, slow columns on every 5th tick, rare on every 10th.

use std::sync::Arc;

use vedette_history::{StoredBatch, StoredVerdict, Subject};
use vedette_proto::{
    Block, Column, Observation, Reading, Scope, Tier,
    v1::{Kind, Origin, Workload},
};

/// Time between two ticks.
pub const TICK_MS: i64 = 1_000;
const CONTAINERS: usize = 110;

pub struct Node {
    subjects: Vec<Arc<Subject>>,
    random: u64,
    ticks: u64,
    /// Memory of each container, in pages.
    pages: Vec<u64>,
}

impl Node {
    pub fn new() -> Self {
        let subjects = (0..=CONTAINERS).map(subject).collect();
        let pages = (0..=CONTAINERS as u64).map(|place| 2_000 + place * place * 20).collect();
        Self { subjects, random: 0x9E37_79B9_7F4A_7C15, ticks: 0, pages }
    }

    pub fn rows_per_tick(&self) -> u64 {
        self.subjects.len() as u64
    }

    pub fn container_id(&self, place: usize) -> &str {
        &self.subjects[place + 1].container_id
    }

    /// The next tick.
    pub fn tick(&mut self, start: i64) -> StoredBatch {
        let unix_ms = start + self.ticks as i64 * TICK_MS;
        self.ticks += 1;
        let rows: Vec<_> = (0..=CONTAINERS).map(|place| self.row(place)).collect();
        let verdicts = rows.iter().map(|_| self.verdict()).collect();
        StoredBatch {
            subjects: self.subjects.clone(),
            node: "node-a".into(),
            spool_id: [1; 16],
            sequence: self.ticks,
            origin: Origin::Live,
            block: Block { unix_ms, container_refs: (0..=CONTAINERS as u32).collect(), rows },
            verdicts,
            gap: None,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    /// Around `centre`, as rates are: mostly near it, at times well above.
    fn around(&mut self, centre: u64) -> u64 {
        let burst = if self.below(20) == 0 { 4 } else { 1 };
        centre / 2 + self.below(centre + 1) * burst
    }

    /// Most rows are calm, and the detector says so in a number with noise in it; a few are not.
    fn verdict(&mut self) -> StoredVerdict {
        if self.below(1_000) == 0 {
            return StoredVerdict { score: 0.5 + self.below(500) as f32 / 1e3, kind: Kind::Scan };
        }
        let score = if self.below(4) == 0 { self.below(1 << 20) as f32 / (1 << 22) as f32 } else { 0.0 };
        StoredVerdict { score, kind: Kind::Normal }
    }

    fn row(&mut self, place: usize) -> Observation {
        let mut row = Observation::default();
        let tier = match self.ticks {
            ticks if ticks.is_multiple_of(10) => Tier::Rare,
            ticks if ticks.is_multiple_of(5) => Tier::Slow,
            _ => Tier::Fast,
        };
        // Every fifth container shares its pod with the one before it, which has the pod's network.
        let sidecar = place % 5 == 4;
        for &column in Column::ALL.iter().filter(|column| column.tier() <= tier) {
            let here = match column.scope() {
                Scope::Node => place == 0,
                Scope::Pod => place > 0 && !sidecar,
                Scope::Container => place > 0 || column == Column::IntervalUs || column == Column::SlowIntervalUs,
            };
            // Half of all containers have no limits.
            let limited = place.is_multiple_of(2);
            let limit = matches!(
                column,
                Column::CpuPeriods | Column::CpuThrottledPeriods | Column::CpuThrottledUs | Column::MemoryLimitBytes | Column::PidsLimit
            );
            if here && (limited || !limit) {
                row.set(column, self.value(column, place));
            }
        }
        row
    }

    fn value(&mut self, column: Column, place: usize) -> u64 {
        // A third idles, a third works a little, a third is busy.
        let busy = [1, 40, 400][place % 3];
        match column {
            Column::IntervalUs => 1_000_000 + self.below(400) - 200,
            Column::SlowIntervalUs => 5_000_000 + self.below(800) - 400,
            Column::RareIntervalUs => 10_000_000 + self.below(800) - 400,
            Column::MemoryCurrentBytes | Column::MemoryAnonBytes | Column::MemoryFileBytes | Column::MemoryWorkingSetBytes => {
                let step = self.below(busy / 4 + 2);
                self.pages[place] = if self.below(2) == 0 { self.pages[place] + step } else { self.pages[place].saturating_sub(step) };
                let share = if column == Column::MemoryFileBytes { 3 } else { 1 };
                self.pages[place] / share * 4_096
            }
            Column::MemoryLimitBytes => 512 << 20,
            Column::PidsLimit => 4_096,
            Column::CpuPeriods => 50,
            Column::NetRxPackets | Column::NetTxPackets => self.around(busy / 2),
            Column::PidsCurrent | Column::TcpEstablished | Column::TcpSockets | Column::UdpSockets => busy / 10 + 2 + self.below(2),
            // What goes wrong does so rarely.
            Column::Restarts
            | Column::NetDropped
            | Column::OomKills
            | Column::MajorPageFaults
            | Column::RawSockets
            | Column::PacketSockets => 0,
            Column::TcpAttemptFails | Column::TcpRetransmits | Column::TcpOutResets | Column::TcpEstabResets | Column::ArpIncomplete => {
                u64::from(self.below(50) == 0)
            }
            column if column.unit() == "us" => self.around(busy * 500),
            column if column.unit() == "bytes" => self.around(busy * 300),
            column if column.reading() == Reading::Delta => self.around(busy / 4),
            _ => self.around(busy),
        }
    }
}

fn subject(place: usize) -> Arc<Subject> {
    let (node, cluster) = ("node-a".to_owned(), "lab".to_owned());
    if place == 0 {
        let workload = Workload { cluster: cluster.clone(), owner_kind: "Node".into(), owner_name: node.clone(), ..Workload::default() };
        return Arc::new(Subject { cluster, node, workload, ..Subject::default() });
    }
    // Ids as a runtime makes them: 64 digits without any order.
    let mut digits = String::new();
    let mut state = place as u64;
    while digits.len() < 64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        digits.push_str(&format!("{:08x}", state >> 32));
    }
    let pod_uid = format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..32]);
    let name = format!("service-{}", place % 30);
    Arc::new(Subject {
        workload: Workload {
            cluster: cluster.clone(),
            namespace: ["shop", "platform", "kube-system"][place % 3].into(),
            owner_kind: "Deployment".into(),
            owner_name: name.clone(),
            container_name: "main".into(),
        },
        cgroup: format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{digits}.scope",
            pod_uid.replace('-', "_")
        ),
        pod_name: format!("{name}-{}-{}", &digits[32..41], &digits[41..46]),
        container_id: digits,
        cluster,
        node,
        pod_uid,
    })
}
