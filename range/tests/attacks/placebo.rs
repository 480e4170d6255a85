//! Placebos: the same program, started and stopped the same way, and nothing of the attack.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{Actor, Stage};

/// CPU time in the second or so after it has begun, per cent of that time: starting costs the same whatever the dose.
async fn busy_pct(actor: &Actor) -> u64 {
    let (cpu, time) = (actor.column(Column::CpuUsageUs), actor.column(Column::IntervalUs));
    let row = actor.until("some time", |row, _| row.get(Column::IntervalUs) > Some(time + 1_500_000)).await;
    (row.get(Column::CpuUsageUs).expect("CPU") - cpu) * 100 / (row.get(Column::IntervalUs).expect("interval") - time)
}

#[tokio::test]
async fn a_dose_of_nothing_has_the_threads_and_nothing_else() {
    let Some(stage) = Stage::make("nothing").await else { return };

    let idle = stage.runs("report", Limits::default(), &["idle", "--threads", "5", "--seconds", "60"]).await;
    let row = idle.until("threads", |row, _| row.get(Column::PidsCurrent) >= Some(5)).await;

    assert_eq!(row.get(Column::PidsCurrent), Some(5));
    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    assert_eq!((row.get(Column::RawSockets), row.get(Column::PacketSockets)), (Some(0), Some(0)));
    assert!(row.get(Column::MemoryAnonBytes) < Some(8 << 20), "{row:?}");
    assert_eq!(busy_pct(&idle).await, 0);
    stage.end([idle]).await;
}

#[tokio::test]
async fn a_miner_at_no_duty_sleeps() {
    let Some(stage) = Stage::make("noduty").await else { return };

    let miner = stage.runs("report", Limits::default(), &["hash", "--duty-pct", "0", "--seconds", "60"]).await;
    miner.until("its thread", |row, _| row.get(Column::PidsCurrent) == Some(2)).await;

    assert!(busy_pct(&miner).await < 4);
    stage.end([miner]).await;
}
