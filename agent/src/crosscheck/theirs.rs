//! Which of Prometheus's series belong to which container, pod and node. Pure.

use std::collections::{BTreeMap, HashMap};

use vedette_crosscheck::{Point, Scrape};

use super::client::Labelled;
use crate::{name, node::is_own_interface};

/// cAdvisor's metrics that are asked for.
pub const CPU: &str = "container_cpu_usage_seconds_total";
/// See [`CPU`].
pub const WORKING_SET: &str = "container_memory_working_set_bytes";
/// See [`CPU`].
pub const RX: &str = "container_network_receive_bytes_total";
/// See [`CPU`].
pub const TX: &str = "container_network_transmit_bytes_total";
/// Of kube-state-metrics; init containers are counted apart.
pub const RESTARTS: [&str; 2] = ["kube_pod_container_status_restarts_total", "kube_pod_init_container_status_restarts_total"];
/// Of node_exporter.
pub const NODE_CPU: &str = "node_cpu_seconds_total";
/// See [`NODE_CPU`].
pub const NODE_AVAILABLE: &str = "node_memory_MemAvailable_bytes";
/// See [`NODE_CPU`].
pub const NODE_RX: &str = "node_network_receive_bytes_total";
/// See [`NODE_CPU`].
pub const NODE_TX: &str = "node_network_transmit_bytes_total";

/// A target scrapes at least so often as far as nothing else is known, milliseconds.
const USUAL_INTERVAL_MS: i64 = 30_000;

/// What cAdvisor says, by container id and by pod uid.
#[derive(Debug, Default)]
pub struct Cadvisor {
    /// CPU seconds by container id.
    pub cpu: HashMap<String, Vec<Point>>,
    /// Working set by container id.
    pub working_set: HashMap<String, Vec<Point>>,
    /// Bytes received by pod uid.
    pub rx: HashMap<String, Vec<Point>>,
    /// Bytes sent by pod uid.
    pub tx: HashMap<String, Vec<Point>>,
    /// Metrics that there is any series of.
    pub has: Vec<&'static str>,
}

