//! What happened in a recording, by its labels: episodes with whom they were about, and ordinary work between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vedette_proto::v1::{Kind, Workload};

use crate::recording::{Said, Seen};

/// What a stretch of time was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An attack.
    Attack,
    /// Ordinary work that looks like one.
    LookAlike,
    /// The attack's program, started and stopped the same way, doing nothing bad.
    Placebo,
}

/// One event of a recording.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Its name in the recording.
    pub name: String,
    /// What it was.
    pub role: Role,
    /// The kind; of what is no attack, `normal`.
    pub kind: Kind,
    /// What was played, such as `scan-sweep`.
    pub act: String,
    /// How strong it was, in words.
    pub intensity: String,
    /// Where: `inside`, `new`, `rollout`, `peak`, `replicas`, `on_off`.
    pub placement: String,
    /// It began, Unix milliseconds.
    pub onset_unix_ms: i64,
    /// It ended, Unix milliseconds.
    pub stop_unix_ms: i64,
    /// Whom it was about.
    pub workloads: BTreeSet<Place>,
    /// Who was touched by it.
    pub affected: BTreeSet<Place>,
}

/// A workload within a recording: namespace, kind and name of the owner, container.
pub type Place = (String, String, String, String);

/// The place of a workload, whatever its cluster is called.
pub fn place(workload: &Workload) -> Place {
    let Workload { namespace, owner_kind, owner_name, container_name, .. } = workload.clone();
    (namespace, owner_kind, owner_name, container_name)
}

/// What a row was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// Of an attack of this kind.
    Attack(Kind),
    /// Touched by one.
    Affected,
    /// Ordinary, or made to look otherwise.
    Normal,
    /// Nobody said: that is not ordinary.
    Nothing,
}

/// A stretch of one pod, or of one of its containers.
#[derive(Clone, Debug)]
struct Stretch {
    from: i64,
    to: i64,
    container_id: String,
    said: Was,
    /// Name and role of the episode it is of.
    of: Option<(String, Role)>,
}

/// All that the labels of a recording say.
#[derive(Debug)]
pub struct Truth {
    /// The episodes in order of their onset.
    pub episodes: Vec<Episode>,
    by_pod: HashMap<String, Vec<Stretch>>,
    pods_of: HashMap<Place, Vec<String>>,
    /// Places of episodes by name and role.
    numbers: HashMap<(String, Role), u32>,
}

impl Truth {
    /// Reads labels; what they say of pods is said of the workloads that these had.
    pub fn of(labels: &[Said], containers: &[Seen]) -> anyhow::Result<Self> {
        let mut places: HashMap<&str, BTreeSet<Place>> = HashMap::new();
        let mut pods_of: HashMap<Place, Vec<String>> = HashMap::new();
        for seen in containers {
            let place = (seen.namespace.clone(), seen.owner_kind.clone(), seen.owner_name.clone(), seen.container_name.clone());
            let pods = pods_of.entry(place.clone()).or_default();
            if !pods.contains(&seen.pod_uid) {
                pods.push(seen.pod_uid.clone());
            }
            places.entry(&seen.pod_uid).or_default().insert(place);
        }
        let mut episodes: BTreeMap<(String, Role), Episode> = BTreeMap::new();
        let mut by_pod: HashMap<String, Vec<Stretch>> = HashMap::new();
        for label in labels {
            let kind = Kind::from_word(&label.kind).ok_or_else(|| anyhow::anyhow!("a label's kind {:?} is not known", label.kind))?;
            let said = match kind {
                Kind::Normal => Was::Normal,
                _ if label.affected => Was::Affected,
                kind => Was::Attack(kind),
            };
            let attribute = |name: &str| label.attributes.get(name).cloned().unwrap_or_default();
            let role = match attribute("role").as_str() {
                "attack" => Some(Role::Attack),
                "look-alike" => Some(Role::LookAlike),
                "placebo" => Some(Role::Placebo),
                _ => None,
            };
            by_pod.entry(label.pod_uid.clone()).or_default().push(Stretch {
                from: label.start_unix_ms,
                to: label.end_unix_ms,
                container_id: label.container_id.clone(),
                said,
                of: role.map(|role| (attribute("episode"), role)),
            });
            let Some(role) = role else { continue };
            let episode = episodes.entry((attribute("episode"), role)).or_insert_with(|| Episode {
                name: attribute("episode"),
                role,
                kind,
                act: attribute("act"),
                intensity: attribute("intensity"),
                placement: attribute("placement"),
                onset_unix_ms: i64::MAX,
                stop_unix_ms: i64::MIN,
                workloads: BTreeSet::new(),
                affected: BTreeSet::new(),
            });
            let places = places.get(label.pod_uid.as_str()).into_iter().flatten().cloned();
            if label.affected {
                episode.affected.extend(places);
            } else {
                episode.workloads.extend(places);
                episode.onset_unix_ms = episode.onset_unix_ms.min(label.start_unix_ms);
                episode.stop_unix_ms = episode.stop_unix_ms.max(label.end_unix_ms);
            }
        }
        let mut episodes: Vec<_> = episodes.into_values().filter(|episode| !episode.workloads.is_empty()).collect();
        episodes.sort_by_key(|episode| (episode.onset_unix_ms, episode.name.clone()));
        let numbers = (0..).zip(&episodes).map(|(number, episode)| ((episode.name.clone(), episode.role), number)).collect();
        Ok(Self { episodes, by_pod, pods_of, numbers })
    }

