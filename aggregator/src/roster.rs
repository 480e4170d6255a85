//! The containers alive, by key, by identity and by each stream's references. Owned by the pipeline.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
    sync::Arc,
};

use vedette_detect::{ContainerAt, KeyHasher, SubjectKey};
use vedette_history::Subject;
use vedette_proto::v1;

use crate::{
    fleet::{Added, NodeId},
    identity::Named,
    ingest::Peer,
    kubernetes::{Claim, Facts},
};

/// One living container, or a node.
#[derive(Debug)]
pub(crate) struct Place {
    pub node_id: NodeId,
    /// The stream that referred to it last, and its reference there.
    named_by: (u64, u32),
    pub subject: Arc<Subject>,
    pub added: v1::ContainerAdded,
    pub facts: Option<Arc<Facts>>,
    pub claim: Claim,
}

impl Place {
    pub fn at(&self, key: u64) -> ContainerAt<'_> {
        let subject = &self.subject;
        ContainerAt {
            key: SubjectKey(key),
            cluster: &subject.cluster,
            node: &subject.node,
            workload: &subject.workload,
            pod_uid: &subject.pod_uid,
            pod_name: &subject.pod_name,
            container_id: &subject.container_id,
        }
    }

    pub fn in_fleet(&self) -> Added<'_> {
        let subject = &self.subject;
        Added {
            node_id: self.node_id,
            node: &subject.node,
            workload: &subject.workload,
            pod_name: &subject.pod_name,
            container: &self.added,
            facts: self.facts.as_deref(),
        }
    }
}

/// A watched cgroup's id is only its last path element, so the path belongs to the identity.
type Identity = (NodeId, String, String);

/// The containers alive. Bounded by streams times containers of a stream.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    next_key: u64,
    places: HashMap<u64, Place, BuildHasherDefault<KeyHasher>>,
    by_identity: HashMap<Identity, u64>,
    by_node: HashMap<NodeId, HashSet<u64>>,
    nodes: HashMap<NodeId, u64>,
    streams: HashMap<u64, Stream>,
}

/// An open stream and what its references stand for; forgotten when it ends.
#[derive(Debug)]
pub(crate) struct Stream {
    node_id: NodeId,
    cluster: Arc<str>,
    keys: HashMap<u32, u64>,
}

impl Stream {
    pub fn key(&self, reference: u32) -> Option<u64> {
        self.keys.get(&reference).copied()
    }
}

/// What another name came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// It has another workload or pod name.
    Names,
    /// Only what else is known of it changed.
    Facts,
    /// Nothing changed.
    No,
}

/// What adding a container came to.
pub(crate) enum Met {
    /// Not seen before.
    New(u64),
    /// Known, from another stream or before a reconnect.
    Known(u64),
}

impl Roster {
    pub fn add(&mut self, peer: &Peer, added: v1::ContainerAdded, named: Named) -> Met {
        let identity = (peer.node_id, added.cgroup.clone(), added.container_id.clone());
        let reference = added.container_ref;
        // Within a stream a reference stands for one container, whatever else is said of it.
        if let Some(key) = self.key(peer.id, reference).filter(|key| self.places.contains_key(key)) {
            return Met::Known(key);
        }
        // A cgroup made anew under its old name, as a service that is started again has it, is another container: its stream gives it
        // another reference. The higher one is the later.
        let (known, newest) = match self.by_identity.get(&identity).and_then(|&key| Some((key, self.places.get_mut(&key)?))) {
            Some((_, place)) if place.named_by.0 == peer.id => (None, reference > place.named_by.1),
            Some((key, place)) => {
                place.named_by = (peer.id, reference);
                (Some(key), true)
            }
            None => (None, true),
        };
        let met = match known {
            Some(key) => Met::Known(key),
            None => {
                let subject = Subject {
                    cluster: peer.cluster.to_string(),
                    node: peer.node.clone(),
                    workload: named.workload,
                    container_id: added.container_id.clone(),
                    pod_uid: added.pod_uid.clone(),
                    pod_name: named.pod_name,
                    cgroup: added.cgroup.clone(),
                };
                let key = self.insert(peer, subject, added, named.facts, named.claim);
                if newest {
                    self.by_identity.insert(identity, key);
                }
                self.by_node.entry(peer.node_id).or_default().insert(key);
                Met::New(key)
            }
        };
        let (Met::New(key) | Met::Known(key)) = met;
        self.stream_opened(peer).keys.insert(reference, key);
        met
    }

    /// The stream is open, with or without containers.
    pub fn stream_opened(&mut self, peer: &Peer) -> &mut Stream {
        self.streams.entry(peer.id).or_insert_with(|| Stream {
            node_id: peer.node_id,
            cluster: Arc::clone(&peer.cluster),
            keys: HashMap::new(),
        })
    }

