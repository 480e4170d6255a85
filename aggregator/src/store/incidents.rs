//! Incidents as stored: the contract's message, beside it the columns that questions filter by.

use prost::Message;
use sqlx::{Row, sqlite::SqliteRow};
use vedette_history::Protected;
use vedette_proto::v1::{Answer, Incident, Kind, Selector, Severity};

use super::{Handled, LabelFilter, MAX_INCIDENTS, Store, StoreError, cannot, row_id};

/// What belongs to an incident reaches this far beyond its ends: retention spares it.
const PROTECTED_MARGIN_MS: i64 = 10 * 60 * 1000;

/// An incident with how its kind was chosen.
#[derive(Clone, Debug)]
pub struct StoredIncident {
    /// The incident, with its last answer.
    pub incident: Incident,
    /// One line.
    pub reasoning: String,
}

/// Which incidents to read. What a selector says of pods and nodes is for the caller to check.
#[derive(Clone, Debug)]
pub struct IncidentFilter {
    /// Only of this cluster; `None` is any.
    pub cluster: Option<String>,
    /// Only those that touch `start <= t < end`, Unix milliseconds; an open one reaches until now and beyond.
    pub range: (i64, i64),
    /// Only this kind; unspecified is any.
    pub kind: Kind,
    /// Only at least this severe; unspecified is any.
    pub minimum_severity: Severity,
    /// Only those still open.
    pub open_only: bool,
}

impl Default for IncidentFilter {
    /// All of them.
    fn default() -> Self {
        Self {
            cluster: None,
            range: (i64::MIN, i64::MAX),
            kind: Kind::Unspecified,
            minimum_severity: Severity::Unspecified,
            open_only: false,
        }
    }
}

