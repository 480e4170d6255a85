//! Labels as stored: append-only, a retraction is another row.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};
use vedette_proto::v1::{Kind, Label, LabelSource, Selector, TimeRange};

use super::{MAX_LABELS, Store, StoreError, cannot, now_unix_ms, row_id};

/// Which labels to read. Retractions themselves are never among them.
#[derive(Clone, Debug)]
pub struct LabelFilter {
    /// Only of this cluster; `None` is any.
    pub cluster: Option<String>,
    /// Only those whose range touches `start <= t < end`, Unix milliseconds.
    pub range: (i64, i64),
    /// Only this kind; unspecified is any.
    pub kind: Kind,
    /// Only this source; unspecified is any.
    pub source: LabelSource,
    /// Also those taken back.
    pub include_retracted: bool,
    /// At most this many, the newest.
    pub limit: u64,
}

impl Default for LabelFilter {
    /// Every label that stands.
    fn default() -> Self {
        Self {
            cluster: None,
            range: (i64::MIN, i64::MAX),
            kind: Kind::Unspecified,
            source: LabelSource::Unspecified,
            include_retracted: false,
            limit: MAX_LABELS,
        }
    }
}

const SELECT: &str = "SELECT l.id, l.cluster, l.node, l.namespace, l.owner_kind, l.owner_name, l.container_name, l.pod_uid, l.container_id,
    l.start_unix_ms, l.end_unix_ms, l.kind, l.affected, l.source, l.author, l.note, l.created_unix_ms, l.attributes, coalesce(r.id, 0)
    FROM labels l LEFT JOIN labels r ON r.retracts = l.id
    WHERE l.retracts IS NULL AND (?1 IS NULL OR l.cluster = ?1) AND l.start_unix_ms < ?3 AND l.end_unix_ms > ?2
      AND (?4 = '' OR l.kind = ?4) AND (?5 = '' OR l.source = ?5) AND (?6 OR r.id IS NULL)
    ORDER BY l.id DESC LIMIT ?7";

impl Store {
    /// Adds labels, all or none, and returns their ids in order. They must have been checked.
    ///
    /// # Errors
    /// [`StoreError::Full`] at [`MAX_LABELS`]; what SQLite says.
    pub async fn add_labels(&self, labels: &[Label]) -> Result<Vec<u64>, StoreError> {
        let what = "add labels";
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        room_for(&mut transaction, labels.len() as u64).await?;
        let now = now_unix_ms();
        let mut ids = Vec::with_capacity(labels.len());
        for label in labels {
            ids.push(insert(&mut transaction, label, now).await?);
        }
        transaction.commit().await.map_err(cannot(what))?;
        Ok(ids)
    }

    /// Labels, newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn labels(&self, filter: &LabelFilter) -> Result<Vec<Label>, StoreError> {
        let mut labels = Vec::new();
        self.for_each_label(filter, |label| labels.push(label)).await?;
        Ok(labels)
    }

    /// Labels, newest first, one at a time: for those who keep less of each than all of it.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn for_each_label(&self, filter: &LabelFilter, mut each: impl FnMut(Label)) -> Result<(), StoreError> {
        let mut rows = sqlx::query(SELECT)
            .bind(filter.cluster.as_deref())
            .bind(filter.range.0)
            .bind(filter.range.1)
            .bind(filter.kind.word())
            .bind(filter.source.word())
            .bind(filter.include_retracted)
            .bind(row_id(filter.limit).unwrap_or(i64::MAX))
            .fetch(&self.readers);
        while let Some(row) = rows.try_next().await.map_err(cannot("read labels"))? {
            each(read(&row)?);
        }
        Ok(())
    }

    /// Takes a label back; returns the retraction's id.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::AlreadyRetracted`], [`StoreError::IsRetraction`]; what SQLite says.
    pub async fn retract_label(&self, id: u64, author: &str, note: &str) -> Result<u64, StoreError> {
        let what = "retract a label";
        let missing = StoreError::Missing { what: "label", id };
        let Some(row) = row_id(id) else { return Err(missing) };
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        let found = sqlx::query("SELECT l.retracts, r.id FROM labels l LEFT JOIN labels r ON r.retracts = l.id WHERE l.id = ?")
            .bind(row)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(cannot(what))?;
        let Some(found) = found else { return Err(missing) };
        if found.get::<Option<i64>, _>(0).is_some() {
            return Err(StoreError::IsRetraction { id });
        }
        if let Some(by) = found.get::<Option<i64>, _>(1) {
            return Err(StoreError::AlreadyRetracted { id, by: by as u64 });
        }
        room_for(&mut transaction, 1).await?;
        let added = sqlx::query(
            "INSERT INTO labels (cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id,
               start_unix_ms, end_unix_ms, kind, affected, source, author, note, created_unix_ms, attributes, retracts)
             SELECT cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id,
               start_unix_ms, end_unix_ms, kind, affected, source, ?2, ?3, ?4, '{}', id FROM labels WHERE id = ?1",
        )
        .bind(row)
        .bind(author)
        .bind(note)
        .bind(now_unix_ms())
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        transaction.commit().await.map_err(cannot(what))?;
        Ok(added.last_insert_rowid() as u64)
    }
}