    /// Whether any stream of the node is open.
    pub fn has_stream(&self, node_id: NodeId) -> bool {
        self.streams.values().any(|stream| stream.node_id == node_id)
    }

    /// Whether any stream of the cluster is open.
    pub fn has_stream_of(&self, cluster: &str) -> bool {
        self.streams.values().any(|stream| &*stream.cluster == cluster)
    }

    /// The node's own place, made when it is first asked for; whether it is new.
    pub fn node(&mut self, peer: &Peer) -> (u64, bool) {
        if let Some(&key) = self.nodes.get(&peer.node_id) {
            return (key, false);
        }
        let workload = v1::Workload {
            cluster: peer.cluster.to_string(),
            owner_kind: "Node".into(),
            owner_name: peer.node.clone(),
            ..v1::Workload::default()
        };
        let subject = Subject { cluster: peer.cluster.to_string(), node: peer.node.clone(), workload, ..Subject::default() };
        let added = v1::ContainerAdded { already_running: true, ..v1::ContainerAdded::default() };
        let key = self.insert(peer, subject, added, None, Claim::Unasked);
        self.nodes.insert(peer.node_id, key);
        (key, true)
    }

    fn insert(&mut self, peer: &Peer, subject: Subject, added: v1::ContainerAdded, facts: Option<Arc<Facts>>, claim: Claim) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let named_by = (peer.id, added.container_ref);
        self.places.insert(key, Place { node_id: peer.node_id, named_by, subject: Arc::new(subject), added, facts, claim });
        key
    }

    pub fn key(&self, stream: u64, reference: u32) -> Option<u64> {
        self.stream(stream)?.key(reference)
    }

    pub fn stream(&self, stream: u64) -> Option<&Stream> {
        self.streams.get(&stream)
    }

    pub fn place(&self, key: u64) -> Option<&Place> {
        self.places.get(&key)
    }

    /// Gives a container other names from now on. One whose pod is not known any more keeps those that it has.
    pub fn rename(&mut self, key: u64, named: Named) -> Renamed {
        let Some(place) = self.places.get_mut(&key) else { return Renamed::No };
        let forgotten = named.claim == Claim::Unknown && named.pod_name.is_empty() && named.workload.owner_name == place.added.pod_uid;
        place.claim = named.claim;
        if forgotten {
            return Renamed::No;
        }
        let facts = place.facts != named.facts;
        place.facts = named.facts;
        if place.subject.workload == named.workload && place.subject.pod_name == named.pod_name {
            return if facts { Renamed::Facts } else { Renamed::No };
        }
        place.subject = Arc::new(Subject { workload: named.workload, pod_name: named.pod_name, ..(*place.subject).clone() });
        Renamed::Names
    }

    /// The container is gone: nothing refers to it any more. One that the stream added again under another reference lives on.
    pub fn remove(&mut self, stream: u64, reference: u32) -> Option<u64> {
        let keys = &mut self.streams.get_mut(&stream)?.keys;
        let key = keys.remove(&reference)?;
        let again = keys.values().any(|&other| other == key);
        (!again && self.forget(key)).then_some(key)
    }

    pub fn forget(&mut self, key: u64) -> bool {
        let Some(place) = self.places.remove(&key) else { return false };
        if let Some(keys) = self.by_node.get_mut(&place.node_id) {
            keys.remove(&key);
        }
        let identity = (place.node_id, place.added.cgroup, place.added.container_id);
        if self.by_identity.get(&identity) == Some(&key) {
            self.by_identity.remove(&identity);
        }
        true
    }

    /// Containers of a node that no open stream of it knows, now that one just opened: gone while nobody was looking.
    pub fn unmentioned(&self, peer: &Peer) -> Vec<u64> {
        let of_node = self.streams.values().filter(|stream| stream.node_id == peer.node_id);
        let mentioned: HashSet<u64> = of_node.flat_map(|stream| stream.keys.values()).copied().collect();
        self.of_node(peer.node_id).filter(|key| !mentioned.contains(key)).collect()
    }

    pub fn of_node(&self, node_id: NodeId) -> impl Iterator<Item = u64> + '_ {
        self.by_node.get(&node_id).into_iter().flatten().copied()
    }

    pub fn stream_ended(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    /// A replay's node is over, or a node was replaced.
    pub fn node_over(&mut self, node_id: NodeId) -> Vec<u64> {
        let gone: Vec<u64> = self.of_node(node_id).chain(self.nodes.get(&node_id).copied()).collect();
        for &key in &gone {
            self.forget(key);
        }
        self.nodes.remove(&node_id);
        self.by_node.remove(&node_id);
        gone
    }

    /// Every container alive, nodes included.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.keys().copied()
    }
}
