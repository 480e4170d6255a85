//! A stretch of an aggregator's history, held as a recording is, to be played here; nothing is written but a file that is gone again.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context, bail};
use vedette_history::{Recording, ship};
use vedette_proto::v1::{
    Container, ExportFormat, ExportLayout, ExportRequest, Label, ListContainersRequest, ListLabelsRequest, Selector, TimeRange,
};

use super::{FORMAT, Manifest, Recorded, Said, Seen, Set};
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::export::to_file;

/// Most containers and labels that are asked for; more are an error.
const MAX_LISTED: u32 = 100_000;

impl Recorded {
    /// Takes what an aggregator has of a cluster (empty: its own) within a range out of it: at most as many rows as a recording may have.
    ///
    /// Containers are those that its agents told of and that it still knows; rows of others are played as of containers without a past.
    pub async fn of_history(client: &mut Client, selector: Option<Selector>, range: TimeRange) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vedette-history-").tempdir().context("cannot make a temporary folder")?;
        let (exported, observations) = (folder.path().join("exported.parquet"), folder.path().join("observations.parquet"));
        let request = ExportRequest {
            format: ExportFormat::Parquet.into(),
            layout: ExportLayout::Full.into(),
            range: Some(range),
            selector: selector.clone(),
            ..ExportRequest::default()
        };
        if to_file(client, request, &exported).await?.rows == 0 {
            return Err(Stop::new(Exit::NothingFound, "history holds no row of that time").into());
        }
        ship(&exported, &observations, &HashSet::new())?;
        let observations = Recording::open(&observations)
            .map_err(|error| anyhow::anyhow!("{error}; a shorter --since and --until, or --namespace and its like, take less"))?;
        let (containers, labels) = Self::labels_of_history(client, selector, range).await?;
        let manifest = Manifest {
            format: FORMAT,
            name: "history".to_owned(),
            plan: String::new(),
            seed: 0,
            backend: "history".to_owned(),
            set: Set::Dev,
            started_unix_ms: range.start_unix_ms,
            ended_unix_ms: range.end_unix_ms,
            nodes: observations.nodes().into_iter().map(str::to_owned).collect(),
            cgroup_version: 0,
            kernel: String::new(),
            vedette: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            rows: observations.observations() as u64,
            container_rows: observations.container_observations() as u64,
            containers: containers.len() as u64,
            labels: labels.len() as u64,
            expected: observations.container_observations() as u64,
            missing: Vec::new(),
            foreign_cpu_share: None,
            load_before: None,
            files: BTreeMap::new(),
        };
        Ok(Self { dir: PathBuf::new(), manifest, observations, containers, labels, schedule: String::new() })
    }

    /// The containers that an aggregator knows of, and what was said of them within a range.
    pub async fn labels_of_history(
        client: &mut Client,
        selector: Option<Selector>,
        range: TimeRange,
    ) -> anyhow::Result<(Vec<Seen>, Vec<Said>)> {
        let request = ListContainersRequest { selector, include_gone: true, include_told: true, limit: MAX_LISTED };
        let listed = client.query.list_containers(request).await.map_err(Stop::from)?.into_inner();
        let request = ListLabelsRequest { range: Some(range), limit: MAX_LISTED, ..ListLabelsRequest::default() };
        let answer = client.label.list_labels(request).await.map_err(Stop::from)?.into_inner();
        if listed.truncated || answer.truncated {
            bail!("more than {MAX_LISTED} containers or labels: too many to be played");
        }
        let mut containers: Vec<_> = listed.containers.iter().map(Seen::of).collect();
        containers.sort_by(|a, b| (a.first_seen_unix_ms, &a.container_id).cmp(&(b.first_seen_unix_ms, &b.container_id)));
        let mut labels: Vec<Said> = answer.labels.iter().flat_map(|label| of_pods(label, &listed.containers)).collect();
        labels.sort();
        Ok((containers, labels))
    }
}

/// What a label says, once for every pod that its selector is about; an operator's word has no episode, so it is one of its own.
fn of_pods(label: &Label, containers: &[Container]) -> Vec<Said> {
    let said = Said::of(label);
    let mut pods: Vec<&str> = containers.iter().filter(|container| is_about(label, container)).map(|one| one.pod_uid.as_str()).collect();
    pods.sort_unstable();
    pods.dedup();
    let one = |pod: &str| {
        let mut said = Said { pod_uid: pod.to_owned(), ..said.clone() };
        if said.kind != "normal" {
            // Simulations name their episodes, and some of them say no role.
            said.attributes.entry("episode".to_owned()).or_insert_with(|| format!("label-{}", label.id));
            said.attributes.entry("role".to_owned()).or_insert_with(|| "attack".to_owned());
        }
        said
    };
    pods.into_iter().map(one).collect()
}

fn is_about(label: &Label, container: &Container) -> bool {
    let (Some(selector), workload) = (label.selector.as_ref(), container.workload.clone().unwrap_or_default()) else { return false };
    let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    fits(&selector.cluster, &workload.cluster)
        && fits(&selector.node, &container.node)
        && fits(&selector.namespace, &workload.namespace)
        && fits(&selector.owner_kind, &workload.owner_kind)
        && fits(&selector.owner_name, &workload.owner_name)
        && fits(&selector.container_name, &workload.container_name)
        && fits(&selector.pod_uid, &container.pod_uid)
        && (selector.container_id.is_empty() || container.container_id.starts_with(&selector.container_id))
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{Kind, Workload};

    use super::*;

    #[test]
    fn a_word_about_a_workload_is_said_of_each_of_its_pods() {
        let container = |pod: &str, owner: &str| Container {
            pod_uid: pod.to_owned(),
            container_id: format!("id-of-{pod}"),
            workload: Some(Workload { owner_name: owner.to_owned(), ..Workload::default() }),
            ..Container::default()
        };
        let containers = [container("p", "web"), container("q", "web"), container("r", "cart"), container("p", "web")];
        let selector = Selector { owner_name: "web".to_owned(), ..Selector::default() };
        let label = Label { id: 7, selector: Some(selector), kind: Kind::Scan.into(), ..Label::default() };

        let said = of_pods(&label, &containers);

        let pods: Vec<_> = said.iter().map(|said| (said.pod_uid.as_str(), said.attributes["episode"].as_str())).collect();
        assert_eq!(pods, [("p", "label-7"), ("q", "label-7")]);
    }
}
