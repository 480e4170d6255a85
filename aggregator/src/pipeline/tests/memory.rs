//! What was learnt goes through a restart, and an operator accepts a level.

use super::*;

/// A second of a container that uses so many microseconds of CPU.
fn busy(peer: &Arc<Peer>, sequence: u64, cpu_us: u64) -> Work {
    let Work::Batch(mut delivery) = delivery(peer, sequence, &[1]) else { unreachable!() };
    let row = &mut delivery.block.rows[0];
    row.set(Column::CpuUsageUs, cpu_us + sequence * 7_919 % 10_000);
    row.set(Column::SlowIntervalUs, 1_000_000);
    row.set(Column::PidsCurrent, 5);
    Work::Batch(delivery)
}

/// A pipeline that learnt for five minutes, and what it hands on when it stops.
async fn learnt() -> Vec<Memory> {
    let (memories, mut learnt) = mpsc::channel(4);
    let mut pipeline = Pipeline { memories, ..pipeline(Identity::default()) };
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    for second in 1..=300 {
        pipeline.take(busy(&peer, second, 50_000));
    }
    pipeline.save_memory().await;
    learnt.recv().await.unwrap()
}

/// The pipeline of the next run, ten minutes later.
fn next(memories: &[Memory]) -> (Pipeline, Arc<Peer>) {
    let mut pipeline = pipeline(Identity::default());
    for memory in memories {
        pipeline.detector.remember(&memory.workload, &memory.bytes).unwrap();
    }
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    (pipeline, peer)
}

fn opened(pipeline: &mut Pipeline) -> Vec<v1::Incident> {
    let changes = pipeline.detector.changes().into_iter();
    changes.filter(|change| change.change == v1::IncidentChange::Opened).map(|change| change.incident).collect()
}

#[tokio::test]
async fn a_restart_loses_no_baseline_and_opens_nothing() {
    let memories = learnt().await;
    let (mut pipeline, peer) = next(&memories);

    pipeline.take(busy(&peer, 901, 50_000));
    let key = SubjectKey(pipeline.roster.keys().next().unwrap());
    let state = pipeline.detector.container_state(key).unwrap().baseline;
    for second in 902..1_200 {
        pipeline.take(busy(&peer, second, 50_000));
    }

    assert_eq!(memories.len(), 1);
    assert_eq!((state, opened(&mut pipeline).len()), (v1::BaselineState::Ready, 0));
}

#[tokio::test]
async fn what_is_abnormal_by_what_an_earlier_run_learnt_is_seen_in_the_first_seconds_of_the_next() {
    let (mut pipeline, peer) = next(&learnt().await);

    for second in 901..930 {
        pipeline.take(busy(&peer, second, 350_000));
    }

    let opened = opened(&mut pipeline);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(opened[0].opened_unix_ms - START < 925_000, "{}", opened[0].summary);
    assert_eq!(opened[0].evidence[0].baseline, "own");
}

#[tokio::test]
async fn what_was_learnt_is_handed_on_while_it_learns_and_waits_while_nobody_takes_it() {
    let (memories, mut learnt) = mpsc::channel(1);
    let mut pipeline = Pipeline { memories, ..pipeline(Identity::default()) };
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    let seconds = |pipeline: &mut Pipeline, seconds: std::ops::Range<u64>| {
        seconds.for_each(|second| drop(pipeline.take(busy(&peer, second, 50_000))));
        pipeline.hand_on_memory();
    };

    seconds(&mut pipeline, 1..100);
    seconds(&mut pipeline, 100..200);
    let first = learnt.recv().await.unwrap();
    seconds(&mut pipeline, 200..201);
    let second = learnt.recv().await.unwrap();
    seconds(&mut pipeline, 201..210);

    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((second[0].last_unix_ms - first[0].last_unix_ms) / 1_000, 200 - 99);
    assert!(learnt.try_recv().is_err(), "nine seconds later it is not due");
}

#[test]
fn an_operator_accepts_through_the_pipeline_and_is_told_why_not() {
    let mut pipeline = pipeline(Identity::default());
    let (reply, mut answer) = tokio::sync::oneshot::channel();

    pipeline.take(Work::Accept { incident_id: 7, reply });

    assert_eq!(answer.try_recv().unwrap().unwrap_err().to_string(), "no incident 7 is open");
}
