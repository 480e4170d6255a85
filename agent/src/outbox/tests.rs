//! The spool under kills, full disks, reboots and other versions.

use std::path::Path;

use vedette_proto::v1::{ColumnBlock, ContainerRemoved, ProcessSeen};

use super::{
    queue::{REBOOT_SKIP_REFERENCES, REBOOT_SKIP_SEQUENCES, UNSAVED_SKIP},
    unsaved::MAX_BATCHES,
    *,
};
use crate::metrics::Reason;

const NOW: i64 = 1_800_000_000_000;

fn config(directory: &Path) -> OutboxConfig {
    OutboxConfig { dir: directory.join("spool"), max_bytes: 1 << 20, max_age_s: 3_600 }
}

fn open(directory: &Path) -> Outbox {
    Outbox::open(config(directory), "boot-1", Metrics::default()).unwrap()
}

/// A batch of one container's row.
fn batch(unix_ms: i64) -> Batch {
    Batch { block: Some(ColumnBlock { unix_ms, container_refs: vec![0, 1], columns: Vec::new() }), ..Batch::default() }
}

fn large_batch(unix_ms: i64) -> Batch {
    let comm = "x".repeat(20_000);
    Batch { processes: vec![ProcessSeen { container_ref: 1, comm, ..Default::default() }], ..batch(unix_ms) }
}

fn added(container_ref: u32) -> ContainerAdded {
    ContainerAdded { container_ref, container_id: format!("id{container_ref}"), ..Default::default() }
}

fn removed(container_ref: u32) -> ContainerRemoved {
    ContainerRemoved { container_ref, ..Default::default() }
}

fn sequences(outbox: &Outbox, mut from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(batch) = outbox.read(from).unwrap() {
        found.push(batch.sequence);
        from = batch.sequence + 1;
    }
    found
}

fn references(containers: &[ContainerAdded]) -> Vec<u32> {
    containers.iter().map(|added| added.container_ref).collect()
}

#[test]
fn a_spool_goes_on_after_a_kill_with_the_same_identity_and_the_next_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let id = first.spool_id();
    first.append(Batch { added: vec![added(1), added(2)], ..batch(NOW) }, NOW);
    first.append(Batch { removed: vec![removed(1)], ..batch(NOW) }, NOW);
    // Nothing is flushed or said goodbye to: what a kill leaves.
    drop(first);

    let second = open(directory.path());

    assert_eq!(second.spool_id(), id);
    let (alive, next_reference) = second.containers();
    assert_eq!((references(&alive), next_reference), (vec![2], 3));
    second.append(batch(NOW), NOW);
    assert_eq!(sequences(&second, 1), [1, 2, 3]);
}

#[test]
fn a_frame_cut_short_by_a_kill_is_cut_off_and_its_sequence_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    first.append(batch(NOW), NOW);
    first.append(batch(NOW + 1), NOW);
    drop(first);
    let path = directory.path().join("spool/00000000000000000001.seg");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();

    let second = open(directory.path());

    assert_eq!(sequences(&second, 1), [1]);
    second.append(batch(NOW + 2), NOW);
    assert_eq!(second.read(2).unwrap().unwrap().block.unwrap().unix_ms, NOW + 2);
}

#[test]
fn only_what_is_acknowledged_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    for tick in 0..5 {
        outbox.append(batch(NOW + tick), NOW);
    }

    outbox.acknowledge(3);

    assert_eq!((outbox.waiting(), outbox.is_drained()), (2, false));
    assert_eq!(sequences(&outbox, 4), [4, 5]);
    assert_eq!(metrics.acknowledged_observations.get(), 3);
    outbox.acknowledge(5);
    assert!(outbox.is_drained());
    assert_eq!((metrics.observations.get(), metrics.acknowledged_observations.get()), (5, 5));
}

#[test]
fn a_full_spool_drops_its_oldest_and_says_how_much() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    outbox.append(Batch { added: vec![added(1), added(2)], ..large_batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(2)], ..large_batch(NOW + 1) }, NOW);
    for tick in 2..100 {
        outbox.append(large_batch(NOW + tick), NOW);
    }

    let first = outbox.read(1).unwrap().unwrap();

    let dropped = first.dropped.unwrap();
    assert!(first.sequence > 1);
    assert_eq!((dropped.batches, dropped.observations), (first.sequence - 1, first.sequence - 1));
    assert_eq!(
        (dropped.first_unix_ms, dropped.last_unix_ms, dropped.reason.as_str()),
        (NOW, NOW + first.sequence as i64 - 2, "spool full")
    );
    assert_eq!(metrics.dropped_batches.get_or_create(&Reason { reason: "spool full" }).get(), dropped.batches);
    assert!(metrics.outbox_bytes.get() <= 1 << 20);
    // What was announced in the hole is named by Hello, what ended in it by nobody: the aggregator ends what Hello does not name.
    assert_eq!(references(&outbox.referred()), [1]);
    assert!(first.removed.is_empty() && outbox.drops() > 0);
    let after: Vec<u64> = sequences(&outbox, 1);
    assert!(after.windows(2).all(|pair| pair[1] == pair[0] + 1) && after.last() == Some(&100));
}

