//! Turns the ticks of one node into the batches that its agent sent: containers come and go, processes are seen, rows refer to them.

use std::collections::HashMap;

use vedette_history::{Subject, Tick};
use vedette_proto::v1::{Batch, ContainerAdded};

use crate::recording::Seen;

/// One node of a recording, tick by tick.
pub struct Player {
    /// Containers in the order in which they were seen first; a container's reference is its place plus one.
    seen: Vec<Seen>,
    /// Reference of each container that is not gone, by id and cgroup.
    references: HashMap<(String, String), u32>,
    /// By place.
    announced: Vec<bool>,
    /// Places below are due or announced; those at or above `described` are known from their rows alone.
    next: usize,
    described: usize,
    /// Places announced and not gone.
    alive: Vec<usize>,
    /// Process names and looks at peers, the latest first: when, place in `seen`, place within it.
    processes: Vec<Told>,
    peers: Vec<Told>,
    sequence: u64,
}

type Told = (i64, usize, usize);

impl Player {
    /// A player of the node with these containers.
    pub fn new(node: &str, containers: &[Seen]) -> Self {
        let mut seen: Vec<Seen> = containers.iter().filter(|seen| seen.node == node).cloned().collect();
        seen.sort_by_key(|seen| seen.first_seen_unix_ms);
        let references = (1..).zip(&seen).map(|(reference, seen)| (key(&seen.container_id, &seen.cgroup), reference)).collect();
        let processes = latest_first(&seen, |seen| seen.processes.iter().map(|process| process.unix_ms).collect());
        let peers = latest_first(&seen, |seen| seen.peers.iter().map(|look| look.unix_ms).collect());
        let (announced, described) = (vec![false; seen.len()], seen.len());
        Self { seen, references, announced, next: 0, described, alive: Vec::new(), processes, peers, sequence: 0 }
    }

    /// Sequence of the last batch.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next batch.
    pub fn batch(&mut self, tick: &Tick) -> Batch {
        self.sequence += 1;
        let mut added = Vec::new();
        while self.next < self.described && self.seen[self.next].first_seen_unix_ms <= tick.unix_ms {
            self.announce(self.next, &mut added);
            self.next += 1;
        }
        let mut block = tick.block.clone();
        for (subject, reference) in tick.subjects.iter().zip(&mut block.container_refs) {
            *reference = 0;
            if !subject.container_id.is_empty() {
                *reference = self.reference(subject, tick.unix_ms);
                // A row says that its container was there, whatever the clock of its announcement.
                self.announce(*reference as usize - 1, &mut added);
            }
        }
        let processes = told(&mut self.processes, &self.alive, tick.unix_ms);
        let processes = processes.into_iter().map(|(place, nth)| self.seen[place].processes[nth].seen(place as u32 + 1)).collect();
        let peers = told(&mut self.peers, &self.alive, tick.unix_ms);
        let peers = peers.into_iter().map(|(place, nth)| self.seen[place].peers[nth].seen(place as u32 + 1)).collect();
        let is_gone = |place: &usize| self.seen[*place].gone_unix_ms.is_some_and(|gone| gone <= tick.unix_ms);
        let (gone, alive): (Vec<usize>, Vec<usize>) = self.alive.iter().partition(|place| is_gone(place));
        self.alive = alive;
        for &place in &gone {
            let seen = &self.seen[place];
            self.references.remove(&key(&seen.container_id, &seen.cgroup));
        }
        let removed = gone.into_iter().map(|place| self.seen[place].removed(place as u32 + 1)).collect();
        Batch { sequence: self.sequence, added, removed, processes, peers, block: Some(block.encode()), ..Batch::default() }
    }

    fn announce(&mut self, place: usize, added: &mut Vec<ContainerAdded>) {
        if !std::mem::replace(&mut self.announced[place], true) {
            added.push(self.seen[place].added(place as u32 + 1));
            self.alive.push(place);
        }
    }

    /// The reference of a row's container. One that the recording does not describe (any more) is announced as its rows describe it.
    fn reference(&mut self, subject: &Subject, unix_ms: i64) -> u32 {
        let key = key(&subject.container_id, &subject.cgroup);
        if let Some(&reference) = self.references.get(&key) {
            return reference;
        }
        self.seen.push(Seen {
            node: subject.node.clone(),
            pod_uid: subject.pod_uid.clone(),
            container_id: subject.container_id.clone(),
            cgroup: subject.cgroup.clone(),
            first_seen_unix_ms: unix_ms,
            already_running: true,
            namespace: subject.workload.namespace.clone(),
            owner_kind: subject.workload.owner_kind.clone(),
            owner_name: subject.workload.owner_name.clone(),
            container_name: subject.workload.container_name.clone(),
            pod_name: subject.pod_name.clone(),
            ..Seen::default()
        });
        self.announced.push(false);
        let reference = self.seen.len() as u32;
        self.references.insert(key, reference);
        reference
    }
}

