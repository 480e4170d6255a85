//! `vedette crosscheck`: what comparing the agents' counters with Prometheus's comes to.

use clap::Args;
use vedette_proto::v1::{ComparedCounter, CrossCheckMetric, CrossCheckOutcome, ListCrossChecksRequest};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::containers::{place, short_id};
use crate::escape::escaped;
use crate::exit::{Exit, Stop, found};
use crate::output::{Column, Output};
use crate::progress::waiting;
use crate::vocabulary;
use crate::which::SelectorArgs;

/// Flags of `vedette crosscheck`.
#[derive(Debug, Args)]
pub struct CrosscheckArgs {
    #[command(flatten)]
    which: SelectorArgs,
    /// Only what came to this
    #[arg(long, value_name = "OUTCOME", value_parser = vocabulary::outcome())]
    outcome: Option<CrossCheckOutcome>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Prints the comparisons: what disagrees first, then what is broken, not known, and agrees.
pub async fn run(args: CrosscheckArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request =
        ListCrossChecksRequest { selector: args.which.selector(), outcome: args.outcome.unwrap_or_default().into(), limit: args.limit };
    let answer = waiting("asking for the comparisons", client.query.list_cross_checks(request)).await;
    let answer = answer.map_err(Stop::from)?.into_inner();
    for node in answer.nodes.iter().filter(|node| !node.error.is_empty()) {
        eprintln!("vedette: {}: {}", escaped(&node.name), escaped(&node.error));
    }
    let mut rows = output.rows(vec![
        Column::both("outcome", "OUTCOME"),
        Column::both("cause", "CAUSE"),
        Column::both("metric", "METRIC"),
        Column::table("WORKLOAD"),
        Column::data("cluster"),
        Column::data("namespace"),
        Column::data("owner_kind"),
        Column::data("owner_name"),
        Column::data("container_name"),
        Column::both("node", "NODE"),
        Column::both("pod_name", "POD"),
        Column::data("container_id"),
        Column::table("CONTAINER"),
        Column::both("ours", "AGENT"),
        Column::both("theirs", "PROMETHEUS"),
        Column::both("seconds", "SECONDS"),
        Column::both("late_ms", "LATE MS"),
        Column::both("since", "SINCE"),
        Column::data("time"),
    ])?;
    for compared in &answer.compared {
        rows.row(cells(compared))?;
    }
    let hint = match answer.nodes.is_empty() {
        true => "no agent compares; name a Prometheus in [prometheus] url of the agents' configuration",
        false => "nothing matches",
    };
    let exit = found(rows.end()?, hint);
    if answer.truncated {
        eprintln!("vedette: there are more; raise --limit or narrow the selection");
    }
    Ok(exit)
}

fn cells(compared: &ComparedCounter) -> Vec<Cell> {
    let workload = compared.workload.clone().unwrap_or_default();
    let check = compared.check.unwrap_or_default();
    let tone = match check.outcome() {
        CrossCheckOutcome::Agree => Tone::Good,
        CrossCheckOutcome::Disagree | CrossCheckOutcome::SourceBroken => Tone::Bad,
        CrossCheckOutcome::Unknown | CrossCheckOutcome::Unspecified => Tone::Plain,
    };
    let bytes = !matches!(check.metric(), CrossCheckMetric::Cpu | CrossCheckMetric::NodeCpu | CrossCheckMetric::Restarts);
    let value = |value: Option<f64>| match value {
        None => Cell::Absent,
        Some(value) if bytes => Cell::Bytes(value.max(0.0) as u64),
        Some(value) => Cell::Number((value * 1_000.0).round() / 1_000.0),
    };
    vec![
        Cell::word(check.outcome().word(), tone),
        Cell::text(check.cause().word()),
        Cell::text(check.metric().word()),
        Cell::Text(place(&workload)),
        Cell::text(&workload.cluster),
        Cell::text(&workload.namespace),
        Cell::text(&workload.owner_kind),
        Cell::text(&workload.owner_name),
        Cell::text(&workload.container_name),
        Cell::text(&compared.node),
        Cell::text(&compared.pod_name),
        Cell::text(&compared.container_id),
        Cell::text(short_id(&compared.container_id)),
        value(check.ours),
        value(check.theirs),
        check.seconds.map_or(Cell::Absent, |seconds| Cell::Number(seconds.round())),
        check.late_ms.map_or(Cell::Absent, Cell::Integer),
        Cell::instant(compared.since_unix_ms),
        Cell::instant(compared.unix_ms),
    ]
}
