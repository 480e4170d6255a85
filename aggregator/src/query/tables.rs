//! The tables beside history: incidents, labels, answers, handlings, containers, nodes, comparisons and the audit log, read when a question scans them.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::MemTable,
    error::{DataFusionError, Result},
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
    prelude::SessionContext,
};
use vedette_proto::v1;

use super::sheet::{
    Columns, Sheet,
    Sort::{Count, Instant, Integer, Number, Text, Truth},
};
use crate::{
    Shared,
    store::{IncidentFilter, LabelFilter, MAX_INCIDENTS, now_unix_ms},
};

/// Most rows of a table that a question sees; the newest.
const MAX_ROWS: usize = 200_000;

#[derive(Clone, Copy, Debug)]
enum Which {
    Incidents,
    Labels,
    Answers,
    Handlings,
    Containers,
    Nodes,
    CrossChecks,
    Audit,
}

/// A table that is read from the store or the fleet when it is scanned, not when a question is planned.
struct OnScan {
    which: Which,
    schema: SchemaRef,
    shared: Shared,
}

impl std::fmt::Debug for OnScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.which)
    }
}

/// Makes the tables known to a session.
///
/// # Errors
/// A table of that name exists.
pub fn register(session: &SessionContext, shared: &Shared) -> Result<()> {
    use Which::{Answers, Audit, Containers, CrossChecks, Handlings, Incidents, Labels, Nodes};
    for (name, which) in [
        ("incidents", Incidents),
        ("labels", Labels),
        ("answers", Answers),
        ("handlings", Handlings),
        ("containers", Containers),
        ("nodes", Nodes),
        ("cross_checks", CrossChecks),
        ("audit", Audit),
    ] {
        let schema = Sheet::new(which.columns()).schema();
        session.register_table(name, Arc::new(OnScan { which, schema, shared: shared.clone() }))?;
    }
    Ok(())
}

#[tonic::async_trait]
impl TableProvider for OnScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = self.which.read(&self.shared).await?;
        MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?.scan(state, projection, filters, limit).await
    }
}

impl Which {
    const fn columns(self) -> Columns {
        match self {
            Self::Incidents => &[
                ("id", Count),
                ("cluster", Text),
                ("namespace", Text),
                ("owner_kind", Text),
                ("owner_name", Text),
                ("container_name", Text),
                ("kind", Text),
                ("severity", Text),
                ("effect", Text),
                ("onset", Instant),
                ("opened", Instant),
                ("updated", Instant),
                ("resolved", Instant),
                ("peak_score", Number),
                ("nodes", Text),
                ("pods", Text),
                ("container_ids", Text),
                ("attack_techniques", Text),
                ("answer", Text),
                ("origin", Text),
                ("summary", Text),
                ("evidence", Text),
                ("asked_severity", Text),
                ("withheld", Text),
                ("withheld_by", Text),
                ("acknowledged_by", Text),
                ("acknowledged", Instant),
                ("snoozed_by", Text),
                ("snoozed_until", Instant),
            ],
            Self::Labels => &[
                ("id", Count),
                ("cluster", Text),
                ("node", Text),
                ("namespace", Text),
                ("owner_kind", Text),
                ("owner_name", Text),
                ("container_name", Text),
                ("pod_uid", Text),
                ("container_id", Text),
                ("start", Instant),
                ("end", Instant),
                ("kind", Text),
                ("affected", Truth),
                ("source", Text),
                ("author", Text),
                ("note", Text),
                ("created", Instant),
                ("retracted_by", Count),
                ("attributes", Text),
            ],
            Self::Answers => &[
                ("id", Count),
                ("incident_id", Count),
                ("answer", Text),
                ("kind", Text),
                ("author", Text),
                ("note", Text),
                ("time", Instant),
                ("label_id", Count),
                ("undone", Instant),
            ],
            Self::Handlings => &[
                ("id", Count),
                ("incident_id", Count),
                ("handling", Text),
                ("author", Text),
                ("note", Text),
                ("time", Instant),
                ("until", Instant),
            ],
            Self::Containers => &[
                ("cluster", Text),
                ("node", Text),
                ("namespace", Text),
                ("owner_kind", Text),
                ("owner_name", Text),
                ("container_name", Text),
                ("pod_uid", Text),
                ("pod_name", Text),
                ("container_id", Text),
                ("cgroup", Text),
                ("first_seen", Instant),
                ("gone", Instant),
                ("restarts", Count),
                ("cpu_millicores", Count),
                ("memory_bytes", Count),
                ("rx_bytes_per_second", Count),
                ("tx_bytes_per_second", Count),
                ("score", Number),
                ("baseline", Text),
                ("observations", Count),
            ],
            Self::Nodes => &[
                ("cluster", Text),
                ("name", Text),
                ("state", Text),
                ("last_heard", Instant),
                ("last_observation", Instant),
                ("containers", Integer),
                ("observations", Count),
                ("dropped", Count),
                ("agent_version", Text),
                ("outbox_batches", Count),
                ("sensor_error", Text),
            ],
            Self::CrossChecks => &[
                ("time", Instant),
                ("cluster", Text),
                ("node", Text),
                ("namespace", Text),
                ("owner_kind", Text),
                ("owner_name", Text),
                ("container_name", Text),
                ("pod_name", Text),
                ("container_id", Text),
                ("metric", Text),
                ("outcome", Text),
                ("cause", Text),
                ("ours", Number),
                ("theirs", Number),
                ("seconds", Number),
                ("late_ms", Integer),
            ],
            Self::Audit => &[("time", Instant), ("who", Text), ("what", Text), ("detail", Text)],
        }
    }

