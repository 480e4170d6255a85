//! What policy asks of the fleet.

use std::collections::BTreeSet;

use super::Fleet;

impl Fleet {
    /// Whether containers of another namespace than this one are alive in a cluster.
    #[must_use]
    pub fn has_other_namespaces(&self, cluster: &str, namespace: &str) -> bool {
        let state = self.read();
        let mut workloads = state
            .containers
            .values()
            .filter(|record| record.message.gone_unix_ms == 0)
            .filter_map(|record| record.message.workload.as_ref());
        workloads.any(|workload| workload.cluster == cluster && workload.namespace != namespace)
    }

    /// Digests of the images that these containers run or ran; `None` where one of them is not known, or there are none.
    #[must_use]
    pub fn image_digests(&self, cluster: &str, container_ids: &[String]) -> Option<Vec<String>> {
        let state = self.read();
        let wanted: BTreeSet<&str> = container_ids.iter().map(|id| &id[..]).collect();
        let mut found = BTreeSet::new();
        let mut digests = BTreeSet::new();
        for record in state.containers.values().filter(|record| wanted.contains(&record.message.container_id[..])) {
            let message = &record.message;
            if message.workload.as_ref().is_some_and(|workload| workload.cluster == cluster) {
                found.insert(&message.container_id[..]);
                digests.insert(message.image_digest.clone());
            }
        }
        let known = !wanted.is_empty() && found.len() == wanted.len() && !digests.contains("");
        known.then(|| digests.into_iter().collect())
    }
}
