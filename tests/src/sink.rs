//! An aggregator's ingest door that only writes down what it is sent: the other end for tests of the agent alone.

use std::{
    io::Write,
    pin::Pin,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use vedette_proto::{
    Block,
    v1::{
        Acknowledgement, Batch, ContainerAdded, StreamRequest, StreamResponse, Welcome, ingest_service_server::IngestService,
        stream_request, stream_response,
    },
};

/// Acknowledgements waiting for a slow agent; it waits for them too, so that more never pile up.
const ANSWERS: usize = 64;
/// As many rows as a real node may have.
const MOST_ROWS: usize = 10_000;

/// One line of what was received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Line {
    /// The stream opened.
    Hello {
        /// Node name.
        node: String,
        /// The agent's version.
        version: String,
    },
    /// A container appeared.
    Added {
        /// Its reference in rows.
        container: u32,
        /// Pod uid.
        pod: String,
        /// Container id.
        id: String,
        /// Cgroup path.
        cgroup: String,
        /// Runtime.
        runtime: String,
        /// How many held its place before.
        restarts: u32,
        /// CPU limit in millicores.
        cpu_limit_millicores: Option<u64>,
        /// Memory limit in bytes.
        memory_limit_bytes: Option<u64>,
        /// Limit on processes.
        pids_limit: Option<u64>,
    },
    /// A container went.
    Removed {
        /// Its reference.
        container: u32,
        /// Whether its pod lived on.
        pod_remains: bool,
    },
    /// A row.
    Row {
        /// The container; 0 is the node.
        container: u32,
        /// Event time.
        unix_ms: i64,
        /// Values by column name.
        values: serde_json::Map<String, serde_json::Value>,
    },
    /// A process name.
    Process {
        /// The container.
        container: u32,
        /// Its name.
        comm: String,
        /// Its uid.
        uid: u32,
    },
    /// A heartbeat.
    Heartbeat {
        /// Whether the sensor works.
        ready: bool,
        /// Why not.
        error: String,
    },
    /// The agent leaves on purpose.
    Goodbye,
}

/// The service; writes lines as they come.
pub struct Sink<W> {
    out: Arc<Mutex<W>>,
}

impl<W> Clone for Sink<W> {
    fn clone(&self) -> Self {
        Self { out: self.out.clone() }
    }
}

impl<W: Write + Send + 'static> Sink<W> {
    /// Writes to `out`, a JSON object a line.
    pub fn new(out: W) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }

    fn write(&self, line: &Line) -> Result<(), Status> {
        let text = serde_json::to_string(line).map_err(|error| Status::internal(error.to_string()))?;
        let mut out = self.out.lock().map_err(|_| Status::internal("a writer panicked"))?;
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| Status::internal(error.to_string()))
    }

    fn write_added(&self, added: &ContainerAdded) -> Result<(), Status> {
        self.write(&Line::Added {
            container: added.container_ref,
            pod: added.pod_uid.clone(),
            id: added.container_id.clone(),
            cgroup: added.cgroup.clone(),
            runtime: added.runtime.clone(),
            restarts: added.restarts,
            cpu_limit_millicores: added.cpu_limit_millicores,
            memory_limit_bytes: added.memory_limit_bytes,
            pids_limit: added.pids_limit,
        })
    }

    fn write_batch(&self, batch: &Batch) -> Result<(), Status> {
        for added in &batch.added {
            self.write_added(added)?;
        }
        for seen in &batch.processes {
            self.write(&Line::Process { container: seen.container_ref, comm: seen.comm.clone(), uid: seen.uid })?;
        }
        if let Some(wire) = &batch.block {
            let block = Block::decode(wire, MOST_ROWS).map_err(|error| Status::invalid_argument(error.to_string()))?;
            for (&container, row) in block.container_refs.iter().zip(&block.rows) {
                let values = row.iter().map(|(column, value)| (column.name().to_owned(), value.into())).collect();
                self.write(&Line::Row { container, unix_ms: block.unix_ms, values })?;
            }
        }
        for removed in &batch.removed {
            self.write(&Line::Removed { container: removed.container_ref, pod_remains: removed.pod_remains })?;
        }
        Ok(())
    }

    /// Writes one message down and says what to answer.
    fn receive(&self, request: StreamRequest) -> Result<Option<stream_response::Message>, Status> {
        match request.message.ok_or_else(|| Status::invalid_argument("empty message"))? {
            stream_request::Message::Hello(hello) => {
                self.write(&Line::Hello { node: hello.node, version: hello.agent_version })?;
                for added in &hello.containers {
                    self.write_added(added)?;
                }
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Ok(Some(stream_response::Message::Welcome(Welcome { aggregator_version: version, ..Welcome::default() })))
            }
            stream_request::Message::Batch(batch) => {
                self.write_batch(&batch)?;
                Ok(Some(stream_response::Message::Acknowledgement(Acknowledgement { sequence: batch.sequence })))
            }
            stream_request::Message::Heartbeat(heartbeat) => {
                self.write(&Line::Heartbeat { ready: heartbeat.sensor_ready, error: heartbeat.sensor_error })?;
                Ok(None)
            }
            stream_request::Message::Goodbye(_) => self.write(&Line::Goodbye).map(|()| None),
        }
    }
}

#[tonic::async_trait]
impl<W: Write + Send + 'static> IngestService for Sink<W> {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let mut requests = request.into_inner();
        let sink = self.clone();
        let (answers, stream) = tokio::sync::mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = match sink.receive(request) {
                    Ok(None) => continue,
                    Ok(Some(message)) => Ok(StreamResponse { message: Some(message) }),
                    Err(status) => Err(status),
                };
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
