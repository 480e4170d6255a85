//! Sentences with numbers: what moved, by how much, against what.

use vedette_proto::{Feature, v1};

use crate::{
    baseline::{from_log, to_log},
    prior::Prior,
    view::View,
};

/// Most sentences of an incident.
pub const MOST: usize = 8;

/// In log space: half as much again.
const MUCH_MORE: f32 = 0.4;

/// One piece of evidence and how loudly it speaks.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Distance from normal in log space; facts stand first.
    pub rank: f32,
    /// The rank at which people were last told.
    pub told: f32,
    /// Strong enough to count as a family of its own.
    pub counts: bool,
    /// What people read.
    pub evidence: v1::Evidence,
}

/// A number with its unit, short enough for a sentence.
pub fn human(unit: &str, x: f32) -> String {
    match unit {
        "B" => bytes(x),
        "B/s" => format!("{}/s", bytes(x)),
        "1/s" => format!("{}/s", short(x)),
        "ratio" => format!("{} %", short(x * 100.0)),
        unit => format!("{} {unit}", short(x)),
    }
}

/// What is seen, in full; what it is called names the unit where things are counted.
fn seen(feature: Feature, x: f32) -> String {
    match feature.unit() {
        "B" | "B/s" | "1/s" | "ratio" | "cores" => human(feature.unit(), x),
        _ => short(x),
    }
}

/// What is normal, beside what is seen: the unit again only where it scales.
fn usual(feature: Feature, x: f32) -> String {
    match feature.unit() {
        "B" | "B/s" | "ratio" => human(feature.unit(), x),
        "1/s" => format!("{}/s", short(x)),
        _ => short(x),
    }
}

/// An end of the band.
fn edge(feature: Feature, x: f32) -> String {
    usual(feature, x).trim_end_matches("/s").to_owned()
}

fn bytes(x: f32) -> String {
    let (x, unit) = match x {
        x if x >= 1e9 => (x / 1e9, "GB"),
        x if x >= 1e6 => (x / 1e6, "MB"),
        x if x >= 1e3 => (x / 1e3, "kB"),
        x => (x, "B"),
    };
    format!("{} {unit}", short(x))
}

