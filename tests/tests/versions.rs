//! Agents and aggregators one version apart: the frozen contract of the version before, and an extended one as the next may be.

#![allow(clippy::unwrap_used)]

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use vedette_proto::{Column, FILE_DESCRIPTOR_SET};
use vedette_tests::{
    aggregator::Aggregator,
    dynamic::{self, DynamicCodec, message},
    feeder::{Node, now_unix_ms},
};

const FROZEN: &[u8] = include_bytes!("../frozen/vedette.v1.N-1.bin");
const FROZEN_COLUMNS: &str = include_str!("../frozen/columns.N-1.txt");
const BATCHES: u64 = 5;

fn frozen_columns() -> Vec<(u32, &'static str)> {
    FROZEN_COLUMNS.lines().map(|line| line.split_once(' ').unwrap()).map(|(id, name)| (id.parse().unwrap(), name)).collect()
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(values.into_iter().collect())
}

/// Marks a message with the field that only the next version has.
fn mark(message: &mut DynamicMessage) {
    if message.descriptor().get_field_by_name("future").is_some() {
        message.set_field_by_name("future", Value::String("from the future".into()));
    }
}

fn request(pool: &DescriptorPool, variant: &'static str, mut inner: DynamicMessage) -> DynamicMessage {
    mark(&mut inner);
    let mut request = message(pool, "StreamRequest", [(variant, Value::Message(inner))]);
    mark(&mut request);
    request
}

fn hello(pool: &DescriptorPool, node: &str, columns: &[u32]) -> DynamicMessage {
    let mut container = message(
        pool,
        "ContainerAdded",
        [
            ("container_ref", Value::U32(1)),
            ("pod_uid", Value::String("77777777-0000-4000-8000-000000000000".into())),
            ("container_id", Value::String("7".repeat(64))),
            ("cgroup", Value::String(format!("/kubepods/pod77777777-0000-4000-8000-000000000000/{}", "7".repeat(64)))),
            ("first_seen_unix_ms", Value::I64(now_unix_ms() - 60_000)),
        ],
    );
    mark(&mut container);
    let fields = [
        ("node", Value::String(node.into())),
        ("spool_id", Value::Bytes(vec![7; 16].into())),
        ("origin", Value::EnumNumber(1)),
        ("column_ids", list(columns.iter().map(|&id| Value::U32(id)))),
        ("interval_ms", Value::U32(1_000)),
        ("containers", list([Value::Message(container)])),
    ];
    request(pool, "hello", message(pool, "Hello", fields))
}

/// One row with a value in each column; the value follows from column and sequence.
fn batch(pool: &DescriptorPool, sequence: u64, start_unix_ms: i64, columns: &[u32]) -> DynamicMessage {
    let columns = columns.iter().map(|&id| {
        let mut column = message(pool, "Column", [("id", Value::U32(id)), ("values", list([Value::U64(value(id, sequence))]))]);
        mark(&mut column);
        Value::Message(column)
    });
    let unix_ms = start_unix_ms + i64::try_from(sequence).unwrap() * 1_000;
    let fields = [("unix_ms", Value::I64(unix_ms)), ("container_refs", list([Value::U32(1)])), ("columns", list(columns))];
    let mut block = message(pool, "ColumnBlock", fields);
    mark(&mut block);
    request(pool, "batch", message(pool, "Batch", [("sequence", Value::U64(sequence)), ("block", Value::Message(block))]))
}

fn value(id: u32, sequence: u64) -> u64 {
    u64::from(id) * 1_000_000 + sequence
}

