//! Starts aggregators on free ports, and speaks as an agent.

use std::{path::Path, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use vedette_aggregator::{
    Config,
    serve::{self, Aggregator},
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{self, ingest_service_client::IngestServiceClient, stream_request::Message, stream_response},
};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = "127.0.0.1:0".parse().unwrap();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config
}

pub async fn start(dir: &Path) -> Aggregator {
    let _ = rustls::crypto::ring::default_provider().install_default();
    serve::start(config(dir)).await.unwrap()
}

pub async fn channel(aggregator: &Aggregator, dir: &Path) -> Channel {
    let ca = std::fs::read(dir.join("data/tls/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    let endpoint = Channel::from_shared(format!("https://{}", aggregator.grpc)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

pub fn token(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join("data").join(file)).unwrap().trim().to_owned()
}

pub fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub fn hello(node: &str, spool: u8) -> v1::Hello {
    v1::Hello {
        node: node.into(),
        spool_id: vec![spool; 16],
        origin: v1::Origin::Live.into(),
        column_ids: Column::ALL.iter().map(|column| column.id()).collect(),
        containers: vec![container(1)],
        ..v1::Hello::default()
    }
}

pub fn container(reference: u32) -> v1::ContainerAdded {
    v1::ContainerAdded {
        container_ref: reference,
        pod_uid: format!("00000000-0000-4000-8000-{reference:012}"),
        container_id: format!("{reference:064x}"),
        cgroup: format!("/kubepods/pod{reference}/{reference:064x}"),
        first_seen_unix_ms: now(),
        ..v1::ContainerAdded::default()
    }
}

/// A batch with a row for the node and one for container 1.
pub fn batch(sequence: u64) -> v1::Batch {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::CpuUsageUs, sequence);
    let block = Block { unix_ms: now(), container_refs: vec![0, 1], rows: vec![row, row] };
    v1::Batch { sequence, block: Some(block.encode()), ..v1::Batch::default() }
}

pub fn message(message: Message) -> v1::StreamRequest {
    v1::StreamRequest { message: Some(message) }
}

/// The agent's end of a stream.
pub struct Agent {
    to: mpsc::Sender<v1::StreamRequest>,
    from: Streaming<v1::StreamResponse>,
}

impl Agent {
    pub async fn open(channel: &Channel, token: &str, first: v1::StreamRequest) -> Result<Self, Status> {
        let (to, messages) = mpsc::channel(64);
        to.send(first).await.unwrap();
        let mut client = IngestServiceClient::new(channel.clone());
        let from = client.stream(with_token(ReceiverStream::new(messages), token)).await?.into_inner();
        Ok(Self { to, from })
    }

    /// Opens with a Hello and reads the Welcome; gives the sequence that is durable.
    pub async fn greet(channel: &Channel, token: &str, hello: v1::Hello) -> Result<(Self, u64), Status> {
        let mut agent = Self::open(channel, token, message(Message::Hello(hello))).await?;
        match agent.next().await? {
            Some(stream_response::Message::Welcome(welcome)) => Ok((agent, welcome.acknowledged_sequence)),
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub async fn send(&self, said: v1::StreamRequest) {
        // A stream that was refused no longer reads; the reason comes with the next answer.
        let _ = self.to.send(said).await;
    }

    pub async fn batch(&self, batch: v1::Batch) {
        self.send(message(Message::Batch(batch))).await;
    }

    pub async fn next(&mut self) -> Result<Option<stream_response::Message>, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.from.message()).await.expect("an answer in time")?;
        Ok(answer.and_then(|answer| answer.message))
    }

    /// Reads until this sequence is acknowledged.
    pub async fn acknowledged(&mut self, sequence: u64) -> Result<(), Status> {
        loop {
            match self.next().await? {
                Some(stream_response::Message::Acknowledgement(ack)) if ack.sequence >= sequence => return Ok(()),
                Some(_) => {}
                None => panic!("the stream ended before {sequence} was acknowledged"),
            }
        }
    }

    /// Reads until the aggregator ends the stream.
    pub async fn ended(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Reads until the stream is refused.
    pub async fn refused(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

/// Rows in history, by SQL.
pub async fn count(channel: &Channel, dir: &Path, sql: &str) -> i64 {
    let mut client = v1::query_service_client::QueryServiceClient::new(channel.clone());
    let question = v1::QueryRequest { sql: sql.into(), max_rows: 10 };
    let mut answer = client.query(with_token(question, &token(dir, "admin.token"))).await.unwrap().into_inner();
    while let Some(part) = answer.message().await.unwrap() {
        if let Some(row) = part.rows.first() {
            return match row.values[0].value {
                Some(v1::query_value::Value::Integer(number)) => number,
                ref other => panic!("{sql} gave {other:?}"),
            };
        }
    }
    panic!("{sql} gave no row")
}