#[test]
fn a_hole_is_still_stated_after_a_restart_and_once_acknowledged_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    for tick in 0..100 {
        outbox.append(large_batch(NOW + tick), NOW);
    }
    let before = outbox.read(1).unwrap().unwrap();
    drop(outbox);

    let outbox = open(directory.path());

    assert_eq!(outbox.read(1).unwrap().unwrap().dropped, before.dropped);
    outbox.acknowledge(before.sequence);
    assert_eq!(outbox.read(before.sequence + 1).unwrap().unwrap().dropped, None);
}

#[test]
fn what_is_too_old_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    for tick in 0..10 {
        outbox.append(large_batch(NOW + tick), NOW);
    }

    outbox.append(batch(NOW + 4_000_000), NOW + 4_000_000);

    let first = outbox.read(1).unwrap().unwrap();
    assert!(first.sequence > 3, "{}", first.sequence);
    assert_eq!(first.dropped.unwrap().reason, "too old");
}

#[test]
fn a_reference_is_never_used_again_even_when_all_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    outbox.append(Batch { added: vec![added(7)], ..large_batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(7)], ..large_batch(NOW) }, NOW);
    for _ in 0..20 {
        outbox.append(large_batch(NOW), NOW);
    }
    outbox.acknowledge(22);
    drop(outbox);

    let outbox = open(directory.path());

    assert_eq!(outbox.containers(), (Vec::new(), 8));
    outbox.append(batch(NOW), NOW);
    assert_eq!(outbox.read(23).unwrap().unwrap().sequence, 23);
}

#[test]
fn a_reboot_never_gives_a_sequence_again_that_may_have_been_sent() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    outbox.append(Batch { added: vec![added(1)], ..batch(NOW) }, NOW);
    drop(outbox);

    let outbox = Outbox::open(config(directory.path()), "boot-2", Metrics::default()).unwrap();
    outbox.append(batch(NOW), NOW);

    assert_eq!(sequences(&outbox, 1), [1, 2 + REBOOT_SKIP_SEQUENCES]);
    let dropped = outbox.read(2).unwrap().unwrap().dropped.unwrap();
    assert!(dropped.reason.starts_with("node restarted"));
    // The door refuses a hole larger than what is said to be dropped.
    assert_eq!(dropped.batches, REBOOT_SKIP_SEQUENCES);
    assert!(dropped.first_unix_ms > 0 && dropped.first_unix_ms <= dropped.last_unix_ms);
    assert_eq!(outbox.containers().1, 2 + REBOOT_SKIP_REFERENCES);
}

#[test]
fn a_spool_of_another_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    std::fs::write(directory.path().join("spool/version"), "vedette-spool 9\n").unwrap();

    let error = Outbox::open(config(directory.path()), "boot-1", Metrics::default()).unwrap_err();

    assert!(matches!(error, OutboxError::Version { .. }));
    assert!(error.to_string().contains("vedette-spool 9"), "{error}");
}

#[test]
fn two_agents_never_share_a_spool() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());

    assert!(matches!(Outbox::open(config(directory.path()), "boot-1", Metrics::default()), Err(OutboxError::InUse { .. })));
}

/// A batch that fills a segment, so that the next one begins a new file.
fn huge_batch(unix_ms: i64) -> Batch {
    Batch { processes: vec![ProcessSeen { container_ref: 1, comm: "x".repeat(70_000), ..Default::default() }], ..batch(unix_ms) }
}

