//! The audit log: who asked for or said what, and when.

use sqlx::Row;

use super::{MAX_AUDIT, Store, StoreError, cannot, now_unix_ms};

/// Longest detail that is kept, in bytes; the rest is cut.
const MAX_DETAIL: usize = 8 * 1024;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When, Unix milliseconds by the aggregator's clock.
    pub unix_ms: i64,
    /// The caller, as the gate knew it. Whoever the request claimed to be stands in the detail.
    pub who: String,
    /// What: "query", "export", "label", "retract", "answer".
    pub what: String,
    /// The request in words.
    pub detail: String,
}

impl Store {
    /// Adds a line; the oldest go beyond [`MAX_AUDIT`].
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn audit(&self, who: &str, what: &str, detail: &str) -> Result<(), StoreError> {
        let mut cut = detail.len().min(MAX_DETAIL);
        while !detail.is_char_boundary(cut) {
            cut -= 1;
        }
        let added = sqlx::query("INSERT INTO audit (unix_ms, who, what, detail) VALUES (?, ?, ?, ?)")
            .bind(now_unix_ms())
            .bind(who)
            .bind(what)
            .bind(&detail[..cut])
            .execute(&self.writer)
            .await
            .map_err(cannot("write the audit log"))?;
        // Ids are given in order, so the oldest are the lowest; seldom, because a delete costs a page or two.
        if added.last_insert_rowid() % 1024 == 0 {
            sqlx::query("DELETE FROM audit WHERE id <= ?")
                .bind(added.last_insert_rowid() - MAX_AUDIT as i64)
                .execute(&self.writer)
                .await
                .map_err(cannot("shorten the audit log"))?;
        }
        Ok(())
    }

    /// The newest lines, newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn audit_rows(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("SELECT unix_ms, who, what, detail FROM audit ORDER BY id DESC LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(cannot("read the audit log"))?;
        Ok(rows.iter().map(|row| AuditRow { unix_ms: row.get(0), who: row.get(1), what: row.get(2), detail: row.get(3) }).collect())
    }
}
