//! A full disk: a clear error, nothing acknowledged that is not stored, and work again once there is room.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{SPOOL, START, ask, batch, config, subject};
use vedette_history::{Config, History, HistoryError};

/// A file system of 8 MiB of this test's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,nr_inodes=0", "vedette-test"]).arg(at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                eprintln!("SKIPPED: cannot mount a tmpfs (root only): {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: cannot run mount: {error}");
                None
            }
        }
    }

    /// Takes all that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let full = std::iter::repeat_with(|| std::io::Write::write_all(&mut file, &[1; 4_096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const SUM: &str = "SELECT count(*), count(distinct cpu_usage_us), max(cpu_usage_us) / 1000 FROM observations";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_acknowledges_nothing_and_recovers_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else { return };
    let config = Config { seal_rows: 1_000_000, ..config(&disk.0.join("history")) };
    let history = History::open(config.clone()).await.unwrap();
    let subjects: Vec<_> = (0..50).map(|place| subject(&format!("web-{place}"))).collect();
    let tick = |sequence: u64| batch(&subjects, sequence, START + sequence as i64);
    for sequence in 1..=10 {
        history.append(tick(sequence)).await.unwrap();
    }
    let ballast = disk.fill();

    let mut sequence = 10;
    let error = loop {
        sequence += 1;
        assert!(sequence < 100_000, "the disk never filled");
        if let Err(error) = history.append(tick(sequence)).await {
            break error;
        }
    };
    let stored = sequence - 1;
    let next = history.append(tick(sequence + 1)).await.unwrap_err();
    let sealing = history.maintain(START, &[]).await;

    assert!(error.is_disk_full(), "{error}");
    assert!(error.to_string().contains(".wal"), "{error}");
    assert!(matches!(next, HistoryError::AfterFailed { .. }), "{next}");
    assert!(sealing.is_err() && !history.stats().problems.is_empty(), "a full disk went unsaid");
    assert_eq!(history.acknowledged("node-a", &SPOOL), stored);
    assert_eq!(ask(&history, SUM).await.unwrap(), [[Some(stored as i64 * 50), Some(stored as i64 * 50), Some(stored as i64)]]);

    fs::remove_file(&ballast).unwrap();
    for sequence in sequence..=sequence + 20 {
        history.append(tick(sequence)).await.unwrap();
    }
    history.maintain(START, &[]).await.unwrap();
    let last = sequence + 20;
    let expected = [[Some(last as i64 * 50), Some(last as i64 * 50), Some(last as i64)]];
    assert_eq!(ask(&history, SUM).await.unwrap(), expected);
    assert_eq!(history.stats().problems, [""; 0]);

    history.close().await.unwrap();
    let history = History::open(config).await.unwrap();
    assert_eq!(ask(&history, SUM).await.unwrap(), expected);
    assert_eq!(history.acknowledged("node-a", &SPOOL), last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_names_the_file_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else { return };
    let config = config(&disk.0.join("history"));
    let history = History::open(config.clone()).await.unwrap();
    history.append(batch(&[subject("web")], 1, START)).await.unwrap();
    history.close().await.unwrap();
    let ballast = disk.fill();

    // It may open, for reading needs no room, or say why not; either way nothing goes.
    match History::open(config.clone()).await {
        Ok(history) => {
            assert_eq!(crate::support::count(&history).await, 1);
            history.close().await.unwrap();
        }
        Err(error) => assert!(error.to_string().contains("history"), "{error}"),
    }
    fs::remove_file(&ballast).unwrap();

    let history = History::open(config).await.unwrap();
    assert_eq!(crate::support::count(&history).await, 1);
}
