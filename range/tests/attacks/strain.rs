//! What strains a limit: processes against a pids limit, memory that grows, a disk that fills.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
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
        // Also where a test failed and its pod still writes.
        let _ = Command::new("umount").args(["--lazy", path(&self.point)]).status();
    }
}

/// Recent kernels count the writes of v1's cgroups only once a throttle is set; then the page cache is all that shows.
fn counts_writes() -> bool {
    let v1 = fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive");
    v1.map_or(true, |text| !text.lines().any(|line| line == "Total 0"))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
}

/// Waits until the disk has at most so much free.
async fn until_free(disk: &Disk, most_mib: u64) {
    for _ in 0..1_500 {
        if disk.free_mib() <= most_mib {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} MiB are still free", disk.free_mib());
}

#[tokio::test]
async fn a_disk_fills_until_nothing_is_free_and_stays_full() {
    let Some(stage) = Stage::make("disk").await else { return };
    let disk = Disk::make(&stage, 64);
    let before = disk.free_mib();

    let args = ["disk-fill", "--dir", path(&disk.point), "--mib-per-second", "60", "--sync-mib", "8", "--seconds", "600"];
    let fill = stage.runs("batch", limits(0, 64), &args).await;
    until_free(&disk, 0).await;

    assert!(before > 40, "{before} MiB before");
    let written = if counts_writes() { Column::IoWriteBytes } else { Column::MemoryFileBytes };
    let row = fill.until("writes", |row, _| row.get(written) >= Some(before / 2 * MIB)).await;
    assert!(row.get(Column::MemoryAnonBytes) < Some(8 * MIB), "a disk, not memory: {row:?}");
    assert_eq!((disk.free_mib(), row.get(Column::PidsCurrent)), (0, Some(1)));
    fill.end().await;
    drop(disk);
    stage.end([]).await;
}

#[tokio::test]
async fn a_disk_fill_stops_at_its_ceiling_and_gives_back() {
    let Some(stage) = Stage::make("diskcap").await else { return };
    let disk = Disk::make(&stage, 64);
    let before = disk.free_mib();
    let host = stage.runs("batch", Limits::default(), &["idle", "--seconds", "600"]).await;

    let args = ["disk-fill", "--dir", path(&disk.point), "--mib-per-second", "100", "--most-mib", "20", "--seconds", "6"];
    let mut fill = host.pod.exec(&stage.program(&args)).expect("inside");
    until_free(&disk, before - 19).await;
    let mut least = before;
    while fill.try_wait().expect("asked").is_none() {
        least = least.min(disk.free_mib());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert!(before - least <= 22, "{before} MiB free, at least {least}");
    assert!(before - disk.free_mib() <= 1, "{before} MiB before, {} after", disk.free_mib());
    host.end().await;
    drop(disk);
    stage.end([]).await;
}
