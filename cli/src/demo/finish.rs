//! The end of a demonstration, live or replayed: incidents judged, observations counted, the export, the report.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use vedette_proto::v1::query_value::Value;
use vedette_proto::v1::{ExportFormat, ExportLayout, ExportRequest, Incident, ListIncidentsRequest, QueryRequest, Selector, TimeRange};

use super::accounting::{Accounting, account};
use super::judge::judge;
use super::report::Report;
use super::schedule::Schedule;
use super::show::Show;
use crate::client::Client;
use crate::exit::Stop;
use crate::export::to_file;

/// Most incidents that are looked at; a demonstration has about a dozen.
const MAX_INCIDENTS: u32 = 10_000;
/// Most containers that are counted.
const MAX_CONTAINERS: u32 = 100_000;

/// A run that is over.
pub struct Finished<'a> {
    /// `live` or `replay`.
    pub mode: &'static str,
    /// Where its observations are.
    pub cluster: &'a str,
    /// What the injector knows.
    pub schedule: &'a Schedule,
    /// Observations made.
    pub observations: u64,
    /// Observations acknowledged.
    pub acknowledged: u64,
    /// From when on observations are expected, Unix milliseconds.
    pub from_unix_ms: i64,
}

/// Shows and reports how it went.
pub async fn finish(
    run: &Finished<'_>,
    client: &mut Client,
    show: &Show,
    folder: &Path,
    report: Option<&PathBuf>,
) -> anyhow::Result<Accounting> {
    let incidents = incidents(client, run.cluster).await?;
    let judgement = judge(run.schedule, &incidents);
    let stored = rows_by_container(client, run.cluster).await?;
    let accounting = account(run.schedule, &stored, run.from_unix_ms);
    let request = export(run.cluster, run.schedule);
    let exported = to_file(client, request, &folder.join("seed.csv")).await?;
    show.judgement(&judgement, run.schedule.placebos());
    show.accounting(&accounting, run.observations, run.acknowledged, exported.rows);
    let result = Report {
        mode: run.mode,
        attacks: judgement.attacks,
        placebos: run.schedule.placebos(),
        false_incidents: judgement.false_incidents.len(),
        expected: accounting.expected,
        observations: run.observations,
        acknowledged: run.acknowledged,
        stored: accounting.stored,
        exported_rows: exported.rows,
    };
    if let Some(path) = report {
        result.write(path)?;
        println!("report in {}", path.display());
    }
    Ok(accounting)
}

/// An export of everything that a run left in history, in the seed's layout.
fn export(cluster: &str, schedule: &Schedule) -> ExportRequest {
    // Agents tick on their own clock; what they saw of the last container may be a little later.
    let range = TimeRange { start_unix_ms: schedule.started_unix_ms - 5_000, end_unix_ms: schedule.ended_unix_ms + 5_000 };
    ExportRequest {
        format: ExportFormat::Csv.into(),
        layout: ExportLayout::Seed.into(),
        range: Some(range),
        kinds: Vec::new(),
        selector: Some(Selector { cluster: cluster.to_owned(), ..Selector::default() }),
    }
}

async fn incidents(client: &mut Client, cluster: &str) -> anyhow::Result<Vec<Incident>> {
    let selector = Some(Selector { cluster: cluster.to_owned(), ..Selector::default() });
    let request = ListIncidentsRequest { selector, limit: MAX_INCIDENTS, ..ListIncidentsRequest::default() };
    Ok(client.query.list_incidents(request).await.map_err(Stop::from)?.into_inner().incidents)
}

/// Rows in history per container id.
pub(crate) async fn rows_by_container(client: &mut Client, cluster: &str) -> anyhow::Result<HashMap<String, u64>> {
    let sql = format!(
        "SELECT container_id, count(*) FROM observations WHERE cluster = '{}' AND container_id <> '' GROUP BY container_id",
        cluster.replace('\'', "''")
    );
    let mut parts = client.query.query(QueryRequest { sql, max_rows: MAX_CONTAINERS }).await.map_err(Stop::from)?.into_inner();
    let mut stored = HashMap::new();
    while let Some(part) = parts.message().await.map_err(Stop::from)? {
        for row in part.rows {
            let mut values = row.values.into_iter().map(|value| value.value);
            if let (Some(Some(Value::Text(id))), Some(Some(count))) = (values.next(), values.next()) {
                let count = match count {
                    Value::Integer(count) => u64::try_from(count).unwrap_or(0),
                    Value::Unsigned(count) => count,
                    _ => 0,
                };
                stored.insert(id, count);
            }
        }
    }
    Ok(stored)
}
