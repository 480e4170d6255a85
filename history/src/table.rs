//! The table `observations`: sealed files and the unsealed log as one, each row once.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::Result,
    datasource::TableType,
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
    prelude::SessionContext,
};

use object_store::ObjectStore;

use crate::{
    HistoryError,
    bounds::Bounds,
    file_scan,
    files::StoredFile,
    footers::Footers,
    gaps::Gaps,
    log_scan,
    schema::{GAPS_TABLE, OBSERVATIONS_TABLE, observation_schema},
    state::State,
};

pub(crate) fn register(
    session: &SessionContext,
    state: &Arc<State>,
    store: &Arc<dyn ObjectStore>,
    footers: &Arc<Footers>,
) -> Result<(), HistoryError> {
    let url = ObjectStoreUrl::parse(file_scan::STORE)?;
    session.register_object_store(url.as_ref(), Arc::clone(store));
    session.register_table(GAPS_TABLE, Arc::new(Gaps { state: Arc::clone(state) }))?;
    session.register_table(OBSERVATIONS_TABLE, Arc::new(Observations { state: Arc::clone(state), footers: Arc::clone(footers) }))?;
    Ok(())
}

#[derive(Debug)]
struct Observations {
    state: Arc<State>,
    footers: Arc<Footers>,
}

#[async_trait]
impl TableProvider for Observations {
    fn schema(&self) -> SchemaRef {
        observation_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let bounds = Bounds::of(filters);
        let projection = projection.cloned().unwrap_or_else(|| (0..observation_schema().fields().len()).collect());
        let schema = Arc::new(observation_schema().project(&projection)?);
        let (files, segments) = {
            let parts = self.state.parts();
            let touched = |file: &&Arc<StoredFile>| bounds.touches(file.min_unix_ms, file.max_unix_ms);
            (parts.files.iter().filter(touched).cloned().collect::<Vec<_>>(), log_scan::snapshot(&parts, &bounds))
        };
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !files.is_empty() {
            let predicate = file_scan::predicate(session, filters, &bounds)?;
            let partitions = session.config().target_partitions();
            plans.push(file_scan::plan(&files, &projection, predicate, partitions, &self.footers)?);
        }
        if !segments.is_empty() {
            plans.push(log_scan::plan(segments, &projection, &schema)?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            1 => Ok(plans.remove(0)),
            _ => UnionExec::try_new(plans),
        }
    }
}