impl Store {
    /// Writes an incident as it is now; what people said and did is kept and returned, but a snooze ends where it became more severe.
    /// Beyond [`MAX_INCIDENTS`] the oldest resolved, unanswered ones go.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn save_incident(&self, incident: &Incident, reasoning: &str) -> Result<Handled, StoreError> {
        let what = "save an incident";
        let Some(id) = row_id(incident.id).filter(|id| *id > 0) else {
            return Err(StoreError::Corrupt { what: "incident", id: incident.id, reason: "not an id".to_owned() });
        };
        let workload = incident.workload.clone().unwrap_or_default();
        // Read to its end: only then is it known to be committed.
        let rows = sqlx::query(
            "INSERT INTO incidents (id, cluster, namespace, owner_kind, owner_name, container_name, kind, severity,
               onset_unix_ms, opened_unix_ms, updated_unix_ms, resolved_unix_ms, reasoning, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (id) DO UPDATE SET kind = ?7, severity = ?8, onset_unix_ms = ?9, opened_unix_ms = ?10,
               updated_unix_ms = ?11, resolved_unix_ms = ?12, reasoning = ?13, message = ?14,
               snoozed_until_unix_ms = iif(?8 > snoozed_severity, 0, snoozed_until_unix_ms),
               snoozed_by = iif(?8 > snoozed_severity, '', snoozed_by)
             RETURNING answer, acknowledged_by, acknowledged_unix_ms, snoozed_by, snoozed_until_unix_ms",
        )
        .bind(id)
        .bind(&workload.cluster)
        .bind(&workload.namespace)
        .bind(&workload.owner_kind)
        .bind(&workload.owner_name)
        .bind(&workload.container_name)
        .bind(incident.kind().word())
        .bind(incident.severity)
        .bind(incident.onset_unix_ms)
        .bind(incident.opened_unix_ms)
        .bind(incident.updated_unix_ms)
        .bind(incident.resolved_unix_ms)
        .bind(reasoning)
        .bind(incident.encode_to_vec())
        .fetch_all(&self.writer)
        .await
        .map_err(cannot(what))?;
        // Ids count up, so this is seldom needed and then removes what the last 128 added.
        if id % 128 == 0 {
            self.drop_oldest_incidents(MAX_INCIDENTS).await?;
        }
        Ok(rows.first().map(|row| handled(row, 0)).unwrap_or_default())
    }

    async fn drop_oldest_incidents(&self, keep: u64) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM incidents WHERE resolved_unix_ms > 0 AND answer = '' AND id IN
               (SELECT id FROM incidents WHERE resolved_unix_ms > 0 AND answer = '' ORDER BY id
                LIMIT max(0, (SELECT count(*) FROM incidents) - ?))",
        )
        .bind(keep as i64)
        .execute(&self.writer)
        .await
        .map_err(cannot("drop old incidents"))?;
        Ok(())
    }

    /// The id for the next incident; never one that was used before, even if that incident is gone.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn next_incident_id(&self) -> Result<u64, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'incidents'")
            .fetch_optional(&self.writer)
            .await
            .map_err(cannot("read the last incident id"))?;
        Ok(last.unwrap_or(0) as u64 + 1)
    }

    /// The incidents that are open, the oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn open_incidents(&self) -> Result<Vec<StoredIncident>, StoreError> {
        let filter = IncidentFilter { open_only: true, ..IncidentFilter::default() };
        let mut open = self.incidents(&filter, usize::MAX, |_| true).await?;
        open.reverse();
        Ok(open)
    }

    /// Resolves an incident that a previous run left open and nobody can go on with, as one of a replay that ended with it: at its last
    /// change, but not after `now_unix_ms`.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn close_stale_incident(&self, stored: StoredIncident, now_unix_ms: i64) -> Result<(), StoreError> {
        let StoredIncident { mut incident, reasoning } = stored;
        incident.resolved_unix_ms = incident.updated_unix_ms.max(incident.opened_unix_ms).min(now_unix_ms).max(1);
        incident.summary.push_str("; closed because the aggregator was started again");
        self.save_incident(&incident, &reasoning).await.map(drop)
    }

    /// One incident.
    ///
    /// # Errors
    /// What SQLite says; a row that cannot be read.
    pub async fn incident(&self, id: u64) -> Result<Option<StoredIncident>, StoreError> {
        let Some(row) = row_id(id) else { return Ok(None) };
        sqlx::query(
            "SELECT id, message, reasoning, answer, acknowledged_by, acknowledged_unix_ms, snoozed_by, snoozed_until_unix_ms
             FROM incidents WHERE id = ?",
        )
        .bind(row)
        .fetch_optional(&self.readers)
        .await
        .map_err(cannot("read an incident"))?
        .map(|row| read(&row))
        .transpose()
    }

    /// The newest `limit` incidents of the filter that `keep` accepts, newest first.
    ///
    /// # Errors
    /// What SQLite says; a row that cannot be read.
    pub async fn incidents(
        &self,
        filter: &IncidentFilter,
        limit: usize,
        keep: impl Fn(&Incident) -> bool,
    ) -> Result<Vec<StoredIncident>, StoreError> {
        use futures::TryStreamExt;
        let mut rows = sqlx::query(
            "SELECT id, message, reasoning, answer, acknowledged_by, acknowledged_unix_ms, snoozed_by, snoozed_until_unix_ms FROM incidents
             WHERE (?1 IS NULL OR cluster = ?1) AND onset_unix_ms < ?3 AND (resolved_unix_ms = 0 OR resolved_unix_ms >= ?2)
               AND (?4 = '' OR kind = ?4) AND severity >= ?5 AND (NOT ?6 OR resolved_unix_ms = 0)
             ORDER BY id DESC",
        )
        .bind(filter.cluster.as_deref())
        .bind(filter.range.0)
        .bind(filter.range.1)
        .bind(filter.kind.word())
        .bind(filter.minimum_severity as i32)
        .bind(filter.open_only)
        .fetch(&self.readers);
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.try_next().await.map_err(cannot("read incidents"))? else { break };
            let stored = read(&row)?;
            if keep(&stored.incident) {
                found.push(stored);
            }
        }
        Ok(found)
    }

    /// Incidents open now.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn incidents_open(&self) -> Result<u32, StoreError> {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM incidents WHERE resolved_unix_ms = 0")
            .fetch_one(&self.readers)
            .await
            .map_err(cannot("count open incidents"))?;
        Ok(u32::try_from(open).unwrap_or(u32::MAX))
    }

    /// What retention must spare: the rows of labels that stand, and of incidents, ten minutes more on either side.
    ///
    /// # Errors
    /// What SQLite says; a row that cannot be read.
    pub async fn protected_ranges(&self) -> Result<Vec<Protected>, StoreError> {
        let widened = |start: i64, end: i64, selector| Protected {
            start_unix_ms: start.saturating_sub(PROTECTED_MARGIN_MS),
            end_unix_ms: end.saturating_add(PROTECTED_MARGIN_MS),
            selector,
        };
        let mut protected = Vec::new();
        self.for_each_label(&LabelFilter::default(), |label| {
            let range = label.range.unwrap_or_default();
            protected.push(widened(range.start_unix_ms, range.end_unix_ms, label.selector.unwrap_or_default()));
        })
        .await?;
        let rows = sqlx::query(
            "SELECT onset_unix_ms, resolved_unix_ms, cluster, namespace, owner_kind, owner_name, container_name FROM incidents ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(cannot("read protected ranges"))?;
        for row in rows {
            let selector = Selector {
                cluster: row.get(2),
                namespace: row.get(3),
                owner_kind: row.get(4),
                owner_name: row.get(5),
                container_name: row.get(6),
                ..Selector::default()
            };
            let end = match row.get::<i64, _>(1) {
                // Open: it has no end yet.
                0 => i64::MAX,
                resolved => resolved,
            };
            protected.push(widened(row.get(0), end, selector));
        }
        Ok(protected)
    }
}

fn read(row: &SqliteRow) -> Result<StoredIncident, StoreError> {
    let id = row.get::<i64, _>(0) as u64;
    let mut incident = Incident::decode(row.get::<&[u8], _>(1)).map_err(|error| StoreError::Corrupt {
        what: "incident",
        id,
        reason: error.to_string(),
    })?;
    handled(row, 3).say(&mut incident);
    Ok(StoredIncident { incident, reasoning: row.get(2) })
}

/// What people said and did, from the columns beginning at one.
fn handled(row: &SqliteRow, first: usize) -> Handled {
    Handled {
        answer: Answer::from_word(row.get::<&str, _>(first)).unwrap_or(Answer::Unspecified).into(),
        acknowledged_by: row.get(first + 1),
        acknowledged_unix_ms: row.get(first + 2),
        snoozed_by: row.get(first + 3),
        snoozed_until_unix_ms: row.get(first + 4),
    }
}
