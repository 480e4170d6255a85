//! Features and columns over time, thinned to as many points as a picture has.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::{
    logical_expr::Expr,
    prelude::{SessionContext, col, lit},
};
use futures::StreamExt;
use tonic::Status;
use vedette_proto::{
    Column, Feature, Features, Observation, Reading, Scope,
    v1::{GetSeriesRequest, GetSeriesResponse, Selector, Series},
};

use crate::{
    label::check,
    query::{checked_selector, instant, observations, status_of},
};

/// Most containers shown; those with the first ids.
const MAX_CONTAINERS: usize = 8;
/// Most rows read for one request: a container at 1 Hz for two days, or eight for six hours.
const MAX_ROWS: usize = 200_000;
/// Most names of one request.
const MAX_NAMES: usize = 64;

/// One thing that can be shown over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Feature(Feature),
    Column(Column),
}

impl Shown {
    fn named(name: &str) -> Option<Self> {
        let feature = Feature::ALL.iter().copied().find(|feature| feature.name() == name).map(Self::Feature);
        feature.or_else(|| Column::from_name(name).map(Self::Column))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Feature(feature) => feature.name(),
            Self::Column(column) => column.name(),
        }
    }

    /// What grows is shown per second.
    fn unit(self) -> String {
        match self {
            Self::Feature(feature) => feature.unit().to_owned(),
            Self::Column(column) if column.reading() == Reading::Delta => format!("{}/s", column.unit()),
            Self::Column(column) => column.unit().to_owned(),
        }
    }

    fn value(self, row: &Observation, features: &Features) -> Option<f64> {
        match self {
            Self::Feature(feature) => features.get(feature).map(f64::from),
            Self::Column(column) if column.reading() == Reading::Delta => row.per_second(column),
            Self::Column(column) => row.get(column).map(|value| value as f64),
        }
    }
}

/// A request that was checked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    selector: Selector,
    start: i64,
    end: i64,
    step_ms: i64,
    shown: Vec<Shown>,
}

impl Asked {
    /// # Errors
    /// `INVALID_ARGUMENT` that names the field.
    pub fn check(request: GetSeriesRequest, own_cluster: &str) -> Result<Self, Status> {
        let selector = checked_selector(request.selector, own_cluster)?;
        if selector == (Selector { cluster: selector.cluster.clone(), ..Selector::default() }) {
            return Err(check::invalid("selector", "at least one field besides cluster must be set"));
        }
        let range = request.range.filter(|range| range.start_unix_ms > 0 && range.end_unix_ms > 0);
        let range = range.ok_or_else(|| check::invalid("range", "both ends are required"))?;
        let (start, end) = check::open_range("range", Some(&range))?;
        if end - start > check::MAX_RANGE_MS {
            return Err(check::invalid("range", "longer than 31 days"));
        }
        if request.names.len() > MAX_NAMES {
            return Err(check::invalid("names", format!("{} given, at most {MAX_NAMES} are allowed", request.names.len())));
        }
        let named = |name: &String| Shown::named(name).ok_or_else(|| check::invalid("names", "neither a feature nor a column"));
        let mut shown = request.names.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let points = i64::from(check::limit("points", request.points, 600, 2_000)?);
        let mut asked = Self { selector, start, end, step_ms: ((end - start) / points).max(1), shown: Vec::new() };
        if shown.is_empty() && asked.is_node() {
            shown = Column::ALL.iter().copied().filter(|column| column.scope() == Scope::Node).map(Shown::Column).collect();
        } else if shown.is_empty() && request.every_column {
            shown = Column::ALL.iter().copied().filter(|column| column.scope() != Scope::Node).map(Shown::Column).collect();
        } else if shown.is_empty() {
            shown = Feature::ALL.iter().copied().map(Shown::Feature).collect();
        }
        asked.shown = shown;
        Ok(asked)
    }

    /// Whether the node's own row is meant.
    fn is_node(&self) -> bool {
        let Selector { cluster, node, .. } = self.selector.clone();
        !node.is_empty() && self.selector == Selector { cluster, node, ..Selector::default() }
    }

    fn condition(&self) -> Expr {
        let Selector { cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id } = &self.selector;
        let mut wanted = col("time").gt_eq(instant(self.start)).and(col("time").lt(instant(self.end))).and(col("cluster").eq(lit(cluster)));
        let equal = [
            ("node", node),
            ("namespace", namespace),
            ("owner_kind", owner_kind),
            ("owner_name", owner_name),
            ("container_name", container_name),
            ("pod_uid", pod_uid),
        ];
        for (name, value) in equal.into_iter().filter(|(_, value)| !value.is_empty()) {
            wanted = wanted.and(col(name).eq(lit(value)));
        }
        if self.is_node() {
            return wanted.and(col("container_id").eq(lit("")));
        }
        match &container_id[..] {
            "" => wanted,
            // A prefix: what begins with it lies before the prefix with a character that no id has.
            id => wanted.and(col("container_id").gt_eq(lit(id))).and(col("container_id").lt_eq(lit(format!("{id}~")))),
        }
    }
}

/// The highest values of one step of time.
struct Step {
    unix_ms: i64,
    values: Vec<f64>,
}

/// Steps by container, each with its values in the order of what is shown.
#[derive(Default)]
struct Steps {
    by_container: BTreeMap<String, BTreeMap<i64, Step>>,
    left_out: bool,
}

