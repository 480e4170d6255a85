//! `vedette simulate --backend kube` against a stand-in with a small kubelet: what is made and in which order, labels that are exactly
//! what happened, refusals before anything is attacked, and nothing left behind however it ends. No root.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use vedette_proto::v1::{Kind, Label, ListLabelsRequest, label_service_client::LabelServiceClient};
use vedette_tests::{
    aggregator::Aggregator,
    apiserver::{
        ApiServer,
        kubelet::{Lived, Settings},
    },
    checkout,
    process::Process,
};

/// A plan takes twenty seconds; a busy machine starts processes slowly.
const LIMIT: Duration = Duration::from_secs(180);
const NAMESPACE: &str = "vedette-range";
/// The second in which a kubelet's time may lie.
const SECOND_MS: i64 = 1_000;

/// Ordinary work, a miner in a container that runs, a pod that ends again and again, a container whose program is changed, and a flood.
const PLAN: &str = r#"
name: small
description: for a test
seed: 1
workloads:
  web: {cpu: 500m, memory: 64MiB, program: {behaviour: web, address: "@self"}}
  visitors: {program: {behaviour: load, target: "@web:8080", rate: 5}}
  batch: {kind: Job, cpu: 200m, memory: 64MiB, program: {behaviour: batch, dir: "@work", duty_pct: 5}}
  spare: {memory: 64MiB, program: {behaviour: idle}}
targets: {victim: ["@web:8080"]}
new_pods: {owners: [report, digest, invoice]}
phases:
  - {name: quiet, lasts: 1s}
  - name: attacks
    lasts: 9s
    episodes:
      - {act: mining-sha256, in: batch, at: 1s, lasts: 3s, intensity: {threads: 1, duty_pct: 5}}
      - {act: crash-segfault, at: 1s, lasts: 5s, intensity: {after_ms: 300}}
      - {act: crash-segfault, in: spare, at: 1s, lasts: 4s, intensity: {after_ms: 300}}
      - {act: flood-http, at: 5s, lasts: 3s, intensity: {rate: 10}}
"#;

/// Nothing in it sends.
const SILENT: &str = r#"
name: silent
description: for a test
workloads:
  spare: {memory: 64MiB, program: {behaviour: idle}}
phases:
  - {name: mining, lasts: 2s, episodes: [{act: mining-sha256, in: spare, intensity: {duty_pct: 5}}]}
"#;

struct Cluster {
    server: ApiServer,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

fn settings() -> Settings {
    let image = format!("vedette-range:{}", env!("CARGO_PKG_VERSION"));
    Settings { enforces: true, network: [10, 213, 7], image }
}

async fn cluster(settings: Settings) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start().await.unwrap();
    server.run_pods(settings).unwrap();
    let kubeconfig = server.kubeconfig(folder.path()).unwrap();
    fs::write(folder.path().join("plan.yaml"), PLAN).unwrap();
    fs::write(folder.path().join("silent.yaml"), SILENT).unwrap();
    Cluster { server, kubeconfig, folder }
}

impl Cluster {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `vedette simulate --backend kube` with these arguments; `%` stands for the cluster's folder.
    fn start(&self, arguments: &str) -> Process {
        let folder = self.folder.path().display().to_string();
        let all = format!("simulate --backend kube --kubeconfig {} {arguments}", self.kubeconfig.display());
        Process::start("vedette", all.split(' ').map(|argument| argument.replace('%', &folder)), self.folder.path()).unwrap()
    }

    /// The same to its end: its exit code, and all that it printed.
    async fn run(&self, arguments: &str) -> (Option<i32>, String) {
        let process = self.start(arguments);
        let ended = tokio::task::spawn_blocking(move || {
            let mut process = process;
            let status = process.wait(LIMIT).unwrap();
            (status.code(), process.log())
        });
        let ended = ended.await.unwrap();
        fs::remove_file(self.folder.path().join("vedette.log")).unwrap();
        ended
    }

    fn has_namespace(&self) -> bool {
        self.server.object("namespaces", "", NAMESPACE).is_some()
    }

    /// Names of what was made, in the order in which it was asked for.
    fn made(&self) -> Vec<String> {
        let made = self.server.asked().into_iter().filter(|asked| asked.method == "POST" && !asked.path.contains("selfsubject"));
        made.map(|asked| asked.path.rsplit('/').next().unwrap().to_owned()).collect()
    }
}

/// Everything that the aggregator was told.
async fn labels(aggregator: &Aggregator) -> Vec<Label> {
    let mut client = LabelServiceClient::new(aggregator.channel().await.unwrap());
    let request = aggregator.request(ListLabelsRequest { limit: 10_000, ..ListLabelsRequest::default() }).unwrap();
    client.list_labels(request).await.unwrap().into_inner().labels
}

fn of_kind(labels: &[Label], kind: Kind, affected: bool) -> Vec<Label> {
    labels.iter().filter(|label| label.kind() == kind && label.affected == affected).cloned().collect()
}

