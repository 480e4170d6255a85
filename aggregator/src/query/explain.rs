//! Everything known about one incident: what was seen around it, with whom it talked, what people said.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMillisecondType},
};
use datafusion::{
    prelude::{DataFrame, SessionContext, col, lit},
    scalar::ScalarValue,
};
use std::collections::BTreeMap;
use tonic::Status;
use vedette_proto::{
    Column, Feature, Features, Observation,
    v1::{ExplainIncidentResponse, Incident, Label, Peers, PeersSeen, ProcessSeen, Series},
};

use super::{session, status_of};
use crate::{
    Shared,
    label::selects_id,
    store::{IncidentFilter, LabelFilter, StoreError},
};

/// How much is shown before the onset.
const BEFORE_MS: i64 = 2 * 60 * 1000;
/// How much is shown after the opening.
const AFTER_MS: i64 = 3 * 60 * 1000;
/// Most that is shown in all, from its start: an incident may take long to open.
const LONGEST_MS: i64 = 30 * 60 * 1000;
/// Most containers whose series are shown; the first seen.
const MAX_CONTAINERS: usize = 8;
/// Most points in all series together.
const MAX_POINTS: usize = 100_000;
/// Most labels shown, the newest.
const MAX_LABELS: usize = 100;
/// Other incidents count as related within this distance.
const NEAR_MS: i64 = 10 * 60 * 1000;
/// Most related incidents shown, the newest.
const MAX_RELATED: usize = 20;

/// Gathers what is known.
///
/// # Errors
/// `NOT_FOUND`; what the store and history say.
pub async fn explain(shared: &Shared, id: u64) -> Result<ExplainIncidentResponse, Status> {
    let stored = shared.store.incident(id).await?.ok_or(StoreError::Missing { what: "incident", id })?;
    let incident = stored.incident;
    let series = series(&session(shared)?, &incident).await?;
    let mut processes: Vec<ProcessSeen> = incident.container_ids.iter().flat_map(|id| shared.fleet.processes(id)).collect();
    processes.sort_by_key(|process| process.unix_ms);
    let peers = incident.container_ids.iter().flat_map(|id| shared.fleet.peers(id).into_iter().map(|seen| peers_of(id, &seen)));
    Ok(ExplainIncidentResponse {
        peers: peers.collect(),
        processes: processes.iter().map(process_line).collect(),
        answers: shared.store.answers(id).await?,
        handlings: shared.store.handlings(id).await?,
        labels: labels(shared, &incident).await?,
        related: related(shared, &incident).await?,
        series,
        reasoning: stored.reasoning,
        incident: Some(incident),
    })
}

/// Until when an incident reaches, Unix milliseconds.
fn end_of(incident: &Incident) -> i64 {
    if incident.resolved_unix_ms > 0 { incident.resolved_unix_ms } else { i64::MAX }
}

async fn series(session: &SessionContext, incident: &Incident) -> Result<Vec<Series>, Status> {
    let mut features: Vec<Feature> = Vec::new();
    for evidence in &incident.evidence {
        let named = Feature::ALL.iter().copied().find(|feature| feature.name() == evidence.feature);
        features.extend(named.filter(|feature| !features.contains(feature)));
    }
    if features.is_empty() {
        return Ok(Vec::new());
    }
    let rows = rows_around(session, incident).await.map_err(|error| status_of(&error))?;
    let batches = rows.collect().await.map_err(|error| status_of(&error))?;
    let mut points: BTreeMap<String, Vec<(i64, Features)>> = BTreeMap::new();
    let mut room = MAX_POINTS / features.len();
    for batch in &batches {
        for (container, unix_ms, row) in observations(batch).map_err(|error| status_of(&error))? {
            if room == 0 {
                break;
            }
            room -= 1;
            points.entry(container).or_default().push((unix_ms, Features::of(&row)));
        }
    }
    let mut series = Vec::new();
    for (container_id, points) in &points {
        for feature in &features {
            let values: Vec<f64> = points.iter().map(|(_, features)| features.get(*feature).map_or(f64::NAN, f64::from)).collect();
            // A container that never had the feature has nothing to show.
            if values.iter().any(|value| !value.is_nan()) {
                series.push(Series {
                    feature: feature.name().to_owned(),
                    unit: feature.unit().to_owned(),
                    unix_ms: points.iter().map(|(unix_ms, _)| *unix_ms).collect(),
                    values,
                    container_id: container_id.clone(),
                });
            }
        }
    }
    Ok(series)
}

/// The instant as history's `time` column has it.
pub(crate) fn instant(unix_ms: i64) -> datafusion::logical_expr::Expr {
    lit(ScalarValue::TimestampMillisecond(Some(unix_ms), Some("UTC".into())))
}

async fn rows_around(session: &SessionContext, incident: &Incident) -> datafusion::error::Result<DataFrame> {
    let start = incident.onset_unix_ms.saturating_sub(BEFORE_MS);
    let end = incident.opened_unix_ms.saturating_add(AFTER_MS).min(start.saturating_add(LONGEST_MS));
    let cluster = incident.workload.as_ref().map_or("", |workload| &workload.cluster);
    let mut wanted = col("cluster").eq(lit(cluster)).and(col("time").gt_eq(instant(start))).and(col("time").lt_eq(instant(end)));
    if incident.container_ids.is_empty() {
        // The node itself: its row has no container id.
        let nodes = incident.nodes.iter().take(MAX_CONTAINERS).map(|node| lit(&node[..])).collect();
        wanted = wanted.and(col("container_id").eq(lit(""))).and(col("node").in_list(nodes, false));
    } else {
        let ids = incident.container_ids.iter().take(MAX_CONTAINERS).map(|id| lit(&id[..])).collect();
        wanted = wanted.and(col("container_id").in_list(ids, false));
    }
    let columns = Column::ALL.iter().map(|column| col(column.name()));
    session
        .table("observations")
        .await?
        .filter(wanted)?
        .select([col("time"), col("container_id")].into_iter().chain(columns))?
        .sort(vec![col("time").sort(true, false)])?
        .limit(0, Some(MAX_POINTS))
}

