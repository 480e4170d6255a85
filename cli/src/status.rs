//! `vedette status` and `vedette nodes`: how the aggregator and its nodes stand.

use vedette_proto::v1::{GetStatusRequest, GetStatusResponse, ListNodesRequest, Node, NodeState};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::escape::escaped;
use crate::exit::Exit;
use crate::output::{Column, Format, Output};
use crate::progress::waiting;
use crate::{units, when};

/// Prints the aggregator's own state.
pub async fn status(client: &mut Client, output: &mut Output, now_unix_ms: i64) -> anyhow::Result<Exit> {
    let status = waiting("asking for the status", client.query.get_status(GetStatusRequest {})).await;
    let status = status.map_err(crate::exit::Stop::from)?.into_inner();
    if output.format == Format::Table {
        sheet(output, &status, now_unix_ms)?;
    } else {
        let (columns, cells) = facts(&status);
        output.object(columns, &cells)?;
    }
    Ok(Exit::Ok)
}

fn facts(status: &GetStatusResponse) -> (Vec<Column>, Vec<Cell>) {
    let refused: std::collections::BTreeMap<_, _> = status.refused.iter().collect();
    let refused = serde_json::to_string(&refused).unwrap_or_default();
    let facts = [
        ("version", Cell::text(&status.version)),
        ("cluster", Cell::text(&status.cluster)),
        ("started", Cell::instant(status.started_unix_ms)),
        ("nodes_connected", Cell::Unsigned(status.nodes_connected.into())),
        ("nodes_known", Cell::Unsigned(status.nodes_known.into())),
        ("containers_alive", Cell::Unsigned(status.containers_alive)),
        ("observations_stored", Cell::Unsigned(status.observations_stored)),
        ("duplicate_batches", Cell::Unsigned(status.duplicate_batches)),
        ("refused", Cell::Json(refused)),
        ("incidents_open", Cell::Unsigned(status.incidents_open.into())),
        ("history_bytes", Cell::Bytes(status.history_bytes)),
        ("history_observations", Cell::Unsigned(status.history_observations)),
        ("history_oldest", Cell::instant(status.history_oldest_unix_ms)),
        ("problems", Cell::List(status.problems.clone())),
    ];
    facts.into_iter().map(|(name, cell)| (Column::both(name, name), cell)).unzip()
}

fn sheet(output: &mut Output, status: &GetStatusResponse, now_unix_ms: i64) -> std::io::Result<()> {
    let started = when::local(status.started_unix_ms, &output.zone);
    let up = when::span(now_unix_ms - status.started_unix_ms);
    output.line(&format!("Aggregator   {}, cluster {}", escaped(&status.version), escaped(&status.cluster)))?;
    output.line(&format!("Running      since {started} ({up})"))?;
    let all_here = status.nodes_connected == status.nodes_known;
    let nodes = format!("{} connected of {} known", status.nodes_connected, status.nodes_known);
    let nodes = output.toned(&nodes, if all_here { Tone::Plain } else { Tone::Warning });
    output.line(&format!("Nodes        {nodes}; {} containers", units::grouped(status.containers_alive)))?;
    let open = match status.incidents_open {
        0 => output.toned("none open", Tone::Good),
        open => output.toned(&format!("{open} open"), Tone::Bad) + " (vedette incidents --open)",
    };
    output.line(&format!("Incidents    {open}"))?;
    let stored = units::grouped(status.observations_stored);
    let duplicates = units::grouped(status.duplicate_batches);
    output.line(&format!("Since start  {stored} observations stored, {duplicates} batches sent twice and recognised"))?;
    let mut refused: Vec<_> = status.refused.iter().filter(|(_, count)| **count > 0).collect();
    refused.sort();
    for (reason, count) in refused {
        let text = format!("{} messages: {}", units::grouped(*count), escaped(reason));
        output.line(&format!("Refused      {}", output.toned(&text, Tone::Warning)))?;
    }
    let history = units::grouped(status.history_observations);
    let bytes = units::bytes(status.history_bytes as f64);
    let oldest = match status.history_oldest_unix_ms {
        0 => String::new(),
        oldest => format!(", since {}", when::local(oldest, &output.zone)),
    };
    output.line(&format!("History      {history} observations{oldest}; {bytes} sealed"))?;
    if status.problems.is_empty() {
        output.line(&format!("Problems     {}", output.toned("none", Tone::Good)))?;
    }
    for problem in &status.problems {
        output.line(&format!("Problem      {}", output.toned(&escaped(problem), Tone::Bad)))?;
    }
    output.sink.flush()
}

/// Prints the nodes, by name.
pub async fn nodes(client: &mut Client, output: &mut Output, now_unix_ms: i64) -> anyhow::Result<Exit> {
    let answer = waiting("asking for the nodes", client.query.list_nodes(ListNodesRequest {})).await;
    let nodes = answer.map_err(crate::exit::Stop::from)?.into_inner().nodes;
    let columns = vec![
        Column::both("name", "NODE"),
        Column::both("cluster", "CLUSTER"),
        Column::both("state", "STATE"),
        Column::table("HEARD"),
        Column::data("last_heard"),
        Column::data("last_observation"),
        Column::both("containers", "CONTAINERS"),
        Column::both("observations", "OBSERVATIONS"),
        Column::both("dropped", "DROPPED"),
        Column::both("outbox_batches", "WAITING"),
        Column::both("agent_version", "AGENT"),
        Column::both("sensor_error", "COMPLAINT"),
    ];
    let mut rows = output.rows(columns)?;
    for node in &nodes {
        rows.row(node_cells(node, now_unix_ms))?;
    }
    Ok(crate::exit::found(rows.end()?, "no nodes: no agent has reported yet"))
}

fn node_cells(node: &Node, now_unix_ms: i64) -> Vec<Cell> {
    let tone = match node.state() {
        NodeState::Live => Tone::Good,
        NodeState::Blind | NodeState::Silent => Tone::Bad,
        NodeState::Left | NodeState::NoAgent => Tone::Warning,
        NodeState::Unspecified => Tone::Plain,
    };
    let heard = match node.last_heard_unix_ms {
        0 => Cell::Absent,
        heard => Cell::Text(when::span(now_unix_ms - heard) + " ago"),
    };
    vec![
        Cell::text(&node.name),
        Cell::text(&node.cluster),
        Cell::word(node.state().word(), tone),
        heard,
        Cell::instant(node.last_heard_unix_ms),
        Cell::instant(node.last_observation_unix_ms),
        Cell::Unsigned(node.containers.into()),
        Cell::Unsigned(node.observations),
        Cell::Unsigned(node.dropped),
        Cell::Unsigned(node.outbox_batches),
        Cell::text(&node.agent_version),
        Cell::text(&node.sensor_error),
    ]
}