    async fn read(self, shared: &Shared) -> Result<RecordBatch> {
        let external = |error| DataFusionError::External(Box::new(error));
        let mut sheet = Sheet::new(self.columns());
        match self {
            Self::Incidents => {
                let filter = IncidentFilter::default();
                for stored in shared.store.incidents(&filter, MAX_INCIDENTS as usize, |_| true).await.map_err(external)? {
                    add_incident(&mut sheet, &stored.incident);
                }
            }
            Self::Labels => {
                let filter = LabelFilter { include_retracted: true, limit: MAX_ROWS as u64, ..LabelFilter::default() };
                shared.store.for_each_label(&filter, |label| add_label(&mut sheet, &label)).await.map_err(external)?;
            }
            Self::Answers => {
                for (incident, label, answer) in shared.store.all_answers(MAX_ROWS as u64).await.map_err(external)? {
                    sheet.row().count(answer.id).count(incident).text(answer.answer().word()).text(answer.kind().word());
                    sheet.text(&answer.author).text(&answer.note).instant(answer.unix_ms).some_count((label > 0).then_some(label));
                    sheet.instant(answer.undone_unix_ms);
                }
            }
            Self::Handlings => {
                for (incident, one) in shared.store.all_handlings(MAX_ROWS as u64).await.map_err(external)? {
                    sheet.row().count(one.id).count(incident).text(one.handling().word()).text(&one.author).text(&one.note);
                    sheet.instant(one.unix_ms).instant(one.until_unix_ms);
                }
            }
            Self::Containers => add_containers(&mut sheet, shared),
            Self::Nodes => {
                for node in shared.fleet.nodes(now_unix_ms()) {
                    sheet.row().text(&node.cluster).text(&node.name).text(node.state().word());
                    sheet.instant(node.last_heard_unix_ms).instant(node.last_observation_unix_ms).integer(i64::from(node.containers));
                    sheet.count(node.observations).count(node.dropped).text(&node.agent_version).count(node.outbox_batches);
                    sheet.text(&node.sensor_error);
                }
            }
            Self::CrossChecks => {
                for one in shared.store.cross_checks(MAX_ROWS as u64).await.map_err(external)? {
                    let (workload, check) = (one.workload.unwrap_or_default(), one.check.unwrap_or_default());
                    sheet.row().instant(one.since_unix_ms).text(&workload.cluster).text(&one.node).text(&workload.namespace);
                    sheet.text(&workload.owner_kind).text(&workload.owner_name).text(&workload.container_name).text(&one.pod_name);
                    sheet.text(&one.container_id).text(check.metric().word()).text(check.outcome().word()).text(check.cause().word());
                    sheet.some_number(check.ours).some_number(check.theirs).some_number(check.seconds).some_integer(check.late_ms);
                }
            }
            Self::Audit => {
                for line in shared.store.audit_rows(MAX_ROWS as u32).await.map_err(external)? {
                    sheet.row().instant(line.unix_ms).text(&line.who).text(&line.what).text(&line.detail);
                }
            }
        }
        sheet.finish()
    }
}

