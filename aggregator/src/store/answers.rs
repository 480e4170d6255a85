//! Operators' words on incidents, each with the label it implies, in one transaction.

use prost::Message;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};
use vedette_proto::v1::{Answer, Exception, Incident, Kind, Label, RecordedAnswer};

use super::{MAX_ANSWERS_PER_INCIDENT, Store, StoreError, cannot, exceptions, labels, now_unix_ms, row_id};

/// An answer to record.
#[derive(Clone, Debug)]
pub struct NewAnswer<'a> {
    /// The incident.
    pub incident_id: u64,
    /// The answer.
    pub answer: Answer,
    /// The kind it states; unspecified is "as named".
    pub kind: Kind,
    /// Who.
    pub author: &'a str,
    /// Free text.
    pub note: &'a str,
    /// The labels that follow from it, one per container that the incident was seen in. May be none.
    pub labels: &'a [Label],
    /// The incident as it is answered.
    pub incident: &'a Incident,
    /// What follows for incidents like it, but for its name, which is made of the answer's id. May be none.
    pub exception: Option<Exception>,
}

/// An answer that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// It.
    pub undone: Answer,
    /// The one that stands now; unspecified is none.
    pub answer: Answer,
    /// Labels that were retracted.
    pub labels_retracted: u32,
    /// The exception that ended with it.
    pub exception: Option<String>,
}

impl Store {
    /// Records an answer and adds its labels and its exception, all or none. Exceptions of earlier answers to the incident end; those of
    /// its workload and kind too, where it was an attack. Returns the answer's id and the first label's, 0 for none.
    ///
    /// # Errors
    /// [`StoreError::Missing`] without the incident, [`StoreError::Full`] at a limit; what SQLite says.
    pub async fn add_answer(&self, new: &NewAnswer<'_>) -> Result<(u64, u64), StoreError> {
        let what = "record an answer";
        let missing = StoreError::Missing { what: "incident", id: new.incident_id };
        let Some(incident) = row_id(new.incident_id) else { return Err(missing) };
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        let so_far: i64 = sqlx::query_scalar("SELECT count(*) FROM answers WHERE incident_id = ?")
            .bind(incident)
            .fetch_one(&mut *transaction)
            .await
            .map_err(cannot(what))?;
        if so_far as u64 >= MAX_ANSWERS_PER_INCIDENT {
            return Err(StoreError::Full { what: "the list of answers to the incident", limit: MAX_ANSWERS_PER_INCIDENT });
        }
        let updated = sqlx::query("UPDATE incidents SET answer = ? WHERE id = ?")
            .bind(new.answer.word())
            .bind(incident)
            .execute(&mut *transaction)
            .await
            .map_err(cannot(what))?;
        if updated.rows_affected() == 0 {
            return Err(missing);
        }
        labels::room_for(&mut transaction, new.labels.len() as u64).await?;
        let now = now_unix_ms();
        let mut label_id = 0;
        for label in new.labels {
            let id = labels::insert(&mut transaction, label, now).await?;
            label_id = if label_id == 0 { id } else { label_id };
        }
        let added =
            sqlx::query("INSERT INTO answers (incident_id, answer, kind, author, note, unix_ms, label_id) VALUES (?, ?, ?, ?, ?, ?, ?)")
                .bind(incident)
                .bind(new.answer.word())
                .bind(new.kind.word())
                .bind(new.author)
                .bind(new.note)
                .bind(now)
                .bind(label_id as i64)
                .execute(&mut *transaction)
                .await
                .map_err(cannot(what))?;
        let id = added.last_insert_rowid();
        end_earlier(&mut transaction, new, now).await?;
        if let Some(exception) = &new.exception {
            let exception = Exception { name: format!("answer-{id}"), ..exception.clone() };
            exceptions::insert(&mut transaction, &exception, Some((id, new.incident)), now).await?;
        }
        transaction.commit().await.map_err(cannot(what))?;
        Ok((id as u64, label_id))
    }

