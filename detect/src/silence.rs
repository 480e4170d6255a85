//! Silence: a node that is not heard, and nothing says that this is meant.

use std::collections::{BTreeMap, HashMap, HashSet};

use vedette_proto::v1::{Family, Kind, Origin, Severity, Workload};

use crate::{
    Config, NodeHeard,
    evidence::{self, Ranked},
    fleet::Fleet,
    fold::{Report, Topic},
    incident::Incidents,
    namespaces::Profile,
};

/// This many silent nodes, and [`MANY_SHARE`] of all, are one incident about ourselves.
const MANY: usize = 3;
/// Share of a cluster's nodes that are too many to be silent by themselves.
const MANY_SHARE: f32 = 0.3;
/// Who is this close to a ticket counts when many are judged: nodes cut off together do not cross it in one tick.
const SOON_MS: i64 = 5_000;
/// After many, the last to return are still part of it for this long; who is silent then is silent by itself.
const TAIL_MS: i64 = 120_000;
/// A sensor that fails for a moment is not blind yet.
const BLIND_AFTER_MS: i64 = 10_000;
/// Ends only by being heard.
pub const UNTIL_HEARD_MS: i64 = i64::MAX / 4;

/// What was said of nodes so far; bounded by the nodes given.
#[derive(Default)]
pub struct Silence {
    /// Workloads (as indices) with something open because of silence.
    open: HashSet<u32>,
    /// Since when a sensor has been blind, by its workload.
    blind: HashMap<u32, i64>,
    /// Nodes silent together, by cluster.
    outages: HashMap<String, Outage>,
}

/// Many nodes silent at once, until each is heard.
struct Outage {
    nodes: HashSet<String>,
    /// Since when those left are not many any more.
    tail_ms: Option<i64>,
}

/// What stays open after this round, and what it takes to say so.
struct Round<'a> {
    config: &'a Config,
    fleet: &'a mut Fleet,
    incidents: &'a mut Incidents,
    now_ms: i64,
    open: HashSet<u32>,
}

/// The nodes of one cluster.
#[derive(Default)]
struct Roll<'a> {
    all: usize,
    /// Not silent yet, but almost.
    soon: usize,
    /// Not heard yet, since the aggregator itself listens for a moment only.
    unknown: usize,
    silent: Silent<'a>,
}

type Silent<'a> = Vec<SilentNode<'a>>;

/// A silent node.
#[derive(Clone, Copy)]
struct SilentNode<'a> {
    node: &'a NodeHeard<'a>,
    /// When it was last heard.
    since_ms: i64,
    /// From when its silence counts: nobody listened while the aggregator was down.
    counts_from_ms: i64,
}

impl Roll<'_> {
    /// Somebody is silent, and too many are, or are about to be, for it to be their own.
    fn many(&self) -> bool {
        let count = self.silent.len() + self.soon;
        !self.silent.is_empty() && count >= MANY && count as f32 > self.all as f32 * MANY_SHARE
    }
}

/// What a node is at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Heard,
    Silent {
        counts_from_ms: i64,
    },
    Soon,
    Blind,
    /// Nobody can say yet: what is open because of it stays, and nothing opens.
    Unknown,
}

fn presence(config: &Config, now_ms: i64, node: &NodeHeard<'_>) -> Presence {
    let meant = node.left || node.cordoned_or_deleted;
    if meant || node.last_heard_unix_ms <= 0 {
        return Presence::Heard;
    }
    let started_ms = node.aggregator_started_unix_ms;
    if now_ms - started_ms < i64::from(config.silence_start_grace_seconds) * 1_000 {
        let heard = node.last_heard_unix_ms >= started_ms && !node.blind;
        return if heard { Presence::Heard } else { Presence::Unknown };
    }
    let counts_from_ms = node.last_heard_unix_ms.max(started_ms);
    let silent_ms = now_ms - counts_from_ms;
    let ticket_ms = i64::from(config.silence_ticket_seconds) * 1_000;
    if silent_ms >= ticket_ms {
        return Presence::Silent { counts_from_ms };
    }
    match node.blind {
        true => Presence::Blind,
        false if silent_ms > 0 && silent_ms >= ticket_ms - SOON_MS => Presence::Soon,
        false => Presence::Heard,
    }
}

