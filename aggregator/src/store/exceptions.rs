//! Exceptions: those that people and files made, and those that follow from answers. Ended ones stay, marked.

use prost::Message;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};
use vedette_proto::v1::{Exception, ExceptionSource, Incident};

use super::{MAX_EXCEPTIONS, Store, StoreError, cannot};

/// An exception as stored.
#[derive(Clone, Debug)]
pub struct StoredException {
    /// The exception.
    pub exception: Exception,
    /// The incident whose answer made it, as it was then.
    pub answered: Option<Incident>,
}

/// What applying a file changes, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Replacing {
    /// Names that end.
    pub end: Vec<String>,
    /// Those that begin.
    pub begin: Vec<Exception>,
}

const SELECT: &str = "SELECT id, message, removed_unix_ms, answered FROM exceptions";

impl Store {
    /// Exceptions that stand at an instant, by name; with the others after them where these are wanted, the newest first.
    ///
    /// # Errors
    /// What SQLite says; a row that cannot be read.
    pub async fn exceptions(&self, now_unix_ms: i64, include_over: bool) -> Result<Vec<StoredException>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE ?2 OR (removed_unix_ms = 0 AND expires_unix_ms > ?1)
             ORDER BY removed_unix_ms > 0 OR expires_unix_ms <= ?1, iif(removed_unix_ms = 0, name, ''), id DESC LIMIT ?3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(now_unix_ms)
            .bind(include_over)
            .bind(MAX_EXCEPTIONS as i64 * 10)
            .fetch_all(&self.readers)
            .await
            .map_err(cannot("read exceptions"))?;
        rows.iter().map(read).collect()
    }

    /// Adds an exception. One of the same name that is over makes room.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Full`]; what SQLite says.
    pub async fn add_exception(&self, exception: &Exception, now_unix_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await.map_err(cannot("add an exception"))?;
        insert(&mut transaction, exception, None, now_unix_ms).await?;
        transaction.commit().await.map_err(cannot("add an exception"))
    }

    /// Ends an exception that stands.
    ///
    /// # Errors
    /// [`StoreError::NoSuch`]; what SQLite says.
    pub async fn end_exception(&self, name: &str, now_unix_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await.map_err(cannot("end an exception"))?;
        end(&mut transaction, name, now_unix_ms).await?;
        transaction.commit().await.map_err(cannot("end an exception"))
    }

    /// Ends some and adds others, all or none.
    ///
    /// # Errors
    /// As [`Store::add_exception`] and [`Store::end_exception`].
    pub async fn replace_exceptions(&self, replacing: &Replacing, now_unix_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await.map_err(cannot("apply exceptions"))?;
        for name in &replacing.end {
            end(&mut transaction, name, now_unix_ms).await?;
        }
        for exception in &replacing.begin {
            insert(&mut transaction, exception, None, now_unix_ms).await?;
        }
        transaction.commit().await.map_err(cannot("apply exceptions"))
    }
}

/// What an answer makes: the answer's id and the incident as it is.
pub(super) type FromAnswer<'a> = (i64, &'a Incident);

pub(super) async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    exception: &Exception,
    answer: Option<FromAnswer<'_>>,
    now_unix_ms: i64,
) -> Result<(), StoreError> {
    let what = "add an exception";
    sqlx::query("UPDATE exceptions SET removed_unix_ms = ?1 WHERE removed_unix_ms = 0 AND expires_unix_ms <= ?1")
        .bind(now_unix_ms)
        .execute(&mut **transaction)
        .await
        .map_err(cannot(what))?;
    let (stands, same): (i64, i64) = {
        let row = sqlx::query("SELECT count(*), coalesce(sum(name = ?), 0) FROM exceptions WHERE removed_unix_ms = 0")
            .bind(&exception.name)
            .fetch_one(&mut **transaction)
            .await
            .map_err(cannot(what))?;
        (row.get(0), row.get(1))
    };
    if same > 0 {
        return Err(StoreError::Exists { what: "exception", name: exception.name.clone() });
    }
    if stands as u64 >= MAX_EXCEPTIONS {
        if answer.is_none() {
            return Err(StoreError::Full { what: "the list of exceptions", limit: MAX_EXCEPTIONS });
        }
        // An answer is never refused for it: the oldest that came of one ends.
        sqlx::query(
            "UPDATE exceptions SET removed_unix_ms = ?1 WHERE id =
               (SELECT min(id) FROM exceptions WHERE removed_unix_ms = 0 AND source = 'answer')",
        )
        .bind(now_unix_ms)
        .execute(&mut **transaction)
        .await
        .map_err(cannot(what))?;
    }
    sqlx::query(
        "INSERT INTO exceptions (name, source, answer_id, created_unix_ms, expires_unix_ms, message, answered) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&exception.name)
    .bind(exception.source().word())
    .bind(answer.map(|(id, _)| id))
    .bind(now_unix_ms)
    .bind(exception.expires_unix_ms)
    .bind(exception.encode_to_vec())
    .bind(answer.map(|(_, incident)| incident.encode_to_vec()))
    .execute(&mut **transaction)
    .await
    .map_err(cannot(what))?;
    Ok(())
}

async fn end(transaction: &mut Transaction<'_, Sqlite>, name: &str, now_unix_ms: i64) -> Result<(), StoreError> {
    let ended = sqlx::query("UPDATE exceptions SET removed_unix_ms = ?1 WHERE name = ?2 AND removed_unix_ms = 0 AND expires_unix_ms > ?1")
        .bind(now_unix_ms)
        .bind(name)
        .execute(&mut **transaction)
        .await
        .map_err(cannot("end an exception"))?;
    match ended.rows_affected() {
        0 => Err(StoreError::NoSuch { what: "exception that stands", name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Ends what an answer made; gives its name, if it still stood.
pub(super) async fn end_of_answer(
    transaction: &mut Transaction<'_, Sqlite>,
    answer_id: i64,
    now_unix_ms: i64,
) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar("UPDATE exceptions SET removed_unix_ms = ? WHERE answer_id = ? AND removed_unix_ms = 0 RETURNING name")
        .bind(now_unix_ms)
        .bind(answer_id)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(cannot("end an exception"))
}

fn read(row: &SqliteRow) -> Result<StoredException, StoreError> {
    let id = row.get::<i64, _>(0) as u64;
    let corrupt = |error: prost::DecodeError| StoreError::Corrupt { what: "exception", id, reason: error.to_string() };
    let mut exception = Exception::decode(row.get::<&[u8], _>(1)).map_err(corrupt)?;
    exception.removed_unix_ms = row.get(2);
    let answered = row.get::<Option<&[u8]>, _>(3).map(Incident::decode).transpose().map_err(corrupt)?;
    if exception.source() == ExceptionSource::Answer && answered.is_none() {
        return Err(StoreError::Corrupt { what: "exception", id, reason: "the answered incident is missing".to_owned() });
    }
    Ok(StoredException { exception, answered })
}
