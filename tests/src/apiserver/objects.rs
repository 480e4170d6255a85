//! The objects, their versions, and what changed since when.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

/// Version before the first change.
pub const FIRST_VERSION: u64 = 100;
/// Changes remembered; who goes on from an older version is told 410 Gone.
const CHANGES_KEPT: usize = 30_000;

/// What is served: plural, group, version, kind.
pub const RESOURCES: [(&str, &str, &str, &str); 12] = [
    ("pods", "", "v1", "Pod"),
    ("nodes", "", "v1", "Node"),
    ("namespaces", "", "v1", "Namespace"),
    ("configmaps", "", "v1", "ConfigMap"),
    ("replicasets", "apps", "v1", "ReplicaSet"),
    ("deployments", "apps", "v1", "Deployment"),
    ("statefulsets", "apps", "v1", "StatefulSet"),
    ("daemonsets", "apps", "v1", "DaemonSet"),
    ("jobs", "batch", "v1", "Job"),
    ("events", "", "v1", "Event"),
    ("resourcequotas", "", "v1", "ResourceQuota"),
    ("networkpolicies", "networking.k8s.io", "v1", "NetworkPolicy"),
];

/// Resource, namespace, name: the order of a list.
pub type Key = (String, String, String);

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Version that it made.
    pub version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub verb: &'static str,
    /// What changed.
    pub key: Key,
    /// The object after it; as it last was, where it is deleted.
    pub object: Arc<Value>,
}

/// Everything there is.
#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<Key, Arc<Value>>,
    changes: VecDeque<Change>,
    made: u64,
    /// Who goes on from a version before this one missed something.
    oldest: u64,
}

impl Objects {
    /// The newest version.
    pub fn version(&self) -> u64 {
        FIRST_VERSION + self.made
    }

    /// Adds or replaces.
    pub fn set(&mut self, resource: &str, mut object: Value) {
        let Some((_, group, version, kind)) = RESOURCES.into_iter().find(|one| one.0 == resource) else {
            panic!("the stand-in serves no {resource}");
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        assert!(!key.2.is_empty(), "an object without a name: {object}");
        self.made += 1;
        object["metadata"]["resourceVersion"] = json!(self.version().to_string());
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") });
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.changed(if before.is_some() { "MODIFIED" } else { "ADDED" }, key, object);
    }

    /// Deletes; whether there was one.
    pub fn delete(&mut self, resource: &str, namespace: &str, name: &str) -> bool {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(object) = self.objects.remove(&key) else { return false };
        self.made += 1;
        let mut object = (*object).clone();
        object["metadata"]["resourceVersion"] = json!(self.version().to_string());
        self.changed("DELETED", key, Arc::new(object));
        true
    }

    fn changed(&mut self, verb: &'static str, key: Key, object: Arc<Value>) {
        self.changes.push_back(Change { version: self.version(), verb, key, object });
        while self.changes.len() > CHANGES_KEPT {
            self.oldest = self.changes.pop_front().map_or(0, |change| change.version);
        }
    }

    /// Forgets what changed up to now.
    pub fn compact(&mut self) {
        // A change of its own, so that nobody's version is the newest any more.
        self.made += 1;
        self.oldest = self.version();
        self.changes.clear();
    }

    /// How many of a resource there are.
    pub fn count(&self, resource: &str) -> usize {
        self.objects.keys().filter(|key| key.0 == resource).count()
    }

    /// Objects of a resource (and namespace, where it is not empty) after a key, at most so many, and whether there are more.
    pub fn page(&self, resource: &str, namespace: &str, after: Option<&Key>, limit: usize) -> (Vec<(Key, Arc<Value>)>, bool) {
        let from = after.cloned().unwrap_or_else(|| (resource.to_owned(), String::new(), String::new()));
        let wanted = |key: &&Key| key.0 == resource && (namespace.is_empty() || key.1 == namespace) && Some(*key) != after;
        let mut found = self.objects.range(from..).take_while(|(key, _)| key.0 == resource).filter(|(key, _)| wanted(key));
        let page: Vec<_> = found.by_ref().take(limit).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        (page, found.next().is_some())
    }

    /// Every object of a namespace.
    pub fn within(&self, namespace: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.1 == namespace).cloned().collect()
    }

    /// One object.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&(resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether somebody who knows this version can be told everything since.
    pub fn remembers(&self, version: u64) -> bool {
        version >= self.oldest
    }

    /// What changed of a resource after a version.
    pub fn since(&self, resource: &str, namespace: &str, version: u64) -> Vec<Change> {
        let from = self.changes.partition_point(|change| change.version <= version);
        let wanted = |change: &&Change| change.key.0 == resource && (namespace.is_empty() || change.key.1 == namespace);
        self.changes.range(from..).filter(wanted).cloned().collect()
    }
}
