//! The manifest: which files make up the sealed part of history, in SQLite. A file it does not know does not exist.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use vedette_proto::v1::Dropped;

use crate::{
    HistoryError,
    files::{Made, StoredFile},
    state::GAPS,
    wal::segment::{Gap, Index},
};

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
        min_unix_ms INTEGER NOT NULL, max_unix_ms INTEGER NOT NULL, level INTEGER NOT NULL, kept_for INTEGER NOT NULL,
        replay INTEGER NOT NULL DEFAULT 0, stored_unix_ms INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE IF NOT EXISTS progress (node TEXT NOT NULL, spool_id BLOB NOT NULL, sequence INTEGER NOT NULL, touched INTEGER NOT NULL,
        PRIMARY KEY (node, spool_id)) STRICT",
    // The last sealed segment also keeps ids from being used again.
    "CREATE TABLE IF NOT EXISTS sealed (segment INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE IF NOT EXISTS gaps (id INTEGER PRIMARY KEY, node TEXT NOT NULL, spool_id BLOB NOT NULL, sequence INTEGER NOT NULL,
        batches INTEGER NOT NULL, observations INTEGER NOT NULL, first_unix_ms INTEGER NOT NULL, last_unix_ms INTEGER NOT NULL,
        reason TEXT NOT NULL) STRICT",
];

/// Columns of `files` that manifests of the first days do not have.
const ADDED: [(&str, &str); 2] = [
    ("replay", "ALTER TABLE files ADD COLUMN replay INTEGER NOT NULL DEFAULT 0"),
    ("stored_unix_ms", "ALTER TABLE files ADD COLUMN stored_unix_ms INTEGER NOT NULL DEFAULT 0"),
];

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pool: SqlitePool,
    path: PathBuf,
}

