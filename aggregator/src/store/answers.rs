//! Operators' words on incidents, each with the label it implies, in one transaction.

use sqlx::{Row, sqlite::SqliteRow};
use vedette_proto::v1::{Answer, Kind, Label, RecordedAnswer};

use super::{MAX_ANSWERS_PER_INCIDENT, Store, StoreError, cannot, labels, now_unix_ms, row_id};

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
}

impl Store {
    /// Records an answer and adds its labels, all or none. Returns the answer's id and the first label's, 0 for none.
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
        transaction.commit().await.map_err(cannot(what))?;
        Ok((added.last_insert_rowid() as u64, label_id))
    }

    /// Answers to one incident, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn answers(&self, incident_id: u64) -> Result<Vec<RecordedAnswer>, StoreError> {
        let Some(incident) = row_id(incident_id) else { return Ok(Vec::new()) };
        let rows = sqlx::query("SELECT id, answer, kind, author, note, unix_ms FROM answers WHERE incident_id = ? ORDER BY id")
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
        let rows =
            sqlx::query("SELECT id, answer, kind, author, note, unix_ms, incident_id, label_id FROM answers ORDER BY id DESC LIMIT ?")
                .bind(limit as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(cannot("read answers"))?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>(6) as u64, row.get::<i64, _>(7) as u64, read(row))).collect())
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
    }
}
