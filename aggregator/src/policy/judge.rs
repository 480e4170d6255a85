//! Quiet windows: minutes of containers, drawn by chance from history, in which nobody was told of anything.

use std::collections::BTreeMap;

use datafusion::prelude::{SessionContext, col, lit};
use tonic::Status;
use vedette_proto::{
    Column, Feature, Features,
    v1::{Container, JudgeQuietRequest, Kind, Label, LabelSource, QuietWindow, Selector, Series, Severity, TimeRange},
};

use crate::{
    Shared,
    query::{about, instant, observations, session, status_of},
    store::IncidentFilter,
};

/// How long a window is: long enough to see what is usual, short enough to judge at a glance.
pub const WINDOW_MS: i64 = 5 * 60 * 1_000;
/// A window of fewer rows shows too little.
const FEWEST_ROWS: usize = 30;
/// Most rows of a window that are read.
const MOST_ROWS: usize = 2_000;
/// Tries per window that is wanted: containers come and go, and some windows are not quiet.
const TRIES: u32 = 10;
/// Most containers that are drawn from.
const MOST_CONTAINERS: usize = 200_000;
/// What a window shows.
const SHOWN: [Feature; 5] =
    [Feature::CpuCores, Feature::MemoryWorkingSetBytes, Feature::RxBytesPerSec, Feature::TxBytesPerSec, Feature::TcpActiveOpensPerSec];

/// Numbers by chance, the same for the same seed (G. L. Steele and others, "Fast splittable pseudorandom number generators", 2014).
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below a number that is not 0. Its bias is that of 64 bits: none that anybody could measure.
    fn below(&mut self, most: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(most)) >> 64) as u64
    }
}

/// A window of one container, every workload as likely as another; `None` where the one drawn is too young.
pub fn draw(containers: &[Container], since_unix_ms: i64, now_unix_ms: i64, chance: &mut Chance) -> Option<QuietWindow> {
    let mut by_workload: BTreeMap<String, Vec<&Container>> = BTreeMap::new();
    for container in containers.iter().filter(|container| !container.container_id.is_empty()) {
        if let Some(workload) = &container.workload {
            by_workload.entry(workload.to_string()).or_default().push(container);
        }
    }
    let workloads = by_workload.len() as u64;
    let replicas = by_workload.into_values().nth(if workloads == 0 { return None } else { chance.below(workloads) as usize })?;
    let container = replicas.get(chance.below(replicas.len() as u64) as usize)?;
    let first = container.first_seen_unix_ms.max(since_unix_ms);
    let last = if container.gone_unix_ms > 0 { container.gone_unix_ms.min(now_unix_ms) } else { now_unix_ms } - WINDOW_MS;
    let room = u64::try_from(last - first).ok().filter(|room| *room > 0)?;
    let start_unix_ms = first + chance.below(room) as i64;
    Some(QuietWindow {
        workload: container.workload.clone(),
        container_id: container.container_id.clone(),
        range: Some(TimeRange { start_unix_ms, end_unix_ms: start_unix_ms + WINDOW_MS }),
        ..QuietWindow::default()
    })
}

/// Draws windows, reads their pictures, keeps them and gives them their ids.
///
/// # Errors
/// What the store and history say.
pub async fn sample(
    shared: &Shared,
    count: u32,
    since_unix_ms: i64,
    now_unix_ms: i64,
    mut chance: Chance,
) -> Result<Vec<QuietWindow>, Status> {
    let own = Selector { cluster: shared.cluster.to_string(), ..Selector::default() };
    let (containers, _) = shared.fleet.containers(&own, true, MOST_CONTAINERS);
    let session = session(shared)?;
    let mut windows = Vec::new();
    for _ in 0..count * TRIES {
        if windows.len() >= count as usize {
            break;
        }
        let Some(mut window) = draw(&containers, since_unix_ms, now_unix_ms, &mut chance) else { continue };
        let same = |other: &QuietWindow| other.container_id == window.container_id && overlap(other, &window);
        if windows.iter().any(same) || !is_quiet(shared, &window).await? {
            continue;
        }
        window.series = series(&session, shared, &window).await?;
        if !window.series.is_empty() {
            windows.push(window);
        }
    }
    shared.store.add_quiet_windows(&mut windows).await?;
    Ok(windows)
}

fn overlap(a: &QuietWindow, b: &QuietWindow) -> bool {
    let (a, b) = (a.range.unwrap_or_default(), b.range.unwrap_or_default());
    a.start_unix_ms < b.end_unix_ms && b.start_unix_ms < a.end_unix_ms
}

