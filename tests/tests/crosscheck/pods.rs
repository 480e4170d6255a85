//! The pods of a captured node: their interfaces count, their restarts stand still, and each counter has a fault of its own on the pages.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use super::captured::{FAULTS, Fault, label, used};

/// Faults of a counter that stands still: half a minute more or less cannot be seen in it.
const OF_RESTARTS: [Fault; 6] = [Fault::None, Fault::LabelsLost, Fault::Up, Fault::Down, Fault::Gap, Fault::Stale];
/// Bytes of a second for which a container would use a whole core.
const BYTES: f64 = 1e6;

/// A pod, and what goes wrong with its rows.
pub(super) struct CapturedPod {
    pub(super) uid: String,
    /// Of what it received and sent; `None` where it has the node's network.
    pub(super) network: Option<[Fault; 2]>,
    pub(super) restarts: Fault,
}

/// The pod's uid in a cgroup's path, however the driver writes it.
pub(super) fn uid_of(path: &str) -> Option<String> {
    let after = path.rsplit_once("pod").filter(|(before, _)| before.ends_with(['/', '-']))?.1;
    let uid = after.get(..36)?.replace('_', "-");
    (uid.bytes().filter(|byte| *byte == b'-').count() == 4).then_some(uid)
}

/// The pods of these containers, as the kubelet's page has them.
pub(super) fn of_page<'a>(page: &str, ids: impl Iterator<Item = &'a str>) -> Vec<CapturedPod> {
    let rows = |metric: &'static str| page.lines().filter(move |line| line.starts_with(metric));
    let alive: BTreeSet<String> = ids
        .filter_map(|id| rows("container_cpu_usage_seconds_total{").find(|line| label(line, "name") == Some(id)))
        .filter_map(|line| uid_of(label(line, "id")?))
        .collect();
    let of_eth0: BTreeSet<String> = rows("container_network_receive_bytes_total{")
        .filter(|line| label(line, "interface") == Some("eth0"))
        .filter_map(|line| uid_of(label(line, "id")?))
        .collect();
    let mut networks = 0;
    let pods = alive.into_iter().enumerate().map(|(place, uid)| {
        let network = of_eth0.contains(&uid).then(|| {
            networks += 1;
            [FAULTS[(networks - 1) % FAULTS.len()], FAULTS[(networks + 2) % FAULTS.len()]]
        });
        CapturedPod { uid, network, restarts: OF_RESTARTS[place % OF_RESTARTS.len()] }
    });
    pods.collect()
}

/// Bytes received or sent by a pod: a load of its own for each.
pub(super) fn bytes(uid: &str, sent: bool, started_ms: i64, unix_ms: i64) -> f64 {
    let of = if sent { &uid[24..] } else { uid };
    used(of, started_ms, unix_ms) * BYTES
}

/// The interfaces of a pod, as each of its processes sees them.
pub(super) struct Interfaces {
    uid: String,
    files: Vec<File>,
}

impl Interfaces {
    /// Those of the pods that have a network of their own.
    pub(super) fn of(pods: &[CapturedPod], proc: &Path) -> Vec<Self> {
        let processes: Vec<_> =
            fs::read_dir(proc).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.join("cgroup").exists()).collect();
        let of_pod = |uid: &str| {
            let own = processes.iter().filter(|path| {
                let cgroups = fs::read_to_string(path.join("cgroup")).unwrap();
                cgroups.lines().any(|line| line.rsplit_once('/').and_then(|(parent, _)| uid_of(parent)).as_deref() == Some(uid))
            });
            // Of one length from now on: it is read while it is written.
            let files: Vec<File> = own.map(|path| File::create(path.join("net/dev")).unwrap()).collect();
            assert!(!files.is_empty(), "no process of pod {uid} was captured");
            Self { uid: uid.to_owned(), files }
        };
        pods.iter().filter(|pod| pod.network.is_some()).map(|pod| of_pod(&pod.uid)).collect()
    }

    /// Lets them count.
    pub(super) fn write(&self, started_ms: i64, unix_ms: i64) {
        let [received, sent] = [false, true].map(|sent| bytes(&self.uid, sent, started_ms, unix_ms) as u64);
        let text = format!(
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed \
             multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n  eth0: {received:>20} 0 0 0 \
             0 0 0 0 {sent:>20} 0 0 0 0 0 0 0\n"
        );
        self.files.iter().for_each(|file| file.write_all_at(text.as_bytes(), 0).unwrap());
    }
}

/// kube-state-metrics' page: what it says of restarts, none of which happens.
pub(super) fn restarts_page(pods: &[CapturedPod], started_ms: i64, now_ms: i64) -> String {
    let age_ms = now_ms - started_ms;
    let mut text = "# TYPE kube_pod_container_status_restarts_total counter\n".to_owned();
    for (place, CapturedPod { uid, restarts, .. }) in pods.iter().enumerate() {
        let labels = match restarts {
            Fault::LabelsLost => format!("pod=\"pod-{place}\""),
            _ => format!("pod=\"pod-{place}\",uid=\"{uid}\""),
        };
        let (count, stamp) = match restarts {
            Fault::Gap if (40_000..80_000).contains(&age_ms) => continue,
            Fault::Up => (3 + age_ms / 3_000, String::new()),
            Fault::Down => (1_000 - age_ms / 20_000, String::new()),
            Fault::Stale => (3, format!(" {}", now_ms.min(started_ms + 60_000))),
            _ => (3, String::new()),
        };
        let _ = writeln!(text, "kube_pod_container_status_restarts_total{{container=\"main\",{labels}}} {count}{stamp}");
    }
    text
}
