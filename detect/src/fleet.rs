//! The tables: clusters, nodes, workloads, pods and containers, by dense index, each with its limit.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use vedette_proto::{
    Feature,
    v1::{self, Origin},
};

use crate::{
    SubjectKey,
    baseline::Baseline,
    candidate::Candidate,
    container::Container,
    course::Course,
    namespaces::Profile,
    pods::Pod,
    prior::Priors,
    residual::Residual,
    rollout::HoldOffs,
    siblings::{self, Siblings},
    thresholds,
};

/// Keys are numbers that the aggregator gives out, so nobody can choose them to collide.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        // Fibonacci hashing; the map uses the top bits too.
        self.0 = (self.0.rotate_left(5) ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// A map by [`SubjectKey`].
pub type ByKey<T> = HashMap<SubjectKey, T, BuildHasherDefault<KeyHasher>>;

/// One cluster, or one replay.
pub struct Cluster {
    /// Event time of its first observation.
    pub first_ms: i64,
    /// Latest event time of any node.
    pub clock_ms: i64,
    /// Event time that went by, where a leap (a node whose clock is ahead, the end of an outage) counts as a step only.
    pub elapsed_ms: i64,
    /// A node's clock moved since incidents were last checked for being over.
    pub due: bool,
    /// When incidents were last checked for being over.
    pub checked_ms: i64,
    /// When the prior was last computed.
    pub prior_ms: i64,
    pub priors: Priors,
    /// How its observations come.
    pub origin: Origin,
}

/// Most that one step of event time counts for what went by.
const STEP_MS: i64 = 5_000;

impl Cluster {
    fn new() -> Self {
        Self {
            first_ms: i64::MAX,
            clock_ms: i64::MIN,
            elapsed_ms: 0,
            due: false,
            checked_ms: i64::MIN,
            prior_ms: i64::MIN,
            priors: Priors::default(),
            origin: Origin::Unspecified,
        }
    }

    /// Event time reached an instant; it never turns back.
    pub fn reach(&mut self, unix_ms: i64) {
        if unix_ms > self.clock_ms {
            self.elapsed_ms += unix_ms.saturating_sub(self.clock_ms).min(STEP_MS);
            self.clock_ms = unix_ms;
        }
    }
}

/// One node.
pub struct Node {
    pub name: Box<str>,
    /// Its latest event time: nodes' clocks differ, and after an outage some are heard minutes before others.
    pub clock_ms: i64,
    /// CPUs; 0 is not known.
    pub cores: f32,
    /// File-system space it loses, bytes per second, smoothed.
    pub fs_loss: f32,
    /// Space available at the last reading, and when.
    pub fs_last: Option<(i64, u64)>,
    /// CPU that belongs to none of its containers.
    pub residual: Residual,
    /// Share of its containers' last rows that stray from their normal.
    pub straying: f32,
}

impl Node {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            clock_ms: i64::MIN,
            cores: 0.0,
            fs_loss: 0.0,
            fs_last: None,
            residual: Residual::default(),
            straying: 0.0,
        }
    }

    /// A row of one of its containers came, that strays or does not.
    pub fn took(&mut self, strays: bool) {
        self.straying += (f32::from(u8::from(strays)) - self.straying) / thresholds::NEIGHBOUR_ROWS;
    }
}