impl Cadvisor {
    /// Sorts series by whose they are.
    #[must_use]
    pub fn new(series: Vec<Labelled>) -> Self {
        let mut all = Self::default();
        let mut network: HashMap<(&'static str, String, String), Vec<Vec<Point>>> = HashMap::new();
        for one in series {
            let Some(metric) = [CPU, WORKING_SET, RX, TX].into_iter().find(|metric| one.label("__name__") == *metric) else { continue };
            if !all.has.contains(&metric) {
                all.has.push(metric);
            }
            // The path of a cgroup names the container and its pod, whatever relabelling did to the other labels.
            let identity = name::identify(one.label("id").trim_start_matches('/'));
            match metric {
                CPU | WORKING_SET => {
                    // A row per CPU is a part of the one for all of them.
                    if !matches!(one.label("cpu"), "" | "total") {
                        continue;
                    }
                    let id = identity.map(|identity| identity.container_id).filter(|id| !id.is_empty());
                    let id = id.or_else(|| Some(one.label("name").to_owned()).filter(|name| !name.is_empty()));
                    let Some(id) = id else { continue };
                    let place = if metric == CPU { &mut all.cpu } else { &mut all.working_set };
                    newest(place.entry(id).or_default(), one.points);
                }
                _ => {
                    let Some(uid) = identity.map(|identity| identity.pod_uid).filter(|uid| !uid.is_empty()) else { continue };
                    if one.label("interface") != "lo" {
                        network.entry((metric, uid, one.label("id").to_owned())).or_default().push(one.points);
                    }
                }
            }
        }
        for ((metric, uid, _), interfaces) in network {
            let place = if metric == RX { &mut all.rx } else { &mut all.tx };
            newest(place.entry(uid).or_default(), sum(&interfaces));
        }
        all
    }
}

/// Restarts by pod uid.
#[must_use]
pub fn restarts(series: Vec<Labelled>) -> HashMap<String, Vec<Point>> {
    let mut by_pod: HashMap<String, Vec<Vec<Point>>> = HashMap::new();
    for one in series.into_iter().filter(|one| !one.label("uid").is_empty()) {
        by_pod.entry(one.label("uid").to_owned()).or_default().push(one.points);
    }
    by_pod.into_iter().map(|(uid, containers)| (uid, sum(&containers))).collect()
}

/// What node_exporter says of the node.
#[derive(Debug, Default)]
pub struct Exporter {
    /// Busy CPU seconds.
    pub cpu: Vec<Point>,
    /// Bytes available.
    pub available: Vec<Point>,
    /// Bytes received by the node's own interfaces.
    pub rx: Vec<Point>,
    /// Bytes sent by them.
    pub tx: Vec<Point>,
    /// Metrics that there is any series of.
    pub has: Vec<&'static str>,
}

impl Exporter {
    /// Sums what is counted by CPU and by interface, as the agent counts it.
    #[must_use]
    pub fn new(series: Vec<Labelled>) -> Self {
        let mut parts: BTreeMap<&'static str, Vec<Vec<Point>>> = BTreeMap::new();
        let mut has = Vec::new();
        for one in series {
            let Some(metric) = [NODE_CPU, NODE_AVAILABLE, NODE_RX, NODE_TX].into_iter().find(|metric| one.label("__name__") == *metric)
            else {
                continue;
            };
            if !has.contains(&metric) {
                has.push(metric);
            }
            let counts = match metric {
                NODE_CPU => !matches!(one.label("mode"), "idle" | "iowait" | "steal"),
                NODE_RX | NODE_TX => is_own_interface(one.label("device").as_bytes()),
                _ => true,
            };
            if counts {
                parts.entry(metric).or_default().push(one.points);
            }
        }
        let mut of = |metric| parts.remove(metric).map_or_else(Vec::new, |parts| sum(&parts));
        Self { cpu: of(NODE_CPU), available: of(NODE_AVAILABLE), rx: of(NODE_RX), tx: of(NODE_TX), has }
    }
}

/// What `up` says of a target: the last value, and how far its scrapes are apart.
#[must_use]
pub fn scrape(up: &[Labelled], now_unix_ms: i64, clock_ahead_ms: Option<i64>) -> Scrape {
    // Of targets that were replaced the one that was scraped last.
    let target = up.iter().filter_map(|one| Some((one.points.last()?, one))).max_by_key(|(last, _)| last.unix_ms);
    let mut steps: Vec<i64> =
        target.map(|(_, one)| one.points.windows(2).map(|pair| pair[1].unix_ms - pair[0].unix_ms).collect()).unwrap_or_default();
    steps.sort_unstable();
    let interval_ms = steps.get(steps.len() / 2).copied().unwrap_or(USUAL_INTERVAL_MS).max(1_000);
    Scrape { now_unix_ms, clock_ahead_ms, interval_ms, up: target.map(|(last, _)| last.value >= 1.0), has_metric: false }
}

/// A cgroup that was made anew under the same name has two series for a while: the one that goes on counts.
fn newest(kept: &mut Vec<Point>, other: Vec<Point>) {
    let last = |points: &[Point]| points.last().map(|point| point.unix_ms);
    if last(&other) > last(kept) {
        *kept = other;
    }
}

/// The sum of series that were scraped together: at the instants that all of them have.
fn sum(parts: &[Vec<Point>]) -> Vec<Point> {
    let mut at: BTreeMap<i64, (usize, f64)> = BTreeMap::new();
    for point in parts.iter().flatten() {
        let (count, value) = at.entry(point.unix_ms).or_default();
        *count += 1;
        *value += point.value;
    }
    at.into_iter().filter(|(_, (count, _))| *count == parts.len()).map(|(unix_ms, (_, value))| Point { unix_ms, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], values: &[(i64, f64)]) -> Labelled {
        Labelled {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            points: values.iter().map(|&(unix_ms, value)| Point { unix_ms, value }).collect(),
        }
    }

    const UID: &str = "25a97148-4135-4cc0-a6ad-34b0eb870163";
    const ID: &str = "58677ca528b718ee35474a7e468841d6ad4c19f2c693a4d6625ccc7cbc059562";

    #[test]
    fn a_container_is_known_by_its_cgroup_on_both_versions_and_a_pod_by_its_uid() {
        let v1 = format!("/kubepods/besteffort/pod{UID}/{ID}");
        let v2 = format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/cri-containerd-{ID}.scope",
            UID.replace('-', "_")
        );
        for id in [&v1, &v2] {
            let pod = id.rsplit_once('/').unwrap().0;
            let all = Cadvisor::new(vec![
                series(&[("__name__", CPU), ("id", "/"), ("cpu", "total")], &[(1_000, 999.0)]),
                series(&[("__name__", CPU), ("id", pod), ("cpu", "total")], &[(1_000, 50.0)]),
                series(&[("__name__", CPU), ("id", id), ("cpu", "total")], &[(1_000, 1.0), (31_000, 2.0)]),
                series(&[("__name__", CPU), ("id", id), ("cpu", "cpu00")], &[(1_000, 0.5), (61_000, 1.0)]),
                series(&[("__name__", RX), ("id", id), ("interface", "eth0")], &[(1_000, 10.0), (31_000, 20.0)]),
                series(&[("__name__", RX), ("id", id), ("interface", "eth1")], &[(31_000, 5.0)]),
                series(&[("__name__", RX), ("id", id), ("interface", "lo")], &[(1_000, 1e9), (31_000, 1e9)]),
                series(&[("__name__", "something_else"), ("id", id)], &[(1_000, 3.0)]),
            ]);

            assert_eq!(all.cpu.keys().collect::<Vec<_>>(), [ID], "{id}");
            assert_eq!(all.cpu[ID].last().unwrap().value, 2.0);
            assert_eq!(all.rx[UID], [Point { unix_ms: 31_000, value: 25.0 }], "only where every interface has a value");
            assert_eq!(all.has, [CPU, RX]);
        }
    }

    #[test]
    fn the_node_is_summed_as_the_agent_counts_it() {
        let node = Exporter::new(vec![
            series(&[("__name__", NODE_CPU), ("cpu", "0"), ("mode", "user")], &[(1_000, 3.0)]),
            series(&[("__name__", NODE_CPU), ("cpu", "1"), ("mode", "system")], &[(1_000, 4.0)]),
            series(&[("__name__", NODE_CPU), ("cpu", "1"), ("mode", "idle")], &[(1_000, 500.0)]),
            series(&[("__name__", NODE_RX), ("device", "eth0")], &[(1_000, 9.0)]),
            series(&[("__name__", NODE_RX), ("device", "veth12")], &[(1_000, 90.0)]),
        ]);

        assert_eq!((node.cpu[0].value, node.rx[0].value, node.tx.len()), (7.0, 9.0, 0));
    }

    #[test]
    fn a_target_is_as_its_last_scrape_and_as_often_as_usual() {
        let up = [
            series(&[("instance", "old")], &[(0, 1.0), (15_000, 1.0)]),
            series(&[("instance", "new")], &[(20_000, 1.0), (50_000, 1.0), (80_000, 1.0), (110_000, 0.0)]),
        ];

        let known = scrape(&up, 120_000, None);

        assert_eq!((known.up, known.interval_ms), (Some(false), 30_000));
        assert_eq!(scrape(&[], 120_000, None).up, None);
    }
}
