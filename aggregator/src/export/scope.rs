//! Which rows an export is about: the request, checked, as a condition on history.

use datafusion::{
    functions::expr_fn::starts_with,
    logical_expr::Expr,
    prelude::{col, lit},
};
use tonic::Status;
use vedette_proto::v1::{ExportFormat, ExportLayout, ExportRequest, Kind, Selector};

use crate::{
    Shared,
    label::{LabelIndex, check, merge},
    query::{checked_selector, instant},
    store::LabelFilter,
};

/// More stretches than this are scanned as one, from the first to the last, and sorted out by label afterwards.
const MAX_STRETCHES: usize = 64;

/// A request, checked.
#[derive(Clone, Debug)]
pub struct Scope {
    /// File format.
    pub format: ExportFormat,
    /// Layout.
    pub layout: ExportLayout,
    /// `start <= t < end`, Unix milliseconds.
    pub range: (i64, i64),
    /// Only these kinds; empty is any, labelled or not.
    pub kinds: Vec<Kind>,
    /// Of whom; names its cluster.
    pub selector: Selector,
}

impl Scope {
    /// Checks a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` that names the field.
    pub fn checked(request: ExportRequest, own_cluster: &str) -> Result<Self, Status> {
        let (Ok(format), Ok(layout)) = (ExportFormat::try_from(request.format), ExportLayout::try_from(request.layout)) else {
            return Err(check::invalid("format, layout", format!("unknown value {}, {}", request.format, request.layout)));
        };
        let range = check::open_range("range", request.range.as_ref())?;
        if request.kinds.len() > Kind::WORDS.len() {
            return Err(check::invalid("kinds", format!("{} given, there are {}", request.kinds.len(), Kind::WORDS.len())));
        }
        if !request.kinds.iter().all(|&kind| check::known(Kind::WORDS, kind)) {
            return Err(check::invalid("kinds", "each must be one of the known kinds"));
        }
        if layout == ExportLayout::Seed && !request.kinds.is_empty() {
            return Err(check::invalid("kinds", "not with the seed layout: its rows are sums over what has many labels"));
        }
        let kinds = request.kinds().collect();
        Ok(Self { format, layout, range, kinds, selector: checked_selector(request.selector, own_cluster)? })
    }

    /// The labels that stand within the scope.
    ///
    /// # Errors
    /// What the store says.
    pub async fn labels(&self, shared: &Shared) -> Result<LabelIndex, Status> {
        let mut index = LabelIndex::default();
        let filter = LabelFilter { cluster: Some(self.selector.cluster.clone()), range: self.range, ..LabelFilter::default() };
        shared.store.for_each_label(&filter, |label| index.add(&label)).await?;
        Ok(index)
    }

    /// The condition on `observations`; `None` where no label of the wanted kinds leaves any row.
    #[must_use]
    pub fn condition(&self, labels: &LabelIndex) -> Option<Expr> {
        let mut condition = self.subject().and(between(self.range));
        if !self.kinds.is_empty() {
            let mut stretches = merge(labels.ranges_of(&self.kinds));
            if stretches.len() > MAX_STRETCHES {
                let end = stretches.iter().map(|stretch| stretch.1).max()?;
                stretches = vec![(stretches.first()?.0, end)];
            }
            condition = condition.and(stretches.into_iter().map(between).reduce(Expr::or)?);
        }
        Some(condition)
    }

    /// The condition on whose rows.
    #[must_use]
    pub fn subject(&self) -> Expr {
        let selector = &self.selector;
        let fields = [
            ("node", &selector.node),
            ("namespace", &selector.namespace),
            ("owner_kind", &selector.owner_kind),
            ("owner_name", &selector.owner_name),
            ("container_name", &selector.container_name),
            ("pod_uid", &selector.pod_uid),
        ];
        let mut condition = col("cluster").eq(lit(&selector.cluster[..]));
        for (name, wanted) in fields.into_iter().filter(|(_, wanted)| !wanted.is_empty()) {
            condition = condition.and(col(name).eq(lit(&wanted[..])));
        }
        match selector.container_id.len() {
            0 => condition,
            12..64 => condition.and(starts_with(col("container_id"), lit(&selector.container_id[..]))),
            _ => condition.and(col("container_id").eq(lit(&selector.container_id[..]))),
        }
    }
}

/// `start <= time < end`.
pub fn between((start, end): (i64, i64)) -> Expr {
    col("time").gt_eq(instant(start)).and(col("time").lt(instant(end)))
}