fn add_incident(sheet: &mut Sheet, incident: &v1::Incident) {
    let workload = incident.workload.clone().unwrap_or_default();
    let evidence: Vec<&str> = incident.evidence.iter().map(|evidence| &evidence.sentence[..]).collect();
    sheet.row().count(incident.id).text(&workload.cluster).text(&workload.namespace).text(&workload.owner_kind);
    sheet.text(&workload.owner_name).text(&workload.container_name).text(incident.kind().word());
    sheet.text(incident.severity().word()).text(&incident.effect).instant(incident.onset_unix_ms).instant(incident.opened_unix_ms);
    sheet.instant(incident.updated_unix_ms).instant(incident.resolved_unix_ms).number(incident.peak_score);
    sheet.text(&incident.nodes.join(",")).text(&incident.pods.join(",")).text(&incident.container_ids.join(","));
    sheet.text(&incident.attack_techniques.join(",")).text(incident.answer().word()).text(incident.origin().word());
    sheet.text(&incident.summary).text(&evidence.join("; ")).text(incident.asked_severity().word());
    sheet.text(incident.withheld().word()).text(&incident.withheld_by).text(&incident.acknowledged_by);
    sheet.instant(incident.acknowledged_unix_ms).text(&incident.snoozed_by).instant(incident.snoozed_until_unix_ms);
}

fn add_label(sheet: &mut Sheet, label: &v1::Label) {
    let selector = label.selector.clone().unwrap_or_default();
    let range = label.range.unwrap_or_default();
    let attributes: std::collections::BTreeMap<_, _> = label.attributes.iter().collect();
    sheet.row().count(label.id).text(&selector.cluster).text(&selector.node).text(&selector.namespace).text(&selector.owner_kind);
    sheet.text(&selector.owner_name).text(&selector.container_name).text(&selector.pod_uid).text(&selector.container_id);
    sheet.instant(range.start_unix_ms).instant(range.end_unix_ms).text(label.kind().word()).truth(label.affected);
    sheet.text(label.source().word()).text(&label.author).text(&label.note).instant(label.created_unix_ms);
    sheet.some_count((label.retracted_by > 0).then_some(label.retracted_by));
    sheet.text(&serde_json::to_string(&attributes).unwrap_or_default());
}

fn add_containers(sheet: &mut Sheet, shared: &Shared) {
    let mut clusters: Vec<String> = shared.fleet.nodes(now_unix_ms()).into_iter().map(|node| node.cluster).collect();
    clusters.push(shared.cluster.to_string());
    clusters.sort_unstable();
    clusters.dedup();
    for cluster in clusters {
        let selector = v1::Selector { cluster, ..v1::Selector::default() };
        for container in shared.fleet.containers(&selector, true, MAX_ROWS).0 {
            let workload = container.workload.clone().unwrap_or_default();
            sheet.row().text(&workload.cluster).text(&container.node).text(&workload.namespace).text(&workload.owner_kind);
            sheet.text(&workload.owner_name).text(&workload.container_name).text(&container.pod_uid).text(&container.pod_name);
            sheet.text(&container.container_id).text(&container.cgroup).instant(container.first_seen_unix_ms);
            sheet.instant(container.gone_unix_ms).count(u64::from(container.restarts)).some_count(container.cpu_millicores);
            sheet.some_count(container.memory_bytes).some_count(container.rx_bytes_per_second);
            sheet.some_count(container.tx_bytes_per_second).number(container.score).text(container.baseline().word());
            sheet.count(container.observations);
        }
    }
}