fn key(container_id: &str, cgroup: &str) -> (String, String) {
    (container_id.to_owned(), cgroup.to_owned())
}

fn latest_first(seen: &[Seen], times: impl Fn(&Seen) -> Vec<i64>) -> Vec<Told> {
    let of = |(place, seen)| times(seen).into_iter().enumerate().map(move |(nth, unix_ms)| (unix_ms, place, nth)).collect::<Vec<_>>();
    let mut all: Vec<Told> = seen.iter().enumerate().flat_map(of).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all
}

/// What was told up to now of containers that are alive; what was told of others is lost with them.
fn told(waiting: &mut Vec<Told>, alive: &[usize], unix_ms: i64) -> Vec<(usize, usize)> {
    let mut due = Vec::new();
    while let Some((_, place, nth)) = waiting.pop_if(|told| told.0 <= unix_ms) {
        if alive.contains(&place) {
            due.push((place, nth));
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vedette_proto::{Block, Observation};

    use super::*;
    use crate::recording::Process;

    fn seen(id: &str, first_seen_unix_ms: i64, gone_unix_ms: Option<i64>) -> Seen {
        let (node, cgroup) = ("n".to_owned(), format!("/{id}"));
        Seen { node, cgroup, container_id: id.to_owned(), first_seen_unix_ms, gone_unix_ms, ..Seen::default() }
    }

    fn tick(unix_ms: i64, ids: &[&str]) -> Tick {
        let subject = |id: &&str| {
            let cgroup = if id.is_empty() { String::new() } else { format!("/{id}") };
            Arc::new(Subject { node: "n".to_owned(), container_id: (*id).to_owned(), cgroup, ..Subject::default() })
        };
        let block = Block { unix_ms, container_refs: vec![9; ids.len()], rows: vec![Observation::default(); ids.len()] };
        Tick { node: "n".to_owned(), unix_ms, subjects: ids.iter().map(subject).collect(), block, verdicts: Vec::new() }
    }

    /// Ids announced, references of the rows, references removed.
    fn said(batch: &Batch) -> (Vec<&str>, Vec<u32>, Vec<u32>) {
        let added = batch.added.iter().map(|added| added.container_id.as_str()).collect();
        let rows = batch.block.as_ref().map(|block| block.container_refs.clone()).unwrap_or_default();
        (added, rows, batch.removed.iter().map(|removed| removed.container_ref).collect())
    }

    #[test]
    fn containers_come_before_their_rows_and_go_after_them() {
        let containers = [seen("b", 2_000, None), seen("a", 1_000, Some(3_000)), seen("other", 1, None)];
        let mut player = Player::new("n", &[&containers[..2], &[Seen { node: "m".to_owned(), ..containers[2].clone() }]].concat());

        let batches = [tick(1_500, &["", "a"]), tick(2_500, &["", "a", "b"]), tick(3_500, &["a", "b"]), tick(4_500, &["b"])]
            .map(|tick| player.batch(&tick));

        assert_eq!(said(&batches[0]), (vec!["a"], vec![0, 1], vec![]));
        assert_eq!(said(&batches[1]), (vec!["b"], vec![0, 1, 2], vec![]));
        assert_eq!(said(&batches[2]), (vec![], vec![1, 2], vec![1]));
        assert_eq!(said(&batches[3]), (vec![], vec![2], vec![]));
        assert_eq!(player.sequence(), 4);
    }

    #[test]
    fn a_row_of_a_container_that_is_unknown_early_or_gone_is_not_lost() {
        let mut player = Player::new("n", &[seen("gone", 0, Some(1_000)), seen("late", 9_000, None)]);

        let batches = [tick(1_000, &["late", "unknown", "gone"]), tick(2_000, &["gone", "late"])].map(|tick| player.batch(&tick));

        assert_eq!(said(&batches[0]), (vec!["gone", "late", "unknown"], vec![2, 3, 1], vec![1]));
        assert_eq!(said(&batches[1]), (vec!["gone"], vec![4, 2], vec![]));
    }

    #[test]
    fn what_was_told_of_a_container_comes_when_it_was_told() {
        let process = |comm: &str, unix_ms| Process {
            unix_ms,
            comm: comm.to_owned(),
            uid: 0,
            cap_effective: 0,
            seccomp: None,
            foreign_network_namespace: false,
            left_out: 0,
        };
        let told = Seen { processes: vec![process("web", 1_000), process("xmr", 2_400)], ..seen("a", 1_000, None) };
        let mut player = Player::new("n", &[told]);

        let batches = [tick(1_500, &["a"]), tick(2_500, &["a"]), tick(3_500, &["a"])].map(|tick| player.batch(&tick));

        let names = batches.map(|batch| batch.processes.iter().map(|seen| seen.comm.clone()).collect::<Vec<_>>());
        assert_eq!(names, [vec!["web".to_owned()], vec!["xmr".to_owned()], vec![]]);
    }
}