/// One workload.
pub struct Workload {
    pub name: v1::Workload,
    pub cluster: u32,
    pub node: u32,
    /// Place of its owner's kind among those known.
    pub kind: u8,
    pub baseline: Box<Baseline>,
    /// Its hours and its frozen reference, once the baseline serves.
    pub course: Option<Box<Course>>,
    /// What it does while an incident holds the baseline.
    pub candidate: Option<Box<Candidate>>,
    /// Its replicas beside each other.
    pub siblings: Siblings,
    /// Event time of the next turn of its course.
    pub turn_ms: i64,
    /// Containers alive.
    pub alive: u32,
    pub last_ms: i64,
    /// Event time up to which what was learnt is written down; [`i64::MIN`]: nothing is.
    pub written_ms: i64,
    /// It is known from an earlier run, and none of its containers was heard of since.
    pub remembered: bool,
    /// A raw or packet socket belongs to its normal.
    pub raw_seen: bool,
    /// Process names seen, as hashes.
    pub comms: Vec<u64>,
    /// Capabilities seen.
    pub capabilities: u64,
    /// More kinds of process than an agent tells of belong to its normal.
    pub crowds: bool,
    /// Processes in another network namespace than their pod's belong to its normal.
    pub leaves_network: bool,
    /// How loudly it may speak.
    pub profile: Profile,
    /// After its rollouts.
    pub hold_offs: HoldOffs,
    /// What processes did that is new, with its event time; evidence for a while.
    pub process_facts: Vec<(i64, String)>,
}

impl Workload {
    /// Whether more is known of its normal than a container's first minute tells.
    fn has_learnt(&self) -> bool {
        self.baseline.track(Feature::CpuCores as usize).seconds >= LEARNT_SECONDS
    }

    /// The same, beginning with what is known of a relative: its normal with wide margins, its hours, its reference, its processes.
    fn with_what_is_known_of(self, relative: &Self) -> Self {
        Self {
            baseline: Box::new(relative.baseline.inherited()),
            course: relative.course.clone(),
            raw_seen: relative.raw_seen,
            comms: relative.comms.clone(),
            capabilities: relative.capabilities,
            crowds: relative.crowds,
            leaves_network: relative.leaves_network,
            ..self
        }
    }
}

/// Of a workload that was observed for so long something was learnt.
const LEARNT_SECONDS: f32 = 60.0;
/// Kinds of owners told apart.
pub const MAX_KINDS: usize = 16;
/// Process names remembered per workload; beyond it none is called new any more.
pub const MAX_COMMS: usize = 64;
/// New process facts kept per workload.
pub const MAX_PROCESS_FACTS: usize = 4;

/// All tables.
pub struct Fleet {
    pub clusters: Vec<Cluster>,
    cluster_of: HashMap<String, u32>,
    pub nodes: Vec<Node>,
    node_of: HashMap<(u32, String), u32>,
    pub workloads: Vec<Workload>,
    workload_of: HashMap<v1::Workload, u32>,
    free_workloads: Vec<u32>,
    /// By name without a template's hash, the workload that came last.
    relative_of: HashMap<v1::Workload, u32>,
    /// Kinds of owners seen; a cluster has a dozen, and further ones are not told apart.
    kinds: Vec<Box<str>>,
    workload_search: Search,
    pub pods: Vec<Pod>,
    pod_of: HashMap<(u32, String), u32>,
    free_pods: Vec<u32>,
    pod_search: Search,
    pub containers: ByKey<Box<Container>>,
}

/// When a full table is searched for what may go. A search that found nothing is not repeated for a while, or a table full of
/// the living would be walked for every newcomer.
#[derive(Default)]
struct Search {
    /// Newcomers that go without.
    skip: usize,
}

impl Search {
    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Nothing may go from a table of this size.
    fn in_vain(&mut self, limit: usize) {
        self.skip = limit / 100;
    }
}

/// Clusters and replays known at once; beyond it the newest share the last one's clock.
const MAX_CLUSTERS: usize = 10_000;
/// Nodes known at once, likewise.
const MAX_NODES: usize = 100_000;

impl Fleet {
    pub fn new() -> Self {
        Self {
            clusters: Vec::new(),
            cluster_of: HashMap::new(),
            nodes: Vec::new(),
            node_of: HashMap::new(),
            workloads: Vec::new(),
            workload_of: HashMap::new(),
            free_workloads: Vec::new(),
            relative_of: HashMap::new(),
            kinds: Vec::new(),
            workload_search: Search::default(),
            pods: Vec::new(),
            pod_of: HashMap::new(),
            free_pods: Vec::new(),
            pod_search: Search::default(),
            containers: ByKey::default(),
        }
    }