/// Whether nobody was told of anything about the workload then.
async fn is_quiet(shared: &Shared, window: &QuietWindow) -> Result<bool, Status> {
    let workload = window.workload.clone().unwrap_or_default();
    let range = window.range.unwrap_or_default();
    let filter = IncidentFilter {
        cluster: Some(workload.cluster.clone()),
        range: (range.start_unix_ms, range.end_unix_ms),
        minimum_severity: Severity::Ticket,
        ..IncidentFilter::default()
    };
    let selector = Selector {
        cluster: workload.cluster,
        namespace: workload.namespace,
        owner_kind: workload.owner_kind,
        owner_name: workload.owner_name,
        container_name: workload.container_name,
        ..Selector::default()
    };
    Ok(shared.store.incidents(&filter, 1, |incident| about(&selector, incident)).await?.is_empty())
}

/// How the container ran; empty where history has too little of it.
async fn series(session: &SessionContext, shared: &Shared, window: &QuietWindow) -> Result<Vec<Series>, Status> {
    let range = window.range.unwrap_or_default();
    let wanted = col("cluster")
        .eq(lit(&*shared.cluster))
        .and(col("container_id").eq(lit(&window.container_id[..])))
        .and(col("time").gt_eq(instant(range.start_unix_ms)))
        .and(col("time").lt(instant(range.end_unix_ms)));
    let columns = Column::ALL.iter().map(|column| col(column.name()));
    let rows = async {
        let frame = session.table("observations").await?.filter(wanted)?;
        let frame = frame.select([col("time"), col("container_id")].into_iter().chain(columns))?;
        frame.sort(vec![col("time").sort(true, false)])?.limit(0, Some(MOST_ROWS))?.collect().await
    };
    let mut points = Vec::new();
    for batch in rows.await.map_err(|error| status_of(&error))? {
        let rows = observations(&batch).map_err(|error| status_of(&error))?;
        points.extend(rows.into_iter().map(|(_, unix_ms, row)| (unix_ms, Features::of(&row))));
    }
    if points.len() < FEWEST_ROWS {
        return Ok(Vec::new());
    }
    let of = |feature: &Feature| Series {
        feature: feature.name().to_owned(),
        unit: feature.unit().to_owned(),
        unix_ms: points.iter().map(|(unix_ms, _)| *unix_ms).collect(),
        values: points.iter().map(|(_, features)| features.get(*feature).map_or(f64::NAN, f64::from)).collect(),
        container_id: window.container_id.clone(),
    };
    Ok(SHOWN.iter().map(of).filter(|series| series.values.iter().any(|value| value.is_finite())).collect())
}

/// The label that follows from what somebody says of a window; nothing follows where they are unsure.
pub fn label(window: &QuietWindow, request: &JudgeQuietRequest) -> Option<Label> {
    use vedette_proto::v1::Answer;
    let kind = match request.answer() {
        Answer::NothingThere => Kind::Normal,
        Answer::Attack if request.kind() != Kind::Unspecified => request.kind(),
        Answer::Attack => Kind::Unknown,
        _ => return None,
    };
    let workload = window.workload.clone().unwrap_or_default();
    Some(Label {
        selector: Some(Selector {
            cluster: workload.cluster,
            namespace: workload.namespace,
            owner_kind: workload.owner_kind,
            owner_name: workload.owner_name,
            container_name: workload.container_name,
            container_id: window.container_id.clone(),
            ..Selector::default()
        }),
        range: window.range,
        kind: kind.into(),
        source: LabelSource::Operator.into(),
        author: request.author.clone(),
        note: request.note.clone(),
        attributes: [("quiet_window".to_owned(), window.id.to_string())].into(),
        ..Label::default()
    })
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::Workload;

    use super::*;

    fn container(owner: &str, id: usize) -> Container {
        let workload = Workload { cluster: "prod".into(), owner_name: owner.into(), ..Workload::default() };
        Container { workload: Some(workload), container_id: format!("{owner}-{id}"), first_seen_unix_ms: 1_000_000, ..Container::default() }
    }

    #[test]
    fn every_workload_is_as_likely_however_many_replicas_it_has() {
        let mut containers: Vec<Container> = (0..99).map(|id| container("many", id)).collect();
        containers.push(container("one", 0));
        let mut chance = Chance(7);

        let ones = (0..1_000).filter(|_| {
            let window = draw(&containers, 0, 10_000_000, &mut chance).unwrap();
            window.container_id == "one-0"
        });

        assert!((400..600).contains(&ones.count()));
    }

    #[test]
    fn a_window_lies_within_the_container_s_life_and_the_days_asked_for() {
        let mut chance = Chance(3);
        for _ in 0..200 {
            let range = draw(&[container("a", 1)], 5_000_000, 6_000_000, &mut chance).unwrap().range.unwrap();
            assert!(range.start_unix_ms >= 5_000_000 && range.end_unix_ms <= 6_000_000, "{range:?}");
        }
        assert_eq!(draw(&[container("a", 1)], 5_900_000, 6_000_000, &mut chance), None);
        assert_eq!(draw(&[], 0, 6_000_000, &mut chance), None);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let containers: Vec<Container> = (0..5).map(|id| container("a", id)).collect();
        let drawn = |seed| draw(&containers, 0, 9_000_000, &mut Chance(seed));

        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }
}
