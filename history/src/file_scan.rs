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
    bounds::{Bounds, MAX_SUBJECTS},
    files::StoredFile,
    footers::Footers,
    schema::{SORT_ORDER, observation_schema},
};

/// Where the history's object store is registered in a session.
pub(crate) const STORE: &str = "vedette-history://files";

/// What follows from the filters for single columns, and they do not say themselves. The filters come later, when the optimizer hands
/// down what stands above; but pages are left unread by conditions on one column only, and ranges of labels are conditions on two.
pub(crate) fn predicate(session: &dyn Session, filters: &[Expr], bounds: &Bounds) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let schema = DFSchema::try_from(observation_schema().as_ref().clone())?;
    conjunction(bounds.conditions(filters)).map(|condition| session.create_physical_expr(condition, &schema)).transpose()
}

/// A plan over the files, in at most so many partitions.
pub(crate) fn plan(
    files: &[Arc<StoredFile>],
    projection: &[usize],
    predicate: Option<Arc<dyn PhysicalExpr>>,
    partitions: usize,
    footers: &Arc<Footers>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let footers = Arc::clone(footers);
    let mut source = source().with_parquet_file_reader_factory(footers);
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    let scan = scan(source, files, partitions.clamp(1, files.len().max(1)))?;
    Ok(DataSourceExec::from_data_source(scan.with_projection_indices(Some(projection.to_vec()))?.build()))
}

/// A plan over all of the files with one partition each, in the order of [`SORT_ORDER`]: they are read once, and then they go.
pub(crate) fn sorted(files: &[Arc<StoredFile>]) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = scan(source(), files, files.len())?;
    Ok(DataSourceExec::from_data_source(scan.with_output_ordering(vec![ordering()?]).build()))
}

fn source() -> ParquetSource {
    let schema: SchemaRef = observation_schema();
    let mut options = TableParquetOptions::default();
    options.global.pushdown_filters = true;
    options.global.reorder_filters = true;
    options.global.max_in_list_size = MAX_SUBJECTS;
    ParquetSource::new(schema).with_table_parquet_options(options)
}

fn scan(source: ParquetSource, files: &[Arc<StoredFile>], partitions: usize) -> Result<FileScanConfigBuilder> {
    // The plan keeps the files: one that expires meanwhile stays until the plan is gone.
    let part = |file: &Arc<StoredFile>| PartitionedFile::new(file.name.clone(), file.bytes).with_extension(Arc::clone(file));
    let mut groups = vec![Vec::new(); partitions];
    for (place, file) in files.iter().enumerate() {
        groups[place % partitions].push(part(file));
    }
    let groups = groups.into_iter().map(FileGroup::new).collect();
    Ok(FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, Arc::new(source)).with_file_groups(groups))
}

/// The order that files are sorted in.
pub(crate) fn ordering() -> Result<LexOrdering> {
    let schema = observation_schema();
    let options = SortOptions { descending: false, nulls_first: false };
    let key = |&place: &usize| PhysicalSortExpr::new(Arc::new(Column::new(schema.field(place).name(), place)), options);
    LexOrdering::new(SORT_ORDER.iter().map(key))
        .ok_or_else(|| datafusion::common::DataFusionError::Internal("the sort order is empty".into()))
}
