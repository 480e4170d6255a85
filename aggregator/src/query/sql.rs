//! One SELECT: checked, run within its limits, streamed in parts.

use std::time::Duration;

use arrow::datatypes::FieldRef;
use datafusion::prelude::{SQLOptions, SessionContext};
use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use vedette_proto::v1::{QueryColumn, QueryResponse, QueryRow};

use super::{status_of, value};
use crate::label::check;

/// Longest question, in bytes.
const MAX_SQL: usize = 64 * 1024;
/// A question that takes longer is stopped.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Rows of a part.
const PART_ROWS: usize = 1_000;
/// A part is sent once it is this large, in bytes: well below the 4 MiB that clients take by default.
const PART_BYTES: usize = 512 * 1024;
/// Largest single row, in bytes; one beyond it would not pass a client's limit.
const MAX_ROW_BYTES: usize = 2 * 1024 * 1024;
/// Most rows of an answer.
pub const MAX_ROWS: u32 = 1_000_000;
/// Rows of an answer where nothing was said.
pub const DEFAULT_ROWS: u32 = 10_000;

/// Parts on their way to the client.
pub type Parts = mpsc::Sender<Result<QueryResponse, Status>>;

/// Checks what can be checked without planning.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub fn checked(sql: &str) -> Result<&str, Status> {
    let sql = sql.trim();
    match sql.len() {
        0 => return Err(check::invalid("sql", "required, one SELECT statement")),
        1..=MAX_SQL => {}
        bytes => return Err(check::invalid("sql", format!("{bytes} bytes, at most {MAX_SQL} are allowed"))),
    }
    vedette_history::check_statement(sql).map_err(|error| check::invalid("sql", error.to_string()))?;
    Ok(sql)
}

/// Runs a question and sends its answer; what goes wrong is the last thing sent.
pub async fn answer(session: SessionContext, sql: String, max_rows: usize, time_limit: Duration, parts: Parts) {
    let end = tokio::select! {
        // Nobody listens any more: drop the question where it is.
        () = parts.closed() => return,
        end = tokio::time::timeout(time_limit, run(&session, &sql, max_rows, &parts)) => end,
    };
    let failure = match end {
        Ok(Ok(())) => return,
        Ok(Err(status)) => status,
        Err(_) => Status::deadline_exceeded(format!(
            "the question ran longer than {} s: narrow the time range (time >= now() - interval '1 hour'), or ask for less",
            time_limit.as_secs_f32()
        )),
    };
    // A client that went away needs no reason.
    let _ = parts.send(Err(failure)).await;
}

async fn run(session: &SessionContext, sql: &str, max_rows: usize, parts: &Parts) -> Result<(), Status> {
    // Plans that write (INSERT, COPY, CREATE) or change settings (SET) are refused wherever they stand in the statement.
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(sql, read_only).await.map_err(|error| status_of(&error))?;
    let mut batches = frame.execute_stream().await.map_err(|error| status_of(&error))?;

    let column = |field: &FieldRef| QueryColumn { name: field.name().clone(), data_type: field.data_type().to_string() };
    let columns = batches.schema().fields().iter().map(column).collect();
    let mut part = Part { response: QueryResponse { columns, ..QueryResponse::default() }, bytes: 0, parts };
    // The columns go ahead, so that a client can print its header while rows are looked for.
    part.send().await?;
    let mut rows = 0;
    let mut truncated = false;
    'batches: while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| status_of(&error))?;
        // In slices, because a batch as rows is many times its size.
        for start in (0..batch.num_rows()).step_by(PART_ROWS) {
            let slice = batch.slice(start, PART_ROWS.min(batch.num_rows() - start));
            for row in value::rows(&slice).map_err(|error| Status::internal(error.to_string()))? {
                if rows == max_rows {
                    truncated = true;
                    break 'batches;
                }
                rows += 1;
                part.add(row).await?;
            }
        }
    }
    part.response.truncated = truncated;
    part.send().await
}

/// The part that is being filled.
struct Part<'a> {
    response: QueryResponse,
    bytes: usize,
    parts: &'a Parts,
}

impl Part<'_> {
    async fn add(&mut self, row: QueryRow) -> Result<(), Status> {
        let bytes = row.encoded_len();
        if bytes > MAX_ROW_BYTES {
            return Err(Status::out_of_range(format!("a row has {bytes} bytes, at most {MAX_ROW_BYTES} can be sent: select less of it")));
        }
        if self.bytes + bytes > PART_BYTES || self.response.rows.len() == PART_ROWS {
            self.send().await?;
        }
        self.bytes += bytes;
        self.response.rows.push(row);
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Status> {
        self.bytes = 0;
        self.parts.send(Ok(std::mem::take(&mut self.response))).await.map_err(|_| Status::cancelled("the client went away"))
    }
}
