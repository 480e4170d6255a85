//! Reading sealed files: chosen by time, then by the statistics and pages of container and node.

use std::sync::Arc;

use datafusion::{
    arrow::{compute::SortOptions, datatypes::SchemaRef},
    catalog::Session,
    common::{DFSchema, Result},
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, utils::conjunction},
    physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions::Column},
    physical_plan::ExecutionPlan,
};

use crate::{
    files::StoredFile,
    schema::{SORT_ORDER, observation_schema},
};

/// Where the history's object store is registered in a session.
pub(crate) const STORE: &str = "vedette-history://files";

/// The filters as one expression over the table, for pruning.
pub(crate) fn predicate(session: &dyn Session, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let schema = DFSchema::try_from(observation_schema().as_ref().clone())?;
    // Filters may name the table; over its bare schema they do not.
    conjunction(filters.iter().cloned())
        .map(|filter| session.create_physical_expr(datafusion::logical_expr::expr_rewriter::unnormalize_col(strip(filter)?), &schema))
        .transpose()
}

fn strip(expr: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let bare = expr.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(datafusion::common::Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    })?;
    Ok(bare.data)
}

/// A plan over the files. With `sorted`, one partition per file in the order of [`SORT_ORDER`]; else as many as the session likes.
pub(crate) fn plan(
    files: &[Arc<StoredFile>],
    projection: &[usize],
    predicate: Option<Arc<dyn PhysicalExpr>>,
    partitions: usize,
    sorted: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema: SchemaRef = observation_schema();
    let mut options = TableParquetOptions::default();
    options.global.pushdown_filters = true;
    options.global.reorder_filters = true;
    let mut source = ParquetSource::new(Arc::clone(&schema)).with_table_parquet_options(options);
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    // The plan keeps the files: one that expires meanwhile stays until the plan is gone.
    let part = |file: &Arc<StoredFile>| PartitionedFile::new(file.name.clone(), file.bytes).with_extension(Arc::clone(file));
    let count = if sorted { files.len() } else { partitions.clamp(1, files.len().max(1)) };
    let mut groups = vec![Vec::new(); count];
    for (place, file) in files.iter().enumerate() {
        groups[place % count].push(part(file));
    }
    let groups = groups.into_iter().map(FileGroup::new).collect();
    let mut builder = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, Arc::new(source)).with_file_groups(groups);
    if sorted {
        builder = builder.with_output_ordering(vec![ordering()?]);
    } else {
        builder = builder.with_projection_indices(Some(projection.to_vec()))?;
    }
    Ok(DataSourceExec::from_data_source(builder.build()))
}

/// The order that files are sorted in.
pub(crate) fn ordering() -> Result<LexOrdering> {
    let schema = observation_schema();
    let options = SortOptions { descending: false, nulls_first: false };
    let key = |&place: &usize| PhysicalSortExpr::new(Arc::new(Column::new(schema.field(place).name(), place)), options);
    LexOrdering::new(SORT_ORDER.iter().map(key))
        .ok_or_else(|| datafusion::common::DataFusionError::Internal("the sort order is empty".into()))
}
