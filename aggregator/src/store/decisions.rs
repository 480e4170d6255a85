//! What policy decided about incidents, whether it pages, and how long was watched.

use sqlx::{Row, sqlite::SqliteRow};
use vedette_detect::policy::Entry;
use vedette_proto::v1::{Severity, Withheld};

use super::{MAX_DECISIONS, Store, StoreError, cannot, row_id};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Whether an installation pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAlerts {
    /// First start, Unix milliseconds.
    pub installed_unix_ms: i64,
    /// What somebody said; `None` where nobody did.
    pub pages: Option<bool>,
    /// Who.
    pub changed_by: String,
    /// When, Unix milliseconds; 0 where nobody did.
    pub changed_unix_ms: i64,
}

impl Store {
    /// Writes what was decided about an incident; beyond [`MAX_DECISIONS`] the oldest go.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn save_decision(&self, entry: &Entry) -> Result<(), StoreError> {
        let Some(id) = row_id(entry.incident_id) else { return Ok(()) };
        sqlx::query(
            "INSERT OR REPLACE INTO decisions (incident_id, namespace, rota, rank, unix_ms, wanted, given, withheld, withheld_by,
               asked_page_ms, ticketed_ms, paged_ms, would_page_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id)
        .bind(&entry.namespace)
        .bind(&entry.rota)
        .bind(entry.rank)
        .bind(entry.unix_ms)
        .bind(entry.wanted as i32)
        .bind(entry.given as i32)
        .bind(entry.withheld as i32)
        .bind(&entry.by)
        .bind(entry.asked_page_ms)
        .bind(entry.ticketed_ms)
        .bind(entry.paged_ms)
        .bind(entry.would_page_ms)
        .execute(&self.writer)
        .await
        .map_err(cannot("save a decision"))?;
        // Ids count up, so this is seldom needed and then removes what the last 1,024 added.
        if id % 1_024 == 0 {
            sqlx::query(
                "DELETE FROM decisions WHERE incident_id IN
                   (SELECT incident_id FROM decisions ORDER BY incident_id LIMIT max(0, (SELECT count(*) FROM decisions) - ?))",
            )
            .bind(MAX_DECISIONS as i64)
            .execute(&self.writer)
            .await
            .map_err(cannot("drop old decisions"))?;
        }
        Ok(())
    }

    /// What was decided about incidents from an instant of event time on, the oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn decisions(&self, since_unix_ms: i64) -> Result<Vec<Entry>, StoreError> {
        let rows = sqlx::query(
            "SELECT incident_id, namespace, rota, rank, unix_ms, wanted, given, withheld, withheld_by, asked_page_ms, ticketed_ms,
               paged_ms, would_page_ms FROM decisions WHERE unix_ms >= ? ORDER BY unix_ms, incident_id",
        )
        .bind(since_unix_ms)
        .fetch_all(&self.readers)
        .await
        .map_err(cannot("read decisions"))?;
        Ok(rows.iter().map(read).collect())
    }

    /// How many incidents something of this name withheld since an instant.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn withheld_by(&self, name: &str, since_unix_ms: i64) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM decisions WHERE withheld_by = ? AND withheld IN (?, ?) AND unix_ms >= ?")
            .bind(name)
            .bind(Withheld::Exception as i32)
            .bind(Withheld::Answered as i32)
            .bind(since_unix_ms)
            .fetch_one(&self.readers)
            .await
            .map_err(cannot("count decisions"))?;
        Ok(count as u64)
    }

    /// Whether the installation pages; its first call is when the installation began.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn alerts(&self, now_unix_ms: i64) -> Result<StoredAlerts, StoreError> {
        let failed = || cannot("read whether to page");
        sqlx::query("INSERT OR IGNORE INTO alerts (id, installed_unix_ms) VALUES (1, ?)")
            .bind(now_unix_ms)
            .execute(&self.writer)
            .await
            .map_err(failed())?;
        let row = sqlx::query("SELECT installed_unix_ms, pages, changed_by, changed_unix_ms FROM alerts WHERE id = 1")
            .fetch_one(&self.writer)
            .await
            .map_err(failed())?;
        Ok(StoredAlerts { installed_unix_ms: row.get(0), pages: row.get(1), changed_by: row.get(2), changed_unix_ms: row.get(3) })
    }

    /// Says whether to page.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn set_alerts(&self, pages: bool, who: &str, now_unix_ms: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE alerts SET pages = ?, changed_by = ?, changed_unix_ms = ? WHERE id = 1")
            .bind(pages)
            .bind(who)
            .bind(now_unix_ms)
            .execute(&self.writer)
            .await
            .map_err(cannot("save whether to page"))?;
        Ok(())
    }

    /// Adds to the time that was watched on the day of an instant.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn add_watched(&self, unix_ms: i64, watched_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO watched_days (day, watched_ms) VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET watched_ms = watched_ms + ?2",
        )
        .bind(unix_ms.div_euclid(DAY_MS))
        .bind(watched_ms)
        .execute(&self.writer)
        .await
        .map_err(cannot("save how long was watched"))?;
        Ok(())
    }

    /// Days since 1970 with how many milliseconds of each were watched, from the day of an instant on.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn watched(&self, since_unix_ms: i64) -> Result<Vec<(i64, i64)>, StoreError> {
        let rows = sqlx::query("SELECT day, watched_ms FROM watched_days WHERE day >= ? ORDER BY day")
            .bind(since_unix_ms.div_euclid(DAY_MS))
            .fetch_all(&self.readers)
            .await
            .map_err(cannot("read how long was watched"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

fn read(row: &SqliteRow) -> Entry {
    let severity = |at: usize| Severity::try_from(row.get::<i32, _>(at)).unwrap_or_default();
    Entry {
        incident_id: row.get::<i64, _>(0) as u64,
        namespace: row.get(1),
        rota: row.get(2),
        rank: row.get(3),
        unix_ms: row.get(4),
        wanted: severity(5),
        given: severity(6),
        withheld: Withheld::try_from(row.get::<i32, _>(7)).unwrap_or_default(),
        by: row.get(8),
        asked_page_ms: row.get(9),
        ticketed_ms: row.get(10),
        paged_ms: row.get(11),
        would_page_ms: row.get(12),
    }
}
