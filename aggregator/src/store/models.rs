//! Models that people brought, and what was done with them.

use prost::Message;
use sqlx::{Row, sqlite::SqliteRow};
use vedette_proto::v1::{ModelChange, ModelComparison};

use super::{Store, StoreError, cannot, now_unix_ms};

/// Most changes kept; beyond it the oldest go.
const MAX_CHANGES: i64 = 10_000;

/// A model that somebody brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// Its id.
    pub id: String,
    /// Its file.
    pub file: Vec<u8>,
    /// The key that signed it.
    pub public_key: Vec<u8>,
    /// Who brought it.
    pub added_by: String,
    /// When, Unix milliseconds.
    pub added_unix_ms: i64,
    /// Free text.
    pub note: String,
}

impl Store {
    /// Every model, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn models(&self) -> Result<Vec<StoredModel>, StoreError> {
        let select = "SELECT id, file, public_key, added_by, added_unix_ms, note FROM models ORDER BY added_unix_ms, id";
        let model = |row: &SqliteRow| StoredModel {
            id: row.get(0),
            file: row.get(1),
            public_key: row.get(2),
            added_by: row.get(3),
            added_unix_ms: row.get(4),
            note: row.get(5),
        };
        let rows = sqlx::query(select).fetch_all(&self.readers).await.map_err(cannot("read models"))?;
        Ok(rows.iter().map(model).collect())
    }

    /// The file of a model and the key that signed it; `None` if there is no such model.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn model_file(&self, id: &str) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let select = sqlx::query("SELECT file, public_key FROM models WHERE id = ?").bind(id);
        let row = select.fetch_optional(&self.readers).await.map_err(cannot("read a model"))?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Adds a model and the line that says so.
    ///
    /// # Errors
    /// What SQLite says; nothing was written then.
    pub async fn add_model(&self, model: &StoredModel) -> Result<(), StoreError> {
        let failed = || cannot("add a model");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query("INSERT INTO models (id, file, public_key, added_by, added_unix_ms, note) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(&model.id)
            .bind(&model.file)
            .bind(&model.public_key)
            .bind(&model.added_by)
            .bind(model.added_unix_ms)
            .bind(&model.note)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        let change = ModelChange {
            unix_ms: model.added_unix_ms,
            who: model.added_by.clone(),
            what: "add".to_owned(),
            model: model.id.clone(),
            reason: model.note.clone(),
            ..ModelChange::default()
        };
        insert(&mut transaction, &change).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    /// Takes a model away, and says so.
    ///
    /// # Errors
    /// What SQLite says; nothing was written then.
    pub async fn remove_model(&self, id: &str, who: &str) -> Result<(), StoreError> {
        let failed = || cannot("remove a model");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        sqlx::query("DELETE FROM models WHERE id = ?").bind(id).execute(&mut *transaction).await.map_err(failed())?;
        let (what, model, unix_ms) = ("remove".to_owned(), id.to_owned(), now_unix_ms());
        insert(&mut transaction, &ModelChange { unix_ms, who: who.to_owned(), what, model, ..ModelChange::default() })
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    /// Records what was done with a model.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn model_changed(&self, change: &ModelChange) -> Result<(), StoreError> {
        let failed = || cannot("record what was done with a model");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        insert(&mut transaction, change).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    /// What was done with models, newest first.
    ///
    /// # Errors
    /// What SQLite says; a row that cannot be read.
    pub async fn model_changes(&self, limit: u32) -> Result<Vec<ModelChange>, StoreError> {
        let select = "SELECT id, unix_ms, who, what, model, before, forced, reason, comparison FROM model_changes ORDER BY id DESC LIMIT ?";
        let rows =
            sqlx::query(select).bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(cannot("read what was done with models"))?;
        rows.iter().map(change).collect()
    }
}

async fn insert(transaction: &mut sqlx::SqliteConnection, change: &ModelChange) -> Result<(), sqlx::Error> {
    let comparison = change.comparison.as_ref().map_or_else(Vec::new, Message::encode_to_vec);
    let insert =
        "INSERT INTO model_changes (unix_ms, who, what, model, before, forced, reason, comparison) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let added = sqlx::query(insert)
        .bind(change.unix_ms)
        .bind(&change.who)
        .bind(&change.what)
        .bind(&change.model)
        .bind(&change.before)
        .bind(change.forced)
        .bind(&change.reason)
        .bind(comparison)
        .execute(&mut *transaction)
        .await?;
    let oldest = added.last_insert_rowid() - MAX_CHANGES;
    sqlx::query("DELETE FROM model_changes WHERE id <= ?").bind(oldest).execute(transaction).await?;
    Ok(())
}

fn change(row: &SqliteRow) -> Result<ModelChange, StoreError> {
    let comparison: Vec<u8> = row.get(8);
    let corrupt = |error: prost::DecodeError| StoreError::Corrupt {
        what: "what was done with a model",
        id: row.get::<i64, _>(0) as u64,
        reason: error.to_string(),
    };
    let comparison = match comparison.is_empty() {
        true => None,
        false => Some(ModelComparison::decode(&*comparison).map_err(corrupt)?),
    };
    Ok(ModelChange {
        unix_ms: row.get(1),
        who: row.get(2),
        what: row.get(3),
        model: row.get(4),
        before: row.get(5),
        forced: row.get(6),
        reason: row.get(7),
        comparison,
    })
}
