//! Every hostile message is refused with its reason and counted, and the next peer is served.

use tonic::Code;
use vedette_proto::v1::{self, stream_request::Message};

use crate::harness::{Agent, batch, channel, container, hello, message, now, start, token};

type Hostile = (&'static str, Code, &'static str, fn() -> Vec<v1::StreamRequest>);

fn said(hello: v1::Hello) -> Vec<v1::StreamRequest> {
    vec![message(Message::Hello(hello))]
}

fn after_hello(batches: Vec<v1::Batch>) -> Vec<v1::StreamRequest> {
    let batches = batches.into_iter().map(|batch| message(Message::Batch(batch)));
    said(hello("bad", 9)).into_iter().chain(batches).collect()
}

fn changed(change: impl FnOnce(&mut v1::Batch)) -> Vec<v1::StreamRequest> {
    let mut batch = batch(1);
    change(&mut batch);
    after_hello(vec![batch])
}

fn process(comm: &str) -> v1::ProcessSeen {
    v1::ProcessSeen { container_ref: 1, comm: comm.into(), unix_ms: now(), ..v1::ProcessSeen::default() }
}

/// What is said, the code, a part of the reason, and what the counter calls it.
const HOSTILE: &[(&str, Hostile)] = &[
    ("protocol", ("hello", Code::InvalidArgument, "first message must be hello", || vec![message(Message::Batch(batch(1)))])),
    ("protocol", ("unset", Code::InvalidArgument, "without content", || vec![v1::StreamRequest { message: None }])),
    ("protocol", ("twice", Code::InvalidArgument, "second hello", || [said(hello("bad", 9)), said(hello("bad", 9))].concat())),
    (
        "field",
        ("goodbye", Code::InvalidArgument, "goodbye.reason", || {
            let goodbye = message(Message::Goodbye(v1::Goodbye { reason: "r".repeat(2_000) }));
            [said(hello("bad", 9)), vec![goodbye]].concat()
        }),
    ),
    ("hello", ("no node", Code::InvalidArgument, "hello.node", || said(hello("", 9)))),
    ("hello", ("node syntax", Code::InvalidArgument, "hello.node", || said(hello("a b\u{1b}[31m", 9)))),
    ("hello", ("node length", Code::InvalidArgument, "hello.node", || said(hello(&"n".repeat(254), 9)))),
    ("hello", ("spool", Code::InvalidArgument, "hello.spool_id has 3", || said(v1::Hello { spool_id: vec![1; 3], ..hello("bad", 9) }))),
    ("hello", ("origin", Code::InvalidArgument, "hello.origin", || said(v1::Hello { origin: 17, ..hello("bad", 9) }))),
    (
        "hello",
        ("session", Code::InvalidArgument, "hello.replay_session", || said(v1::Hello { replay_session: "x".into(), ..hello("bad", 9) })),
    ),
    (
        "hello",
        ("own cluster", Code::InvalidArgument, "own cluster", || {
            said(v1::Hello { origin: v1::Origin::Replay.into(), replay_session: "default".into(), ..hello("bad", 9) })
        }),
    ),
    ("hello", ("columns", Code::InvalidArgument, "hello.column_ids", || said(v1::Hello { column_ids: vec![2, 1], ..hello("bad", 9) }))),
    (
        "container",
        ("ref 0", Code::InvalidArgument, "container_ref", || said(v1::Hello { containers: vec![container(0)], ..hello("bad", 9) })),
    ),
    (
        "container",
        ("no id", Code::InvalidArgument, "container_id", || {
            changed(|batch| {
                batch.added.push(v1::ContainerAdded { container_id: String::new(), ..container(2) });
            })
        }),
    ),
    (
        "container",
        ("cgroup", Code::InvalidArgument, "cgroup", || {
            changed(|batch| {
                batch.added.push(v1::ContainerAdded { cgroup: "c".repeat(4_097), ..container(2) });
            })
        }),
    ),
    (
        "reference",
        ("unknown row", Code::InvalidArgument, "reference 77", || {
            changed(|batch| {
                batch.block.as_mut().unwrap().container_refs[1] = 77;
            })
        }),
    ),
    (
        "reference",
        ("unknown process", Code::InvalidArgument, "reference 5", || {
            changed(|batch| {
                batch.processes.push(v1::ProcessSeen { container_ref: 5, ..process("sh") });
            })
        }),
    ),
    (
        "reference",
        ("taken", Code::InvalidArgument, "already stands", || {
            changed(|batch| {
                batch.added.push(v1::ContainerAdded { container_ref: 1, ..container(2) });
            })
        }),
    ),
    (
        "reference",
        ("moved", Code::InvalidArgument, "already stands", || {
            changed(|batch| {
                batch.added.push(v1::ContainerAdded { cgroup: "/elsewhere".into(), ..container(1) });
            })
        }),
    ),
    ("sequence", ("zero", Code::FailedPrecondition, "count from 1", || after_hello(vec![batch(0)]))),
    ("sequence", ("backwards", Code::FailedPrecondition, "out of order", || after_hello(vec![batch(2), batch(1)]))),
    ("sequence", ("repeated", Code::FailedPrecondition, "out of order", || after_hello(vec![batch(2), batch(2)]))),
    ("sequence", ("hole", Code::FailedPrecondition, "dropped", || after_hello(vec![batch(1), batch(3)]))),
    (
        "block",
        ("counts", Code::InvalidArgument, "column 1 has 1 values", || {
            changed(|batch| {
                batch.block.as_mut().unwrap().columns[0].values.pop();
            })
        }),
    ),
    (
        "block",
        ("repeated row", Code::InvalidArgument, "more than one row", || {
            changed(|batch| {
                batch.block.as_mut().unwrap().container_refs = vec![1, 1];
            })
        }),
    ),
    (
        "block",
        ("huge value", Code::InvalidArgument, "beyond what a counter", || {
            changed(|batch| {
                batch.block.as_mut().unwrap().columns[0].values[0] = u64::MAX;
            })
        }),
    ),
    (
        "block",
        ("rows", Code::InvalidArgument, "more than the limit", || {
            changed(|batch| {
                batch.block = Some(v1::ColumnBlock { unix_ms: now(), container_refs: (0..20_000).collect(), columns: vec![] });
            })
        }),
    ),
    (
        "field",
        ("negative time", Code::InvalidArgument, "before 1970", || {
            changed(|batch| {
                batch.block.as_mut().unwrap().unix_ms = -1;
            })
        }),
    ),
    ("field", ("comm", Code::InvalidArgument, "process.comm", || changed(|batch| batch.processes.push(process(&"x".repeat(16)))))),
    (
        "field",
        ("peer", Code::InvalidArgument, "peer.address", || {
            changed(|batch| {
                let peers = vec![v1::Peer { address: "\u{1b}]0;x".into(), ..v1::Peer::default() }];
                batch.peers.push(v1::PeersSeen { container_ref: 1, unix_ms: now(), peers, other_connections: 0 });
            })
        }),
    ),
    (
        "limit",
        ("peers", Code::ResourceExhausted, "peers", || {
            changed(|batch| {
                let peers = vec![v1::Peer { address: "10.0.0.1".into(), ..v1::Peer::default() }; 33];
                batch.peers.push(v1::PeersSeen { container_ref: 1, unix_ms: now(), peers, other_connections: 0 });
            })
        }),
    ),
    (
        "field",
        ("dropped", Code::InvalidArgument, "dropped", || {
            changed(|batch| {
                batch.dropped = Some(v1::Dropped { batches: u64::MAX, ..v1::Dropped::default() });
            })
        }),
    ),
    (
        "field",
        ("heartbeat", Code::InvalidArgument, "heartbeat.sensor_error", || {
            let heartbeat = v1::Heartbeat { sensor_error: "e".repeat(2_000), ..v1::Heartbeat::default() };
            [said(hello("bad", 9)), vec![message(Message::Heartbeat(heartbeat))]].concat()
        }),
    ),
];

