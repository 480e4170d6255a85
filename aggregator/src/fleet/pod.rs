//! A pod by its name, for those who know nothing else of it.

use vedette_proto::v1::Workload;

use super::Fleet;

impl Fleet {
    /// The uid of a pod of the own cluster and the workload of one of its containers; of several pods that had the name one after the other, the last.
    #[must_use]
    pub fn of_pod(&self, namespace: &str, pod: &str) -> Option<(String, Workload)> {
        let state = self.read();
        let named = state.containers.values().map(|record| &record.message).filter(|container| container.pod_name == pod);
        named
            .filter_map(|container| Some((container, container.workload.as_ref()?)))
            .filter(|(container, workload)| {
                workload.cluster == self.cluster && workload.namespace == namespace && !container.pod_uid.is_empty()
            })
            .max_by_key(|(container, _)| container.first_seen_unix_ms)
            .map(|(container, workload)| (container.pod_uid.clone(), workload.clone()))
    }
}