    /// Takes the last answer to an incident back: retracts its labels, ends its exception, and lets those stand again that it had ended.
    ///
    /// # Errors
    /// [`StoreError::NoAnswer`], [`StoreError::Full`] where labels have no room for retractions; what SQLite says.
    pub async fn undo_answer(&self, incident_id: u64, author: &str) -> Result<Undone, StoreError> {
        let what = "take an answer back";
        let none = StoreError::NoAnswer { id: incident_id };
        let Some(incident) = row_id(incident_id) else { return Err(none) };
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        let standing = sqlx::query(
            "SELECT id, answer, unix_ms, label_id FROM answers WHERE incident_id = ? AND undone_unix_ms = 0 ORDER BY id DESC LIMIT 2",
        )
        .bind(incident)
        .fetch_all(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        let word = |row: &SqliteRow| Answer::from_word(row.get(1)).unwrap_or(Answer::Unspecified);
        let Some(last) = standing.first() else { return Err(none) };
        let (id, undone, answered_ms, first_label): (i64, Answer, i64, i64) = (last.get(0), word(last), last.get(2), last.get(3));
        let answer = standing.get(1).map_or(Answer::Unspecified, word);
        let now = now_unix_ms();
        sqlx::query("UPDATE answers SET undone_unix_ms = ?, undone_by = ? WHERE id = ?")
            .bind(now)
            .bind(author)
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(cannot(what))?;
        let labels = sqlx::query(
            "INSERT INTO labels (cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id,
               start_unix_ms, end_unix_ms, kind, affected, source, author, note, created_unix_ms, attributes, retracts)
             SELECT cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id,
               start_unix_ms, end_unix_ms, kind, affected, source, ?1, 'answer taken back', ?2, '{}', id FROM labels l
             WHERE l.retracts IS NULL AND ?5 > 0 AND l.id >= ?5 AND l.created_unix_ms = ?3 AND json_extract(l.attributes, '$.incident') = ?4
               AND NOT EXISTS (SELECT 1 FROM labels r WHERE r.retracts = l.id)",
        )
        .bind(author)
        .bind(now)
        .bind(answered_ms)
        .bind(incident_id.to_string())
        .bind(first_label)
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        labels::room_for(&mut transaction, 0).await?;
        let exception = exceptions::end_of_answer(&mut transaction, id, now).await?;
        sqlx::query(
            "UPDATE exceptions SET removed_unix_ms = 0
             WHERE removed_unix_ms = ?1 AND source = 'answer' AND answer_id < ?2 AND expires_unix_ms > ?3",
        )
        .bind(answered_ms)
        .bind(id)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        sqlx::query("UPDATE incidents SET answer = ? WHERE id = ?")
            .bind(answer.word())
            .bind(incident)
            .execute(&mut *transaction)
            .await
            .map_err(cannot(what))?;
        transaction.commit().await.map_err(cannot(what))?;
        Ok(Undone { undone, answer, labels_retracted: labels.rows_affected() as u32, exception })
    }

    /// Answers to one incident, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn answers(&self, incident_id: u64) -> Result<Vec<RecordedAnswer>, StoreError> {
        let Some(incident) = row_id(incident_id) else { return Ok(Vec::new()) };
        let rows =
            sqlx::query("SELECT id, answer, kind, author, note, unix_ms, undone_unix_ms FROM answers WHERE incident_id = ? ORDER BY id")
                .bind(incident)
                .fetch_all(&self.readers)
                .await
                .map_err(cannot("read answers"))?;
        Ok(rows.iter().map(read).collect())
    }

    /// The newest answers to any incident with the incident's id and the label's, newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn all_answers(&self, limit: u64) -> Result<Vec<(u64, u64, RecordedAnswer)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, answer, kind, author, note, unix_ms, undone_unix_ms, incident_id, label_id FROM answers ORDER BY id DESC LIMIT ?",
        )
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(cannot("read answers"))?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>(7) as u64, row.get::<i64, _>(8) as u64, read(row))).collect())
    }
}

fn read(row: &SqliteRow) -> RecordedAnswer {
    RecordedAnswer {
        id: row.get::<i64, _>(0) as u64,
        answer: Answer::from_word(row.get(1)).unwrap_or(Answer::Unspecified).into(),
        kind: Kind::from_word(row.get(2)).unwrap_or(Kind::Unspecified).into(),
        author: row.get(3),
        note: row.get(4),
        unix_ms: row.get(5),
        undone_unix_ms: row.get(6),
    }
}

/// Ends what earlier answers made and this one contradicts, at the instant of this one.
async fn end_earlier(transaction: &mut Transaction<'_, Sqlite>, new: &NewAnswer<'_>, now_unix_ms: i64) -> Result<(), StoreError> {
    let what = "end exceptions of earlier answers";
    let rows = sqlx::query("SELECT id, message, answered FROM exceptions WHERE removed_unix_ms = 0 AND source = 'answer'")
        .fetch_all(&mut **transaction)
        .await
        .map_err(cannot(what))?;
    for row in rows {
        let (Ok(exception), Ok(answered)) = (Exception::decode(row.get::<&[u8], _>(1)), Incident::decode(row.get::<&[u8], _>(2))) else {
            continue;
        };
        let same_kind = answered.workload == new.incident.workload && answered.kind == new.incident.kind;
        if exception.incident_id == new.incident_id || (new.answer == Answer::Attack && same_kind) {
            sqlx::query("UPDATE exceptions SET removed_unix_ms = ? WHERE id = ?")
                .bind(now_unix_ms)
                .bind(row.get::<i64, _>(0))
                .execute(&mut **transaction)
                .await
                .map_err(cannot(what))?;
        }
    }
    Ok(())
}
