//! What comparing with Prometheus came to, over time: a row whenever it changed.

use sqlx::{Row, sqlite::SqliteRow};
use vedette_proto::v1::{ComparedCounter, CrossCheck, Workload};

use super::{MAX_CROSS_CHECKS, Store, StoreError, cannot, row_id};

impl Store {
    /// Adds what changed, in one transaction; beyond [`MAX_CROSS_CHECKS`] the oldest go.
    ///
    /// # Errors
    /// What SQLite says; nothing was written then.
    pub async fn save_cross_checks(&self, changed: &[ComparedCounter]) -> Result<(), StoreError> {
        let failed = || cannot("save cross-checks");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        for one in changed {
            let (workload, check) = (one.workload.clone().unwrap_or_default(), one.check.unwrap_or_default());
            let insert = "INSERT INTO cross_checks (unix_ms, cluster, node, namespace, owner_kind, owner_name, container_name, pod_name, \
                          container_id, metric, outcome, cause, ours, theirs, seconds, late_ms) \
                          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let insert = sqlx::query(insert).bind(one.since_unix_ms).bind(workload.cluster).bind(&one.node).bind(workload.namespace);
            let insert = insert.bind(workload.owner_kind).bind(workload.owner_name).bind(workload.container_name).bind(&one.pod_name);
            let insert = insert.bind(&one.container_id).bind(check.metric).bind(check.outcome).bind(check.cause);
            let insert = insert.bind(check.ours).bind(check.theirs).bind(check.seconds).bind(check.late_ms);
            insert.execute(&mut *transaction).await.map_err(failed())?;
        }
        let most = row_id(MAX_CROSS_CHECKS).unwrap_or(i64::MAX);
        let trim = sqlx::query("DELETE FROM cross_checks WHERE id <= (SELECT max(id) FROM cross_checks) - ?").bind(most);
        trim.execute(&mut *transaction).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    /// The newest changes, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn cross_checks(&self, limit: u64) -> Result<Vec<ComparedCounter>, StoreError> {
        let select = "SELECT * FROM (SELECT * FROM cross_checks ORDER BY id DESC LIMIT ?) ORDER BY id";
        let rows = sqlx::query(select).bind(row_id(limit).unwrap_or(i64::MAX)).fetch_all(&self.readers).await;
        Ok(rows.map_err(cannot("read cross-checks"))?.iter().map(compared).collect())
    }
}

fn compared(row: &SqliteRow) -> ComparedCounter {
    let unix_ms = row.get("unix_ms");
    ComparedCounter {
        workload: Some(Workload {
            cluster: row.get("cluster"),
            namespace: row.get("namespace"),
            owner_kind: row.get("owner_kind"),
            owner_name: row.get("owner_name"),
            container_name: row.get("container_name"),
        }),
        node: row.get("node"),
        pod_name: row.get("pod_name"),
        container_id: row.get("container_id"),
        check: Some(CrossCheck {
            container_ref: 0,
            metric: row.get("metric"),
            outcome: row.get("outcome"),
            cause: row.get("cause"),
            ours: row.get("ours"),
            theirs: row.get("theirs"),
            seconds: row.get("seconds"),
            late_ms: row.get("late_ms"),
        }),
        since_unix_ms: unix_ms,
        unix_ms,
    }
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{CrossCheckMetric, CrossCheckOutcome};

    use super::*;

    #[tokio::test]
    async fn what_was_saved_is_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("meta.db")).await.unwrap();
        let one = |unix_ms, ours| ComparedCounter {
            workload: Some(Workload { cluster: "c".into(), namespace: "shop".into(), ..Workload::default() }),
            node: "n".into(),
            container_id: "id".into(),
            check: Some(CrossCheck {
                metric: CrossCheckMetric::Cpu as i32,
                outcome: CrossCheckOutcome::Disagree as i32,
                ours,
                late_ms: Some(-3),
                ..CrossCheck::default()
            }),
            since_unix_ms: unix_ms,
            unix_ms,
            ..ComparedCounter::default()
        };
        let all = [one(1, Some(2.5)), one(2, None)];

        store.save_cross_checks(&all).await.unwrap();

        assert_eq!(store.cross_checks(10).await.unwrap(), all);
        assert_eq!(store.cross_checks(1).await.unwrap(), all[1..]);
    }
}
