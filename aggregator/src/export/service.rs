//! The RPC of the export service: checks, counts, streams.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMillisecondType},
};
use datafusion::{
    functions_aggregate::expr_fn::{max, min},
    prelude::{DataFrame, SessionContext, col, lit},
};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::error;
use vedette_proto::v1::{self, ExportLayout, ExportRequest, ExportResponse};

use super::{
    encode::{EncodeError, Encoder},
    full::{self, Labeller},
    scope::{Scope, between},
    seed::{self, Fold, Point, STEP_MS, step_of},
};
use crate::{
    Shared,
    auth::caller,
    label::{Identity, LabelIndex},
    query::{Questions, session, status_of},
};

/// Exports that run at a time; more wait.
const AT_ONCE: usize = 2;
/// Largest part of a file in one message.
const PART_BYTES: usize = 64 * 1024;
/// Parts that wait for a slow client.
const PARTS: usize = 8;
/// Steps of the seed layout that are read at a time: ten minutes, or an hour of a small cluster.
const STEPS: i64 = 60;
const STEPS_SMALL: i64 = 360;
/// A cluster with fewer containers than this is small.
const SMALL: usize = 5_000;

/// Answers the export service's call.
#[derive(Clone)]
pub struct ExportService {
    shared: Shared,
    exports: Arc<Questions>,
}

impl ExportService {
    /// Over the aggregator's shared state, with threads of its own.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(shared: Shared) -> std::io::Result<Self> {
        Ok(Self { shared, exports: Arc::new(Questions::new("export", AT_ONCE)?) })
    }
}

type Parts = mpsc::Sender<Result<ExportResponse, Status>>;

impl From<EncodeError> for Status {
    fn from(error: EncodeError) -> Self {
        Self::internal(error.to_string())
    }
}