fn range(label: &Label) -> (i64, i64) {
    label.range.as_ref().map(|range| (range.start_unix_ms, range.end_unix_ms)).unwrap()
}

fn of_pod<'a>(lived: &'a [Lived], owner: &str) -> Vec<&'a Lived> {
    lived.iter().filter(|life| life.pod.starts_with(&format!("{owner}-"))).collect()
}

fn schedule(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn pod_of<'a>(schedule: &'a Value, owner: &str) -> &'a Value {
    schedule["pods"].as_array().unwrap().iter().find(|pod| pod["owner_name"] == owner).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_labels_are_exactly_what_the_pods_did_and_nothing_is_left() {
    let cluster = cluster(settings()).await;
    let aggregator = Aggregator::start(cluster.folder.path()).unwrap();
    let connect = format!("--endpoint https://localhost:{} --data-dir %/data", aggregator.grpc.port());

    let (code, said) = cluster.run(&format!("%/plan.yaml --schedule-out %/schedule.json {connect}")).await;

    assert_eq!(code, Some(0), "{said}");
    assert!(!cluster.has_namespace(), "{said}");
    assert_eq!(cluster.server.objects("pods", NAMESPACE), Vec::<Value>::new());
    let made = cluster.made();
    let before = ["namespaces", "resourcequotas", "networkpolicies", "networkpolicies", "networkpolicies", "pods"];
    assert_eq!(made[..6], before, "{made:?}");
    let lived = cluster.server.lived();
    let first: BTreeSet<&str> = lived[..3].iter().map(|life| life.pod.as_str()).collect();
    assert_eq!(first, BTreeSet::from(["probe-open", "probe-shut", "probe"]));

    let labels = labels(&aggregator).await;
    let schedule = schedule(&cluster.path("schedule.json"));
    // The miner: in the batch job's container, for as long as it really was there.
    let mining = of_kind(&labels, Kind::Mining, false);
    let batch = of_pod(&lived, "batch");
    assert_eq!((mining.len(), batch.len()), (1, 1), "{mining:?} {batch:?}");
    let selector = mining[0].selector.clone().unwrap();
    assert_eq!((selector.container_id.as_str(), &json!(selector.pod_uid)), (batch[0].id.as_str(), &pod_of(&schedule, "batch")["pod_uid"]));
    let (from, to) = range(&mining[0]);
    assert!((2_500..4_000).contains(&(to - from)), "{} ms", to - from);
    // The flood: about its victim, and the pod that it came from and its other clients are touched.
    let flood = of_kind(&labels, Kind::Flood, false);
    assert_eq!(flood.len(), 1);
    assert_eq!(flood[0].selector.as_ref().unwrap().container_id, of_pod(&lived, "web")[0].id);
    assert_eq!(of_kind(&labels, Kind::Flood, true).len(), 2);
    // Two crash loops: one label per pod, and no life of any container is missing or shorter than it was.
    let loops = of_kind(&labels, Kind::CrashLoop, false);
    assert_eq!(loops.len(), 2, "{loops:?}");
    assert!(loops.iter().all(|label| label.selector.as_ref().unwrap().container_id.is_empty()));
    let known = schedule["lives"].as_array().unwrap();
    for life in lived[3..].iter() {
        let told = known.iter().find(|told| told["container_id"] == life.id.as_str());
        let told = told.unwrap_or_else(|| panic!("nobody was told of {life:?}"));
        let (born, gone) = (told["born_unix_ms"].as_i64().unwrap(), told["gone_unix_ms"].as_i64().unwrap());
        assert!((born..born + SECOND_MS).contains(&life.start_unix_ms), "{life:?} {told}");
        assert!((gone - SECOND_MS..=gone).contains(&life.end_unix_ms), "{life:?} {told}");
    }
    let owner = schedule["episodes"].as_array().unwrap().iter().find(|one| one["episode"] == "crash-segfault").unwrap();
    assert!(of_pod(&lived, owner["owner_name"].as_str().unwrap()).len() >= 3);
    // A container of the workload was ended badly, ran the other program some times, and has its own again.
    assert!(of_pod(&lived, "spare").len() >= 3, "{:?}", of_pod(&lived, "spare"));
    assert!(labels.iter().any(|label| label.kind() == Kind::Normal));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_policies_are_not_enforced_nothing_is_attacked() {
    let cluster = cluster(Settings { enforces: false, ..settings() }).await;

    let (code, said) = cluster.run("%/plan.yaml --no-labels").await;

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("vedette: this cluster does not enforce network policies") && said.contains("nothing is attacked"), "{said}");
    assert!(cluster.server.lived().iter().all(|life| life.pod.starts_with("probe")), "{:?}", cluster.server.lived());
    assert!(!cluster.has_namespace());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_sends_nothing_needs_no_policy_and_no_address() {
    let cluster = cluster(Settings { enforces: false, network: [10, 244, 1], ..settings() }).await;

    let (code, said) = cluster.run("%/silent.yaml --no-labels --schedule-out %/schedule.json").await;

    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("this plan sends nothing"), "{said}");
    assert_eq!(schedule(&cluster.path("schedule.json"))["episodes"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_outside_of_the_ranges_block_are_refused_with_what_to_do() {
    let cluster = cluster(Settings { network: [10, 244, 1], ..settings() }).await;

    let (code, said) = cluster.run("%/plan.yaml --no-labels").await;

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("pod probe-open has the address 10.244.1.") && said.contains("outside of 10.213.0.0/16"), "{said}");
    assert!(said.contains("docs/lab.md") && !cluster.has_namespace(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_somebody_elses_is_not_touched() {
    let cluster = cluster(settings()).await;
    cluster.server.set("namespaces", json!({"metadata": {"name": NAMESPACE, "uid": "u", "labels": {"team": "shop"}}}));
    let before = cluster.server.object("namespaces", "", NAMESPACE);

    let (code, said) = cluster.run("%/plan.yaml --no-labels").await;
    let (cleaned, refusal) = cluster.run("--clean").await;

    assert_eq!((code, cleaned), (Some(1), Some(1)), "{said} {refusal}");
    for text in [said, refusal] {
        assert!(text.contains("exists and is not a run's") && text.contains("--namespace"), "{text}");
    }
    assert_eq!(cluster.server.object("namespaces", "", NAMESPACE), before);
    assert_eq!(cluster.made(), ["namespaces"], "nothing besides the attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_removes_everything_and_says_so() {
    let cluster = cluster(settings()).await;
    let mut process = cluster.start("%/plan.yaml --no-labels");
    let log = cluster.folder.path().join("vedette.log");
    let begun = tokio::task::spawn_blocking(move || {
        process.wait_for("the attacks", LIMIT, || fs::read_to_string(&log).is_ok_and(|said| said.contains("phase attacks"))).unwrap();
        process
    });
    let mut process = begun.await.unwrap();

    kill_process(Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let (status, said) = tokio::task::spawn_blocking(move || (process.wait(LIMIT).unwrap(), process.log())).await.unwrap();

    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("vedette: stopped; what the run made is removed"), "{said}");
    assert!(!cluster.has_namespace());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_one_leaves_is_removed_by_clean_and_not_taken_over() {
    let cluster = cluster(settings()).await;
    let mut process = cluster.start("%/plan.yaml --no-labels");
    let log = cluster.folder.path().join("vedette.log");
    let killed = tokio::task::spawn_blocking(move || {
        process.wait_for("the attacks", LIMIT, || fs::read_to_string(&log).is_ok_and(|said| said.contains("phase attacks"))).unwrap();
        process.kill().unwrap();
    });
    killed.await.unwrap();

    let left = cluster.has_namespace();
    let (again, said) = cluster.run("%/plan.yaml --no-labels").await;
    let (cleaned, removed) = cluster.run("--clean").await;
    let (twice, none) = cluster.run("--clean").await;

    assert!(left && again == Some(1), "{said}");
    assert!(said.contains("is that of run simulate-") && said.contains("vedette simulate --clean --backend kube"), "{said}");
    assert_eq!((cleaned, twice), (Some(0), Some(0)), "{removed} {none}");
    assert!(removed.contains("removed namespace vedette-range of simulate-"), "{removed}");
    assert!(none.contains("there is no namespace vedette-range") && !cluster.has_namespace(), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_every_verb_and_resource_before_anything_is_made() {
    let cluster = cluster(settings()).await;
    cluster.server.forbid("create", "pods/exec");
    cluster.server.forbid("create", "networkpolicies");

    let (code, said) = cluster.run("%/plan.yaml --no-labels").await;

    assert_eq!(code, Some(5), "{said}");
    for part in ["in namespace vedette-range", "create on networkpolicies", "create on pods/exec", "docs/lab.md"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(cluster.made(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_cluster_does_not_have_is_named_at_once() {
    let cluster = cluster(settings()).await;

    let (code, said) = cluster.run("%/silent.yaml --no-labels --image elsewhere:1").await;

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ErrImagePull") && said.contains("--image"), "{said}");
    assert!(!cluster.has_namespace());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_cannot_give_is_said_before_anything_is_asked() {
    let cluster = cluster(settings()).await;
    let plan = PLAN.replace("act: flood-http, at: 5s, lasts: 3s, intensity: {rate: 10}", "act: flood-syn, at: 5s, lasts: 3s");
    write(cluster.folder.path(), &plan);

    let (code, said) = cluster.run("%/raw.yaml --no-labels").await;
    let (dry, table) = cluster.run("%/raw.yaml --dry-run").await;

    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("phase attacks, episode flood-syn (behaviour syn-flood): raw sockets"), "{said}");
    assert_eq!(dry, Some(0), "{table}");
    assert!(table.contains("not in a cluster: phase attacks, episode flood-syn"), "{table}");
    assert!(cluster.server.asked().is_empty());
}

fn write(folder: &Path, plan: &str) {
    fs::write(folder.join("raw.yaml"), plan).unwrap();
    assert!(checkout::binary("vedette-range").is_file(), "the small kubelet runs it");
}