pub(super) async fn room_for(transaction: &mut Transaction<'_, Sqlite>, more: u64) -> Result<(), StoreError> {
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM labels").fetch_one(&mut **transaction).await.map_err(cannot("count labels"))?;
    if rows as u64 + more > MAX_LABELS {
        return Err(StoreError::Full { what: "the list of labels", limit: MAX_LABELS });
    }
    Ok(())
}

/// Adds one checked label within a transaction.
pub(super) async fn insert(transaction: &mut Transaction<'_, Sqlite>, label: &Label, now_unix_ms: i64) -> Result<u64, StoreError> {
    let selector = label.selector.clone().unwrap_or_default();
    let range = label.range.unwrap_or_default();
    let attributes: BTreeMap<_, _> = label.attributes.iter().collect();
    let added = sqlx::query(
        "INSERT INTO labels (cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id,
           start_unix_ms, end_unix_ms, kind, affected, source, author, note, created_unix_ms, attributes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(selector.cluster)
    .bind(selector.node)
    .bind(selector.namespace)
    .bind(selector.owner_kind)
    .bind(selector.owner_name)
    .bind(selector.container_name)
    .bind(selector.pod_uid)
    .bind(selector.container_id)
    .bind(range.start_unix_ms)
    .bind(range.end_unix_ms)
    .bind(label.kind().word())
    .bind(label.affected)
    .bind(label.source().word())
    .bind(&label.author)
    .bind(&label.note)
    .bind(now_unix_ms)
    .bind(serde_json::to_string(&attributes).unwrap_or_else(|_| "{}".to_owned()))
    .execute(&mut **transaction)
    .await
    .map_err(cannot("add a label"))?;
    Ok(added.last_insert_rowid() as u64)
}

fn read(row: &SqliteRow) -> Result<Label, StoreError> {
    let id = row.get::<i64, _>(0) as u64;
    let corrupt = |reason: String| StoreError::Corrupt { what: "label", id, reason };
    let kind: String = row.get(11);
    let source: String = row.get(13);
    let attributes: HashMap<String, String> =
        serde_json::from_str(row.get::<&str, _>(17)).map_err(|error| corrupt(format!("attributes: {error}")))?;
    Ok(Label {
        id,
        selector: Some(Selector {
            cluster: row.get(1),
            node: row.get(2),
            namespace: row.get(3),
            owner_kind: row.get(4),
            owner_name: row.get(5),
            container_name: row.get(6),
            pod_uid: row.get(7),
            container_id: row.get(8),
        }),
        range: Some(TimeRange { start_unix_ms: row.get(9), end_unix_ms: row.get(10) }),
        kind: Kind::from_word(&kind).ok_or_else(|| corrupt(format!("unknown kind {kind:?}")))?.into(),
        affected: row.get(12),
        source: LabelSource::from_word(&source).ok_or_else(|| corrupt(format!("unknown source {source:?}")))?.into(),
        author: row.get(14),
        note: row.get(15),
        created_unix_ms: row.get(16),
        retracted_by: row.get::<i64, _>(18) as u64,
        attributes,
    })
}
