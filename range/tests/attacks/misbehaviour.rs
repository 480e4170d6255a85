//! Every way that came to mind to make an attack harm somebody: each is refused, or capped.

use std::{os::unix::fs::symlink, process::Command};

use vedette_proto::Column;
use vedette_range::{cgroups::Limits, guard::own_namespace, nets::Range};

use crate::stage::{BINARY, MIB, Stage, limits, said, subnet};

/// Everything that sends, each told to send to `target` (an address without port).
fn senders(target: &str) -> Vec<Vec<String>> {
    let at = |port: u16| if target.contains(':') { format!("[{target}]:{port}") } else { format!("{target}:{port}") };
    let lines = [
        format!("connect --target {}", at(80)),
        format!("load --target {}", at(80)),
        format!("worker --target {}", at(80)),
        format!("cache-client --target {}", at(6379)),
        format!("hash --pool {}", at(3333)),
        format!("memory-hash --resident-mib 1 --pool {}", at(3333)),
        format!("upload --rate 1000 --target {}", at(9000)),
        format!("upload --rate 1000 --datagrams --target {}", at(9000)),
        format!("upload --rate 1000 --v6 --target {}", at(9000)),
        format!("syn-flood --target {}", at(80)),
        format!("syn-flood --source silent --target {}", at(80)),
        format!("slow-loris --target {}", at(80)),
        format!("recon --target {}", at(6443)),
        format!("recon --keep-alive --target {}", at(6443)),
    ];
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// With everything that a sender must be told.
fn bounded(args: &[String], allow: &str, host_namespace: u64) -> Vec<String> {
    [args, &["--allow".to_owned(), allow.to_owned(), "--host-namespace".to_owned(), host_namespace.to_string()]].concat()
}

#[tokio::test]
async fn no_program_sends_to_what_the_run_did_not_make() {
    let Some(stage) = Stage::make("foreign").await else { return };
    let host = own_namespace().expect("namespace");
    let pod = stage.runs("trier", Limits::default(), &["idle", "--seconds", "600"]).await;
    // Another run's pods and ranges, the machine itself, the world, everybody in the subnet.
    let foreign = ["10.213.8.1", "10.214.8.7", "127.0.0.1", "192.0.2.1", "10.213.9.255", "0.0.0.0"];

    for target in foreign {
        for args in senders(target) {
            let output = stage.tries_inside(&pod, &bounded(&args, &subnet().to_string(), host)).await;
            assert!(!output.status.success() && said(&output).contains("refused"), "{args:?}: {}", said(&output));
        }
    }
    // Only uploads take an IPv6 address; no flag makes anything else of the others.
    for target in ["::1", "fdd5:7665:6465:8::10", "ff02::1", "2001:db8::1", "::ffff:192.0.2.1"] {
        for args in senders(target) {
            let output = stage.tries_inside(&pod, &bounded(&args, &subnet().to_string(), host)).await;
            let (status, said) = (output.status, said(&output));
            assert!(!status.success() && (said.contains("refused") || said.contains("invalid")), "{args:?}: {said}");
        }
    }
    let row = pod.until("what was sent", |row, _| row.get(Column::NetTxPackets).is_some()).await;
    for column in [Column::TcpActiveOpens, Column::UdpOutDatagrams, Column::TcpOutSegments] {
        assert_eq!(row.get(column), Some(0), "{}", column.name());
    }
    stage.end([pod]).await;
}

#[tokio::test]
async fn no_program_sends_from_the_hosts_namespace_or_with_other_bounds() {
    let host = own_namespace().expect("namespace");
    let own = "10.213.9.10";
    let scan = vec![vec!["scan".to_owned()], vec!["scan".to_owned(), "--method".to_owned(), "syn".to_owned()]];

    for args in senders(own).into_iter().chain(scan) {
        // The namespace that it was told to stay out of; one that it was not told of; bounds that no run has; and none.
        let tries = [
            bounded(&args, "10.213.9.0/24", host),
            bounded(&args, "10.213.9.0/24", 0),
            bounded(&args, "10.213.0.0/16", 0),
            bounded(&args, "0.0.0.0/0", 0),
            bounded(&args, "192.168.0.0/24", 0),
            args.clone(),
        ];
        for args in tries {
            let output = Command::new(BINARY).arg("behave").args(&args).output().expect("run");
            let said = said(&output);
            assert!(!output.status.success(), "{args:?}");
            assert!(said.contains("refused") || said.contains("required"), "{args:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_course_of_no_time_does_nothing() {
    let Some(stage) = Stage::make("notime").await else { return };
    let pod = stage.runs("trier", limits(64, 32), &["idle", "--seconds", "600"]).await;
    let silent = stage.address(Range::Silent, 9);
    let refusing = stage.address(Range::Refusing, 9);

    let mut all: Vec<Vec<String>> =
        senders(&refusing).into_iter().filter(|args| !["worker", "cache-client"].contains(&&*args[0])).collect();
    all.extend(senders(&silent).into_iter().filter(|args| args[0] == "upload"));
    for line in ["scan", "scan --method syn", "scan --method udp --into silent", "leak --mib-per-second 256", "fork-bomb", "idle"] {
        all.push(line.split(' ').map(str::to_owned).collect());
    }
    for mut args in all {
        args.extend(["--seconds".to_owned(), "0".to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = stage.tries_inside(&pod, &stage.program(&args).args).await;
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }

    let row = pod.until("what was sent", |row, _| row.get(Column::NetTxPackets).is_some()).await;
    for column in [Column::TcpActiveOpens, Column::UdpOutDatagrams, Column::OomKills] {
        assert_eq!(row.get(column).unwrap_or(0), 0, "{}", column.name());
    }
    stage.end([pod]).await;
}

#[tokio::test]
async fn huge_rates_are_capped() {
    let Some(stage) = Stage::make("rates").await else { return };
    let sink = stage.serves("archive", &["sink"]).await;
    let huge = u32::MAX.to_string();
    let per_second = |actor: &crate::stage::Actor, column| {
        let (count, us) = (actor.column(column), actor.column(Column::IntervalUs));
        count as f64 * 1e6 / us as f64
    };

    let scan = stage.runs("ledger", Limits::default(), &["scan", "--into", "refusing", "--rate", &huge, "--seconds", "4"]).await;
    let upload = stage
        .runs(
            "digest",
            Limits::default(),
            &["upload", "--target", &sink.at(9000), "--rate", &u64::MAX.to_string(), "--connections", &huge, "--seconds", "4"],
        )
        .await;
    scan.until("a second of it", |row, _| row.get(Column::IntervalUs) > Some(2_000_000)).await;
    upload.until("a second of it", |row, _| row.get(Column::IntervalUs) > Some(2_000_000)).await;

    assert!(per_second(&scan, Column::TcpActiveOpens) < 560.0);
    assert!(per_second(&upload, Column::NetTxBytes) < 24e6);
    assert!(upload.column(Column::TcpActiveOpens) <= 64 * 2);
    stage.end([scan, upload, sink]).await;
}

#[tokio::test]
async fn huge_memory_is_refused_or_capped() {
    let Some(stage) = Stage::make("memory").await else { return };

    let miner = stage.tries(limits(64, 32), &["memory-hash", "--resident-mib", "2048", "--seconds", "1"]).await;
    assert!(!miner.status.success() && said(&miner).contains("refused: 2048 MiB is more than 64 MiB"), "{}", said(&miner));
    let greedy = stage.tries(Limits::default(), &["fail", "--how", "oom", "--after-ms", "0"]).await;
    assert!(!greedy.status.success() && said(&greedy).contains("refused: no memory limit"), "{}", said(&greedy));
    let roomy = stage.tries(limits(4_096, 32), &["fail", "--how", "oom", "--after-ms", "0"]).await;
    assert!(!roomy.status.success() && said(&roomy).contains("refused: no memory limit of at most 1024 MiB"), "{}", said(&roomy));

    let leak = stage.runs("search", Limits::default(), &["leak", "--mib-per-second", "1e300", "--most-mib", "48", "--seconds", "30"]).await;
    let row = leak.until("its ceiling", |row, _| row.get(Column::MemoryAnonBytes) >= Some(48 * MIB)).await;
    assert!(row.get(Column::MemoryAnonBytes) < Some(60 * MIB), "{row:?}");
    let strange = stage.tries(limits(64, 32), &["leak", "--mib-per-second", "NaN", "--most-mib", "9999999", "--seconds", "1"]).await;
    assert!(strange.status.success(), "{}", said(&strange));
    stage.end([leak]).await;
}

#[tokio::test]
async fn no_fork_bomb_without_a_low_pids_limit() {
    let Some(stage) = Stage::make("nopids").await else { return };

    for limit in [0, 100_000] {
        let output = stage.tries(limits(0, limit), &["fork-bomb", "--seconds", "5"]).await;
        assert!(!output.status.success() && said(&output).contains("refused: no pids limit"), "{}", said(&output));
    }
    // Not even as one of its processes.
    let member = ["fork-bomb", "--until-unix-ms", "99999999999999", "--parent", "1", "--seconds", "5"];
    let output = stage.tries(limits(0, 0), &member).await;
    assert!(!output.status.success() && said(&output).contains("refused: no pids limit"), "{}", said(&output));
    // And with one, not when its parent is not who it was said to be.
    let output = stage.tries(limits(0, 32), &member).await;
    assert!(output.status.success(), "{}", said(&output));
    stage.end([]).await;
}

#[tokio::test]
async fn no_disk_is_filled_that_others_live_on() {
    let Some(stage) = Stage::make("nodisk").await else { return };
    let work = stage.site.home.work();
    let (plain, link, file) = (work.join("plain"), work.join("link"), work.join("file"));
    std::fs::create_dir(&plain).expect("directory");
    symlink("/dev/shm", &link).expect("link");
    std::fs::write(&file, "").expect("file");

    let refused = [
        (plain.clone(), "on the disk that / is on"),
        (link, "not through a link"),
        (file, "cannot be opened as a directory"),
        (work.join("nothing"), "cannot be opened as a directory"),
        ("/".into(), "on the disk that / is on"),
    ];
    for (dir, why) in refused {
        let output = stage.tries(limits(0, 32), &["disk-fill", "--dir", dir.to_str().expect("a plain path"), "--seconds", "1"]).await;
        assert!(!output.status.success() && said(&output).contains(why), "{}: {}", dir.display(), said(&output));
    }
    assert_eq!(std::fs::read_dir(&plain).expect("directory").count(), 0);

    // Told to, it takes a little, and gives it back.
    let told = ["disk-fill", "--dir", plain.to_str().expect("a plain path"), "--shared-disk", "--most-mib", "4", "--seconds", "1"];
    let output = stage.tries(limits(0, 32), &told).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read_dir(&plain).expect("directory").count(), 0);
    stage.end([]).await;
}
