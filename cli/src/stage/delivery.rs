//! From the last observation of a run to its acknowledgement, by the agent's own metrics.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::Agent;
use super::process::get;

/// From the last observation to its acknowledgement.
const DELIVERY: Duration = Duration::from_secs(20);

/// What an agent counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Observations of containers made.
    pub observations: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// What it lost, was late with or left out, in words.
    pub losses: Vec<String>,
}

/// Waits until every observation is acknowledged and no container is left to make more, or 20 s.
pub async fn delivered(agent: &Agent) -> anyhow::Result<Delivered> {
    let began = Instant::now();
    loop {
        let (_, text) = get(agent.http, "/metrics").await.context("cannot read the agent's metrics")?;
        let read = |name: &str| metric(&text, name).with_context(|| format!("the agent's metrics have no {name}"));
        let observations = read("vedette_agent_observations_total")?;
        let acknowledged = read("vedette_agent_acknowledged_observations_total")?;
        let containers = read("vedette_agent_containers")?;
        if (observations == acknowledged && containers == 0) || began.elapsed() > DELIVERY {
            return Ok(Delivered { observations, acknowledged, losses: losses(&text) });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the agent itself counted as lost, late or left out.
fn losses(text: &str) -> Vec<String> {
    let losses = [
        ("late ticks", "vedette_agent_late_ticks_total"),
        ("missed ticks", "vedette_agent_missed_ticks_total"),
        ("observations dropped", "vedette_agent_dropped_observations_total"),
        ("things left out at a limit", "vedette_agent_limited_total"),
    ];
    let counts = losses.iter().filter_map(|(what, name)| Some((what, metric(text, name)?))).filter(|(_, count)| *count > 0);
    counts.map(|(what, count)| format!("{count} {what}")).collect()
}

/// The values of a metric in a text exposition, summed over its labels.
pub fn metric(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
        let value: f64 = rest.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
        Some(value as u64)
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# HELP x y\nx_total 3\nx_total_other 9\nd_total{reason=\"a b\"} 2\nd_total{reason=\"c\"} 4.0\n";

        assert_eq!((metric(text, "x_total"), metric(text, "d_total"), metric(text, "none")), (Some(3), Some(6), None));
    }
}