/// Two significant places below 10, none above.
fn short(x: f32) -> String {
    match x {
        x if x >= 9.95 => format!("{x:.0}"),
        x if x >= 0.995 => format!("{x:.1}").trim_end_matches(".0").to_owned(),
        x if x >= 0.005 => format!("{x:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => "0".to_owned(),
    }
}

/// A feature against its workload's baseline, or against the cold level.
fn of_feature(view: &View<'_>, feature: Feature, unix_ms: i64) -> Option<Ranked> {
    let y = view.container.known(feature as usize)?;
    let (observed, unit) = (from_log(feature, y), feature.unit());
    let strength = view.strength(feature);
    let mut evidence = v1::Evidence {
        family: feature.family() as i32,
        feature: feature.name().to_owned(),
        observed: Some(f64::from(observed)),
        unit: unit.to_owned(),
        unix_ms,
        ..v1::Evidence::default()
    };
    let seen = format!("{} {}", feature.phrase(), seen(feature, observed));
    if view.ready(feature) {
        let track = view.baseline.track(feature as usize);
        let end = view.high(feature as usize);
        let [low, centre, high] = [track.low(), track.centre, end].map(|y| from_log(feature, y));
        let band = format!("{} to {}", edge(feature, low), edge(feature, high));
        evidence.sentence = format!("{seen}, normally {} ({band})", usual(feature, centre));
        evidence.expected = Some(f64::from(centre));
        evidence.expected_low = Some(f64::from(low));
        evidence.expected_high = Some(f64::from(high));
        evidence.baseline = "own".to_owned();
        return Some(Ranked { rank: y - end, told: f32::NEG_INFINITY, counts: strength >= 0.5, evidence });
    }
    let rank = if strength > 0.0 { strength + y - to_log(feature, crate::thresholds::scale(feature).cold) } else { -1.0 };
    let (sentence, baseline) = compared(&seen, view.prior, feature);
    evidence.sentence = sentence;
    evidence.baseline = baseline;
    Some(Ranked { rank, told: f32::NEG_INFINITY, counts: strength >= 0.5, evidence })
}

fn compared(seen: &str, prior: &Prior, feature: Feature) -> (String, String) {
    match prior.usual(feature) {
        Some((median, upper)) => (
            format!(
                "{seen}; no baseline yet: of {} other workloads of this cluster half stay below {}, three quarters below {}",
                prior.workloads,
                usual(feature, median),
                usual(feature, upper)
            ),
            "prior of the cluster".to_owned(),
        ),
        None => (format!("{seen}; no baseline yet"), "none".to_owned()),
    }
}

/// What a suspicion rests on (`key`, and what belongs to it), and what else is beyond normal; the strongest first.
pub fn of(view: &View<'_>, key: Feature, shows: &[Feature], unix_ms: i64) -> Vec<Ranked> {
    let mut all: Vec<Ranked> = Vec::new();
    for &feature in Feature::ALL {
        let belongs = shows.contains(&feature);
        let strength = view.strength(feature);
        // The key is always said; the rest only if it moved.
        if feature != key && (strength < 0.25 || !belongs && strength < 0.9) {
            continue;
        }
        if let Some(mut ranked) = of_feature(view, feature, unix_ms) {
            ranked.rank += if feature == key {
                6.0
            } else if belongs {
                3.0
            } else {
                ranked.counts = false;
                0.0
            };
            all.push(ranked);
        }
    }
    let share = view.level(Feature::CpuCores) / view.node_cores;
    if key == Feature::CpuCores && view.node_cores > 0.0 && share >= 0.25 {
        let traffic = if view.pod.known {
            format!("its pod moves {} packets/s", short(view.pod.packets_per_sec()))
        } else {
            "the network that it uses is not its own".to_owned()
        };
        let sentence = format!("{:.0} % of the node's {:.0} CPUs, while {traffic}", (share * 100.0).min(100.0), view.node_cores);
        all.push(fact("cpu_share_of_node", v1::Family::Cpu, sentence, Some(f64::from(share)), "ratio", unix_ms, 1.0));
    }
    all
}

/// Names of what is said of silence; its numbers grow.
pub const SILENT_NODE: &str = "silent_node";
/// Of many nodes at once.
pub const SILENT_NODES: &str = "silent_nodes";
/// Of a sensor that sees nothing.
pub const BLIND_SENSOR: &str = "blind_sensor";

/// Whether it is about silence.
pub fn is_silence(evidence: &v1::Evidence) -> bool {
    [SILENT_NODE, SILENT_NODES, BLIND_SENSOR].contains(&evidence.feature.as_str())
}

/// Whether it is about a difference between what the agent and Prometheus count.
pub fn is_disagreement(evidence: &v1::Evidence) -> bool {
    evidence.feature.starts_with("cross_check")
}

/// Evidence that is no feature.
pub fn fact(name: &str, family: v1::Family, sentence: String, observed: Option<f64>, unit: &str, unix_ms: i64, rank: f32) -> Ranked {
    let evidence = v1::Evidence {
        sentence,
        family: family as i32,
        feature: name.to_owned(),
        observed,
        unit: unit.to_owned(),
        baseline: "none".to_owned(),
        unix_ms,
        ..v1::Evidence::default()
    };
    Ranked { rank, told: f32::NEG_INFINITY, counts: true, evidence }
}

/// Adds evidence to what is known: per feature the strongest, strongest first, at most [`MOST`]. True if a feature is
/// new, or half as strong again as people were told.
pub fn merge(known: &mut Vec<Ranked>, more: Vec<Ranked>) -> bool {
    let mut grew = false;
    for one in more {
        match known.iter_mut().find(|old| old.evidence.feature == one.evidence.feature) {
            Some(old) => {
                let (counts, told) = (old.counts || one.counts, old.told);
                if one.rank > old.rank {
                    *old = one;
                }
                grew |= old.rank > told + MUCH_MORE;
                (old.counts, old.told) = (counts, told);
            }
            None => {
                grew = true;
                known.push(one);
            }
        }
    }
    known.sort_by(|a, b| b.rank.total_cmp(&a.rank));
    known.truncate(MOST);
    grew
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_carry_their_unit() {
        assert_eq!(human("1/s", 198.4), "198/s");
        assert_eq!(human("1/s", 0.3), "0.3/s");
        assert_eq!(human("B/s", 2_140_000.0), "2.1 MB/s");
        assert_eq!(human("cores", 0.97), "0.97 cores");
        assert_eq!(human("ratio", 0.83), "83 %");
        assert_eq!(human("B", 0.0), "0 B");
    }
}
