//! What outlives observations: labels, answers, incidents, nodes, baselines and the audit log, in one SQLite file.

mod answers;
mod audit;
mod baselines;
mod cross_checks;
mod decisions;
mod exceptions;
mod handlings;
mod incidents;
mod labels;
mod models;
mod nodes;
mod notified;
mod quiet;
mod schema;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use answers::{NewAnswer, Undone};
pub use audit::AuditRow;
pub use decisions::{DAY_MS, StoredAlerts};
pub use exceptions::{Replacing, StoredException};
pub use handlings::{Handled, NewHandling};
pub use incidents::{IncidentFilter, StoredIncident};
pub use labels::LabelFilter;
pub use models::StoredModel;
pub use nodes::StoredNode;
pub use notified::Notified;
pub use quiet::{Judged, Judgement};

/// Most rows of labels, retractions among them; beyond it new ones are refused.
pub const MAX_LABELS: u64 = 1_000_000;
/// Most incidents kept; beyond it the oldest resolved and unanswered ones go.
pub const MAX_INCIDENTS: u64 = 100_000;
/// Most answers to one incident; beyond it new ones are refused.
pub const MAX_ANSWERS_PER_INCIDENT: u64 = 1_000;
/// Most acknowledgements, snoozes and comments of one incident; beyond it new ones are refused.
pub const MAX_HANDLINGS_PER_INCIDENT: u64 = 1_000;
/// Most of them in all; beyond it the oldest go.
pub const MAX_HANDLINGS: u64 = 200_000;
/// Most changes of what comparing with Prometheus came to; beyond it the oldest go.
pub const MAX_CROSS_CHECKS: u64 = 200_000;
/// Most incidents whose decision is kept; beyond it the oldest go, and rates rest on those that are left.
pub const MAX_DECISIONS: u64 = 200_000;
/// Most exceptions that stand, those of answers among them; beyond it new ones are refused, and of answers the oldest ends.
pub const MAX_EXCEPTIONS: u64 = 1_000;
/// Most quiet windows kept; beyond it the oldest that nobody judged go.
pub const MAX_QUIET_WINDOWS: u64 = 10_000;
/// Most rows of the audit log; beyond it the oldest go.
pub const MAX_AUDIT: u64 = 1_000_000;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is no database of ours.
    #[error("{path} is not a vedette database")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version. It is left as it is.
    #[error("{path} has version {found}, this aggregator knows version {known}: run the version that wrote it, or move it away")]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("cannot {what}: {source}")]
    Sqlite {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The database holds something this version cannot read.
    #[error("cannot read {what} {id} from the database: {reason}")]
    Corrupt {
        /// Which table.
        what: &'static str,
        /// Which row.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A stated limit is reached.
    #[error("{what} is at its limit of {limit}")]
    Full {
        /// What is full.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// There is no such row.
    #[error("there is no {what} {id}")]
    Missing {
        /// Which table.
        what: &'static str,
        /// Which row.
        id: u64,
    },
    /// There is nothing of that name.
    #[error("there is no {what} named {name:?}")]
    NoSuch {
        /// What.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("there is {what} {name:?} already: remove it first, or take another name")]
    Exists {
        /// What.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// No answer stands.
    #[error("incident {id} has no answer that stands")]
    NoAnswer {
        /// The incident.
        id: u64,
    },
    /// What is over needs nobody any more.
    #[error("incident {id} has resolved: there is nothing left to acknowledge or snooze, but it can be commented and answered")]
    Resolved {
        /// The incident.
        id: u64,
    },
    /// Somebody judged the window before.
    #[error("quiet window {id} was judged already")]
    AlreadyJudged {
        /// The window.
        id: u64,
    },
    /// The label was taken back before.
    #[error("label {id} was already retracted by {by}")]
    AlreadyRetracted {
        /// The label.
        id: u64,
        /// The retraction.
        by: u64,
    },
    /// A retraction cannot be taken back: the label is added again instead.
    #[error("label {id} is a retraction: add the label again instead of retracting it")]
    IsRetraction {
        /// The row.
        id: u64,
    },
}

/// Says what was being done when SQLite refused.
fn cannot(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sqlite { what, source }
}

/// Unix milliseconds now, by the aggregator's clock.
#[must_use]
pub fn now_unix_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The database. A clone shares the same connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: SQLite has one writer at a time, and waiting here is fairer than its busy handler.
    writer: SqlitePool,
    /// Readers see the last commit and never wait for the writer (WAL).
    readers: SqlitePool,
}

impl Store {
    /// Opens the database, creating it where there is none.
    ///
    /// # Errors
    /// A file of another version, or not of ours, is left untouched.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        schema::prepare(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer that was confirmed survives a power failure.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = |connections, options| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(30)).connect_with(options)
        };
        let writer = pool(1, options.clone()).await.map_err(cannot("open the database"))?;
        let readers = pool(4, options.read_only(true)).await.map_err(cannot("open the database for reading"))?;
        Ok(Self { writer, readers })
    }

    /// Writes everything to the file and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// SQLite's integers are signed: an id beyond them cannot exist.
fn row_id(id: u64) -> Option<i64> {
    i64::try_from(id).ok()
}
