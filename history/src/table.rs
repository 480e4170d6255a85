//! The table `observations`: sealed files and the unsealed log as one, each row once.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::Result,
    datasource::TableType,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
    prelude::SessionContext,
};

use crate::{HistoryError, bounds::Bounds, log_scan, schema::{OBSERVATIONS_TABLE, observation_schema}, state::State};

pub(crate) fn register(session: &SessionContext, state: &Arc<State>) -> Result<(), HistoryError> {
    session.register_table(OBSERVATIONS_TABLE, Arc::new(Observations { state: Arc::clone(state) }))?;
    Ok(())
}

#[derive(Debug)]
struct Observations {
    state: Arc<State>,
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
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let bounds = Bounds::of(filters);
        let projection = projection.cloned().unwrap_or_else(|| (0..observation_schema().fields().len()).collect());
        let schema = Arc::new(observation_schema().project(&projection)?);
        let segments = log_scan::snapshot(&self.state.parts(), &bounds);
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
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
