//! Placebos: the same program, started and stopped the same way, and nothing of the attack.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::Stage;

#[tokio::test]
async fn a_dose_of_nothing_has_the_threads_and_nothing_else() {
    let Some(stage) = Stage::make("nothing").await else { return };

    let idle = stage.runs("report", Limits::default(), &["idle", "--threads", "5", "--seconds", "60"]).await;
    let row = idle.until("threads", |row, _| row.get(Column::PidsCurrent) >= Some(5)).await;

    assert_eq!(row.get(Column::PidsCurrent), Some(5));
    assert!(row.get(Column::CpuUsageUs) < Some(200_000), "{row:?}");
    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    assert_eq!((row.get(Column::RawSockets), row.get(Column::PacketSockets)), (Some(0), Some(0)));
    assert!(row.get(Column::MemoryAnonBytes) < Some(8 << 20), "{row:?}");
    stage.end([idle]).await;
}

#[tokio::test]
async fn a_miner_at_no_duty_sleeps() {
    let Some(stage) = Stage::make("noduty").await else { return };

    let miner = stage.runs("report", Limits::default(), &["hash", "--duty-pct", "0", "--seconds", "60"]).await;
    let row = miner.until("some time", |row, _| row.get(Column::IntervalUs) > Some(2_000_000)).await;

    let (used, took) = (row.get(Column::CpuUsageUs).expect("CPU"), row.get(Column::IntervalUs).expect("interval"));
    assert!(used * 10 < took, "{used} us of {took}");
    assert_eq!(row.get(Column::PidsCurrent), Some(2));
    stage.end([miner]).await;
}
