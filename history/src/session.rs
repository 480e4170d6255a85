//! Asking: a session over history with limits, and queries that can only read.

use std::{fmt::Display, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    execution::{
        SendableRecordBatchStream,
        context::SQLOptions,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::RuntimeEnvBuilder,
    },
    physical_plan::{ExecutionPlan, execute_stream},
    prelude::{SessionConfig, SessionContext},
};
use futures::StreamExt;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{History, HistoryError, statement};

/// Rows of one batch of an answer.
const BATCH_ROWS: usize = 8_192;

/// Stack of the thread that plans a query, in bytes; only what is used of it costs memory.
const PLANNING_STACK: usize = 64 << 20;

/// How much one query may cost; its memory is the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Rows answered; further ones are left out, and said to be.
    pub max_rows: usize,
    /// Time from the question to the last row.
    pub timeout: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { max_rows: 10_000, timeout: Duration::from_secs(30) }
    }
}

/// An answer that is still being computed. Dropping it stops the query.
pub struct Answer {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    // Keeps the files that the plan reads.
    _plan: Arc<dyn ExecutionPlan>,
    rows_left: usize,
    truncated: bool,
    deadline: Instant,
    timeout: Duration,
}

impl Answer {
    /// Columns of the answer.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether rows were left out; final once [`Self::next`] returned `None`.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The next rows, `None` at the end.
    ///
    /// # Errors
    /// The time or the memory is used up, or the data does not fit the statement.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, HistoryError>> {
        loop {
            if self.truncated {
                return None;
            }
            let batch = match timeout_at(self.deadline, self.stream.next()).await {
                Err(_) => return Some(Err(HistoryError::QueryTimeout { seconds: self.timeout.as_secs() })),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(error.into())),
                Ok(Some(Ok(batch))) => batch,
            };
            if batch.num_rows() == 0 {
                continue;
            }
            if batch.num_rows() > self.rows_left {
                self.truncated = true;
                let batch = batch.slice(0, self.rows_left);
                self.rows_left = 0;
                return (batch.num_rows() > 0).then_some(Ok(batch));
            }
            self.rows_left -= batch.num_rows();
            return Some(Ok(batch));
        }
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn collect(&mut self) -> Result<Vec<RecordBatch>, HistoryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// Planning walks a statement's tree many times over, with large frames: a worker's stack is too small for the deepest one allowed.
async fn on_a_large_stack<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, HistoryError> {
    let (reply, result) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || drop(reply.send(runtime.block_on(work)));
    let failed = |error: &dyn Display| HistoryError::Query(format!("cannot plan: {error}"));
    std::thread::Builder::new().name("history-plan".into()).stack_size(PLANNING_STACK).spawn(run).map_err(|error| failed(&error))?;
    result.await.map_err(|error| failed(&error))
}

impl History {
    /// A session with the tables `observations` and `gaps`, its own memory limit (`query_memory_bytes`) and no spilling to
    /// disk. Further tables may be registered. Make one per query: the limit is the session's.
    ///
    /// # Errors
    /// The session cannot be built.
    pub fn session(&self) -> Result<SessionContext, HistoryError> {
        self.session_within(self.inner.config.query_memory_bytes, BATCH_ROWS)
    }

    /// A session with other limits.
    pub(crate) fn session_within(&self, memory_bytes: usize, batch_rows: usize) -> Result<SessionContext, HistoryError> {
        let mut config = SessionConfig::new().with_information_schema(true).with_batch_size(batch_rows);
        let options = config.options_mut();
        // A recursion that doubles a text outgrows any machine before a limit on rows sees it.
        options.execution.enable_recursive_ctes = false;
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.reorder_filters = true;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let session = SessionContext::new_with_config_rt(config, runtime);
        statement::limit_functions(&session);
        self.register(&session)?;
        Ok(session)
    }

    /// Answers one reading statement. Whatever would create, change, set or copy anything is refused.
    ///
    /// # Errors
    /// The statement is wrong or forbidden, or planning it took too long.
    pub async fn query(&self, session: &SessionContext, sql: &str, limits: QueryLimits) -> Result<Answer, HistoryError> {
        statement::check_statement(sql)?;
        let deadline = Instant::now() + limits.timeout;
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let (session, sql) = (session.clone(), sql.to_owned());
        let planning = async move {
            let frame = session.sql_with_options(&sql, reading).await?;
            let task = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await?;
            Ok::<_, HistoryError>((execute_stream(Arc::clone(&plan), task)?, plan))
        };
        let planning = on_a_large_stack(timeout_at(deadline, planning)).await?;
        let (stream, plan) = planning.map_err(|_| HistoryError::QueryTimeout { seconds: limits.timeout.as_secs() })??;
        let schema = stream.schema();
        let (rows_left, timeout) = (limits.max_rows, limits.timeout);
        Ok(Answer { schema, stream, _plan: plan, rows_left, truncated: false, deadline, timeout })
    }
}
