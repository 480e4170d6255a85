//! What people do about incidents: acknowledge, snooze, comment. Rows are only added; the incident's row has what follows from them.

use sqlx::{Row, sqlite::SqliteRow};
use vedette_proto::v1::{Handling, Incident, RecordedHandling};

use super::{MAX_HANDLINGS, MAX_HANDLINGS_PER_INCIDENT, Store, StoreError, cannot, now_unix_ms, row_id};

/// Something to record.
#[derive(Clone, Debug)]
pub struct NewHandling<'a> {
    /// The incident.
    pub incident_id: u64,
    /// What is done.
    pub handling: Handling,
    /// Who.
    pub author: &'a str,
    /// Free text.
    pub note: &'a str,
    /// Of a snooze: until when, Unix milliseconds; 0 otherwise.
    pub until_unix_ms: i64,
}

/// What people said of an incident and did about it, as its row has it: the detector, which writes the rest, does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    pub(super) answer: i32,
    pub(super) acknowledged_by: String,
    pub(super) acknowledged_unix_ms: i64,
    pub(super) snoozed_by: String,
    pub(super) snoozed_until_unix_ms: i64,
}

impl Handled {
    /// As an incident from the store says it.
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        Self {
            answer: incident.answer,
            acknowledged_by: incident.acknowledged_by.clone(),
            acknowledged_unix_ms: incident.acknowledged_unix_ms,
            snoozed_by: incident.snoozed_by.clone(),
            snoozed_until_unix_ms: incident.snoozed_until_unix_ms,
        }
    }

    /// Says it in the incident.
    pub fn say(&self, incident: &mut Incident) {
        incident.answer = self.answer;
        incident.acknowledged_by.clone_from(&self.acknowledged_by);
        incident.acknowledged_unix_ms = self.acknowledged_unix_ms;
        incident.snoozed_by.clone_from(&self.snoozed_by);
        incident.snoozed_until_unix_ms = self.snoozed_until_unix_ms;
    }
}

impl Store {
    /// Records what was done about an incident, and what follows for it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] without the incident, [`StoreError::Resolved`] where there is nothing left to acknowledge or snooze,
    /// [`StoreError::Full`] at the limit; what SQLite says.
    pub async fn add_handling(&self, new: &NewHandling<'_>) -> Result<u64, StoreError> {
        let what = "record what was done about an incident";
        let missing = StoreError::Missing { what: "incident", id: new.incident_id };
        let Some(incident) = row_id(new.incident_id) else { return Err(missing) };
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        let row = sqlx::query(
            "SELECT severity, resolved_unix_ms, (SELECT count(*) FROM handlings WHERE incident_id = ?1) FROM incidents WHERE id = ?1",
        )
        .bind(incident)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        let Some(row) = row else { return Err(missing) };
        let (severity, resolved_unix_ms, so_far): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if resolved_unix_ms > 0 && matches!(new.handling, Handling::Acknowledged | Handling::Snoozed) {
            return Err(StoreError::Resolved { id: new.incident_id });
        }
        if so_far as u64 >= MAX_HANDLINGS_PER_INCIDENT {
            return Err(StoreError::Full { what: "the list of what was done about the incident", limit: MAX_HANDLINGS_PER_INCIDENT });
        }
        let now = now_unix_ms();
        let added = sqlx::query(
            "INSERT INTO handlings (incident_id, handling, author, note, unix_ms, until_unix_ms, severity) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(incident)
        .bind(new.handling.word())
        .bind(new.author)
        .bind(new.note)
        .bind(now)
        .bind(new.until_unix_ms)
        .bind(severity)
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        let id = added.last_insert_rowid();
        let follows = match new.handling {
            Handling::Acknowledged => Some(
                sqlx::query("UPDATE incidents SET acknowledged_by = ?, acknowledged_unix_ms = ? WHERE id = ?").bind(new.author).bind(now),
            ),
            Handling::Unacknowledged => {
                Some(sqlx::query("UPDATE incidents SET acknowledged_by = '', acknowledged_unix_ms = 0 WHERE id = ?"))
            }
            Handling::Snoozed => Some(
                sqlx::query("UPDATE incidents SET snoozed_by = ?, snoozed_until_unix_ms = ?, snoozed_severity = severity WHERE id = ?")
                    .bind(new.author)
                    .bind(new.until_unix_ms),
            ),
            Handling::Woken => {
                Some(sqlx::query("UPDATE incidents SET snoozed_by = '', snoozed_until_unix_ms = 0, snoozed_severity = 0 WHERE id = ?"))
            }
            Handling::Commented | Handling::Unspecified => None,
        };
        if let Some(follows) = follows {
            follows.bind(incident).execute(&mut *transaction).await.map_err(cannot(what))?;
        }
        // Ids count up, so this is seldom needed and then removes what the last 256 added.
        if id % 256 == 0 {
            sqlx::query("DELETE FROM handlings WHERE id <= ?")
                .bind(id - MAX_HANDLINGS as i64)
                .execute(&mut *transaction)
                .await
                .map_err(cannot(what))?;
        }
        transaction.commit().await.map_err(cannot(what))?;
        Ok(id as u64)
    }

    /// What was done about one incident, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn handlings(&self, incident_id: u64) -> Result<Vec<RecordedHandling>, StoreError> {
        let Some(incident) = row_id(incident_id) else { return Ok(Vec::new()) };
        let rows =
            sqlx::query("SELECT id, handling, author, note, unix_ms, until_unix_ms FROM handlings WHERE incident_id = ? ORDER BY id")
                .bind(incident)
                .fetch_all(&self.readers)
                .await
                .map_err(cannot("read what was done about an incident"))?;
        Ok(rows.iter().map(read).collect())
    }

    /// What was done about any incident with its id, the newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn all_handlings(&self, limit: u64) -> Result<Vec<(u64, RecordedHandling)>, StoreError> {
        let rows =
            sqlx::query("SELECT id, handling, author, note, unix_ms, until_unix_ms, incident_id FROM handlings ORDER BY id DESC LIMIT ?")
                .bind(limit as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(cannot("read what was done about incidents"))?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>(6) as u64, read(row))).collect())
    }
}

fn read(row: &SqliteRow) -> RecordedHandling {
    RecordedHandling {
        id: row.get::<i64, _>(0) as u64,
        handling: Handling::from_word(row.get(1)).unwrap_or(Handling::Unspecified).into(),
        author: row.get(2),
        note: row.get(3),
        unix_ms: row.get(4),
        until_unix_ms: row.get(5),
    }
}
