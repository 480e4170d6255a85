//! What the detector learnt of the own cluster's workloads, so that a restart loses no baseline.

use futures::TryStreamExt;
use sqlx::Row;
use vedette_detect::Memory;
use vedette_proto::v1::Workload;

use super::{Store, StoreError, cannot};

/// Workloads written in one transaction: a few milliseconds, as somebody's answer may be waiting for the same connection.
const AT_ONCE: usize = 250;

impl Store {
    /// Writes what was learnt of workloads, over what was written of them before.
    ///
    /// # Errors
    /// What SQLite says; some of it may be written then, and may be written again.
    pub async fn save_baselines(&self, learnt: &[Memory]) -> Result<(), StoreError> {
        let failed = || cannot("save baselines");
        for some in learnt.chunks(AT_ONCE) {
            let mut transaction = self.writer.begin().await.map_err(failed())?;
            for Memory { workload, last_unix_ms, bytes } in some {
                sqlx::query(
                    "INSERT OR REPLACE INTO baselines
                       (cluster, namespace, owner_kind, owner_name, container_name, last_unix_ms, memory) VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(&workload.cluster)
                .bind(&workload.namespace)
                .bind(&workload.owner_kind)
                .bind(&workload.owner_name)
                .bind(&workload.container_name)
                .bind(last_unix_ms)
                .bind(&bytes[..])
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
            }
            transaction.commit().await.map_err(failed())?;
        }
        Ok(())
    }

    /// Tells what was learnt of a cluster's workloads, the ones seen last first, at most `most`.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn for_each_baseline(&self, cluster: &str, most: usize, mut tell: impl FnMut(Workload, &[u8])) -> Result<(), StoreError> {
        let mut rows = sqlx::query(
            "SELECT cluster, namespace, owner_kind, owner_name, container_name, memory FROM baselines
             WHERE cluster = ? ORDER BY last_unix_ms DESC LIMIT ?",
        )
        .bind(cluster)
        .bind(most as i64)
        .fetch(&self.readers);
        while let Some(row) = rows.try_next().await.map_err(cannot("read baselines"))? {
            let workload = Workload {
                cluster: row.get(0),
                namespace: row.get(1),
                owner_kind: row.get(2),
                owner_name: row.get(3),
                container_name: row.get(4),
            };
            tell(workload, row.get(5));
        }
        Ok(())
    }

    /// Forgets workloads not seen since `before_unix_ms`, and of the others all but the `most` seen last.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn forget_baselines(&self, before_unix_ms: i64, most: usize) -> Result<(), StoreError> {
        let what = "forget old baselines";
        let old = sqlx::query("DELETE FROM baselines WHERE last_unix_ms < ?").bind(before_unix_ms);
        old.execute(&self.writer).await.map_err(cannot(what))?;
        let beyond: Option<i64> = sqlx::query_scalar("SELECT last_unix_ms FROM baselines ORDER BY last_unix_ms DESC LIMIT 1 OFFSET ?")
            .bind(most as i64)
            .fetch_optional(&self.readers)
            .await
            .map_err(cannot(what))?;
        if let Some(unix_ms) = beyond {
            let surplus = sqlx::query("DELETE FROM baselines WHERE last_unix_ms <= ?").bind(unix_ms);
            surplus.execute(&self.writer).await.map_err(cannot(what))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(owner: &str, last_unix_ms: i64, bytes: &[u8]) -> Memory {
        let workload = Workload { cluster: "own".into(), owner_name: owner.into(), ..Workload::default() };
        Memory { workload, last_unix_ms, bytes: bytes.to_vec() }
    }

    async fn told(store: &Store, cluster: &str, most: usize) -> Vec<(String, Vec<u8>)> {
        let mut told = Vec::new();
        store.for_each_baseline(cluster, most, |workload, bytes| told.push((workload.owner_name, bytes.to_vec()))).await.unwrap();
        told
    }

    #[tokio::test]
    async fn what_is_written_later_replaces_what_was_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("meta.db")).await.unwrap();
        store.save_baselines(&[memory("a", 1_000, b"first"), memory("b", 2_000, b"b"), memory("c", 500, b"c")]).await.unwrap();
        store.save_baselines(&[memory("a", 3_000, b"second")]).await.unwrap();

        let all = told(&store, "own", 10).await;
        let (newest, other) = (told(&store, "own", 1).await, told(&store, "other", 10).await);
        store.forget_baselines(600, 1).await.unwrap();
        let left = told(&store, "own", 10).await;

        assert_eq!(all, [("a".into(), b"second".to_vec()), ("b".into(), b"b".to_vec()), ("c".into(), b"c".to_vec())]);
        assert_eq!((newest.len(), other.len()), (1, 0));
        assert_eq!(left, [("a".into(), b"second".to_vec())]);
    }
}