    pub fn cluster(&mut self, name: &str) -> u32 {
        if let Some(&found) = self.cluster_of.get(name) {
            return found;
        }
        if self.clusters.len() >= MAX_CLUSTERS {
            return MAX_CLUSTERS as u32 - 1;
        }
        self.clusters.push(Cluster::new());
        self.cluster_of.insert(name.to_owned(), self.clusters.len() as u32 - 1);
        self.clusters.len() as u32 - 1
    }

    /// The cluster with a name, if anything of it was seen.
    pub fn known_cluster(&self, name: &str) -> Option<u32> {
        self.cluster_of.get(name).copied()
    }

    pub fn node(&mut self, cluster: u32, name: &str) -> u32 {
        let key = (cluster, name.to_owned());
        if let Some(&found) = self.node_of.get(&key) {
            return found;
        }
        if self.nodes.len() >= MAX_NODES {
            return MAX_NODES as u32 - 1;
        }
        self.nodes.push(Node::new(name));
        self.node_of.insert(key, self.nodes.len() as u32 - 1);
        self.nodes.len() as u32 - 1
    }

    /// The node with a name, if it was ever heard of.
    pub fn known_node(&self, cluster: u32, name: &str) -> Option<u32> {
        self.node_of.get(&(cluster, name.to_owned())).copied()
    }

    /// Event time of a node; a node never heard has none.
    pub fn node_clock(&self, node: u32) -> i64 {
        self.nodes.get(node as usize).map_or(i64::MIN, |node| node.clock_ms)
    }

    /// Forgets all that is known of a cluster but its name and its nodes' names. Gives the workloads that are no more.
    pub fn forget_cluster(&mut self, cluster: u32) -> HashSet<u32> {
        self.containers.retain(|_, container| container.place.cluster != cluster);
        let (workloads, free) = (&self.workloads, &mut self.free_workloads);
        let mut gone = HashSet::new();
        self.workload_of.retain(|_, &mut place| {
            let stays = workloads[place as usize].cluster != cluster;
            if !stays {
                free.push(place);
                gone.insert(place);
            }
            stays
        });
        self.relative_of.retain(|_, place| !gone.contains(place));
        let (pods, free) = (&mut self.pods, &mut self.free_pods);
        self.pod_of.retain(|(of, _), &mut place| {
            if *of == cluster {
                pods[place as usize] = Pod::default();
                free.push(place);
            }
            *of != cluster
        });
        for ((_, name), &node) in self.node_of.iter().filter(|((of, _), _)| *of == cluster) {
            self.nodes[node as usize] = Node::new(name);
        }
        self.clusters[cluster as usize] = Cluster::new();
        gone
    }

    /// The workload with a name; makes room first if there is none. Gives how many had to go, or `None` if none may.
    pub fn workload(
        &mut self,
        cluster: u32,
        node: u32,
        name: &v1::Workload,
        limit: usize,
        profile: impl FnOnce() -> Profile,
        keep: impl Fn(u32) -> bool,
    ) -> Option<(u32, usize)> {
        if let Some(&found) = self.workload_of.get(name) {
            return Some((found, 0));
        }
        let full = self.workload_of.len() >= limit;
        let evicted = if full && self.workload_search.is_due() { self.evict_workloads(limit, keep) } else { 0 };
        if full && evicted == 0 {
            return None;
        }
        let stem = siblings::stem(name);
        let fresh = Workload {
            name: name.clone(),
            cluster,
            node,
            kind: self.kind(&name.owner_kind),
            baseline: Box::default(),
            course: None,
            candidate: None,
            siblings: Siblings::default(),
            turn_ms: i64::MIN / 2,
            alive: 0,
            last_ms: i64::MIN,
            written_ms: i64::MIN,
            remembered: false,
            raw_seen: false,
            comms: Vec::new(),
            capabilities: 0,
            crowds: false,
            leaves_network: false,
            profile: profile(),
            hold_offs: HoldOffs::default(),
            process_facts: Vec::new(),
        };
        let relative = stem.as_ref().and_then(|stem| self.relative(stem));
        let fresh = match relative {
            Some(relative) => fresh.with_what_is_known_of(relative),
            None => fresh,
        };
        let place = match self.free_workloads.pop() {
            Some(place) => {
                self.workloads[place as usize] = fresh;
                place
            }
            None => {
                self.workloads.push(fresh);
                self.workloads.len() as u32 - 1
            }
        };
        self.workload_of.insert(name.clone(), place);
        if let Some(stem) = stem {
            self.relative_of.insert(stem, place);
        }
        Some((place, evicted))
    }