#[tonic::async_trait]
impl v1::export_service_server::ExportService for ExportService {
    type ExportStream = ReceiverStream<Result<ExportResponse, Status>>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let caller = caller(&request);
        let scope = Scope::checked(request.into_inner(), &self.shared.cluster)?;
        self.shared.store.audit(&caller, "export", &format!("{scope:?}")).await?;
        let slot = self.exports.room().await?;
        let (parts, receiver) = mpsc::channel(PARTS);
        let (shared, sender) = (self.shared.clone(), parts.clone());
        let export = self.exports.spawn(async move {
            let _slot = slot;
            tokio::select! {
                // Nobody listens any more.
                () = sender.closed() => Ok(()),
                end = run(&shared, &scope, &sender) => end,
            }
        });
        self.exports.spawn(async move {
            let end = export.await.unwrap_or_else(|panic| {
                error!(%panic, "an export failed");
                Err(Status::internal("the export failed: a fault in the query engine"))
            });
            if let Err(status) = end {
                let _ = parts.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn run(shared: &Shared, scope: &Scope, parts: &Parts) -> Result<(), Status> {
    let session = session(shared)?;
    let labels = scope.labels(shared).await?;
    let history = session.table("observations").await.map_err(|error| status_of(&error))?;
    let schema = if scope.layout == ExportLayout::Seed { seed::schema() } else { full::schema(history.schema().as_arrow()) };
    let (encoder, begin) = Encoder::begin(scope.format, &schema)?;
    let mut file = File { encoder, parts, rows: 0, total_rows: 0 };
    file.send(begin).await?;
    if scope.layout == ExportLayout::Seed {
        seed_rows(&session, scope, &labels, &mut file).await?;
    } else {
        full_rows(history, scope, labels, &mut file).await?;
    }
    file.finish().await
}

/// The file on its way to the client.
struct File<'a> {
    encoder: Encoder,
    parts: &'a Parts,
    rows: u64,
    total_rows: u64,
}

impl File<'_> {
    async fn write(&mut self, batch: &RecordBatch) -> Result<(), Status> {
        let bytes = self.encoder.write(batch)?;
        self.rows += batch.num_rows() as u64;
        self.send(bytes).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Status> {
        for part in bytes.chunks(PART_BYTES) {
            self.message(part.to_vec()).await?;
        }
        Ok(())
    }

    async fn message(&mut self, data: Vec<u8>) -> Result<(), Status> {
        let message = ExportResponse { data, rows: self.rows, total_rows: self.total_rows };
        self.parts.send(Ok(message)).await.map_err(|_| Status::cancelled("the client went away"))
    }

    async fn finish(mut self) -> Result<(), Status> {
        let end = std::mem::replace(&mut self.encoder, Encoder::Jsonl).finish()?;
        self.send(end).await?;
        self.message(Vec::new()).await
    }
}

async fn full_rows(history: DataFrame, scope: &Scope, labels: LabelIndex, file: &mut File<'_>) -> Result<(), Status> {
    let failed = |error| status_of(&error);
    // No label of these kinds: no rows.
    let Some(condition) = scope.condition(&labels) else { return Ok(()) };
    let wanted = history.filter(condition).map_err(failed)?;
    if scope.kinds.is_empty() {
        file.total_rows = wanted.clone().count().await.map_err(failed)? as u64;
    }
    let mut labeller = Labeller::new(labels, scope.kinds.clone());
    let mut batches = wanted.execute_stream().await.map_err(failed)?;
    while let Some(batch) = batches.next().await {
        let labelled = labeller.label(&batch.map_err(failed)?).map_err(|error| Status::internal(error.to_string()))?;
        file.write(&labelled).await?;
    }
    Ok(())
}

async fn seed_rows(session: &SessionContext, scope: &Scope, labels: &LabelIndex, file: &mut File<'_>) -> Result<(), Status> {
    let attacks = labels.attack_stretches(&Identity::from(&scope.selector));
    // The nodes' own rows would count everything twice.
    let subject = || scope.subject().and(col("container_id").not_eq(lit("")));
    let table = session.table("observations").await.map_err(|error| status_of(&error))?;
    let rows = |range| table.clone().filter(subject().and(between(range))).map_err(|error| status_of(&error));
    let Some((first, last)) = ends(rows(scope.range)?).await? else { return Ok(()) };
    let (first, last) = (step_of(first), step_of(last));
    file.total_rows = (last - first + 1) as u64;

    let mut fold = Fold::default();
    let (mut step, mut steps) = (first, STEPS);
    while step <= last {
        let end = (step + steps - 1).min(last);
        // (step - 1) * 10 s < time <= end * 10 s, within the range asked for.
        let range = (scope.range.0.max((step - 1) * STEP_MS + 1), scope.range.1.min(end * STEP_MS + 1));
        let mut batches =
            points(rows(range)?).map_err(|error| status_of(&error))?.execute_stream().await.map_err(|error| status_of(&error))?;
        while let Some(batch) = batches.next().await {
            add_points(&mut fold, &batch.map_err(|error| status_of(&error))?)?;
        }
        steps = if fold.containers() < SMALL { STEPS_SMALL } else { STEPS };
        let made = fold.rows(step, end, &attacks);
        file.write(&seed::batch(&made).map_err(EncodeError::Arrow)?).await?;
        step = end + 1;
    }
    Ok(())
}

/// The first and last instant of the rows, Unix milliseconds.
async fn ends(rows: DataFrame) -> Result<Option<(i64, i64)>, Status> {
    let ends = rows.aggregate(vec![], vec![min(col("time")), max(col("time"))]).map_err(|error| status_of(&error))?;
    let batches = ends.collect().await.map_err(|error| status_of(&error))?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let end = |place: usize| {
        let column = batch.column(place).as_primitive_opt::<TimestampMillisecondType>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    Ok(end(0).zip(end(1)))
}

const POINT: [&str; 7] =
    ["interval_us", "cpu_usage_us", "memory_current_bytes", "memory_working_set_bytes", "net_tx_bytes", "net_rx_bytes", "restarts"];

fn points(rows: DataFrame) -> datafusion::error::Result<DataFrame> {
    rows.select(["time", "node", "container_id"].into_iter().chain(POINT).map(col))
}

fn add_points(fold: &mut Fold, batch: &RecordBatch) -> Result<(), Status> {
    let failed = |error: arrow::error::ArrowError| Status::internal(error.to_string());
    let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
    let text = |place: usize| arrow::compute::cast(batch.column(place), &arrow::datatypes::DataType::Utf8).map_err(failed);
    let (nodes, ids) = (text(1)?, text(2)?);
    let (nodes, ids) = (nodes.as_string::<i32>(), ids.as_string::<i32>());
    let columns: Vec<_> = batch.columns()[3..].iter().map(|column| column.as_primitive::<Int64Type>()).collect();
    let mut last: Option<(&str, &str, Arc<str>)> = None;
    for row in 0..batch.num_rows() {
        let (node, id) = (nodes.value(row), ids.value(row));
        // A watched cgroup's id is only unique on its node. History comes container by container.
        let container = match &last {
            Some((last_node, last_id, container)) if (*last_node, *last_id) == (node, id) => Arc::clone(container),
            _ => format!("{node}/{id}").into(),
        };
        let value = |place: usize| columns[place].is_valid(row).then(|| columns[place].value(row));
        let point = Point {
            unix_ms: times.value(row),
            interval_us: value(0),
            cpu_usage_us: value(1),
            memory_current_bytes: value(2),
            memory_working_set_bytes: value(3),
            net_tx_bytes: value(4),
            net_rx_bytes: value(5),
            restarts: value(6),
        };
        fold.add(&container, &point);
        last = Some((node, id, container));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
