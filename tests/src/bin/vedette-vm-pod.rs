//! Inside the cgroup v2 virtual machine: `vedette-vm-pod FOLDER INSTALL IMAGE` starts a containerd of the range, runs the agent's pod of
//! INSTALL (manifests) with the image IMAGE (an archive) beside pods of the range, and a sink under the aggregator's name. The folder gets
//! `received.jsonl`; what the test wants to know is printed, a line each.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use vedette_proto::v1::ingest_service_server::IngestServiceServer;
use vedette_range::{
    cgroups::Cgroups,
    clean,
    guard::Net,
    home::Home,
    network::{Network, PodNetwork},
    pod::Site,
    runtime::{Backend, Runtime},
    schedule::Schedule,
};
use vedette_tests::{
    agent_pod::{self, AgentPod, Given, cgroup, start},
    certificates,
    sink::{Line, Sink},
    station::within,
};

/// Rows of the last container that are waited for: twice what the slow tier needs.
const ROWS: usize = 12;
/// How often the crashing pod fails before it stays.
const FAILURES: usize = 2;
/// For anything that must come to pass; what is emulated is slow.
const LIMIT: Duration = Duration::from_secs(180);
/// The run, and its root cgroup.
const NAME: &str = "vedette-vm";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok().context("a crypto provider is already installed")?;
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, install, image] = arguments.as_slice() else { anyhow::bail!("arguments: FOLDER INSTALL IMAGE") };
    let manifests = fs::read_to_string(install)?;

    let cgroups = Cgroups::find(NAME)?;
    let home = Home::claim(NAME, Path::new("/bin/vedette-range"))?;
    let runtime = Runtime::start(Backend::Containerd, &cgroups, &home).await?;
    let network = Network::create(Net::slash24(Ipv4Addr::new(10, 213, 11, 0))).await?;
    let (station, place) = (network.pod().await?, network.pod().await?);
    let schedule = Mutex::new(Schedule::default());
    let site = Arc::new(Site { cgroups, network, home, runtime, identities: None, schedule, backoff: Duration::from_secs(1) });
    println!("STEP containerd");
    let image_name = agent_pod::spec(&manifests)["containers"][0]["image"].as_str().unwrap().to_owned();
    agent_pod::import(&agent_pod::socket(&site), image, &image_name).await;
    println!("STEP image");

    let received = folder.join("received.jsonl");
    agent_pod::serve_names(&station);
    let ca = serve(&station, &received)?;
    let web = start(&site, "web", &[&["web", "--address", "@self"]]).await;
    let given = Given {
        uid: "6c1b7a0e-98c2-4d53-9d0a-52a6a17d7a10",
        name: "vedette-agent-x7k2p",
        node: "vm",
        network: place,
        name_server: station.address,
        ca: Some(&ca),
        token: "the sink looks at none",
    };
    let agent = AgentPod::run(&site, &manifests, given).await;
    until("the agent is ready, by the probe of its manifest", &agent, || agent.probe("readinessProbe", &station)).await?;
    println!("STEP ready");

    // What comes now is counted from zero.
    let target = format!("{}:8080", web.network.address);
    let miner = start(&site, "miner", &[&["hash", "--duty-pct", "20", "--seconds", "600"]]).await;
    let visitor = start(&site, "visitor", &[&["load", "--target", &target, "--rate", "10", "--seconds", "600"]]).await;
    let fail: &[&str] = &["fail", "--after-ms", "2500"];
    let crashy = start(&site, "crashy", &[fail, fail, &["idle", "--seconds", "600"]]).await;
    let lives = || crashy.container_ids(0, i64::MAX).len() == FAILURES + 1 && crashy.container_id().is_some();
    until("it failed and stays", &agent, lives).await?;
    let last = crashy.container_id().unwrap();
    until("enough rows of the last container", &agent, || rows(&received, &last).is_ok_and(|rows| rows >= ROWS)).await?;
    println!("STEP rows");

    let truths = |when: &str| {
        println!("TRUTH miner_cpu_{when}_us {}", agent_pod::cpu_us(&site.cgroups, &cgroup(&miner)));
        println!("TRUTH web_rx_{when}_bytes {}", agent_pod::received_bytes(&site.cgroups, &cgroup(&web)));
    };
    truths("before");
    agent.status(&site.cgroups).lines().for_each(|line| println!("STATUS {}", line.replace('\t', " ")));
    let exit_code = agent.stop().await;
    truths("after");
    println!("TRUTH exit_code {exit_code}");
    println!("POD agent {} {}", agent.uid, agent.container);
    for (name, pod) in [("web", &web), ("miner", &miner), ("visitor", &visitor), ("crashy", &crashy)] {
        pod.container_ids(0, i64::MAX).iter().for_each(|id| println!("POD {name} {} {id}", pod.uid));
    }
    eprint!("{}", agent.log());
    for pod in [&web, &miner, &visitor, &crashy] {
        pod.stop().await?;
    }
    agent.remove(&site).await;
    clean::remove(&site.cgroups, &site.home).await?;
    println!("TRUTH left {}", site.cgroups.leftovers().len());
    Ok(())
}

/// Stands in for the aggregator in a pod's network, under its name in the cluster; gives the CA's certificate.
fn serve(station: &PodNetwork, received: &Path) -> anyhow::Result<String> {
    let certificates = certificates::make_for(&["vedette-aggregator.vedette.svc"])?;
    let address = (station.address, 7443);
    let listener = within(station, move || TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    let sink = Sink::new(fs::File::create(received)?);
    let identity = Identity::from_pem(certificates.certificate, certificates.key);
    let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?.add_service(IngestServiceServer::new(sink));
    tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await.unwrap();
    });
    Ok(certificates.ca)
}

/// Rows that came of a container.
fn rows(received: &Path, id: &str) -> anyhow::Result<usize> {
    let (mut reference, mut count) = (None, 0);
    for line in BufReader::new(fs::File::open(received)?).lines() {
        // The last one may be half written.
        match serde_json::from_str(&line?) {
            Ok(Line::Added { container, id: added, .. }) if added == id => reference = Some(container),
            Ok(Line::Row { container, .. }) if Some(container) == reference => count += 1,
            _ => {}
        }
    }
    Ok(count)
}

/// Waits for something that must come to pass.
async fn until(what: &str, agent: &AgentPod, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !holds() {
        ensure!(started.elapsed() < LIMIT, "never: {what}; the agent says:\n{}", agent.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
