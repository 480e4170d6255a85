//! Quiet windows that were drawn from history, and what people said of them.

use prost::Message;
use sqlx::Row;
use vedette_proto::v1::{Answer, Label, QuietWindow};

use super::{MAX_QUIET_WINDOWS, Store, StoreError, cannot, labels, now_unix_ms, row_id};

/// What somebody says of a window.
#[derive(Clone, Debug)]
pub struct Judgement<'a> {
    /// Attack, nothing there, or unsure.
    pub answer: Answer,
    /// Who.
    pub author: &'a str,
    /// Free text.
    pub note: &'a str,
    /// The label that follows.
    pub label: Option<&'a Label>,
}

/// What judging came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Called an attack.
    pub attacks: u64,
    /// Called normal.
    pub normal: u64,
    /// Undecided.
    pub unsure: u64,
}

impl Store {
    /// Keeps windows and gives them their ids. Beyond [`MAX_QUIET_WINDOWS`] the oldest that nobody judged go.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn add_quiet_windows(&self, windows: &mut [QuietWindow]) -> Result<(), StoreError> {
        let what = "keep quiet windows";
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        for window in windows {
            let kept = QuietWindow { series: Vec::new(), id: 0, ..window.clone() };
            let added = sqlx::query("INSERT INTO quiet_windows (drawn_unix_ms, message) VALUES (?, ?)")
                .bind(now_unix_ms())
                .bind(kept.encode_to_vec())
                .execute(&mut *transaction)
                .await
                .map_err(cannot(what))?;
            window.id = added.last_insert_rowid() as u64;
        }
        sqlx::query(
            "DELETE FROM quiet_windows WHERE judged_unix_ms = 0 AND id IN
               (SELECT id FROM quiet_windows WHERE judged_unix_ms = 0 ORDER BY id
                LIMIT max(0, (SELECT count(*) FROM quiet_windows) - ?))",
        )
        .bind(MAX_QUIET_WINDOWS as i64)
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        transaction.commit().await.map_err(cannot(what))
    }

    /// A window without its series.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; what SQLite says.
    pub async fn quiet_window(&self, id: u64) -> Result<QuietWindow, StoreError> {
        let missing = StoreError::Missing { what: "quiet window", id };
        let Some(row) = row_id(id) else { return Err(missing) };
        let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT message FROM quiet_windows WHERE id = ?")
            .bind(row)
            .fetch_optional(&self.readers)
            .await
            .map_err(cannot("read a quiet window"))?;
        let window = QuietWindow::decode(&found.ok_or(missing)?[..]);
        let window = window.map_err(|error| StoreError::Corrupt { what: "quiet window", id, reason: error.to_string() })?;
        Ok(QuietWindow { id, ..window })
    }

    /// Records what somebody says of a window, with its label, in one transaction; gives the label's id, 0 for none.
    ///
    /// # Errors
    /// [`StoreError::AlreadyJudged`], [`StoreError::Full`]; what SQLite says.
    pub async fn judge_quiet(&self, id: u64, judgement: &Judgement<'_>) -> Result<u64, StoreError> {
        let what = "judge a quiet window";
        let Some(row) = row_id(id) else { return Err(StoreError::Missing { what: "quiet window", id }) };
        let mut transaction = self.writer.begin().await.map_err(cannot(what))?;
        let now = now_unix_ms();
        let mut label_id = 0;
        if let Some(label) = judgement.label {
            labels::room_for(&mut transaction, 1).await?;
            label_id = labels::insert(&mut transaction, label, now).await?;
        }
        let judged = sqlx::query(
            "UPDATE quiet_windows SET answer = ?, author = ?, note = ?, judged_unix_ms = ?, label_id = ? WHERE id = ? AND judged_unix_ms = 0",
        )
        .bind(judgement.answer.word())
        .bind(judgement.author)
        .bind(judgement.note)
        .bind(now)
        .bind(label_id as i64)
        .bind(row)
        .execute(&mut *transaction)
        .await
        .map_err(cannot(what))?;
        if judged.rows_affected() == 0 {
            return Err(StoreError::AlreadyJudged { id });
        }
        transaction.commit().await.map_err(cannot(what))?;
        Ok(label_id)
    }

    /// What judging came to since an instant of the aggregator's clock.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn judged(&self, since_unix_ms: i64) -> Result<Judged, StoreError> {
        let rows =
            sqlx::query("SELECT answer, count(*) FROM quiet_windows WHERE judged_unix_ms > 0 AND judged_unix_ms >= ? GROUP BY answer")
                .bind(since_unix_ms)
                .fetch_all(&self.readers)
                .await
                .map_err(cannot("count judged windows"))?;
        let mut judged = Judged::default();
        for row in &rows {
            let count = row.get::<i64, _>(1) as u64;
            match Answer::from_word(row.get(0)) {
                Some(Answer::Attack) => judged.attacks = count,
                Some(Answer::NothingThere) => judged.normal = count,
                _ => judged.unsure += count,
            }
        }
        Ok(judged)
    }
}