impl Manifest {
    pub(crate) async fn open(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join("manifest.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        // One connection: there is one writer, and readers go by memory.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|error| HistoryError::manifest(&path, error))?;
        let manifest = Self { pool, path };
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&manifest.pool).await.map_err(|error| manifest.fail(error))?;
        }
        for (column, statement) in ADDED {
            let known = sqlx::query("SELECT 1 FROM pragma_table_info('files') WHERE name = ?").bind(column);
            if known.fetch_optional(&manifest.pool).await.map_err(|error| manifest.fail(error))?.is_none() {
                sqlx::query(statement).execute(&manifest.pool).await.map_err(|error| manifest.fail(error))?;
            }
        }
        Ok(manifest)
    }

    fn fail(&self, error: sqlx::Error) -> HistoryError {
        HistoryError::manifest(&self.path, error)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn files(&self, dir: &Path) -> Result<Vec<StoredFile>, HistoryError> {
        let rows = sqlx::query("SELECT * FROM files ORDER BY id").fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
        let file = |row: &SqliteRow| -> sqlx::Result<StoredFile> {
            let name: String = row.try_get("name")?;
            Ok(StoredFile::new(
                row.try_get("id")?,
                name.clone(),
                dir.join(name),
                row.try_get::<i64, _>("rows")? as u64,
                row.try_get::<i64, _>("bytes")? as u64,
                (row.try_get("min_unix_ms")?, row.try_get("max_unix_ms")?),
                Made {
                    level: row.try_get("level")?,
                    kept_for: row.try_get("kept_for")?,
                    replay: row.try_get("replay")?,
                    stored_unix_ms: row.try_get("stored_unix_ms")?,
                },
            ))
        };
        rows.iter().map(file).collect::<sqlx::Result<_>>().map_err(|error| self.fail(error))
    }

    /// The highest sealed sequence per node and spool, the one touched longest ago first.
    pub(crate) async fn progress(&self) -> Result<Vec<(String, [u8; 16], u64)>, HistoryError> {
        let query = "SELECT node, spool_id, sequence FROM progress ORDER BY touched, rowid";
        let rows = sqlx::query(query).fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
        let spool = |row: &SqliteRow| -> sqlx::Result<_> {
            let spool_id = row.try_get::<Vec<u8>, _>("spool_id")?.try_into().unwrap_or_default();
            Ok((row.try_get("node")?, spool_id, row.try_get::<i64, _>("sequence")? as u64))
        };
        rows.iter().map(spool).collect::<sqlx::Result<_>>().map_err(|error| self.fail(error))
    }

    pub(crate) async fn gaps(&self) -> Result<Vec<Gap>, HistoryError> {
        let query = sqlx::query("SELECT * FROM (SELECT * FROM gaps ORDER BY id DESC LIMIT ?) ORDER BY id").bind(GAPS as i64);
        let rows = query.fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
        let gap = |row: &SqliteRow| -> sqlx::Result<Gap> {
            Ok(Gap {
                node: row.try_get("node")?,
                spool_id: row.try_get::<Vec<u8>, _>("spool_id")?.try_into().unwrap_or_default(),
                sequence: row.try_get::<i64, _>("sequence")? as u64,
                dropped: Dropped {
                    batches: row.try_get::<i64, _>("batches")? as u64,
                    observations: row.try_get::<i64, _>("observations")? as u64,
                    first_unix_ms: row.try_get("first_unix_ms")?,
                    last_unix_ms: row.try_get("last_unix_ms")?,
                    reason: row.try_get("reason")?,
                },
            })
        };
        rows.iter().map(gap).collect::<sqlx::Result<_>>().map_err(|error| self.fail(error))
    }

    /// Segments whose rows are in files, so that what is left of them goes.
    pub(crate) async fn sealed(&self) -> Result<Vec<u64>, HistoryError> {
        let rows = sqlx::query("SELECT segment FROM sealed").fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
        rows.iter().map(|row| row.try_get::<i64, _>(0).map(|id| id as u64)).collect::<sqlx::Result<_>>().map_err(|e| self.fail(e))
    }

    /// The one transaction that makes a sealed segment's files count and the segment not.
    pub(crate) async fn seal(&self, segment: u64, index: &Index, files: &[StoredFile]) -> Result<(), HistoryError> {
        self.seal_transaction(segment, index, files).await.map_err(|error| self.fail(error))
    }

    async fn seal_transaction(&self, segment: u64, index: &Index, files: &[StoredFile]) -> sqlx::Result<()> {
        let mut transaction = self.pool.begin().await?;
        for file in files {
            insert(&mut transaction, file).await?;
        }
        for ((node, spool_id), sequence) in &index.progress {
            let upsert = "INSERT INTO progress (node, spool_id, sequence, touched) VALUES (?, ?, ?, ?)
                ON CONFLICT (node, spool_id) DO UPDATE SET sequence = max(sequence, excluded.sequence), touched = excluded.touched";
            let query = sqlx::query(upsert).bind(node).bind(&spool_id[..]).bind(*sequence as i64).bind(segment as i64);
            query.execute(&mut *transaction).await?;
        }
        for gap in &index.gaps {
            let insert = "INSERT INTO gaps (node, spool_id, sequence, batches, observations, first_unix_ms, last_unix_ms, reason)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            let dropped = &gap.dropped;
            sqlx::query(insert)
                .bind(&gap.node)
                .bind(&gap.spool_id[..])
                .bind(gap.sequence as i64)
                .bind(dropped.batches as i64)
                .bind(dropped.observations as i64)
                .bind(dropped.first_unix_ms)
                .bind(dropped.last_unix_ms)
                .bind(&dropped.reason)
                .execute(&mut *transaction)
                .await?;
        }
        let forget = "DELETE FROM progress WHERE rowid IN (SELECT rowid FROM (SELECT rowid,
            row_number() OVER (PARTITION BY node ORDER BY touched DESC, rowid DESC) AS place FROM progress) WHERE place > 4)";
        sqlx::query(forget).execute(&mut *transaction).await?;
        let trim = "DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?";
        sqlx::query(trim).bind(GAPS as i64).execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM sealed WHERE segment < ? - 1000").bind(segment as i64).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO sealed (segment) VALUES (?)").bind(segment as i64).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// Swaps files for others, all or nothing.
    pub(crate) async fn replace(&self, old: &[i64], new: &[StoredFile]) -> Result<(), HistoryError> {
        self.replace_transaction(old, new).await.map_err(|error| self.fail(error))
    }

    async fn replace_transaction(&self, old: &[i64], new: &[StoredFile]) -> sqlx::Result<()> {
        let mut transaction = self.pool.begin().await?;
        for id in old {
            sqlx::query("DELETE FROM files WHERE id = ?").bind(id).execute(&mut *transaction).await?;
        }
        for file in new {
            insert(&mut transaction, file).await?;
        }
        transaction.commit().await
    }
}

async fn insert(connection: &mut sqlx::SqliteConnection, file: &StoredFile) -> sqlx::Result<()> {
    let statement = "INSERT INTO files (id, name, rows, bytes, min_unix_ms, max_unix_ms, level, kept_for, replay, stored_unix_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(statement)
        .bind(file.id)
        .bind(&file.name)
        .bind(file.rows as i64)
        .bind(file.bytes as i64)
        .bind(file.min_unix_ms)
        .bind(file.max_unix_ms)
        .bind(file.made.level)
        .bind(file.made.kept_for)
        .bind(file.made.replay)
        .bind(file.made.stored_unix_ms)
        .execute(connection)
        .await?;
    Ok(())
}