    /// What a container did at an instant, and the episode it was of. An attack is said more exactly than ordinary work of its pod.
    pub fn at(&self, pod_uid: &str, container_id: &str, unix_ms: i64) -> (Was, Option<u32>) {
        let all = self.by_pod.get(pod_uid).into_iter().flatten();
        let about = |stretch: &&Stretch| {
            (stretch.from..stretch.to).contains(&unix_ms) && (stretch.container_id.is_empty() || stretch.container_id == container_id)
        };
        let rank = |said: Was| match said {
            Was::Nothing => 0,
            Was::Normal => 1,
            Was::Affected => 2,
            Was::Attack(_) => 3,
        };
        let Some(most) = all.filter(about).max_by_key(|stretch| (rank(stretch.said), stretch.of.is_some())) else {
            return (Was::Nothing, None);
        };
        (most.said, most.of.as_ref().and_then(|of| self.numbers.get(of)).copied())
    }

    /// Whether anything was said of a workload at an instant.
    pub fn is_labelled(&self, place: &Place, unix_ms: i64) -> bool {
        let covers =
            |pod: &String| self.by_pod.get(pod).is_some_and(|all| all.iter().any(|stretch| (stretch.from..stretch.to).contains(&unix_ms)));
        self.pods_of.get(place).is_some_and(|pods| pods.iter().any(covers))
    }
}

impl Episode {
    /// How loud an attack is: `loud` ones must be found; what whispers is reported apart.
    pub fn loudness(&self) -> &'static str {
        match (self.kind, self.act.as_str()) {
            (Kind::Mining, "mining-polite") => "polite",
            (Kind::Flood, "flood-slow") => "slow",
            (Kind::Exfiltration, "exfiltration-drip") => "drip",
            (Kind::Exfiltration, "exfiltration-datagrams") | (Kind::Recon | Kind::MemoryLeak, _) => "other",
            (Kind::Scan, _) if number(&self.intensity).is_none_or(|rate| rate < 50.0) => "slow",
            (Kind::CrashLoop | Kind::ForkBomb | Kind::DiskFill, _) => "fact",
            _ => "loud",
        }
    }
}

/// The number that a text begins with.
fn number(text: &str) -> Option<f64> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pod: &str, id: &str, owner: &str) -> Seen {
        Seen {
            pod_uid: pod.into(),
            container_id: id.into(),
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: owner.into(),
            container_name: owner.into(),
            ..Seen::default()
        }
    }

    fn label(pod: &str, from: i64, to: i64, kind: &str, affected: bool, role: &str) -> Said {
        let attributes =
            [("episode", "scan-1"), ("act", "scan-sweep"), ("placement", "inside"), ("intensity", "120 targets/s"), ("role", role)];
        Said {
            start_unix_ms: from,
            end_unix_ms: to,
            kind: kind.into(),
            affected,
            pod_uid: pod.into(),
            node: String::new(),
            namespace: String::new(),
            owner_kind: String::new(),
            owner_name: String::new(),
            container_name: String::new(),
            container_id: String::new(),
            source: "simulation".into(),
            author: "a".into(),
            note: String::new(),
            attributes: attributes.iter().filter(|_| !role.is_empty()).map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        }
    }

    #[test]
    fn labels_of_one_episode_are_one_event() {
        let containers = [seen("p", "c1", "web"), seen("q", "c2", "web"), seen("r", "c3", "victim")];
        let labels = [
            label("p", 0, 100, "normal", false, ""),
            label("p", 10, 20, "scan", false, "attack"),
            label("q", 12, 25, "scan", false, "attack"),
            label("r", 10, 25, "scan", true, "attack"),
        ];

        let truth = Truth::of(&labels, &containers).unwrap();

        assert_eq!(truth.episodes.len(), 1);
        let episode = &truth.episodes[0];
        assert_eq!((episode.onset_unix_ms, episode.stop_unix_ms, episode.workloads.len(), episode.affected.len()), (10, 25, 1, 1));
        assert_eq!((episode.kind, episode.loudness()), (Kind::Scan, "loud"));
        let at = |pod: &str, unix_ms| truth.at(pod, "any", unix_ms).0;
        assert_eq!([at("p", 5), at("p", 10), at("p", 20)], [Was::Normal, Was::Attack(Kind::Scan), Was::Normal]);
        assert_eq!([at("r", 10), at("r", 9), at("s", 10)], [Was::Affected, Was::Nothing, Was::Nothing]);
        assert_eq!((truth.at("p", "any", 10).1, truth.at("p", "any", 5).1), (Some(0), None));
        let web = episode.workloads.first().unwrap();
        assert!(truth.is_labelled(web, 99) && !truth.is_labelled(web, 100));
    }

    #[test]
    fn a_label_of_a_kind_that_is_not_known_is_named() {
        let error = Truth::of(&[label("p", 0, 1, "sabotage", false, "attack")], &[]).unwrap_err();

        assert_eq!(error.to_string(), "a label's kind \"sabotage\" is not known");
    }

    #[test]
    fn a_slow_scan_is_no_loud_one() {
        let mut of = label("p", 10, 20, "scan", false, "attack");
        let loudness = |of: &Said| Truth::of(std::slice::from_ref(of), &[seen("p", "c", "web")]).unwrap().episodes[0].loudness();

        assert_eq!(loudness(&of), "loud");
        of.attributes.insert("intensity".into(), "2.5 targets/s".into());
        assert_eq!(loudness(&of), "slow");
    }
}
