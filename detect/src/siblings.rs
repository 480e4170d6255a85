//! The replicas of a workload beside each other: an attack in one of them stands out even where the workload's own band is wide.

use vedette_proto::{
    Feature,
    v1::{Family, Kind, Workload as Name},
};

use crate::{
    baseline::from_log,
    container::Container,
    evidence::{self, Ranked},
    memory::packed,
};

/// What is compared: the first two may stand out, the third explains.
const COMPARED: [Feature; 3] = [Feature::CpuCores, Feature::TcpActiveOpensPerSec, Feature::RxPacketsPerSec];
/// How many may stand out.
const LOUD: usize = 2;
const RX: usize = 2;
const EVERY_MS: i64 = 5_000;
/// Time constant of a replica's level: what lasts for a moment stands out everywhere.
const TAU_S: f32 = 60.0;
/// Replicas that a workload needs besides the one that stands out.
const LEAST_OTHERS: i64 = 2;
/// Three times the others, log space; and how much that must be in the feature's unit.
const FAR: f32 = 1.1;
const LEAST: [f32; LOUD] = [0.25, 5.0];
/// Below this share of it, traffic does not explain it.
const SHARE: f32 = 0.5;
/// How long it must last.
const LASTING_MS: i64 = 180_000;
/// A leader or a primary does more than the others all the time: the largest difference that is usual is learnt this fast, in seconds,
/// and what was known before this run within the first minutes.
const USUAL_TAU_S: f32 = 1_800.0;
const PARTS: f32 = 1_024.0;

/// A workload's replicas together.
#[derive(Clone, Debug, Default)]
pub struct Siblings {
    sums: [i64; COMPARED.len()],
    count: i64,
    /// By how much one of them usually exceeds the others, log space.
    usual: [f32; LOUD],
    /// By how much one did when it was last beyond that.
    last: [f32; LOUD],
}

/// One replica among them.
#[derive(Clone, Debug, Default)]
pub struct Sibling {
    levels: [i32; COMPARED.len()],
    counted: bool,
    next_ms: i64,
    first_ms: i64,
    since_ms: [i64; LOUD],
}

/// A replica that stands out.
pub struct Outlier {
    pub kind: Kind,
    pub onset_ms: i64,
    pub evidence: Vec<Ranked>,
    pub reasoning: &'static str,
}

impl Siblings {
    /// A replica is gone, or belongs elsewhere from now on.
    pub fn leave(&mut self, sibling: &mut Sibling) {
        if std::mem::take(&mut sibling.counted) {
            self.count -= 1;
            self.sums.iter_mut().zip(sibling.levels).for_each(|(sum, level)| *sum -= i64::from(level));
        }
        *sibling = Sibling::default();
    }

    /// What stands out now is normal from now on.
    pub fn forgive(&mut self) {
        for (usual, last) in self.usual.iter_mut().zip(&mut self.last) {
            *usual = usual.max(std::mem::take(last));
        }
    }

    /// Takes in where a replica is; says what of it stands out. `calm`: nothing is wrong with it otherwise.
    pub fn compare(&mut self, container: &mut Container, unix_ms: i64, calm: bool) -> Option<Outlier> {
        if unix_ms < container.sibling.next_ms {
            return None;
        }
        let now = COMPARED.map(|feature| container.known(feature as usize));
        let first = !container.sibling.counted;
        let before_ms = std::mem::replace(&mut container.sibling.next_ms, unix_ms + EVERY_MS) - EVERY_MS;
        let seconds = if first { 0.0 } else { ((unix_ms - before_ms) as f32 / 1e3).clamp(0.0, 30.0) };
        let weight = 1.0 - (-seconds / TAU_S).exp();
        let sibling = &mut container.sibling;
        for (place, level) in now.iter().enumerate() {
            let level = packed(level.unwrap_or(0.0)) as f32;
            let known = sibling.levels[place] as f32;
            let next = if first { level } else { known + (level - known) * weight } as i32;
            self.sums[place] += i64::from(next) - if first { 0 } else { i64::from(sibling.levels[place]) };
            sibling.levels[place] = next;
        }
        if first {
            (sibling.counted, sibling.first_ms) = (true, unix_ms);
            self.count += 1;
        }
        let others = self.count - 1;
        if others < LEAST_OTHERS {
            return None;
        }
        let levels = sibling.levels;
        let pair = |place: usize| {
            let own = levels[place];
            (own as f32 / PARTS, (self.sums[place] - i64::from(own)) as f32 / others as f32 / PARTS)
        };
        let traffic = pair(RX);
        let mut outlier = None;
        for place in 0..LOUD {
            let (own, theirs) = pair(place);
            let (more, feature) = (own - theirs, COMPARED[place]);
            let [own_level, level] = [own, theirs].map(|y| from_log(feature, y));
            let explained = (traffic.0 - traffic.1) >= more * SHARE;
            let stands_out = !explained && more - self.usual[place] >= FAR && own_level - level >= LEAST[place];
            if !stands_out {
                container.sibling.since_ms[place] = 0;
                if calm && more > self.usual[place] {
                    self.usual[place] += (more - self.usual[place]) * (seconds / USUAL_TAU_S).min(1.0);
                }
                continue;
            }
            if container.past_unknown && unix_ms - container.sibling.first_ms < LASTING_MS {
                // It was so before we came.
                self.usual[place] = more;
                continue;
            }
            self.last[place] = more;
            let since_ms = &mut container.sibling.since_ms[place];
            if *since_ms == 0 {
                *since_ms = unix_ms;
            }
            if unix_ms - *since_ms >= LASTING_MS && outlier.is_none() {
                outlier = Some(told(feature, own_level, level, others, *since_ms, unix_ms));
            }
        }
        outlier
    }
}

