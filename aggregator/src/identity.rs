//! Who a container is: from the API server where one is watched, from the identity file where one is configured, else from what the cgroup
//! tree says.
//!
//! The file has a JSON object a line: `{"pod_uid","namespace","pod","owner_kind","owner_name","containers":["name by slot", …]}`.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use serde::Deserialize;
use vedette_proto::v1;

use crate::{
    kubernetes::{Claim, Facts, Found, Kubernetes},
    stamp::Stamp,
};

/// Most bytes of an identity file: 100,000 pods.
const FILE_BYTES: u64 = 32 << 20;
/// Errors that are listed; the rest is counted.
const ERRORS_LISTED: usize = 3;

/// One pod, as a line of the file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    pod_uid: String,
    namespace: String,
    pod: String,
    owner_kind: String,
    owner_name: String,
    #[serde(default)]
    containers: Vec<String>,
}

/// What is known of a container's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its workload.
    pub workload: v1::Workload,
    /// Its pod's name; empty where it is not known.
    pub pod_name: String,
    /// What else the API server says of it.
    pub facts: Option<Arc<Facts>>,
    /// How the API server stands to it.
    pub claim: Claim,
}

impl Named {
    fn new(workload: v1::Workload, pod_name: impl Into<String>) -> Self {
        Self { workload, pod_name: pod_name.into(), facts: None, claim: Claim::Unasked }
    }
}

/// Why the identity file is not used, or not all of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("identity file {path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Some lines are wrong; the others are used.
    #[error("identity file {path}: {} ({wrong} wrong, {used} used)", .first.join("; "))]
    Lines {
        /// The file.
        path: PathBuf,
        /// The first of them: number and what is wrong.
        first: Vec<String>,
        /// How many are wrong.
        wrong: usize,
        /// How many are used.
        used: usize,
    },
}

/// The names that are known.
#[derive(Debug, Default)]
pub struct Identity {
    file: Option<PathBuf>,
    pods: HashMap<String, Line>,
    stamp: Option<Stamp>,
    kubernetes: Option<Arc<Kubernetes>>,
}

impl Identity {
    /// Nothing known yet; [`Self::refresh`] reads the file.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Asks the API server's watch first.
    #[must_use]
    pub fn with_kubernetes(self, kubernetes: Option<Arc<Kubernetes>>) -> Self {
        Self { kubernetes, ..self }
    }

    /// The API server's watch.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&Arc<Kubernetes>> {
        self.kubernetes.as_ref()
    }

    /// Uids of the pods of which the API server said something new.
    #[must_use]
    pub fn changed_pods(&self) -> HashSet<Arc<str>> {
        self.kubernetes.as_ref().map(|kubernetes| kubernetes.take_changed()).unwrap_or_default()
    }

    /// Whether reading the file again could not tell more about a container.
    #[must_use]
    pub fn knows(&self, added: &v1::ContainerAdded) -> bool {
        self.file.is_none() || added.recorded_workload.is_some() || added.pod_uid.is_empty() || self.pods.contains_key(&added.pod_uid)
    }

    /// The workload and pod name of a container that a node tells of. What a replay says of it comes first: the door lets nobody else say it.
    #[must_use]
    pub fn name(&self, cluster: &str, node: &str, added: &v1::ContainerAdded) -> Named {
        if let Some(recorded) = &added.recorded_workload {
            let workload = v1::Workload { cluster: cluster.into(), ..recorded.clone() };
            return Named::new(workload, &*added.recorded_pod_name);
        }
        let workload = |namespace: &str, kind: &str, name: &str, container: String| v1::Workload {
            cluster: cluster.into(),
            namespace: namespace.into(),
            owner_kind: kind.into(),
            owner_name: name.into(),
            container_name: container,
        };
        let place = format!("#{}", added.slot);
        if added.pod_uid.is_empty() {
            let name = if added.watch_name.is_empty() { &added.cgroup } else { &added.watch_name };
            return Named::new(workload("", "Cgroup", name, place), "");
        }
        let unnamed = |place| Named::new(workload("", "Pod", &added.pod_uid, place), "");
        let claim = match self.asked(cluster, node, added) {
            Some(Found::Pod { namespace, pod, owner_kind, owner_name, container, listed }) => {
                let name = container.as_ref().map_or(place, |facts| facts.name.to_string());
                let claim = if listed { Claim::Listed } else { Claim::Unlisted };
                let workload = workload(&namespace, &owner_kind, &owner_name, name);
                return Named { workload, pod_name: pod.into(), facts: container.filter(|_| listed), claim };
            }
            // Nobody else's word counts for a pod that the API server knows to be another node's.
            Some(Found::Elsewhere(other)) => return Named { claim: Claim::Elsewhere(other), ..unnamed(place) },
            Some(Found::Unknown) => Claim::Unknown,
            None => Claim::Unasked,
        };
        let named = match self.pods.get(&added.pod_uid) {
            Some(pod) => {
                let container = pod.containers.get(added.slot as usize).cloned().unwrap_or(place);
                Named::new(workload(&pod.namespace, &pod.owner_kind, &pod.owner_name, container), &*pod.pod)
            }
            None => unnamed(place),
        };
        Named { claim, ..named }
    }

    fn asked(&self, cluster: &str, node: &str, added: &v1::ContainerAdded) -> Option<Found> {
        let kubernetes = self.kubernetes.as_ref().filter(|kubernetes| kubernetes.cluster() == cluster)?;
        kubernetes.find(&added.pod_uid, &added.container_id, added.slot, node)
    }

    /// Reads the file again if it changed; whether it did. A file that cannot be read leaves what was known.
    ///
    /// # Errors
    /// [`IdentityError`]; with [`IdentityError::Lines`] the lines that are right are in use.
    pub fn refresh(&mut self) -> Result<bool, IdentityError> {
        let Some(path) = self.file.clone() else { return Ok(false) };
        let problem = |problem: String| IdentityError::File { path: path.clone(), problem };
        let meta = std::fs::metadata(&path).map_err(|error| problem(error.to_string()))?;
        let stamp = Stamp::of(&meta);
        if self.stamp == Some(stamp) {
            return Ok(false);
        }
        if meta.len() > FILE_BYTES {
            return Err(problem(format!("has {} bytes, more than the limit of {FILE_BYTES}", meta.len())));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| problem(error.to_string()))?;
        let (pods, errors) = parse(&text);
        self.stamp = Some(stamp);
        self.pods = pods;
        if errors.is_empty() {
            return Ok(true);
        }
        let (wrong, used) = (errors.len(), self.pods.len());
        Err(IdentityError::Lines { path, first: errors.into_iter().take(ERRORS_LISTED).collect(), wrong, used })
    }
}