/// Keeps the segment that begins with a sequence from being made: something else has its name.
fn refuse(directory: &Path, sequence: u64) -> std::path::PathBuf {
    let path = directory.join(format!("spool/{sequence:020}.seg"));
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn what_the_disk_refuses_is_sent_from_memory_and_the_disk_goes_on_later() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    outbox.append(huge_batch(NOW), NOW);
    assert_eq!(metrics.spool_writable.get(), 1);
    let refused = refuse(directory.path(), 2);

    for tick in 1..=5 {
        outbox.append(batch(NOW + tick), NOW);
    }
    assert_eq!((sequences(&outbox, 1), metrics.spool_writable.get()), (vec![1, 2, 3, 4, 5, 6], 0));
    outbox.acknowledge(4);
    assert_eq!((outbox.waiting(), metrics.acknowledged_observations.get()), (2, 4));
    std::fs::remove_dir(refused).unwrap();
    outbox.append(batch(NOW + 6), NOW);

    assert_eq!((sequences(&outbox, 5), metrics.spool_writable.get()), (vec![5, 6, 7], 1));
    drop(outbox);
    let outbox = open(directory.path());
    outbox.append(batch(NOW + 7), NOW);
    assert_eq!(sequences(&outbox, 5), [5, 6, 7, 8], "all that was given is on disk: nothing is skipped");
    assert_eq!(outbox.read(5).unwrap().unwrap().dropped, None);
}

#[test]
fn a_kill_while_the_disk_refuses_never_gives_a_sequence_again_and_states_the_hole() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    outbox.append(Batch { added: vec![added(1)], ..huge_batch(NOW) }, NOW);
    let refused = refuse(directory.path(), 2);
    outbox.append(Batch { added: vec![added(2)], ..batch(NOW + 1) }, NOW);
    outbox.acknowledge(2);
    drop(outbox);
    std::fs::remove_dir(refused).unwrap();

    let outbox = open(directory.path());
    outbox.append(batch(NOW + 2), NOW);

    let next = outbox.read(3).unwrap().unwrap();
    assert_eq!(next.sequence, 2 + u64::from(UNSAVED_SKIP));
    assert!(next.dropped.unwrap().reason.starts_with("the agent ended without having saved all batches"));
    assert_eq!(outbox.containers().1, 2 + UNSAVED_SKIP);
    drop(outbox);
    let outbox = open(directory.path());
    outbox.append(batch(NOW + 3), NOW);
    assert_eq!(outbox.read(next.sequence + 1).unwrap().unwrap().sequence, next.sequence + 1, "skipped once");
}

#[test]
fn a_spool_that_never_could_be_written_skips_ahead_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    let refused = refuse(directory.path(), 1);
    outbox.append(batch(NOW), NOW);
    drop(outbox);
    std::fs::remove_dir(refused).unwrap();

    let outbox = open(directory.path());
    outbox.append(batch(NOW + 1), NOW);

    assert_eq!(sequences(&outbox, 1), [1 + u64::from(UNSAVED_SKIP)]);
}

#[test]
fn beyond_the_limit_in_memory_the_oldest_are_dropped_and_the_hole_stated() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    let (spool, away) = (directory.path().join("spool"), directory.path().join("away"));
    // No segment is open yet, so that a directory that is not there refuses every one.
    std::fs::rename(&spool, &away).unwrap();
    outbox.append(Batch { added: vec![added(1), added(2)], ..batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(2)], ..batch(NOW + 1) }, NOW);
    for tick in 2..40 {
        outbox.append(batch(NOW + tick), NOW);
    }
    let check = || {
        let first = outbox.read(1).unwrap().unwrap();
        let dropped = first.dropped.unwrap();
        let said =
            (first.sequence, dropped.batches, dropped.observations, dropped.first_unix_ms, dropped.last_unix_ms, dropped.reason.as_str());
        assert_eq!(said, (11, 10, 10, NOW, NOW + 9, "spool write failed"));
        assert_eq!(references(&outbox.referred()), [1, 2], "Hello names what the hole announced");
        assert_eq!(first.removed, [removed(2)], "and the next batch tells what ended in it");
    };
    check();
    assert_eq!(outbox.waiting(), MAX_BATCHES as u64);

    std::fs::rename(&away, &spool).unwrap();
    outbox.append(batch(NOW + 40), NOW);

    check();
    assert_eq!(sequences(&outbox, 1), (11..=41).collect::<Vec<_>>());
    assert_eq!(metrics.dropped_observations.get_or_create(&Reason { reason: "spool write failed" }).get(), 10);
    outbox.acknowledge(41);
    assert_eq!((outbox.waiting(), references(&outbox.referred())), (0, vec![1]));
}

