//! A recording through a detector, as the aggregator would: what it says of rows, and what it would have told people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vedette_detect::{Classifier, Config, ContainerAt, Detector, SubjectKey, window::Seen};
use vedette_proto::{
    Column,
    v1::{ContainerAdded, Kind, Origin, Severity, Workload},
};

use super::{
    trivial::ZScores,
    truth::{Place, Truth, Was, place},
};
use crate::recording::Recorded;
use crate::replay::Player;

/// An incident that people would have heard of.
#[derive(Clone, Debug)]
pub struct Told {
    /// Whose.
    pub place: Place,
    /// The kind that it was last said to be.
    pub kind: Kind,
    /// First told as a ticket or a page, event time, Unix milliseconds.
    pub opened_unix_ms: i64,
    /// First told as a page.
    pub paged_unix_ms: Option<i64>,
    /// Over; `None`: open at the end.
    pub resolved_unix_ms: Option<i64>,
    /// What people are shown first.
    pub summary: String,
}

/// A container's row: what it was, and what was said of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Event time, Unix milliseconds.
    pub unix_ms: i64,
    /// Its workload, as a place in [`Played::places`].
    pub place: u32,
    /// What it was.
    pub was: Was,
    /// How abnormal, 0 to 1.
    pub score: f32,
    /// Whether it was called abnormal.
    pub abnormal: bool,
    /// What a z-score says of it.
    pub z: f32,
}

/// The window of a container that strays, at an instant: what the kind classifier learns from.
#[derive(Clone, Debug)]
pub struct Windowed {
    /// Event time, Unix milliseconds.
    pub unix_ms: i64,
    /// Since when it strays, likewise.
    pub since_unix_ms: i64,
    /// Seconds that the row stands for.
    pub seconds: f32,
    /// Its container, by a number of its own.
    pub container: u64,
    /// Its workload, as a place in [`Played::places`].
    pub place: u32,
    /// What it was.
    pub was: Was,
    /// The episode it was of, as a place in the truth's.
    pub episode: Option<u32>,
    /// It holds what an attack left behind: ordinary it is not.
    pub after: bool,
    /// Far enough from the last one to be learnt from.
    pub counts: bool,
    /// It strays now.
    pub strays: bool,
    /// What the classifier sees.
    pub seen: Box<Seen>,
}

/// What came of a recording.
#[derive(Debug, Default)]
pub struct Played {
    /// Tickets and pages in order of their opening.
    pub told: Vec<Told>,
    /// Workloads.
    pub places: Vec<Place>,
    /// Rows of containers.
    pub rows: Vec<Row>,
    /// Windows, in order of time.
    pub windows: Vec<Windowed>,
    /// Time that containers were observed, seconds, by rows.
    pub container_seconds: f64,
}

/// Plays a recording whole, with a classifier or by the signatures alone; only then are windows kept.
pub fn play(recorded: &Recorded, truth: &Truth, config: &Config, classifier: Option<&Arc<Classifier>>) -> anyhow::Result<Played> {
    let cluster = recorded.manifest.name.as_str();
    let mut detector = Detector::new(config.clone(), 1);
    detector.set_classifier(classifier.cloned());
    let mut watch = Watch::default();
    let nodes: Vec<String> = recorded.observations.nodes().into_iter().map(str::to_owned).collect();
    let mut players: HashMap<&str, (u64, Player)> = HashMap::new();
    for (number, node) in (0..).zip(&nodes) {
        add_node(&mut detector, cluster, node, number, recorded.manifest.started_unix_ms);
        players.insert(node, (number, Player::new(node, &recorded.containers)));
    }
    let mut played = Played::default();
    let mut told: BTreeMap<u64, Told> = BTreeMap::new();
    let mut last_ms: HashMap<SubjectKey, i64> = HashMap::new();
    let mut z_scores = ZScores::default();
    for tick in recorded.observations.ticks() {
        let Some((node, player)) = players.get_mut(tick.node.as_str()) else { continue };
        let key = |reference: u32| SubjectKey(*node << 32 | u64::from(reference));
        let batch = player.batch(&tick);
        for added in &batch.added {
            add(&mut detector, cluster, &tick.node, key(added.container_ref), added);
        }
        for seen in &batch.processes {
            detector.process_seen(key(seen.container_ref), seen, Origin::Live);
        }
        let block = batch.block.ok_or_else(|| anyhow::anyhow!("a tick has no rows"))?;
        for ((reference, row), subject) in block.container_refs.iter().zip(&tick.block.rows).zip(&tick.subjects) {
            let verdict = detector.observe(key(*reference), Origin::Live, tick.unix_ms, row);
            if !subject.container_id.is_empty() {
                let (was, episode) = truth.at(&subject.pod_uid, &subject.container_id, tick.unix_ms);
                let place = place(&subject.workload);
                let z = z_scores.score(&place, row);
                let known = played.places.iter().position(|known| *known == place);
                let number = known.unwrap_or_else(|| {
                    played.places.push(place);
                    played.places.len() - 1
                });
                played.rows.push(Row {
                    unix_ms: tick.unix_ms,
                    place: number as u32,
                    was,
                    score: verdict.score,
                    abnormal: verdict.kind != Kind::Normal,
                    z,
                });
                if classifier.is_none()
                    && let Some((since_unix_ms, strays, seen)) = detector.window(key(*reference))
                {
                    let onset_ms = episode.and_then(|episode| truth.episodes.get(episode as usize)).map(|episode| episode.onset_unix_ms);
                    let (after, counts) = watch.take(key(*reference), tick.unix_ms, since_unix_ms, onset_ms, was);
                    played.windows.push(Windowed {
                        unix_ms: tick.unix_ms,
                        since_unix_ms,
                        seconds: row.get(Column::IntervalUs).map_or(1.0, |us| (us as f32 / 1e6).clamp(0.01, 30.0)),
                        container: key(*reference).0,
                        place: number as u32,
                        was,
                        episode,
                        after,
                        counts,
                        strays,
                        seen: Box::new(seen),
                    });
                }
                let before = last_ms.insert(key(*reference), tick.unix_ms);
                played.container_seconds += before.map_or(0.0, |before| (tick.unix_ms - before) as f64 / 1e3).min(60.0);
            }
        }
        for removed in &batch.removed {
            detector.container_removed(key(removed.container_ref), removed, Origin::Live);
            last_ms.remove(&key(removed.container_ref));
        }
        detector.advance(cluster, tick.unix_ms);
        hear(&mut detector, tick.unix_ms, &mut told);
    }
    played.told = told.into_values().collect();
    played.told.sort_by_key(|told| told.opened_unix_ms);
    Ok(played)
}