fn parse(text: &str) -> (HashMap<String, Line>, Vec<String>) {
    let (mut pods, mut errors) = (HashMap::new(), Vec::new());
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = place + 1;
        match serde_json::from_str::<Line>(line) {
            Err(error) => errors.push(format!("line {number}: {error}")),
            Ok(line) => match check(&line) {
                Some(problem) => errors.push(format!("line {number}: {problem}")),
                None if pods.contains_key(&line.pod_uid) => errors.push(format!("line {number}: pod_uid {} is there twice", line.pod_uid)),
                None => {
                    pods.insert(line.pod_uid.clone(), line);
                }
            },
        }
    }
    (pods, errors)
}

fn check(line: &Line) -> Option<String> {
    let required = [("pod_uid", &line.pod_uid), ("owner_kind", &line.owner_kind), ("owner_name", &line.owner_name)];
    if let Some((field, _)) = required.into_iter().find(|(_, text)| text.is_empty()) {
        return Some(format!("{field} is empty"));
    }
    let fields = [&line.pod_uid, &line.namespace, &line.pod, &line.owner_kind, &line.owner_name];
    let long = fields.into_iter().chain(&line.containers).any(|text| text.len() > 253);
    long.then(|| "a field is longer than 253 bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(pod_uid: &str, slot: u32) -> v1::ContainerAdded {
        v1::ContainerAdded { pod_uid: pod_uid.into(), slot, cgroup: "/a/b".into(), ..v1::ContainerAdded::default() }
    }

    const GOOD: &str =
        r#"{"pod_uid":"u1","namespace":"shop","pod":"web-1","owner_kind":"Deployment","owner_name":"web","containers":["app"]}"#;

    #[test]
    fn without_a_file_a_pod_is_its_uid_and_a_cgroup_its_watch_or_path() {
        let identity = Identity::new(None);

        let pod = identity.name("c", "n", &added("u1", 2)).workload;
        let cgroup = identity.name("c", "n", &added("", 0)).workload;
        let watched = identity.name("c", "n", &v1::ContainerAdded { watch_name: "db".into(), ..added("", 0) }).workload;

        assert_eq!(pod.to_string(), "c/-/Pod/u1/#2");
        assert_eq!((&cgroup.owner_kind[..], &cgroup.owner_name[..]), ("Cgroup", "/a/b"));
        assert_eq!(watched.owner_name, "db");
    }

    #[test]
    fn the_file_names_pods_and_containers_by_slot() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), GOOD).unwrap();
        let mut identity = Identity::new(Some(file.path().into()));

        let first = identity.refresh();
        let second = identity.refresh();

        assert_eq!((first, second), (Ok(true), Ok(false)));
        let named = identity.name("c", "n", &added("u1", 0));
        assert_eq!((named.workload.to_string(), &named.pod_name[..]), ("c/shop/Deployment/web/app".into(), "web-1"));
        assert_eq!(identity.name("c", "n", &added("u1", 1)).workload.container_name, "#1");
    }

    #[test]
    fn wrong_lines_are_named_and_the_others_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{GOOD}\n{{\"pod_uid\":1}}\n\n{GOOD}\n")).unwrap();
        let mut identity = Identity::new(Some(file.path().into()));

        let error = identity.refresh().unwrap_err().to_string();

        assert!(error.contains("line 2") && error.contains("line 4: pod_uid u1 is there twice"), "{error}");
        assert!(error.contains("2 wrong, 1 used"), "{error}");
        assert_eq!(identity.name("c", "n", &added("u1", 0)).pod_name, "web-1");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Identity::new(Some("/nonexistent/identity.jsonl".into())).refresh().unwrap_err().to_string();

        assert!(error.contains("/nonexistent/identity.jsonl"), "{error}");
    }
}