impl Silence {
    /// Judges all nodes at once; opens, raises and resolves.
    pub fn judge(&mut self, config: &Config, fleet: &mut Fleet, incidents: &mut Incidents, now_ms: i64, nodes: &[NodeHeard<'_>]) {
        let mut round = Round { config, fleet, incidents, now_ms, open: HashSet::new() };
        let mut clusters: BTreeMap<&str, Roll<'_>> = BTreeMap::new();
        let mut blind = HashMap::new();
        for node in nodes {
            let roll = clusters.entry(node.cluster).or_default();
            roll.all += 1;
            match presence(config, now_ms, node) {
                Presence::Silent { counts_from_ms } => {
                    roll.silent.push(SilentNode { node, since_ms: node.last_heard_unix_ms, counts_from_ms });
                }
                Presence::Soon => roll.soon += 1,
                Presence::Blind => self.blind_node(&mut round, &mut blind, node),
                Presence::Unknown => {
                    roll.unknown += 1;
                    self.keep(&mut round, &mut blind, &sensor_of(node.cluster, node.name));
                }
                Presence::Heard => {}
            }
        }
        self.outages.retain(|cluster, _| clusters.contains_key(cluster.as_str()));
        for (cluster, roll) in clusters {
            if roll.unknown > 0 {
                self.keep(&mut round, &mut blind, &ourselves(cluster));
                continue;
            }
            let (together, alone) = self.part(cluster, &roll, now_ms);
            if !together.is_empty() {
                many(&mut round, cluster, &roll, &together);
            }
            alone.into_iter().for_each(|silent| one(&mut round, silent));
        }
        // Heard again, gone from the list, or part of something larger.
        let Round { open, incidents, .. } = round;
        let mut over: Vec<u32> = self.open.difference(&open).copied().collect();
        over.sort_unstable();
        over.into_iter().for_each(|workload| incidents.resolve_topic(workload, Topic::Silence, now_ms));
        self.open = open;
        self.blind = blind;
    }

    /// Something is open because of silence since before this detector began; `blind_ms` since when its sensor has been blind.
    pub fn restore(&mut self, workload: u32, blind_ms: Option<i64>) {
        self.open.insert(workload);
        self.blind.extend(blind_ms.map(|since_ms| (workload, since_ms)));
    }

    /// What is open for a workload stays as it is.
    fn keep(&self, round: &mut Round<'_>, blind: &mut HashMap<u32, i64>, name: &Workload) {
        let Some(place) = round.fleet.known_workload(name).filter(|place| self.open.contains(place)) else { return };
        round.open.insert(place);
        blind.extend(self.blind.get(&place).map(|&since_ms| (place, since_ms)));
    }

    /// Forgets what it said of workloads that are no more.
    pub fn forget(&mut self, cluster: &str, workloads: &HashSet<u32>) {
        self.open.retain(|workload| !workloads.contains(workload));
        self.blind.retain(|workload, _| !workloads.contains(workload));
        self.outages.remove(cluster);
    }

    /// Parts the silent nodes of a cluster: those that went silent together, and those that stand for themselves.
    fn part<'a>(&mut self, cluster: &str, roll: &Roll<'a>, now_ms: i64) -> (Silent<'a>, Silent<'a>) {
        if roll.many() {
            let nodes = roll.silent.iter().map(|silent| silent.node.name.to_owned()).collect();
            self.outages.insert(cluster.to_owned(), Outage { nodes, tail_ms: None });
            return (roll.silent.clone(), Vec::new());
        }
        let Some(outage) = self.outages.get_mut(cluster) else { return (Vec::new(), roll.silent.clone()) };
        let tail_ms = *outage.tail_ms.get_or_insert(now_ms);
        // Who was heard in between is not part of it any more.
        outage.nodes.retain(|name| roll.silent.iter().any(|silent| silent.node.name == name));
        if outage.nodes.is_empty() || now_ms - tail_ms >= TAIL_MS {
            self.outages.remove(cluster);
            return (Vec::new(), roll.silent.clone());
        }
        roll.silent.iter().copied().partition(|silent| outage.nodes.contains(silent.node.name))
    }

    fn blind_node(&self, round: &mut Round<'_>, blind: &mut HashMap<u32, i64>, node: &NodeHeard<'_>) {
        let name = sensor_of(node.cluster, node.name);
        let Some(place) = round.workload(&name) else { return };
        let since_ms = *blind.entry(place).or_insert_with(|| self.blind.get(&place).copied().unwrap_or(round.now_ms));
        if round.now_ms - since_ms < BLIND_AFTER_MS {
            return;
        }
        let seconds = (round.now_ms - since_ms) / 1_000;
        let sentence = format!("agent is alive but has not been able to read the node for {seconds} s");
        let evidence = said(evidence::BLIND_SENSOR, sentence, seconds, "s", round.now_ms);
        round.report(&name, node.name, since_ms, evidence, "blind sensor", false);
    }
}

