//! What receivers were told of incidents, so that a restart tells nobody twice.

use sqlx::Row;

use super::{Store, StoreError, cannot, row_id};

/// One thing that a receiver was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// The incident.
    pub incident_id: u64,
    /// The receiver's name; empty for the alert's identity, which all share.
    pub receiver: String,
    /// What it was told, as the notifier has it.
    pub said: String,
}

impl Store {
    /// Everything that receivers were told of incidents that are not over for long.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn notified(&self) -> Result<Vec<Notified>, StoreError> {
        let rows = sqlx::query("SELECT incident_id, receiver, said FROM notified ORDER BY incident_id, receiver")
            .fetch_all(&self.readers)
            .await
            .map_err(cannot("read what was notified"))?;
        let told =
            |row: &sqlx::sqlite::SqliteRow| Notified { incident_id: row.get::<i64, _>(0) as u64, receiver: row.get(1), said: row.get(2) };
        Ok(rows.iter().map(told).collect())
    }

    /// Remembers what a receiver was told.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn save_notified(&self, told: &Notified) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO notified (incident_id, receiver, said) VALUES (?, ?, ?)")
            .bind(row_id(told.incident_id).unwrap_or(i64::MAX))
            .bind(&told.receiver)
            .bind(&told.said)
            .execute(&self.writer)
            .await
            .map_err(cannot("remember what was notified"))?;
        Ok(())
    }

    /// Forgets incidents that nobody will be told of again.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn forget_notified(&self, incidents: &[u64]) -> Result<(), StoreError> {
        for id in incidents {
            sqlx::query("DELETE FROM notified WHERE incident_id = ?")
                .bind(row_id(*id).unwrap_or(i64::MAX))
                .execute(&self.writer)
                .await
                .map_err(cannot("forget what was notified"))?;
        }
        Ok(())
    }
}
