//! Who a container is: from the identity file where one is configured, else from what the cgroup tree says.
//!
//! The file has a JSON object a line: `{"pod_uid","namespace","pod","owner_kind","owner_name","containers":["name by slot", …]}`.

use std::{collections::HashMap, path::PathBuf, time::SystemTime};

use serde::Deserialize;
use vedette_proto::v1;

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
    stamp: Option<(SystemTime, u64)>,
}

impl Identity {
    /// Nothing known yet; [`Self::refresh`] reads the file.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Whether reading the file again could not tell more about a container.
    #[must_use]
    pub fn knows(&self, added: &v1::ContainerAdded) -> bool {
        self.file.is_none() || added.recorded_workload.is_some() || added.pod_uid.is_empty() || self.pods.contains_key(&added.pod_uid)
    }

    /// The workload and pod name of a container. What a replay says of it comes first: the door lets nobody else say it.
    #[must_use]
    pub fn name(&self, cluster: &str, added: &v1::ContainerAdded) -> Named {
        if let Some(recorded) = &added.recorded_workload {
            let workload = v1::Workload { cluster: cluster.into(), ..recorded.clone() };
            return Named { workload, pod_name: added.recorded_pod_name.clone() };
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
            return Named { workload: workload("", "Cgroup", name, place), pod_name: String::new() };
        }
        match self.pods.get(&added.pod_uid) {
            Some(pod) => {
                let container = pod.containers.get(added.slot as usize).cloned().unwrap_or(place);
                let workload = workload(&pod.namespace, &pod.owner_kind, &pod.owner_name, container);
                Named { workload, pod_name: pod.pod.clone() }
            }
            None => Named { workload: workload("", "Pod", &added.pod_uid, place), pod_name: String::new() },
        }
    }

    /// Reads the file again if it changed; whether it did. A file that cannot be read leaves what was known.
    ///
    /// # Errors
    /// [`IdentityError`]; with [`IdentityError::Lines`] the lines that are right are in use.
    pub fn refresh(&mut self) -> Result<bool, IdentityError> {
        let Some(path) = self.file.clone() else { return Ok(false) };
        let problem = |problem: String| IdentityError::File { path: path.clone(), problem };
        let meta = std::fs::metadata(&path).map_err(|error| problem(error.to_string()))?;
        let stamp = (meta.modified().map_err(|error| problem(error.to_string()))?, meta.len());
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

        let pod = identity.name("c", &added("u1", 2)).workload;
        let cgroup = identity.name("c", &added("", 0)).workload;
        let watched = identity.name("c", &v1::ContainerAdded { watch_name: "db".into(), ..added("", 0) }).workload;

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
        let named = identity.name("c", &added("u1", 0));
        assert_eq!((named.workload.to_string(), &named.pod_name[..]), ("c/shop/Deployment/web/app".into(), "web-1"));
        assert_eq!(identity.name("c", &added("u1", 1)).workload.container_name, "#1");
    }

    #[test]
    fn wrong_lines_are_named_and_the_others_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{GOOD}\n{{\"pod_uid\":1}}\n\n{GOOD}\n")).unwrap();
        let mut identity = Identity::new(Some(file.path().into()));

        let error = identity.refresh().unwrap_err().to_string();

        assert!(error.contains("line 2") && error.contains("line 4: pod_uid u1 is there twice"), "{error}");
        assert!(error.contains("2 wrong, 1 used"), "{error}");
        assert_eq!(identity.name("c", &added("u1", 0)).pod_name, "web-1");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Identity::new(Some("/nonexistent/identity.jsonl".into())).refresh().unwrap_err().to_string();

        assert!(error.contains("/nonexistent/identity.jsonl"), "{error}");
    }
}