/// Plays an agent that speaks another version, and waits until everything it sent is acknowledged.
async fn deliver(aggregator: &Aggregator, pool: &DescriptorPool, node: &str, columns: &[u32]) {
    let start = now_unix_ms() - 30_000;
    let mut requests = vec![hello(pool, node, columns)];
    requests.extend((1..=BATCHES).map(|sequence| batch(pool, sequence, start, columns)));
    let (sender, receiver) = tokio::sync::mpsc::channel(requests.len());
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let codec = DynamicCodec(pool.get_message_by_name("vedette.v1.StreamResponse").unwrap());
    let mut client = tonic::client::Grpc::new(aggregator.channel().await.unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/vedette.v1.IngestService/Stream");

    let request = aggregator.agent_request(ReceiverStream::new(receiver)).unwrap();
    let mut answers = client.streaming(request, path, codec).await.unwrap().into_inner();

    let mut acknowledged = 0;
    while acknowledged < BATCHES {
        let answer = answers.message().await.unwrap().expect("the stream was closed before everything was acknowledged");
        if let Some(Value::Message(inner)) = answer.get_field_by_name("acknowledgement").map(std::borrow::Cow::into_owned) {
            acknowledged = acknowledged.max(inner.get_field_by_name("sequence").unwrap().as_u64().unwrap());
        }
    }
}

async fn check_history(aggregator: &Aggregator, node: &str, columns: &[(u32, &str)]) {
    for (id, name) in columns {
        let sum = (1..=BATCHES).map(|sequence| value(*id, sequence)).sum::<u64>();
        let sql = format!("select sum({name}) from observations where node = '{node}'");
        assert_eq!(aggregator.number(&sql).await.unwrap(), i64::try_from(sum).unwrap(), "column {name}");
    }
}

#[test]
fn nothing_of_the_frozen_contract_is_gone_or_means_something_else() {
    let frozen = DescriptorPool::decode(FROZEN).unwrap();
    let today = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut broken = Vec::new();

    for old in frozen.all_messages().filter(|message| message.package_name() == "vedette.v1") {
        let Some(new) = today.get_message_by_name(old.full_name()) else {
            broken.push(format!("message {} is gone", old.full_name()));
            continue;
        };
        for field in old.fields() {
            let same = new.get_field(field.number()).is_some_and(|found| {
                found.name() == field.name()
                    && found.cardinality() == field.cardinality()
                    && format!("{:?}", found.kind()) == format!("{:?}", field.kind())
            });
            if !same {
                broken.push(format!("field {} = {} is gone or changed", field.full_name(), field.number()));
            }
        }
    }
    for old in frozen.all_enums().filter(|one| one.package_name() == "vedette.v1") {
        let new = today.get_enum_by_name(old.full_name());
        for value in old.values() {
            if new.as_ref().and_then(|new| new.get_value(value.number())).is_none_or(|found| found.name() != value.name()) {
                broken.push(format!("enum value {} = {} is gone or changed", value.full_name(), value.number()));
            }
        }
    }
    for method in
        frozen.services().filter(|service| service.package_name() == "vedette.v1").flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let service = today.get_service_by_name(method.parent_service().full_name());
        if !service.is_some_and(|service| service.methods().any(|found| found.name() == method.name())) {
            broken.push(format!("method {} is gone", method.full_name()));
        }
    }
    for (id, name) in frozen_columns() {
        if Column::from_id(id).is_none_or(|column| column.name() != name) {
            broken.push(format!("column {id} {name} is gone or changed"));
        }
    }

    assert!(broken.is_empty(), "an agent or aggregator of the version before would break:\n{}", broken.join("\n"));
}

#[test]
fn the_version_before_can_read_what_todays_agent_sends() {
    let frozen = DescriptorPool::decode(FROZEN).unwrap();
    let node = Node::new("today", 3, 60);
    let batch = node.batch(9);

    let read = DynamicMessage::decode(frozen.get_message_by_name("vedette.v1.Batch").unwrap(), batch.encode_to_vec().as_slice()).unwrap();

    assert_eq!(read.get_field_by_name("sequence").unwrap().as_u64(), Some(9));
    let block = read.get_field_by_name("block").unwrap();
    let columns = block.as_message().unwrap().get_field_by_name("columns").unwrap().into_owned();
    let sent = batch.block.unwrap().columns;
    assert_eq!(columns.as_list().unwrap().len(), sent.len());
    for (read, sent) in columns.as_list().unwrap().iter().zip(sent) {
        let values = read.as_message().unwrap().get_field_by_name("values").unwrap().into_owned();
        let values: Vec<_> = values.as_list().unwrap().iter().filter_map(Value::as_u64).collect();
        assert_eq!(values, sent.values);
    }
}

#[tokio::test]
async fn an_agent_of_the_version_before_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let pool = DescriptorPool::decode(FROZEN).unwrap();
    let columns = frozen_columns();
    let ids: Vec<_> = columns.iter().map(|(id, _)| *id).collect();

    deliver(&aggregator, &pool, "before", &ids).await;

    check_history(&aggregator, "before", &columns).await;
}

#[tokio::test]
async fn an_agent_of_the_next_version_is_understood_and_its_news_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let pool = dynamic::next_version(FILE_DESCRIPTOR_SET).unwrap();
    let known = [Column::IntervalUs, Column::CpuUsageUs, Column::MemoryCurrentBytes];
    let mut ids: Vec<_> = known.iter().map(|column| column.id()).collect();
    ids.extend([9_998, 9_999]);

    deliver(&aggregator, &pool, "next", &ids).await;

    check_history(&aggregator, "next", &known.map(|column| (column.id(), column.name()))).await;
}
