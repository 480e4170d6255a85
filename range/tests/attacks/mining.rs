//! Mining: CPU at a dose, memory that is resident, a connection that says little, manners.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{MIB, Stage, limits};

#[tokio::test]
async fn a_memory_hard_miner_is_resident_and_busy() {
    let Some(stage) = Stage::make("memhash").await else { return };

    let miner = stage.runs("report", limits(400, 64), &["memory-hash", "--resident-mib", "256", "--seconds", "60"]).await;
    let row = miner
        .until("256 MiB and CPU", |row, _| {
            row.get(Column::MemoryAnonBytes) >= Some(256 * MIB) && row.get(Column::CpuUserUs) > Some(1_500_000)
        })
        .await;

    assert!(row.get(Column::MemoryAnonBytes) < Some(280 * MIB), "{row:?}");
    // Its pages are taken once: what it does afterwards is no growth.
    let faults = miner.column(Column::PageFaults);
    let cpu = miner.column(Column::CpuUsageUs);
    miner.until("more CPU", |row, _| row.get(Column::CpuUsageUs) > Some(cpu + 500_000)).await;
    assert!(miner.column(Column::PageFaults) - faults < 2_000);
    stage.end([miner]).await;
}

#[tokio::test]
async fn a_dose_of_cpu_is_a_share_of_the_time() {
    let Some(stage) = Stage::make("dose").await else { return };

    let miner = stage.runs("report", Limits::default(), &["hash", "--duty-pct", "30", "--seconds", "60"]).await;
    let row = miner.until("half a second of CPU", |row, _| row.get(Column::CpuUsageUs) > Some(500_000)).await;

    let (used, took) = (row.get(Column::CpuUsageUs).expect("CPU"), row.get(Column::SlowIntervalUs).expect("interval"));
    assert!(used * 100 < took * 40, "{used} us of {took}");
    stage.end([miner]).await;
}

#[tokio::test]
async fn on_and_off_is_less_than_always() {
    let Some(stage) = Stage::make("onoff").await else { return };

    let args = ["hash", "--on-ms", "200", "--off-ms", "1000", "--seconds", "60"];
    let miner = stage.runs("report", Limits::default(), &args).await;
    let begun = miner.until("work", |row, _| row.get(Column::CpuUsageUs) > Some(0)).await;
    let (cpu, time) = (begun.get(Column::CpuUsageUs).expect("CPU"), begun.get(Column::SlowIntervalUs).expect("interval"));
    let row = miner.until("three turns", |row, _| row.get(Column::CpuUsageUs) > Some(cpu + 450_000)).await;

    let (used, took) = (row.get(Column::CpuUsageUs).expect("CPU") - cpu, row.get(Column::SlowIntervalUs).expect("interval") - time);
    assert!(used * 100 < took * 35, "{used} us of {took}");
    stage.end([miner]).await;
}

#[tokio::test]
async fn a_miner_stays_connected_to_its_pool_and_says_little() {
    let Some(stage) = Stage::make("pool").await else { return };
    let pool = stage.serves("quotes", &["pool", "--job-seconds", "1"]).await;

    let args = ["hash", "--duty-pct", "10", "--pool", &pool.at(3333), "--share-seconds", "1", "--seconds", "60"];
    let miner = stage.runs("report", Limits::default(), &args).await;
    let row = miner.until("messages both ways", |row, _| row.get(Column::TcpInSegments) >= Some(12)).await;

    assert_eq!(row.get(Column::TcpActiveOpens), Some(1));
    assert_eq!(row.get(Column::TcpEstablished), Some(1));
    assert!(row.get(Column::NetTxBytes) < Some(20_000), "{row:?}");
    assert_eq!(pool.column(Column::TcpEstablished), 1);
    stage.end([miner, pool]).await;
}

#[tokio::test]
async fn a_polite_miner_rests_while_others_work() {
    let Some(stage) = Stage::make("polite").await else { return };
    // Every CPU is kept busy by somebody else: the polite one has had what it gets before it first looked.
    let greedy = stage.runs("render", Limits::default(), &["hash", "--threads", "4", "--seconds", "60"]).await;
    greedy.until("a busy machine", |row, _| row.get(Column::CpuUsageUs) > Some(500_000)).await;

    let polite = stage.runs("report", Limits::default(), &["hash", "--yield-above-pct", "30", "--seconds", "60"]).await;
    let before = greedy.column(Column::CpuUsageUs);
    greedy.until("work beside it", |row, _| row.get(Column::CpuUsageUs) > Some(before + 4_000_000)).await;

    let (polite_us, greedy_us) = (polite.column(Column::CpuUsageUs), greedy.column(Column::CpuUsageUs) - before);
    assert!(polite_us * 3 < greedy_us, "{polite_us} us beside {greedy_us}");
    stage.end([polite, greedy]).await;
}
