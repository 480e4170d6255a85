//! Where questions run: threads, memory and functions of their own, so that no question can hurt ingest.

use std::{sync::Arc, time::Duration};

use datafusion::{
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::Status;

use super::status_of;
use crate::Shared;

/// Memory that one question may use for joins, sorts and groups.
const MEMORY_BYTES: usize = 256 << 20;
/// Threads that questions share.
const THREADS: usize = 2;
/// Planning walks a statement as deep as it is nested; its operators are limited, and this is room for all of them (see `check_statement`).
const STACK_BYTES: usize = 64 << 20;
/// How long a question waits for others to finish before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Functions that make much out of little, in memory that no pool counts.
const REFUSED_FUNCTIONS: [&str; 15] = [
    "repeat",
    "lpad",
    "rpad",
    "replace",
    "translate",
    "regexp_replace",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
    "make_list",
    "overlay",
];

/// The threads, and who may use them.
#[derive(Debug)]
pub struct Questions {
    runtime: Option<Runtime>,
    slots: Arc<Semaphore>,
}

impl Questions {
    /// With room for this many questions at a time.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(name: &str, at_once: usize) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_stack_size(STACK_BYTES).thread_name(name).enable_all().build()?;
        Ok(Self { runtime: Some(runtime), slots: Arc::new(Semaphore::new(at_once)) })
    }

    /// Waits for room.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when there is none for ten seconds.
    pub async fn room(&self) -> Result<OwnedSemaphorePermit, Status> {
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Status::resource_exhausted(format!("too many are running already; none finished within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Runs a future on these threads.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        // The runtime is only taken away by Drop.
        self.runtime.as_ref().expect("runs until dropped").spawn(work)
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        // Waiting for a question here would block whoever drops this, which may be a runtime itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A session over `observations` and `gaps`, without access to files: nothing spills, nothing is written.
///
/// # Errors
/// What DataFusion says.
pub fn session(shared: &Shared) -> Result<SessionContext, Status> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(MEMORY_BYTES, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(|error| status_of(&error))?;
    let mut config = SessionConfig::new().with_target_partitions(THREADS).with_batch_size(4096).with_information_schema(true);
    // A question that calls itself could run for ever; the rest of SQL is enough here.
    config.options_mut().execution.enable_recursive_ctes = false;
    let session = SessionContext::new_with_config_rt(config, runtime);
    for name in REFUSED_FUNCTIONS {
        session.deregister_udf(name);
        session.deregister_udtf(name);
    }
    shared.history.register(&session).map_err(|error| Status::internal(error.to_string()))?;
    Ok(session)
}