fn told(feature: Feature, own: f32, theirs: f32, others: i64, onset_ms: i64, unix_ms: i64) -> Outlier {
    let shown = |x: f32| evidence::human(feature.unit(), x);
    let sentence =
        format!("{} {} in one replica, while its {others} siblings have {} on average", feature.phrase(), shown(own), shown(theirs));
    let family = if feature == Feature::CpuCores { Family::Cpu } else { Family::NetworkConnections };
    let name = format!("{}_of_siblings", feature.name());
    let mut one = evidence::fact(&name, family, sentence, Some(f64::from(own)), feature.unit(), unix_ms, 10.0);
    one.evidence.expected = Some(f64::from(theirs));
    one.evidence.baseline = "siblings".to_owned();
    Outlier {
        kind: if feature == Feature::CpuCores { Kind::Mining } else { Kind::Scan },
        onset_ms,
        evidence: vec![one],
        reasoning: "one replica far beyond its siblings for three minutes, which its traffic does not explain, and which was not so before",
    }
}

/// Alphabet of the hashes that Kubernetes gives templates: no vowels, none of 0, 1, 3.
fn is_hash(part: &str) -> bool {
    let hash = |byte: u8| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte);
    let alphabet = part.bytes().all(hash);
    // Five consonants may be a word, eight are none.
    let long = (8..=10).contains(&part.len());
    let mixed = (5..8).contains(&part.len()) && part.bytes().any(|byte| byte.is_ascii_digit());
    alphabet && (long || mixed) || is_count(part)
}

/// Jobs of a schedule are called after their minute.
fn is_count(part: &str) -> bool {
    (6..=12).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name that workloads of one make share: without the hash of a template or the minute of a job at its end. `None`: it has none.
pub fn stem(name: &Name) -> Option<Name> {
    let (stem, last) = name.owner_name.rsplit_once('-')?;
    let named_by_machine = matches!(name.owner_kind.as_str(), "ReplicaSet" | "Job" | "ReplicationController" | "Pod");
    (named_by_machine && is_hash(last) && !stem.is_empty()).then(|| Name { owner_name: stem.to_owned(), ..name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem_of(owner_kind: &str, owner_name: &str) -> Option<String> {
        let name = Name { owner_kind: owner_kind.into(), owner_name: owner_name.into(), ..Name::default() };
        stem(&name).map(|name| name.owner_name)
    }

    #[test]
    fn a_template_hash_and_a_jobs_minute_are_no_part_of_the_name() {
        assert_eq!(stem_of("ReplicaSet", "web-6d4cf56db6").as_deref(), Some("web"));
        assert_eq!(stem_of("Job", "backup-28012340").as_deref(), Some("backup"));
        for (kind, name) in [("Deployment", "web-6d4cf56db6"), ("ReplicaSet", "web"), ("Job", "import-users"), ("ReplicaSet", "web-canary")]
        {
            assert_eq!(stem_of(kind, name), None, "{kind} {name}");
        }
    }
}
