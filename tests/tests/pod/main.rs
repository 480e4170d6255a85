//! The agent's image in a real pod of a real containerd, set up from `manifests/install.yaml` as a kubelet would, beside pods of the range:
//! it reports what these did, and the aggregator names them by a stand-in for the API server. Needs root, containerd, runc, and the static programs of the virtual machine's image.

#![allow(clippy::unwrap_used)]

mod node;

use vedette_range::pod::Pod;
use vedette_tests::agent_pod::cgroup;

use node::Node;

/// Ticks of one second that are waited for after the last pod came.
const TICKS: i64 = 15;
/// How often the crashing pod fails before it stays.
const FAILURES: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_pod_reports_what_every_other_pod_did() {
    let Some(node) = Node::start().await else { return };
    let web = node.pod("web", &[&["web", "--address", "@self"]]).await;
    let agent = node.run_agent().await;
    node.until("the agent is ready, by the probe of its manifest", || node.probe(&agent, "readinessProbe")).await;
    // It samples without a certificate to trust, and delivers once there is one.
    assert_eq!(node.number("select count(*) from observations").await, 0);
    node.publish_ca(&agent);
    node.until_sql("select count(*) from observations", |rows| rows > 0).await;
    // What comes now is counted from zero.
    let target = format!("{}:8080", web.network.address);
    let miner = node.pod("miner", &[&["hash", "--duty-pct", "50", "--seconds", "600"]]).await;
    let visitor = node.pod("visitor", &[&["load", "--target", &target, "--rate", "50", "--seconds", "600"]]).await;
    let fail: &[&str] = &["fail", "--after-ms", "2500"];
    let crashy = node.pod("crashy", &[fail, fail, &["idle", "--seconds", "600"]]).await;
    let lives = |pod: &Pod| pod.container_ids(0, i64::MAX);
    node.until("it failed and stays", || lives(&crashy).len() == FAILURES + 1 && crashy.container_id().is_some()).await;
    // Its kubelet tells of a container once it runs.
    [&web, &miner, &visitor, &crashy].into_iter().for_each(|pod| node.tell(pod));
    let last = crashy.container_id().unwrap();
    node.until_sql(&format!("select count(*) from observations where container_id = '{last}'"), |rows| rows >= TICKS).await;

    let (cpu_before, rx_before) = (node.cpu_us(&cgroup(&miner)), node.received(&cgroup(&web)));
    let status = agent.status(&node.site.cgroups);
    let exit_code = agent.stop().await;
    let (cpu_after, rx_after) = (node.cpu_us(&cgroup(&miner)), node.received(&cgroup(&web)));

    // It is as unprivileged as the manifest says: nobody, no capability, no new privileges, filtered.
    for (field, value) in [
        ("Uid", "65532\t65532\t65532\t65532"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let line = format!("{field}:\t{value}\n");
        assert!(status.contains(&line), "no {line:?} in {status}");
    }
    assert_eq!(exit_code, 0, "{}", agent.log());
    let seen =
        node.texts("select distinct pod_uid || ' ' || container_id from observations where container_id <> '' and node = 'worker-7'").await;
    for pod in [&web, &miner, &visitor, &crashy] {
        for id in lives(pod) {
            assert!(seen.contains(&format!("{} {id}", pod.uid)), "{} {id} is missing in {seen:?}", pod.spec.owner_name);
        }
    }
    assert!(seen.contains(&format!("{} {}", agent.uid, agent.container)), "itself is missing in {seen:?}");
    // Every name is the API server's, and every row of this run has one.
    let own = node
        .texts(&format!(
            "select distinct namespace || ' ' || owner_kind || ' ' || owner_name || ' ' || pod_name from observations where pod_uid = '{}'",
            agent.uid
        ))
        .await;
    assert_eq!(own, ["vedette-agent DaemonSet vedette-agent vedette-agent-x7k2p"]);
    for pod in [&web, &miner, &visitor, &crashy] {
        let (record, uid) = (node.record(pod), &pod.uid);
        let names = "namespace || ' ' || owner_kind || ' ' || owner_name || ' ' || pod_name || ' ' || container_name";
        let named = node.texts(&format!("select distinct {names} from observations where pod_uid = '{uid}'")).await;
        let owner = &record.owner_name;
        assert_eq!(named, [format!("shop Deployment {owner} {} {owner}", record.pod)]);
    }
    let strangers = format!(
        "select distinct cgroup from observations where cgroup like '%vedette-test-pod-{}/%' and namespace not in ('shop', 'vedette-agent')",
        std::process::id()
    );
    assert_eq!(node.texts(&strangers).await, Vec::<String>::new(), "rows that no pod of the API server has");
    let unclaimed = "select count(*) from incidents where effect like '%no API object claims%' and namespace in ('shop', 'vedette-agent')";
    assert_eq!(node.number(unclaimed).await, 0);
    // The agent counted the restarts that the kubelet tells of.
    assert_eq!(node.metric("restarts_differ"), 0.0);
    assert_eq!(node.metric("known_pods"), 5.0);
    assert_eq!(node.number(&format!("select sum(restarts) from observations where pod_uid = '{}'", crashy.uid)).await, FAILURES as i64);
    // What was last counted is at most a tick and a half old, and half of one core makes half of that.
    let cpu = node.number(&format!("select sum(cpu_usage_us) from observations where pod_uid = '{}'", miner.uid)).await;
    assert!((cpu_before - 1_500_000..=cpu_after).contains(&cpu), "{cpu} us, the kernel says {cpu_before} to {cpu_after}");
    let rx = node.number(&format!("select sum(net_rx_bytes) from observations where pod_uid = '{}'", web.uid)).await;
    assert!((rx_before * 8 / 10..=rx_after).contains(&rx), "{rx} bytes, the kernel says {rx_before} to {rx_after}");
    let requests = node.number(&format!("select sum(tcp_passive_opens) from observations where pod_uid = '{}'", web.uid)).await;
    assert!(requests > 0, "nobody visited");
    // What the visitor sent is what the web received, and what it opened is what that accepted; a tick of either apart.
    let of_visitor =
        async |column: &str| node.number(&format!("select sum({column}) from observations where pod_uid = '{}'", visitor.uid)).await;
    let (sent, opened) = (of_visitor("net_tx_bytes").await, of_visitor("tcp_active_opens").await);
    assert!((rx * 7 / 10..=rx * 13 / 10).contains(&sent), "the visitor sent {sent} bytes, the web received {rx}");
    assert!((requests * 6 / 10..=requests * 14 / 10 + 10).contains(&opened), "the visitor opened {opened}, the web accepted {requests}");
    // Half of a core at most: it rests every other moment.
    let duty = format!("select sum(cpu_usage_us) * 100 / sum(interval_us) from observations where pod_uid = '{}'", miner.uid);
    let duty = node.number(&duty).await;
    assert!((1..=60).contains(&duty), "{duty} % of a core");
    let memory =
        node.number(&format!("select max(memory_current_bytes) from observations where container_id = '{}'", agent.container)).await;
    assert!(memory > 0 && memory < 96 << 20, "{memory} bytes of its own");

    for pod in [&web, &miner, &visitor, &crashy] {
        pod.stop().await.unwrap();
    }
    node.remove(agent).await;
}

#[test]
fn the_manifest_has_one_container_with_an_image_of_this_version() {
    let pod = node::agent_pod();

    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["containers"][0]["image"], concat!("vedette-agent:", env!("CARGO_PKG_VERSION")));
}