    /// The workload of the same make that came last, such as the one before a rollout.
    fn relative(&self, stem: &v1::Workload) -> Option<&Workload> {
        let relative = &self.workloads[*self.relative_of.get(stem)? as usize];
        // Its place may be another's by now.
        (siblings::stem(&relative.name).as_ref() == Some(stem)).then_some(relative)
    }

    /// The place of a kind of owner among those seen.
    fn kind(&mut self, name: &str) -> u8 {
        let known = self.kinds.iter().position(|kind| &**kind == name);
        let place = known.unwrap_or(self.kinds.len());
        if known.is_none() && place < MAX_KINDS {
            self.kinds.push(name.into());
        }
        place as u8
    }

    /// The workload with a name, if it is known.
    pub fn known_workload(&self, name: &v1::Workload) -> Option<u32> {
        self.workload_of.get(name).copied()
    }

    pub fn workload_count(&self) -> usize {
        self.workload_of.len()
    }

    /// Forgets a hundredth of the workloads, those first of which little was learnt, then those longest without a living container: a node
    /// that tells of thousands of pods for a moment each must not push out what was learnt of others.
    fn evict_workloads(&mut self, limit: usize, keep: impl Fn(u32) -> bool) -> usize {
        let mut gone: Vec<(bool, i64, u32)> = self
            .workload_of
            .values()
            .filter(|&&place| self.workloads[place as usize].alive == 0 && !keep(place))
            .map(|&place| {
                let workload = &self.workloads[place as usize];
                (workload.has_learnt(), workload.last_ms, place)
            })
            .collect();
        gone.sort_unstable();
        gone.truncate((limit / 100).max(1));
        if gone.is_empty() {
            self.workload_search.in_vain(limit);
        }
        for &(_, _, place) in &gone {
            let name = &self.workloads[place as usize].name;
            self.workload_of.remove(name);
            if let Some(stem) = siblings::stem(name)
                && self.relative_of.get(&stem) == Some(&place)
            {
                self.relative_of.remove(&stem);
            }
            self.free_workloads.push(place);
        }
        gone.len()
    }

    /// The pod with a name. Beyond `limit` those without a living container, and quiet for `idle_ms`, are forgotten.
    pub fn pod(&mut self, cluster: u32, name: &str, now_ms: i64, idle_ms: i64, limit: usize) -> u32 {
        let key = (cluster, name.to_owned());
        if let Some(&found) = self.pod_of.get(&key) {
            return found;
        }
        if self.pod_of.len() >= limit && self.pod_search.is_due() {
            let before = self.pod_of.len();
            let (pods, free) = (&mut self.pods, &mut self.free_pods);
            self.pod_of.retain(|_, &mut place| {
                let pod = &mut pods[place as usize];
                let stays = pod.alive > 0 || now_ms - pod.touched_ms < idle_ms;
                if !stays {
                    *pod = Pod::default();
                    free.push(place);
                }
                stays
            });
            if self.pod_of.len() == before {
                self.pod_search.in_vain(limit);
            }
        }
        let place = self.free_pods.pop().unwrap_or_else(|| {
            self.pods.push(Pod::default());
            self.pods.len() as u32 - 1
        });
        self.pod_of.insert(key, place);
        place
    }
}
