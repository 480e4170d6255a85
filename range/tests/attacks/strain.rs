//! What strains a limit: processes against a pids limit, memory that grows, a disk that fills.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{MIB, Stage, limits, said};

#[tokio::test]
async fn a_fork_bomb_fills_its_pids_limit_and_ends_by_itself() {
    let Some(stage) = Stage::make("forks").await else { return };
    let host = stage.runs("render", limits(0, 40), &["idle", "--seconds", "600"]).await;

    let mut bomb = host.pod.exec(&stage.program(&["fork-bomb", "--rate", "1000", "--seconds", "6"])).expect("inside");
    let row = host.until("processes", |row, _| row.get(Column::PidsCurrent) >= Some(36)).await;

    assert!(row.get(Column::PidsCurrent) <= row.get(Column::PidsLimit), "{row:?}");
    assert!(row.get(Column::CpuSystemUs) > Some(0), "{row:?}");
    let status = bomb.wait().await.expect("ended");
    assert!(status.success(), "{status}");
    host.until("only what was there before", |row, _| row.get(Column::PidsCurrent) == Some(1)).await;
    stage.end([host]).await;
}

#[tokio::test]
async fn a_killed_fork_bomb_leaves_no_process() {
    let Some(stage) = Stage::make("forkkill").await else { return };
    let host = stage.runs("render", limits(0, 64), &["idle", "--seconds", "600"]).await;

    let mut bomb = host.pod.exec(&stage.program(&["fork-bomb", "--rate", "1000", "--seconds", "600"])).expect("inside");
    host.until("processes", |row, _| row.get(Column::PidsCurrent) >= Some(30)).await;
    bomb.kill().await.expect("killed");

    host.until("only what was there before", |row, _| row.get(Column::PidsCurrent) == Some(1)).await;
    stage.end([host]).await;
}

#[tokio::test]
async fn a_fork_bomb_keeps_below_its_own_ceiling() {
    let Some(stage) = Stage::make("forkcap").await else { return };
    let host = stage.runs("render", limits(0, 200), &["idle", "--seconds", "600"]).await;

    let mut bomb = host.pod.exec(&stage.program(&["fork-bomb", "--rate", "1000", "--most", "20", "--seconds", "4"])).expect("inside");
    let row = host.until("processes", |row, _| row.get(Column::PidsCurrent) >= Some(18)).await;

    // Those that looked at the same moment may start one each.
    assert!(row.get(Column::PidsCurrent) < Some(60), "{row:?}");
    assert!(bomb.wait().await.expect("ended").success());
    stage.end([host]).await;
}

#[tokio::test]
async fn a_leak_grows_at_its_rate_up_to_its_ceiling() {
    let Some(stage) = Stage::make("leak").await else { return };

    let leak = stage.runs("search", limits(256, 64), &["leak", "--mib-per-second", "20", "--most-mib", "60", "--seconds", "60"]).await;
    let half = leak.until("30 MiB", |row, _| row.get(Column::MemoryAnonBytes) >= Some(30 * MIB)).await;
    let seconds = half.get(Column::SlowIntervalUs).expect("interval") / 1_000_000;
    assert!(half.get(Column::MemoryAnonBytes) <= Some((20 * (seconds + 1) + 10) * MIB), "{half:?}");
    let full = leak.until("60 MiB", |row, _| row.get(Column::MemoryAnonBytes) >= Some(60 * MIB)).await;

    assert!(full.get(Column::MemoryAnonBytes) < Some(70 * MIB), "{full:?}");
    assert_eq!(full.get(Column::OomKills).unwrap_or(0), 0);
    stage.end([leak]).await;
}

/// A small ext4 in a file, mounted; unmounted when dropped.
struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    fn make(stage: &Stage, mib: u64) -> Self {
        let work = stage.site.home.work();
        let disk = Self { image: work.join("disk.img"), point: work.join("disk") };
        fs::File::create(&disk.image).expect("image").set_len(mib * MIB).expect("sized");
        fs::create_dir(&disk.point).expect("mount point");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", path(&disk.image)]);
        run("mount", &["-o", "loop", path(&disk.image), path(&disk.point)]);
        disk
    }

    fn free_mib(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.point).expect("statvfs");
        disk.f_bavail * disk.f_frsize / MIB
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &[path(&self.point)]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
}

#[tokio::test]
async fn a_disk_fills_until_nothing_is_free_and_is_given_back() {
    let Some(stage) = Stage::make("disk").await else { return };
    let disk = Disk::make(&stage, 96);
    let before = disk.free_mib();

    let args = ["disk-fill", "--dir", path(&disk.point), "--mib-per-second", "60", "--sync-mib", "8", "--seconds", "12"];
    let fill = stage.runs("batch", limits(0, 64), &args).await;
    let row = fill.until("writes", |row, _| row.get(Column::IoWriteBytes) >= Some(30 * MIB)).await;
    assert!(row.get(Column::IoWrites) > Some(8), "{row:?}");
    for _ in 0..400 {
        if disk.free_mib() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    assert!(before > 70 && disk.free_mib() == 0, "{before} MiB before, {} after", disk.free_mib());
    assert!(fs::read_dir(&disk.point).expect("disk").flatten().any(|file| file.metadata().expect("file").len() > 20 * MIB));
    // A container that ends well is started again: what the first life wrote is gone when its time is over.
    for _ in 0..800 {
        if disk.free_mib() > before / 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(disk.free_mib() > before / 2);
    fill.end().await;
    drop(disk);
    stage.end([]).await;
}

#[tokio::test]
async fn a_disk_fill_stops_at_its_ceiling() {
    let Some(stage) = Stage::make("diskcap").await else { return };
    let disk = Disk::make(&stage, 96);
    let before = disk.free_mib();

    let args = ["disk-fill", "--dir", path(&disk.point), "--mib-per-second", "100", "--most-mib", "20", "--seconds", "2"];
    let host = stage.runs("batch", Limits::default(), &["idle", "--seconds", "600"]).await;
    let mut fill = host.pod.exec(&stage.program(&args)).expect("inside");
    let mut least = before;
    while fill.try_wait().expect("asked").is_none() {
        least = least.min(disk.free_mib());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    assert!(before - least >= 15 && before - least <= 22, "{before} MiB free, at least {least}");
    host.end().await;
    drop(disk);
    stage.end([]).await;
}
