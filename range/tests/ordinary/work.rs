//! What looks like mining, a leak or a fork bomb, and what is only work.

use vedette_range::cgroups::Limits;

use super::range::{Range, Watched, samples, seconds, soon};

/// What a pool connection or a scan would leave, and a batch does not.
fn nothing_on_the_wire(batch: &Watched) {
    assert_eq!((batch.tcp("ActiveOpens"), batch.tcp("InSegs"), batch.counter("Udp", "OutDatagrams")), (0, 0, 0));
    assert!(batch.eth0().packets_in < 20, "{:?}", batch.eth0());
}

#[tokio::test]
async fn compression_uses_the_share_of_cpu_asked_for_and_no_network() {
    let Some(range) = Range::new("compress").await else { return };
    let full = range.run("archive", "compress --duty-pct 100 --seconds 60").await;
    let part = range.run("thumbnails", "compress --duty-pct 15 --seconds 60").await;

    soon("it worked", || full.cpu_ms() > 1_500 && part.cpu_ms() > 200).await;

    assert!(part.cpu_ms() * 2 < full.cpu_ms(), "{} of {} ms", part.cpu_ms(), full.cpu_ms());
    nothing_on_the_wire(&full);
    assert_eq!(full.written(), 0);
    range.end().await;
}

#[tokio::test]
async fn numeric_batches_use_cpu_and_the_memory_asked_for() {
    let Some(range) = Range::new("numeric").await else { return };
    let dense = range.run("forecast", "numeric --size 128 --seconds 60").await;
    let graph = range.run("ranks", "numeric --resident-mib 48 --seconds 60").await;

    soon("both work", || dense.cpu_ms() > 1_000 && graph.anon_mib() >= 45).await;
    let before = (graph.cpu_ms(), graph.faults());
    soon("the graph is followed", || graph.cpu_ms() > before.0 + 500).await;

    assert!(dense.anon_mib() < 16, "{} MiB", dense.anon_mib());
    assert!((45..60).contains(&graph.anon_mib()), "{} MiB", graph.anon_mib());
    assert!(graph.faults() - before.1 < 2_000, "resident, not growing: {} faults", graph.faults() - before.1);
    nothing_on_the_wire(&dense);
    nothing_on_the_wire(&graph);
    range.end().await;
}

#[tokio::test]
async fn a_batch_job_works_writes_and_rests() {
    let Some(range) = Range::new("batch").await else { return };
    let batch = range.run("index", "batch --work-seconds 2 --rest-seconds 60 --duty-pct 60 --dir {dir}").await;

    soon("it wrote", || batch.written() >= 1024 * 1024).await;
    soon("its output is removed", || batch.disk() == 0).await;
    let before = batch.cpu_ms();
    seconds(1.5).await;

    assert!(batch.cpu_ms() - before < 100, "rest is rest: {} ms", batch.cpu_ms() - before);
    nothing_on_the_wire(&batch);
    range.end().await;
}

#[tokio::test]
async fn a_warm_up_grows_to_its_plateau_and_stays() {
    let Some(range) = Range::new("warmup").await else { return };
    let cache = range.run("catalog", "warm-up --mib 96 --rate-mib 32").await;

    let growing = samples(1.5, || cache.anon_mib()).await;
    soon("the plateau", || cache.anon_mib() >= 95).await;
    seconds(0.5).await;
    let (plateau, faults) = (cache.anon_mib(), cache.faults());
    seconds(2.0).await;

    assert!(growing.last() > growing.first(), "{growing:?}");
    assert!((95..112).contains(&plateau), "{plateau} MiB");
    assert_eq!(cache.anon_mib(), plateau);
    assert!(cache.faults() - faults < 200, "a leak goes on to fault pages in: {}", cache.faults() - faults);
    assert_eq!(cache.refused_forks(), 0);
    range.end().await;
}

#[tokio::test]
async fn a_parallel_build_has_many_short_processes_and_a_ceiling() {
    let Some(range) = Range::new("build").await else { return };
    let limits = Limits { pids: Some(60), ..Limits::default() };
    let build = range.limited("builder", "build --dir {dir} --jobs 8 --units 60 --unit-ms 30 --rest-ms 500 --seconds 60", limits).await;

    let mut seen = std::collections::HashSet::new();
    let pids = samples(5.0, || {
        seen.extend(build.processes());
        build.pids()
    })
    .await;

    // Front and tended process with their threads, and the sandbox, beside eight jobs.
    let most = pids.into_iter().max().expect("samples");
    assert!((6..=18).contains(&most), "{most} at a time");
    assert!(seen.len() > 20, "{} processes", seen.len());
    assert_eq!(build.refused_forks(), 0, "a fork bomb is refused at the limit");
    soon("objects are put together and removed", || build.written() > 60 * 64 * 1024).await;
    range.end().await;
}

#[tokio::test]
async fn cron_starts_a_short_process_now_and_then() {
    let Some(range) = Range::new("cron").await else { return };
    let cron = range.run("nightly", "cron --dir {dir} --every-seconds 2 --burst-ms 300").await;

    let counts = samples(5.0, || cron.processes().len()).await;

    let starts = counts.windows(2).filter(|pair| pair[0] == 2 && pair[1] == 3).count();
    assert!((1..=3).contains(&starts), "{starts} starts: {counts:?}");
    assert!(counts.iter().all(|&count| count <= 3));
    assert!(cron.cpu_ms() >= 250, "{} ms", cron.cpu_ms());
    assert!(cron.dir.join("cron/report").exists());
    range.end().await;
}