impl Steps {
    fn add(&mut self, asked: &Asked, container: String, unix_ms: i64, row: &Observation) {
        if self.by_container.len() >= MAX_CONTAINERS && !self.by_container.contains_key(&container) {
            self.left_out = true;
            return;
        }
        let features = Features::of(row);
        let place = (unix_ms - asked.start) / asked.step_ms;
        let steps = self.by_container.entry(container).or_default();
        let step = steps.entry(place).or_insert_with(|| Step { unix_ms, values: vec![f64::NAN; asked.shown.len()] });
        for (kept, shown) in step.values.iter_mut().zip(&asked.shown) {
            // The maximum of NaN and a number is the number.
            *kept = kept.max(shown.value(row, &features).unwrap_or(f64::NAN));
        }
    }

    fn series(self, asked: &Asked) -> Vec<Series> {
        let mut series = Vec::new();
        for (container_id, steps) in self.by_container {
            for (place, shown) in asked.shown.iter().enumerate() {
                let points = steps.values().filter(|step| !step.values[place].is_nan());
                let (unix_ms, values): (Vec<_>, Vec<_>) = points.map(|step| (step.unix_ms, step.values[place])).unzip();
                if !values.is_empty() {
                    let (feature, unit) = (shown.name().to_owned(), shown.unit());
                    series.push(Series { feature, unit, unix_ms, values, container_id: container_id.clone() });
                }
            }
        }
        series
    }
}

/// Reads what was asked for.
///
/// # Errors
/// What history says.
pub(super) async fn read(session: &SessionContext, asked: &Asked) -> Result<GetSeriesResponse, Status> {
    let failed = |error| status_of(&error);
    let columns = [col("time"), col("container_id")].into_iter().chain(Column::ALL.iter().map(|column| col(column.name())));
    let table = session.table("observations").await.map_err(failed)?;
    let rows = table.filter(asked.condition()).map_err(failed)?.select(columns).map_err(failed)?;
    let mut batches = rows.limit(0, Some(MAX_ROWS + 1)).map_err(failed)?.execute_stream().await.map_err(failed)?;
    let (mut steps, mut room) = (Steps::default(), MAX_ROWS);
    while let Some(batch) = batches.next().await {
        add(&mut steps, &mut room, asked, &batch.map_err(failed)?)?;
    }
    let truncated = steps.left_out;
    Ok(GetSeriesResponse { series: steps.series(asked), truncated })
}

fn add(steps: &mut Steps, room: &mut usize, asked: &Asked, batch: &RecordBatch) -> Result<(), Status> {
    for (container, unix_ms, row) in observations(batch).map_err(|error| status_of(&error))? {
        // The pods' columns of a node's row belong to the node.
        if *room == 0 || (container.is_empty() && !asked.is_node()) {
            steps.left_out |= *room == 0;
            continue;
        }
        *room -= 1;
        steps.add(asked, container, unix_ms, &row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::TimeRange;

    use super::*;
    use crate::query::{
        session,
        world::{T0, World, container_id},
    };

    fn request(selector: Selector, names: &[&str], points: u32) -> GetSeriesRequest {
        let range = Some(TimeRange { start_unix_ms: T0, end_unix_ms: T0 + 60_000 });
        let names = names.iter().map(|&name| name.to_owned()).collect();
        GetSeriesRequest { selector: Some(selector), range, names, points, every_column: false }
    }

    async fn ask(world: &World, request: GetSeriesRequest) -> GetSeriesResponse {
        read(&session(&world.shared).unwrap(), &Asked::check(request, "prod").unwrap()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn features_and_columns_of_each_replica_are_given_by_name() {
        let world = World::new().await;
        world.observe(&["cart", "web"], 20).await;
        let web = Selector { container_id: container_id("web")[..12].to_owned(), ..Selector::default() };

        let answer = ask(&world, request(web, &["cpu_cores", "net_tx_bytes", "pids"], 0)).await;

        let shown: Vec<_> = answer.series.iter().map(|one| (&one.feature[..], &one.unit[..], one.values[0], one.values.len())).collect();
        assert_eq!(shown, [("cpu_cores", "cores", 0.5, 20), ("net_tx_bytes", "bytes/s", 100.0, 20)]);
        assert_eq!(answer.series[0].unix_ms[0], T0 + 1_000);
        assert!(answer.series.iter().all(|one| one.container_id == container_id("web")));
        assert!(!answer.truncated);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_rows_become_few_points_and_a_node_is_shown_by_itself() {
        let world = World::new().await;
        world.observe(&["cart"], 50).await;
        let node = Selector { node: "n1".into(), ..Selector::default() };

        let thinned = ask(&world, request(Selector { owner_name: "cart".into(), ..Selector::default() }, &["cpu_cores"], 10)).await;
        let of_node = ask(&world, request(node, &["cpu_usage_us"], 0)).await;

        assert_eq!(thinned.series[0].values.len(), 9);
        assert_eq!(of_node.series.iter().map(|one| &one.container_id[..]).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn what_cannot_be_shown_is_refused_by_name() {
        let refused = |request: GetSeriesRequest| Asked::check(request, "prod").unwrap_err().message().to_owned();
        let web = || Selector { owner_name: "web".into(), ..Selector::default() };

        assert!(refused(request(web(), &["burglaries"], 0)).contains("names"));
        assert!(refused(request(Selector::default(), &[], 0)).contains("selector"));
        assert!(refused(request(web(), &[], 2_001)).contains("points"));
        assert!(refused(GetSeriesRequest { range: None, ..request(web(), &[], 0) }).contains("range"));
    }
}