/// Which windows are learnt from: those of a few ages, for each is much like the one before.
#[derive(Default)]
struct Watch(HashMap<SubjectKey, Watched>);

/// Of one container.
#[derive(Default)]
struct Watched {
    /// What its ages count from: it strays, or an episode began since.
    from_ms: i64,
    next_ms: i64,
    /// The last row that an attack was in.
    attack_ms: Option<i64>,
}

/// The first age, and the least distance of two, milliseconds.
const FIRST_AGE_MS: i64 = 3_000;
/// A window remembers an attack so long, milliseconds.
const REMEMBERS_MS: i64 = 90_000;

impl Watch {
    /// Whether a window holds what is left of an attack, and whether it is learnt from.
    fn take(&mut self, key: SubjectKey, unix_ms: i64, since_ms: i64, onset_ms: Option<i64>, was: Was) -> (bool, bool) {
        let watched = self.0.entry(key).or_default();
        if !matches!(was, Was::Normal) {
            watched.attack_ms = Some(unix_ms);
        }
        let after = was == Was::Normal && watched.attack_ms.is_some_and(|last| last >= since_ms && unix_ms - last < REMEMBERS_MS);
        let from_ms = since_ms.max(onset_ms.unwrap_or(i64::MIN));
        if from_ms != watched.from_ms {
            (watched.from_ms, watched.next_ms) = (from_ms, from_ms + FIRST_AGE_MS);
        }
        let counts = unix_ms >= watched.next_ms;
        if counts {
            // A third older each time: attacks last a minute or two, and ordinary work for hours.
            watched.next_ms = unix_ms + FIRST_AGE_MS.max((unix_ms - from_ms) / 3).min(60_000);
        }
        (after, counts)
    }
}

fn add_node(detector: &mut Detector, cluster: &str, node: &str, number: u64, unix_ms: i64) {
    let workload = Workload { cluster: cluster.into(), owner_kind: "Node".into(), owner_name: node.into(), ..Workload::default() };
    let at = ContainerAt { key: SubjectKey(number << 32), cluster, node, workload: &workload, pod_uid: "", pod_name: "", container_id: "" };
    let added = ContainerAdded { first_seen_unix_ms: unix_ms, already_running: true, ..ContainerAdded::default() };
    detector.container_added(at, &added, true);
}

fn add(detector: &mut Detector, cluster: &str, node: &str, key: SubjectKey, added: &ContainerAdded) {
    let named = added.recorded_workload.clone();
    let workload = match named {
        Some(named) => Workload { cluster: cluster.into(), ..named },
        None => Workload {
            cluster: cluster.into(),
            owner_kind: "Pod".into(),
            owner_name: added.pod_uid.clone(),
            container_name: format!("#{}", added.slot),
            ..Workload::default()
        },
    };
    let at = ContainerAt {
        key,
        cluster,
        node,
        workload: &workload,
        pod_uid: &added.pod_uid,
        pod_name: &added.recorded_pod_name,
        container_id: &added.container_id,
    };
    detector.container_added(at, added, true);
}

/// Takes in what changed; notes are nobody's business.
fn hear(detector: &mut Detector, unix_ms: i64, told: &mut BTreeMap<u64, Told>) {
    for change in detector.changes() {
        let incident = change.incident;
        let Some(workload) = incident.workload.as_ref() else { continue };
        if incident.severity >= Severity::Ticket as i32 {
            told.entry(incident.id).or_insert_with(|| Told {
                place: place(workload),
                kind: incident.kind(),
                opened_unix_ms: unix_ms,
                paged_unix_ms: None,
                resolved_unix_ms: None,
                summary: incident.summary.clone(),
            });
        }
        let Some(told) = told.get_mut(&incident.id) else { continue };
        told.kind = incident.kind();
        told.summary.clone_from(&incident.summary);
        if incident.severity == Severity::Page as i32 {
            told.paged_unix_ms.get_or_insert(unix_ms);
        }
        // One that goes on after all was not over.
        told.resolved_unix_ms = (incident.resolved_unix_ms != 0).then_some(incident.resolved_unix_ms);
    }
}