fn one(round: &mut Round<'_>, silent: SilentNode<'_>) {
    let SilentNode { node, since_ms, counts_from_ms } = silent;
    let stream = if node.connected { "its stream is still open" } else { "no stream is open" };
    let seconds = (round.now_ms - since_ms) / 1_000;
    let sentence = format!("nothing heard for {seconds} s, no goodbye; {stream}");
    let evidence = said(evidence::SILENT_NODE, sentence, seconds, "s", round.now_ms);
    let page = round.pages(counts_from_ms);
    let name = sensor_of(node.cluster, node.name);
    round.report(&name, node.name, since_ms, evidence, "silent node (stopped, or cut off?)", page);
}

fn many(round: &mut Round<'_>, cluster: &str, roll: &Roll<'_>, together: &Silent<'_>) {
    let Some(since_ms) = together.iter().map(|silent| silent.since_ms).min() else { return };
    let counts_from_ms = together.iter().map(|silent| silent.counts_from_ms).min().unwrap_or(round.now_ms);
    let (count, all, seconds) = (together.len() + if roll.many() { roll.soon } else { 0 }, roll.all, (round.now_ms - since_ms) / 1_000);
    let sentence = format!(
        "{count} of {all} nodes silent at once, the first for {seconds} s: more likely the aggregator or its network than the nodes"
    );
    let evidence = said(evidence::SILENT_NODES, sentence, count as i64, "nodes", round.now_ms);
    // The last to return are no reason to wake somebody; who does not return gets a page of its own.
    let page = roll.many() && round.pages(counts_from_ms);
    round.report(&ourselves(cluster), "", since_ms, evidence, "many silent nodes (aggregator or network?)", page);
}

impl Round<'_> {
    fn pages(&self, counts_from_ms: i64) -> bool {
        self.now_ms - counts_from_ms >= i64::from(self.config.silence_page_seconds) * 1_000
    }

    /// Nodes are few and vouched for at the door: they do not count against the limit of workloads.
    fn workload(&mut self, name: &Workload) -> Option<u32> {
        let cluster = self.fleet.cluster(&name.cluster);
        let node = self.fleet.node(cluster, &name.owner_name);
        self.fleet.workload(cluster, node, name, usize::MAX, Profile::default, |_| true).map(|(place, _)| place)
    }

    fn report(&mut self, name: &Workload, node: &str, since_ms: i64, evidence: Vec<Ranked>, effect: &str, page: bool) {
        let Some(workload) = self.workload(name) else { return };
        self.open.insert(workload);
        self.incidents.report(Report {
            cluster: self.fleet.cluster(&name.cluster),
            workload,
            name,
            kind: Kind::Unknown,
            topic: Topic::Silence,
            effect: Some(effect),
            strength: 1.0,
            refines: false,
            fact: true,
            least: if page { Severity::Page } else { Severity::Ticket },
            most: if page { Severity::Page } else { Severity::Ticket },
            onset_ms: since_ms,
            unix_ms: self.now_ms,
            clock_ms: self.now_ms,
            elapsed_ms: 0,
            origin: Origin::Live,
            node,
            node_place: self.fleet.workloads[workload as usize].node,
            pod: "",
            container_id: "",
            evidence,
            reasoning: "fact: silence that nothing says is meant".to_owned(),
            quiet_ms: UNTIL_HEARD_MS,
        });
    }
}

/// Evidence whose numbers grow replaces its older self; people are told again when they grew by half.
fn said(name: &str, sentence: String, observed: i64, unit: &str, now_ms: i64) -> Vec<Ranked> {
    vec![evidence::fact(name, Family::Lifecycle, sentence, Some(observed as f64), unit, now_ms, (observed as f32).max(1.0).ln())]
}

/// The sensor of a node, as a workload: what is silent or blind is the agent, not what runs beside it.
fn sensor_of(cluster: &str, node: &str) -> Workload {
    Workload { cluster: cluster.to_owned(), owner_kind: "Node".to_owned(), owner_name: node.to_owned(), ..Workload::default() }
}

fn ourselves(cluster: &str) -> Workload {
    Workload { cluster: cluster.to_owned(), owner_kind: "Aggregator".to_owned(), owner_name: "vedette".to_owned(), ..Workload::default() }
}