#[test]
fn large_batches_in_memory_are_limited_by_their_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    std::fs::rename(directory.path().join("spool"), directory.path().join("away")).unwrap();
    let comm = "x".repeat(1 << 20);
    let large = Batch { processes: vec![ProcessSeen { comm, ..Default::default() }], ..batch(NOW) };

    for _ in 0..6 {
        outbox.append(large.clone(), NOW);
    }

    assert_eq!(outbox.waiting(), 3);
    assert_eq!(outbox.read(1).unwrap().unwrap().dropped.unwrap().batches, 3);
}

#[test]
fn sequences_that_an_earlier_run_gave_without_a_trace_are_given_up_and_stated() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    for tick in 0..3 {
        outbox.append(batch(NOW + tick), NOW);
    }

    outbox.welcomed(2);

    let dropped = outbox.read(3).unwrap().unwrap().dropped.unwrap();
    assert_eq!((dropped.batches, dropped.observations, dropped.reason.as_str()), (2, 2, "sequence given twice"));
    assert_eq!(metrics.dropped_batches.get_or_create(&Reason { reason: "sequence given twice" }).get(), 2);
    outbox.acknowledge(3);
    outbox.append(batch(NOW + 3), NOW);
    outbox.welcomed(4);
    assert_eq!(metrics.dropped_batches.get_or_create(&Reason { reason: "sequence given twice" }).get(), 2, "only at first");
}

#[test]
fn a_batch_refused_three_times_is_given_up_and_the_hole_stated_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let outbox = Outbox::open(config(directory.path()), "boot-1", metrics.clone()).unwrap();
    outbox.append(Batch { added: vec![added(1)], ..batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(1)], ..batch(NOW + 1) }, NOW);
    outbox.append(batch(NOW + 2), NOW);
    outbox.acknowledge(1);

    outbox.refused(2, "too old");
    outbox.refused(2, "too old");
    assert!(outbox.suspects(2));
    assert_eq!(outbox.read(2).unwrap().unwrap().sequence, 2);
    outbox.refused(2, "too old");

    let check = |outbox: &Outbox| {
        let next = outbox.read(2).unwrap().unwrap();
        let dropped = next.dropped.unwrap();
        assert_eq!((next.sequence, dropped.batches, dropped.observations, dropped.reason.as_str()), (3, 1, 1, "refused"));
        assert_eq!((dropped.first_unix_ms, dropped.last_unix_ms), (NOW + 1, NOW + 1));
        assert_eq!(next.removed, [removed(1)], "what ended is told all the same");
        assert!(!outbox.suspects(2));
    };
    check(&outbox);
    assert_eq!(outbox.waiting(), 1);
    assert_eq!(metrics.dropped_batches.get_or_create(&Reason { reason: "refused" }).get(), 1);
    drop(outbox);
    let outbox = open(directory.path());
    outbox.welcomed(1);
    check(&outbox);
    outbox.acknowledge(3);
    assert!(outbox.is_drained() && outbox.referred().is_empty());
}

#[test]
fn a_damaged_batch_is_left_out_and_the_hole_stated() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    for tick in 0..3 {
        outbox.append(batch(NOW + tick), NOW);
    }
    let path = directory.path().join("spool/00000000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() - 40;
    // Somewhere in the last batches.
    bytes[place] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();

    let left = sequences(&outbox, 1);

    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(outbox.waiting(), 2);
}

#[test]
fn what_the_other_side_saw_removed_before_a_restart_is_said_again() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = open(directory.path());
    outbox.append(Batch { added: vec![added(1), added(2), added(3)], ..batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(1)], ..batch(NOW) }, NOW);
    outbox.append(Batch { removed: vec![removed(2)], ..batch(NOW) }, NOW);
    drop(outbox);
    let outbox = open(directory.path());
    assert_eq!(references(&outbox.referred()), [3, 1, 2]);

    let again = outbox.welcomed(2);

    assert_eq!(again, [removed(1)]);
    assert_eq!(references(&outbox.referred()), [3, 2]);
}

#[test]
fn files_left_empty_by_a_power_cut_do_not_end_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    drop(open(directory.path()));
    for name in ["version", "spool-id", "state"] {
        std::fs::write(spool.join(name), "").unwrap();
    }
    let outbox = open(directory.path());
    outbox.append(batch(NOW), NOW);
    assert_eq!(sequences(&outbox, 1), [1], "without a batch there is nothing to skip");
    let id = outbox.spool_id();
    drop(outbox);
    std::fs::write(spool.join("state"), "").unwrap();

    let outbox = open(directory.path());
    outbox.append(batch(NOW), NOW);

    assert_eq!(outbox.spool_id(), id);
    assert_eq!(sequences(&outbox, 1), [1, 2 + u64::from(UNSAVED_SKIP)]);
}
