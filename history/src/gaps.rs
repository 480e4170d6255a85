//! The table `gaps`: what agents had to drop, the newest 10,000 of them.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{MemTable, Session, TableProvider},
    common::Result,
    datasource::TableType,
    logical_expr::Expr,
    physical_plan::ExecutionPlan,
};

use crate::{
    state::{Parts, State},
    wal::segment::Gap,
};

#[derive(Debug)]
pub(crate) struct Gaps {
    pub state: Arc<State>,
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("node", DataType::Utf8, false),
            Field::new("spool", DataType::Utf8, false),
            Field::new("sequence", DataType::Int64, false),
            Field::new("first_time", time.clone(), false),
            Field::new("last_time", time, false),
            Field::new("batches", DataType::Int64, false),
            Field::new("observations", DataType::Int64, false),
            Field::new("reason", DataType::Utf8, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn all(parts: &Parts) -> Vec<Gap> {
    let mut gaps = parts.gaps.clone();
    for segment in &parts.segments {
        gaps.extend(segment.index().gaps.iter().cloned());
    }
    gaps
}

fn batch(gaps: &[Gap]) -> Result<RecordBatch> {
    let texts = |text: &dyn Fn(&Gap) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(gaps.iter().map(text))) };
    let numbers = |number: &dyn Fn(&Gap) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(gaps.iter().map(|gap| i64::try_from(number(gap)).unwrap_or(i64::MAX))))
    };
    let times = |time: &dyn Fn(&Gap) -> i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(gaps.iter().map(time)).with_timezone("UTC"))
    };
    let hexadecimal = |gap: &Gap| gap.spool_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let columns = vec![
        texts(&|gap| gap.node.clone()),
        texts(&hexadecimal),
        numbers(&|gap| gap.sequence),
        times(&|gap| gap.dropped.first_unix_ms),
        times(&|gap| gap.dropped.last_unix_ms),
        numbers(&|gap| gap.dropped.batches),
        numbers(&|gap| gap.dropped.observations),
        texts(&|gap| gap.dropped.reason.clone()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[async_trait]
impl TableProvider for Gaps {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let gaps = all(&self.state.parts());
        let table = MemTable::try_new(schema(), vec![vec![batch(&gaps)?]])?;
        table.scan(session, projection, filters, limit).await
    }
}