#[tokio::test]
async fn each_is_refused_with_its_reason_and_hurts_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let token = token(dir.path(), "agent.token");
    let (mut neighbour, _) = Agent::greet(&channel, &token, hello("good", 1)).await.unwrap();

    for (place, (reason, (name, code, part, messages))) in HOSTILE.iter().enumerate() {
        let counted = || aggregator.shared.counters.refused().get(*reason).copied().unwrap_or(0);
        let before = counted();
        let mut messages = messages().into_iter();
        // A spool of its own each: what one had durable does not excuse the next.
        let own_spool = |mut said: v1::StreamRequest| {
            if let Some(Message::Hello(hello)) = &mut said.message
                && hello.spool_id == [9; 16]
            {
                hello.spool_id[0] = place as u8;
            }
            said
        };
        let mut peer = Agent::open(&channel, &token, own_spool(messages.next().unwrap())).await.unwrap();
        for said in messages {
            peer.send(own_spool(said)).await;
        }

        let status = peer.refused().await;

        assert_eq!(status.code(), *code, "{reason}/{name}: {status:?}");
        assert!(status.message().contains(part), "{reason}/{name}: {}", status.message());
        assert!(!status.message().contains('\u{1b}'), "{reason}/{name}: an escape sequence is repeated");
        assert_eq!(counted(), before + 1, "{reason}/{name}");
        neighbour.batch(batch(place as u64 + 1)).await;
        neighbour.acknowledged(place as u64 + 1).await.unwrap();
    }
    aggregator.stop().await;
}
