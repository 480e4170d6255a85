//! What the API server said of pods, their owners and nodes. Pure: the caller brings the clock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{self as api},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Watched,
    names::Names,
    pod::{self, Facts, Owner, Pod},
};

/// A deleted pod is known for so long, milliseconds: its last rows may be late.
const KEPT_MS: i64 = 600_000;
/// Rollouts that wait to be taken; the oldest go first.
const ROLLOUTS_KEPT: usize = 1_024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pods, those deleted lately included; these make room first, then a new pod is refused and counted.
    pub max_pods: usize,
    /// Strings shared, and ReplicaSets and Jobs known.
    pub max_names: usize,
}

/// How much is kept now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods, deleted ones included.
    pub pods: usize,
    /// Deleted pods that are still known.
    pub gone: usize,
    /// ReplicaSets and Jobs.
    pub owners: usize,
    /// Nodes.
    pub nodes: usize,
    /// Strings.
    pub names: usize,
    /// Templates of owners.
    pub templates: usize,
    /// Pods and owners refused because of a limit.
    pub refused: u64,
    /// Pods refused because their uid is another one's.
    pub contested: u64,
}

/// What a question for a container comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its pod runs on this node.
    Pod {
        /// The pod's namespace.
        namespace: Arc<str>,
        /// The pod's name.
        pod: Box<str>,
        /// Kind of what outlives the pod.
        owner_kind: Arc<str>,
        /// Name of what outlives the pod.
        owner_name: Arc<str>,
        /// Which container it is; `None` where the API does not say so yet.
        container: Option<Arc<Facts>>,
        /// The pod lists this very container.
        listed: bool,
    },
    /// Its pod runs on this other node.
    Elsewhere(Arc<str>),
    /// No pod has this uid.
    Unknown,
}

/// How the API stands to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Nobody was asked, or could be.
    #[default]
    Unasked,
    /// A pod of its node lists it.
    Listed,
    /// Its pod is there and does not list it: not yet, or it is not of the kubelet.
    Unlisted,
    /// No pod has its uid.
    Unknown,
    /// The pod is another node's.
    Elsewhere(Arc<str>),
}

/// An owner whose pods are made from another template now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Kind of the owner.
    pub owner_kind: Arc<str>,
    /// Its name.
    pub owner_name: Arc<str>,
    /// The new template's hash.
    pub template: Arc<str>,
    /// When its first pod was seen, Unix milliseconds.
    pub unix_ms: i64,
}

type OwnerKey = (Arc<str>, Arc<str>, Arc<str>);

/// A ReplicaSet or Job: what stands behind it, itself where nothing does.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    of: Watched,
    owner: Owner,
}

/// A node.
#[derive(Clone, Copy, Debug)]
struct Node {
    cordoned: bool,
    /// Unix milliseconds; 0 where the API server does not say.
    created_unix_ms: i64,
}

#[derive(Debug)]
struct Kept {
    pod: Pod,
    /// Deleted then, Unix milliseconds.
    gone_unix_ms: Option<i64>,
}

/// Everything that is known.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    names: Names,
    /// By the uid in the cgroup's name.
    pods: HashMap<Arc<str>, Kept>,
    gone: VecDeque<(i64, Arc<str>)>,
    owners: HashMap<Box<str>, Known>,
    nodes: HashMap<Arc<str>, Node>,
    templates: HashMap<OwnerKey, Arc<str>>,
    /// What a list that is under way has named so far.
    listing: HashMap<Watched, HashSet<Box<str>>>,
    /// The first list of pods tells of no rollouts.
    pods_listed: bool,
    changed: HashSet<Arc<str>>,
    rollouts: VecDeque<Rollout>,
    refused: u64,
    contested: u64,
}

