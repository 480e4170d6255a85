//! Nodes of the own cluster as last heard, so that a start knows whom to expect.

use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError, cannot};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNode {
    /// Its name.
    pub name: String,
    /// Last message, Unix milliseconds by the aggregator's clock; up to a minute older than it was.
    pub last_heard_unix_ms: i64,
    /// It said goodbye, and nothing since.
    pub left: bool,
    /// Version of its agent.
    pub agent_version: String,
}

impl Store {
    /// The nodes of a cluster, the one heard last first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<StoredNode>, StoreError> {
        let select =
            "SELECT name, last_heard_unix_ms, left, agent_version FROM nodes WHERE cluster = ? ORDER BY last_heard_unix_ms DESC, name";
        let node =
            |row: &SqliteRow| StoredNode { name: row.get(0), last_heard_unix_ms: row.get(1), left: row.get(2), agent_version: row.get(3) };
        let rows = sqlx::query(select).bind(cluster).fetch_all(&self.readers).await.map_err(cannot("read nodes"))?;
        Ok(rows.iter().map(node).collect())
    }

    /// Writes what changed of a cluster's nodes and removes those that were forgotten, in one transaction.
    ///
    /// # Errors
    /// What SQLite says; nothing was written then.
    pub async fn save_nodes(&self, cluster: &str, changed: &[StoredNode], forgotten: &[String]) -> Result<(), StoreError> {
        let failed = || cannot("save nodes");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        for node in changed {
            sqlx::query("INSERT OR REPLACE INTO nodes (cluster, name, last_heard_unix_ms, left, agent_version) VALUES (?, ?, ?, ?, ?)")
                .bind(cluster)
                .bind(&node.name)
                .bind(node.last_heard_unix_ms)
                .bind(node.left)
                .bind(&node.agent_version)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        for name in forgotten {
            let remove = sqlx::query("DELETE FROM nodes WHERE cluster = ? AND name = ?").bind(cluster).bind(name);
            remove.execute(&mut *transaction).await.map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }
}
