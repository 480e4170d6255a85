//! `vedette containers`: what runs, and what is known of its normal.

use clap::Args;
use vedette_proto::v1::{BaselineState, Container, ListContainersRequest, Workload};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::exit::{Exit, Stop, found};
use crate::output::{Column, Output};
use crate::progress::waiting;
use crate::which::SelectorArgs;

/// Flags of `vedette containers`.
#[derive(Debug, Args)]
pub struct ContainersArgs {
    #[command(flatten)]
    which: SelectorArgs,
    /// Also those that are gone
    #[arg(long)]
    gone: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Prints the containers, by workload.
pub async fn run(args: ContainersArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = ListContainersRequest {
        selector: args.which.selector(),
        include_gone: args.gone,
        limit: args.limit,
        ..ListContainersRequest::default()
    };
    let answer = waiting("asking for the containers", client.query.list_containers(request)).await;
    let answer = answer.map_err(Stop::from)?.into_inner();
    // Only where an API server says something.
    let ended = answer.containers.iter().any(|container| container.last_exit_code.is_some());
    let counted = answer.containers.iter().any(|container| container.api_restarts.is_some());
    let columns = vec![
        Column::table("WORKLOAD"),
        Column::data("cluster"),
        Column::data("namespace"),
        Column::data("owner_kind"),
        Column::data("owner_name"),
        Column::data("container_name"),
        Column::both("node", "NODE"),
        Column::both("pod_name", "POD"),
        Column::data("pod_uid"),
        Column::data("container_id"),
        Column::table("CONTAINER"),
        Column::data("cgroup"),
        Column::data("first_seen"),
        Column::both("gone", if args.gone { "GONE" } else { "" }),
        Column::both("restarts", "RESTARTS"),
        Column::both("api_restarts", if counted { "API RESTARTS" } else { "" }),
        Column::data("restarts_differ"),
        Column::table(if ended { "LAST EXIT" } else { "" }),
        Column::data("last_exit_code"),
        Column::data("last_exit_reason"),
        Column::data("started"),
        Column::data("image"),
        Column::data("image_digest"),
        Column::data("qos"),
        Column::data("host_network"),
        Column::data("cpu_request_millicores"),
        Column::data("cpu_limit_millicores"),
        Column::data("memory_request_bytes"),
        Column::data("memory_limit_bytes"),
        Column::both("cpu_millicores", "CPU"),
        Column::both("memory_bytes", "MEMORY"),
        Column::both("rx_bytes_per_second", "RECEIVED"),
        Column::both("tx_bytes_per_second", "SENT"),
        Column::both("score", "SCORE"),
        Column::both("baseline", "BASELINE"),
        Column::data("observations"),
    ];
    let columns = columns.into_iter().map(|column| match column.header.as_deref() {
        Some("") => Column { header: None, ..column },
        _ => column,
    });
    let mut rows = output.rows(columns.collect())?;
    for container in &answer.containers {
        rows.row(cells(container))?;
    }
    let exit = found(rows.end()?, "no container matches; --gone shows those that have ended, --cluster another cluster or a replay");
    if answer.truncated {
        eprintln!("vedette: there are more; raise --limit or narrow the selection");
    }
    Ok(exit)
}

fn cells(container: &Container) -> Vec<Cell> {
    let workload = container.workload.clone().unwrap_or_default();
    let baseline = match container.baseline() {
        BaselineState::Ready => Tone::Good,
        BaselineState::Frozen => Tone::Bad,
        BaselineState::Learning | BaselineState::Unspecified => Tone::Plain,
    };
    let measured = |value: Option<u64>, cell: fn(u64) -> Cell| value.map_or(Cell::Absent, cell);
    vec![
        Cell::Text(place(&workload)),
        Cell::text(&workload.cluster),
        Cell::text(&workload.namespace),
        Cell::text(&workload.owner_kind),
        Cell::text(&workload.owner_name),
        Cell::text(&workload.container_name),
        Cell::text(&container.node),
        Cell::text(&container.pod_name),
        Cell::text(&container.pod_uid),
        Cell::text(&container.container_id),
        Cell::text(short_id(&container.container_id)),
        Cell::text(&container.cgroup),
        Cell::instant(container.first_seen_unix_ms),
        Cell::instant(container.gone_unix_ms),
        Cell::Unsigned(container.restarts.into()),
        measured(container.api_restarts.map(u64::from), Cell::Unsigned),
        Cell::Boolean(container.restarts_differ),
        Cell::text(last_exit(container)),
        container.last_exit_code.map_or(Cell::Absent, |code| Cell::Integer(code.into())),
        Cell::text(&container.last_exit_reason),
        container.started_unix_ms.map_or(Cell::Absent, Cell::Instant),
        Cell::text(&container.image),
        Cell::text(&container.image_digest),
        Cell::text(&container.qos),
        container.host_network.map_or(Cell::Absent, Cell::Boolean),
        measured(container.cpu_request_millicores, Cell::Millicores),
        measured(container.cpu_limit_millicores, Cell::Millicores),
        measured(container.memory_request_bytes, Cell::Bytes),
        measured(container.memory_limit_bytes, Cell::Bytes),
        measured(container.cpu_millicores, Cell::Millicores),
        measured(container.memory_bytes, Cell::Bytes),
        measured(container.rx_bytes_per_second, Cell::BytesPerSecond),
        measured(container.tx_bytes_per_second, Cell::BytesPerSecond),
        Cell::Number((container.score * 1000.0).round() / 1000.0),
        Cell::word(container.baseline().word(), baseline),
        Cell::Unsigned(container.observations),
    ]
}

/// `OOMKilled (137)`; empty where it never ended.
fn last_exit(container: &Container) -> String {
    match (container.last_exit_code, &*container.last_exit_reason) {
        (None, reason) => reason.to_owned(),
        (Some(code), "") => code.to_string(),
        (Some(code), reason) => format!("{reason} ({code})"),
    }
}

/// A workload in one word, without its cluster: `shop/Deployment/web/nginx`.
pub fn place(workload: &Workload) -> String {
    let parts = [&workload.namespace, &workload.owner_kind, &workload.owner_name, &workload.container_name];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/")
}

/// As much of a container id as selectors accept; the names of watched cgroups stay whole.
pub fn short_id(id: &str) -> &str {
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) { &id[..12] } else { id }
}