impl Store {
    /// Nothing known yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            names: Names::new(limits.max_names),
            pods: HashMap::new(),
            gone: VecDeque::new(),
            owners: HashMap::new(),
            nodes: HashMap::new(),
            templates: HashMap::new(),
            listing: HashMap::new(),
            pods_listed: false,
            changed: HashSet::new(),
            rollouts: VecDeque::new(),
            refused: 0,
            contested: 0,
        }
    }

    /// A list begins: what it does not name is gone when it ends.
    pub fn begin(&mut self, what: Watched) {
        self.listing.insert(what, HashSet::new());
    }

    /// A list ended.
    pub fn end(&mut self, what: Watched, now_unix_ms: i64) {
        let Some(named) = self.listing.remove(&what) else { return };
        match what {
            Watched::Pods => {
                let lost =
                    |(uid, kept): (&Arc<str>, &Kept)| (kept.gone_unix_ms.is_none() && !named.contains(&**uid)).then(|| Arc::clone(uid));
                let lost: Vec<Arc<str>> = self.pods.iter().filter_map(lost).collect();
                lost.into_iter().for_each(|uid| self.pod_gone(&uid, now_unix_ms));
                self.pods_listed = true;
            }
            Watched::Nodes => self.nodes.retain(|name, _| named.contains(&**name)),
            Watched::ReplicaSets | Watched::Jobs => self.owners.retain(|uid, known| known.of != what || named.contains(uid)),
        }
    }

    /// A pod exists, or changed.
    pub fn pod(&mut self, object: &api::Pod, now_unix_ms: i64) {
        let (Some(uid), Some(mut pod)) = (pod::cgroup_uid(&object.metadata), Pod::of(object, &mut self.names)) else { return };
        if let Some(named) = self.listing.get_mut(&Watched::Pods) {
            named.insert(uid.into());
        }
        if let Some(owner) = self.behind(&pod) {
            pod.owner = owner;
        }
        match self.pods.get_mut(uid) {
            // Who may write annotations must not take another pod's name away, whichever of them is told first: a uid is that of the object
            // that has it. What else claims it is a mirror, and comes after another mirror only once that is gone.
            Some(kept) if kept.pod.object_uid != pod.object_uid && !may_follow(uid, kept, &pod) => self.contested += 1,
            Some(kept) => {
                // Its ReplicaSet or Job may be deleted before it.
                if kept.pod.controller_uid == pod.controller_uid && is_direct(&pod) && !is_direct(&kept.pod) {
                    pod.owner = kept.pod.owner.clone();
                }
                if kept.gone_unix_ms.take().is_none() && kept.pod == pod {
                    return;
                }
                kept.pod = pod;
                self.changed.insert(uid.into());
            }
            None => {
                if !self.make_room() {
                    self.refused += 1;
                    return;
                }
                self.rolled_out(&pod, now_unix_ms);
                let uid: Arc<str> = uid.into();
                self.changed.insert(Arc::clone(&uid));
                self.pods.insert(uid, Kept { pod, gone_unix_ms: None });
            }
        }
    }

    /// A pod is deleted; it is known for a while.
    pub fn pod_deleted(&mut self, object: &api::Pod, now_unix_ms: i64) {
        let Some(uid) = pod::cgroup_uid(&object.metadata) else { return };
        let same = self.pods.get(uid).is_some_and(|kept| object.metadata.uid.as_deref() == Some(&kept.pod.object_uid));
        if same {
            // What it was when it ended: exit codes above all.
            self.pod(object, now_unix_ms);
            self.pod_gone(uid, now_unix_ms);
        }
    }

    fn pod_gone(&mut self, uid: &str, now_unix_ms: i64) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = Arc::clone(uid);
        if let Some(kept) = self.pods.get_mut(&uid) {
            kept.gone_unix_ms = Some(now_unix_ms);
            self.gone.push_back((now_unix_ms, uid));
        }
    }

    /// A ReplicaSet or Job exists, or changed.
    pub fn owner(&mut self, of: Watched, meta: &ObjectMeta) {
        let (Some(uid), Some(name)) = (meta.uid.as_deref(), meta.name.as_deref()) else { return };
        if let Some(named) = self.listing.get_mut(&of) {
            named.insert(uid.into());
        }
        let own = if of == Watched::Jobs { "Job" } else { "ReplicaSet" };
        let (kind, name) = pod::controller(meta).map_or((own, name), |(kind, name, _)| (kind, name));
        let known = Known { of, owner: Owner { kind: self.names.get(kind), name: self.names.get(name) } };
        if self.owners.get(uid) == Some(&known) {
            return;
        }
        if self.owners.len() >= self.limits.max_names && !self.owners.contains_key(uid) {
            self.refused += 1;
            return;
        }
        for (of_pod, kept) in &mut self.pods {
            if kept.pod.controller_uid.as_deref() == Some(uid) && kept.pod.owner != known.owner {
                kept.pod.owner = known.owner.clone();
                self.changed.insert(Arc::clone(of_pod));
            }
        }
        self.owners.insert(uid.into(), known);
    }

    /// A ReplicaSet or Job is deleted; its pods keep the owner that they have.
    pub fn owner_deleted(&mut self, meta: &ObjectMeta) {
        if let Some(uid) = meta.uid.as_deref() {
            self.owners.remove(uid);
        }
    }

    /// A node exists, or changed.
    pub fn node(&mut self, node: &api::Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        if let Some(named) = self.listing.get_mut(&Watched::Nodes) {
            named.insert(name.into());
        }
        if self.nodes.len() >= self.limits.max_pods && !self.nodes.contains_key(name) {
            self.refused += 1;
            return;
        }
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let created_unix_ms = node.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
        self.nodes.insert(self.names.get(name), Node { cordoned, created_unix_ms });
    }

    /// A node is deleted.
    pub fn node_deleted(&mut self, node: &api::Node) {
        if let Some(name) = node.metadata.name.as_deref() {
            self.nodes.remove(name);
        }
    }

    /// Whether a node is cordoned; `None` where there is no such node.
    #[must_use]
    pub fn cordoned(&self, name: &str) -> Option<bool> {
        self.nodes.get(name).map(|node| node.cordoned)
    }

    /// Nodes that are there since before this, by name.
    #[must_use]
    pub fn nodes_before(&self, unix_ms: i64) -> Vec<Arc<str>> {
        let old = |(name, node): (&Arc<str>, &Node)| (node.created_unix_ms < unix_ms).then(|| Arc::clone(name));
        let mut names: Vec<Arc<str>> = self.nodes.iter().filter_map(old).collect();
        names.sort_unstable();
        names
    }

    /// The API's uid of the pod of this name that is not deleted. Looks at every pod: for what is seldom asked.
    #[must_use]
    pub fn pod_object(&self, namespace: &str, name: &str) -> Option<&str> {
        let is = |kept: &&Kept| kept.gone_unix_ms.is_none() && *kept.pod.name == *name && *kept.pod.namespace == *namespace;
        self.pods.values().find(is).map(|kept| &*kept.pod.object_uid)
    }

    /// Whom a container belongs to: by its id first, by its place only where the pod has no other container.
    #[must_use]
    pub fn find(&self, pod_uid: &str, container_id: &str, slot: u32, node: &str) -> Found {
        let Some(Kept { pod, .. }) = self.pods.get(pod_uid) else { return Found::Unknown };
        match &pod.node {
            None => return Found::Unknown,
            Some(other) if **other != *node => return Found::Elsewhere(Arc::clone(other)),
            Some(_) => {}
        }
        let listed = pod.containers.iter().find(|container| container.is(container_id));
        let only = || match &*pod.containers {
            [only] if slot == 0 => Some(only),
            _ => None,
        };
        Found::Pod {
            namespace: Arc::clone(&pod.namespace),
            pod: pod.name.clone(),
            owner_kind: Arc::clone(&pod.owner.kind),
            owner_name: Arc::clone(&pod.owner.name),
            container: listed.or_else(only).map(|container| Arc::clone(&container.facts)),
            listed: listed.is_some(),
        }
    }

    /// Forgets pods that are deleted for long, and strings and templates that nobody uses.
    pub fn expire(&mut self, now_unix_ms: i64) {
        while let Some((at, _)) = self.gone.front()
            && now_unix_ms - at >= KEPT_MS
        {
            self.forget_oldest();
        }
        if self.templates.len() > self.limits.max_names {
            self.templates.clear();
        }
        let used: HashSet<OwnerKey> = self.pods.values().map(|kept| owner_key(&kept.pod)).collect();
        self.templates.retain(|owner, _| used.contains(owner));
        self.names.sweep();
    }

    /// Whether [`Self::take_changed`] would give something.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Pods that changed since this was last asked.
    pub fn take_changed(&mut self) -> HashSet<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    /// Whether [`Self::take_rollouts`] would give something.
    #[must_use]
    pub fn has_rollouts(&self) -> bool {
        !self.rollouts.is_empty()
    }

    /// Rollouts since this was last asked.
    pub fn take_rollouts(&mut self) -> Vec<Rollout> {
        std::mem::take(&mut self.rollouts).into()
    }

    /// How much is kept.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pods: self.pods.len(),
            gone: self.gone.len(),
            owners: self.owners.len(),
            nodes: self.nodes.len(),
            names: self.names.len(),
            templates: self.templates.len(),
            refused: self.refused,
            contested: self.contested,
        }
    }

    /// What stands behind a pod's ReplicaSet or Job. One that is not known (yet) is told by the name that its Deployment gave it.
    fn behind(&mut self, pod: &Pod) -> Option<Owner> {
        if let Some(known) = self.owners.get(pod.controller_uid.as_deref()?) {
            return Some(known.owner.clone());
        }
        let deployment = pod.owner.name.strip_suffix(&**pod.template.as_ref()?)?.strip_suffix('-')?;
        (&*pod.owner.kind == "ReplicaSet").then(|| Owner { kind: self.names.get("Deployment"), name: self.names.get(deployment) })
    }

    fn rolled_out(&mut self, pod: &Pod, now_unix_ms: i64) {
        let Some(template) = &pod.template else { return };
        let before = self.templates.insert(owner_key(pod), Arc::clone(template));
        if !self.pods_listed || before.is_none_or(|before| before == *template) {
            return;
        }
        if self.rollouts.len() >= ROLLOUTS_KEPT {
            self.rollouts.pop_front();
        }
        self.rollouts.push_back(Rollout {
            namespace: Arc::clone(&pod.namespace),
            owner_kind: Arc::clone(&pod.owner.kind),
            owner_name: Arc::clone(&pod.owner.name),
            template: Arc::clone(template),
            unix_ms: now_unix_ms,
        });
    }

    /// The longest deleted pods make room for a new one; whether there is room.
    fn make_room(&mut self) -> bool {
        while self.pods.len() >= self.limits.max_pods {
            if !self.forget_oldest() {
                return false;
            }
        }
        true
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((at, uid)) = self.gone.pop_front() else { return false };
        // It may have come back since.
        if self.pods.get(&uid).is_some_and(|kept| kept.gone_unix_ms == Some(at)) {
            self.pods.remove(&uid);
            self.changed.insert(uid);
        }
        true
    }
}

/// Whether a pod may take the place of another object under the same uid of cgroups.
fn may_follow(uid: &str, kept: &Kept, pod: &Pod) -> bool {
    let owns = |pod: &Pod| *pod.object_uid == *uid;
    owns(pod) || !owns(&kept.pod) && kept.gone_unix_ms.is_some()
}

fn owner_key(pod: &Pod) -> OwnerKey {
    (Arc::clone(&pod.namespace), Arc::clone(&pod.owner.kind), Arc::clone(&pod.owner.name))
}

/// Whether the owner is one of those that something else stands behind.
fn is_direct(pod: &Pod) -> bool {
    matches!(&*pod.owner.kind, "ReplicaSet" | "Job")
}
