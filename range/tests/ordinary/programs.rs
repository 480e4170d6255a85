//! Real programs from Debian inside pods.

use super::range::{Range, Watched, samples, skip, soon};

/// Whether a program is here; postgres's servers are in a directory by version.
fn installed(program: &str, package: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let found = ["/usr/bin", "/bin"].map(Into::into).into_iter().chain(versions).any(|dir: std::path::PathBuf| dir.join(program).is_file());
    if !found {
        skip(&format!("{program} is not installed (Debian's {package})"));
    }
    found
}

/// Runs a recipe until all these process names were seen in the pod.
async fn recipe(range: &Range, flags: &str, names: &[&str]) -> Watched {
    let pod = range.run("job", &format!("program --dir {{dir}} --rest-ms 50 --recipe {flags}")).await;
    let mut seen = std::collections::HashSet::new();
    soon(&format!("{names:?} ran"), || {
        seen.extend(pod.names().into_iter().map(|(name, _)| name));
        names.iter().all(|&name| seen.contains(name))
    })
    .await;
    pod
}

#[tokio::test]
async fn xz_compresses_at_full_speed_without_network() {
    if !installed("xz", "xz-utils") {
        return;
    }
    let Some(range) = Range::new("xz").await else { return };

    let job = recipe(&range, "xz --mib 4", &["xz"]).await;
    soon("it works", || job.cpu_ms() > 800).await;

    assert_eq!((job.tcp("ActiveOpens"), job.eth0().packets_out < 20), (0, true));
    range.end().await;
}

#[tokio::test]
async fn tar_and_rsync_move_files() {
    if !installed("tar", "tar") || !installed("rsync", "rsync") {
        return;
    }
    let Some(range) = Range::new("copies").await else { return };

    let tar = recipe(&range, "tar --mib 4", &["tar"]).await;
    soon("the archive is there", || tar.dir.join("program/archive.tar").exists()).await;
    tar.pod.stop().await.expect("stopped");
    let rsync = recipe(&range, "rsync --mib 4", &["rsync"]).await;
    soon("the copy is whole", || rsync.disk() >= 8 << 20).await;
    let sizes = samples(1.0, || rsync.disk()).await;

    assert!(sizes.iter().all(|&size| size < 9 << 20), "a copy is replaced, not added to");
    range.end().await;
}

#[tokio::test]
async fn gcc_compiles_several_at_a_time() {
    if !installed("gcc", "gcc") {
        return;
    }
    let Some(range) = Range::new("gcc").await else { return };

    let job = recipe(&range, "gcc --mib 6 --jobs 3", &["gcc", "cc1", "as"]).await;
    soon("the program is linked", || job.dir.join("program/program.o").exists()).await;

    let compilers = job.names().iter().filter(|(name, _)| name == "cc1").count();
    assert!(compilers <= 3, "{compilers}");
    range.end().await;
}

/// The one listener, and on the pod's own address.
fn only_its_own_address(pod: &Watched, port: u16) {
    let [a, b, c, d] = pod.pod.network.address.octets();
    assert_eq!(pod.listening(), [format!("{d:02X}{c:02X}{b:02X}{a:02X}:{port:04X}")]);
}

#[tokio::test]
async fn postgres_serves_pgbench_as_a_user_of_its_own() {
    if !installed("postgres", "postgresql") || !installed("pgbench", "postgresql-contrib") {
        return;
    }
    let Some(range) = Range::new("postgres").await else { return };

    let server = recipe(&range, "postgres --address {address} --serve-only", &["postgres"]).await;
    soon("the tables are filled and the benchmark is gone", || {
        !server.listening().is_empty() && server.names().iter().all(|(name, _)| name != "initdb" && name != "pgbench")
    })
    .await;
    let client = range.run("client", &format!("program --recipe pgbench --dir {{dir}} --rate 100 --target {}", server.at(5432))).await;
    soon("its clients are connected", || client.tcp("CurrEstab") >= 4).await;
    let before = server.written();
    soon("transactions are committed", || server.written() > before + 500_000).await;

    assert!(server.names().iter().filter(|(name, _)| name == "postgres").all(|&(_, uid)| uid != 0), "{:?}", server.names());
    only_its_own_address(&server, 5432);
    assert_eq!(client.fruitless(), 0);
    range.end().await;
}

#[tokio::test]
async fn redis_serves_its_benchmark_in_the_same_pod() {
    if !installed("redis-server", "redis-server") || !installed("redis-benchmark", "redis-tools") {
        return;
    }
    let Some(range) = Range::new("redis").await else { return };

    let server = recipe(&range, "redis --address {address} --rate 2000", &["redis-server", "redis-benchmark"]).await;
    soon("requests are answered", || server.tcp("InSegs") > 2_000).await;

    only_its_own_address(&server, 6379);
    assert!(server.eth0().packets_in < 50, "beside each other they talk over lo: {:?}", server.eth0());
    range.end().await;
}

#[tokio::test]
async fn a_server_dies_with_its_program() {
    if !installed("postgres", "postgresql") || !installed("pgbench", "postgresql-contrib") {
        return;
    }
    let Some(range) = Range::new("orphan").await else { return };
    let host = range.run("session", "sidecar --address {address}").await;
    let alone = host.processes();

    let program = host.program("program --recipe postgres --address {address} --dir {dir}");
    let mut child = host.pod.exec(&program).expect("inside");
    soon("it serves", || host.names().iter().filter(|(name, _)| name == "postgres").count() > 5).await;
    child.kill().await.expect("killed");

    soon("all are gone", || host.processes() == alone).await;
    range.end().await;
}
