//! Says the labels of a recording again, of a replay's cluster; what stands there already is not said twice.

use std::collections::HashSet;

use vedette_proto::v1::{AddLabelsRequest, ListLabelsRequest, TimeRange};

use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::recording::Said;

/// Labels of one request, within the aggregator's limit.
const AT_ONCE: usize = 5_000;
/// Labels that are looked through for those that stand already: as many as an aggregator lists.
const MAX_LISTED: u32 = 100_000;

/// Adds them; returns how many were added.
pub async fn say(client: &mut Client, labels: &[Said], cluster: &str) -> anyhow::Result<u64> {
    let (Some(start_unix_ms), Some(end_unix_ms)) =
        (labels.iter().map(|said| said.start_unix_ms).min(), labels.iter().map(|said| said.end_unix_ms).max())
    else {
        return Ok(0);
    };
    let range = Some(TimeRange { start_unix_ms, end_unix_ms });
    let request = ListLabelsRequest { range, limit: MAX_LISTED, ..ListLabelsRequest::default() };
    let standing = client.label.list_labels(request).await.map_err(Stop::from)?.into_inner();
    if standing.truncated {
        let told = format!("more than {MAX_LISTED} labels stand in the time of the recording: cannot tell which are there already");
        return Err(Stop::new(Exit::Failure, told).into());
    }
    let here = |label: &&vedette_proto::v1::Label| label.selector.as_ref().is_some_and(|selector| selector.cluster == cluster);
    let standing: HashSet<String> = standing.labels.iter().filter(here).map(|label| key(&Said::of(label))).collect();
    let new = labels.iter().filter(|said| !standing.contains(&key(said)));
    let new = new.map(|said| said.label(cluster)).collect::<anyhow::Result<Vec<_>>>()?;
    for labels in new.chunks(AT_ONCE) {
        client.label.add_labels(AddLabelsRequest { labels: labels.to_vec() }).await.map_err(Stop::from)?;
    }
    Ok(new.len() as u64)
}

/// The same for labels that say the same.
fn key(said: &Said) -> String {
    serde_json::to_string(said).unwrap_or_default()
}