/// The rows of a batch of `time`, `container_id` and every column.
///
/// # Errors
/// A column of another type.
pub(crate) fn observations(batch: &RecordBatch) -> datafusion::error::Result<Vec<(String, i64, Observation)>> {
    let ids = arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8)?;
    let (ids, times) = (ids.as_string::<i32>(), batch.column(0).as_primitive::<TimestampMillisecondType>());
    let columns: Vec<_> = batch.columns()[2..].iter().map(|column| column.as_primitive::<Int64Type>()).collect();
    let row = |place: usize| {
        let mut row = Observation::default();
        for (column, values) in Column::ALL.iter().zip(&columns) {
            row.set_if(*column, values.is_valid(place).then(|| values.value(place) as u64));
        }
        (ids.value(place).to_owned(), times.value(place), row)
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

fn process_line(seen: &ProcessSeen) -> String {
    let seccomp = match seen.seccomp {
        None => String::new(),
        Some(0) => ", seccomp off".to_owned(),
        Some(1) => ", seccomp strict".to_owned(),
        Some(_) => ", seccomp filter".to_owned(),
    };
    let elsewhere = if seen.foreign_network_namespace { ", in another network namespace" } else { "" };
    let left_out = if seen.left_out > 0 { format!(", and {} more that were left out", seen.left_out) } else { String::new() };
    format!("{}, uid {}, capabilities {:#x}{seccomp}{elsewhere}{left_out}", seen.comm, seen.uid, seen.cap_effective)
}

fn peers_of(container_id: &str, seen: &PeersSeen) -> Peers {
    let line = |peer: &vedette_proto::v1::Peer| {
        let address = if peer.address.contains(':') { format!("[{}]", peer.address) } else { peer.address.clone() };
        let port = if peer.port == 0 { String::new() } else { format!(":{}", peer.port) };
        let connecting = if peer.connecting == 0 { String::new() } else { format!(", {} connecting", peer.connecting) };
        let inbound = if peer.inbound { ", inbound" } else { "" };
        format!("{address}{port}, {} connections{connecting}{inbound}", peer.connections)
    };
    let mut lines: Vec<String> = seen.peers.iter().map(line).collect();
    if seen.other_connections > 0 {
        lines.push(format!("others, {} connections", seen.other_connections));
    }
    Peers { container_id: container_id.to_owned(), unix_ms: seen.unix_ms, lines }
}

async fn labels(shared: &Shared, incident: &Incident) -> Result<Vec<Label>, Status> {
    let cluster = incident.workload.as_ref().map(|workload| workload.cluster.clone());
    let filter = LabelFilter { cluster, range: (incident.onset_unix_ms, end_of(incident)), ..LabelFilter::default() };
    let pod_uids: Vec<String> = incident.container_ids.iter().flat_map(|id| pod_uids(shared, incident, id)).collect();
    let mut touching = Vec::new();
    let keep = |label: Label| {
        if touching.len() < MAX_LABELS && touches(&label, incident, &pod_uids) {
            touching.push(label);
        }
    };
    shared.store.for_each_label(&filter, keep).await?;
    Ok(touching)
}

fn pod_uids(shared: &Shared, incident: &Incident, container_id: &str) -> Vec<String> {
    let cluster = incident.workload.as_ref().map(|workload| workload.cluster.clone()).unwrap_or_default();
    let selector = vedette_proto::v1::Selector { cluster, container_id: container_id.to_owned(), ..Default::default() };
    shared.fleet.containers(&selector, true, MAX_CONTAINERS).0.into_iter().map(|container| container.pod_uid).collect()
}

/// Whether a label may be about the incident: nothing it selects by is known to be something else.
fn touches(label: &Label, incident: &Incident, pod_uids: &[String]) -> bool {
    let (Some(selector), Some(workload)) = (&label.selector, &incident.workload) else { return false };
    let any_or = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    let one_of = |wanted: &str, list: &[String]| wanted.is_empty() || list.iter().any(|is| is == wanted);
    any_or(&selector.namespace, &workload.namespace)
        && any_or(&selector.owner_kind, &workload.owner_kind)
        && any_or(&selector.owner_name, &workload.owner_name)
        && any_or(&selector.container_name, &workload.container_name)
        && one_of(&selector.node, &incident.nodes)
        && (one_of(&selector.pod_uid, &incident.pods) || one_of(&selector.pod_uid, pod_uids))
        && (selector.container_id.is_empty() || incident.container_ids.iter().any(|id| selects_id(&selector.container_id, id)))
}

/// Incidents near in time on the same node or in the same namespace.
async fn related(shared: &Shared, incident: &Incident) -> Result<Vec<Incident>, Status> {
    let workload = incident.workload.clone().unwrap_or_default();
    let range = (incident.onset_unix_ms.saturating_sub(NEAR_MS), end_of(incident).saturating_add(NEAR_MS));
    let filter = IncidentFilter { cluster: Some(workload.cluster.clone()), range, ..IncidentFilter::default() };
    let near = |other: &Incident| {
        let namespace = other.workload.as_ref().map_or("", |workload| &workload.namespace);
        let same_node = other.nodes.iter().any(|node| incident.nodes.contains(node));
        other.id != incident.id && (same_node || (!namespace.is_empty() && namespace == workload.namespace))
    };
    Ok(shared.store.incidents(&filter, MAX_RELATED, near).await?.into_iter().map(|stored| stored.incident).collect())
}
