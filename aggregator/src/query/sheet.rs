//! A table written row by row: one Arrow column per name, whatever its sort.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder, UInt64Builder,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::error::Result;

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sort {
    Text,
    Count,
    Integer,
    Number,
    Truth,
    Instant,
}

use Sort::{Count, Instant, Integer, Number, Text, Truth};

/// A table's columns, in their order: name and what it holds.
pub(super) type Columns = &'static [(&'static str, Sort)];

/// The columns of a table while its rows are added, each value to the next column of the row.
pub(super) struct Sheet {
    columns: Columns,
    builders: Vec<Builder>,
    next: usize,
}

enum Builder {
    Text(StringBuilder),
    Count(UInt64Builder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Truth(BooleanBuilder),
    Instant(TimestampMillisecondBuilder),
}

fn instant_type() -> DataType {
    static TYPE: LazyLock<DataType> = LazyLock::new(|| DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    TYPE.clone()
}

macro_rules! add {
    ($name:ident, $type:ty, $builder:ident) => {
        pub(super) fn $name(&mut self, value: $type) -> &mut Self {
            if let Some(Builder::$builder(builder)) = self.builders.get_mut(self.next) {
                builder.append_value(value);
                self.next += 1;
            }
            self
        }
    };
}

macro_rules! add_option {
    ($name:ident, $type:ty, $builder:ident) => {
        pub(super) fn $name(&mut self, value: Option<$type>) -> &mut Self {
            if let Some(Builder::$builder(builder)) = self.builders.get_mut(self.next) {
                builder.append_option(value);
                self.next += 1;
            }
            self
        }
    };
}

impl Sheet {
    pub(super) fn new(columns: Columns) -> Self {
        let builder = |(_, sort): &(&str, Sort)| match sort {
            Text => Builder::Text(StringBuilder::new()),
            Count => Builder::Count(UInt64Builder::new()),
            Integer => Builder::Integer(Int64Builder::new()),
            Number => Builder::Number(Float64Builder::new()),
            Truth => Builder::Truth(BooleanBuilder::new()),
            Instant => Builder::Instant(TimestampMillisecondBuilder::new().with_data_type(instant_type())),
        };
        Self { columns, builders: columns.iter().map(builder).collect(), next: 0 }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        let field = |(name, sort): &(&str, Sort)| {
            let data_type = match sort {
                Text => DataType::Utf8,
                Count => DataType::UInt64,
                Integer => DataType::Int64,
                Number => DataType::Float64,
                Truth => DataType::Boolean,
                Instant => instant_type(),
            };
            Field::new(*name, data_type, true)
        };
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub(super) fn row(&mut self) -> &mut Self {
        self.next = 0;
        self
    }

    add!(text, &str, Text);
    add!(count, u64, Count);
    add!(integer, i64, Integer);
    add!(number, f64, Number);
    add!(truth, bool, Truth);

    add_option!(some_count, u64, Count);
    add_option!(some_integer, i64, Integer);
    add_option!(some_number, f64, Number);

    /// 0 is how the contract says "not yet": null here.
    pub(super) fn instant(&mut self, unix_ms: i64) -> &mut Self {
        if let Some(Builder::Instant(builder)) = self.builders.get_mut(self.next) {
            builder.append_option((unix_ms != 0).then_some(unix_ms));
            self.next += 1;
        }
        self
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let schema = self.schema();
        let finish = |builder: &mut Builder| -> ArrayRef {
            match builder {
                Builder::Text(builder) => Arc::new(builder.finish()),
                Builder::Count(builder) => Arc::new(builder.finish()),
                Builder::Integer(builder) => Arc::new(builder.finish()),
                Builder::Number(builder) => Arc::new(builder.finish()),
                Builder::Truth(builder) => Arc::new(builder.finish()),
                Builder::Instant(builder) => Arc::new(builder.finish()),
            }
        };
        Ok(RecordBatch::try_new(schema, self.builders.iter_mut().map(finish).collect())?)
    }
}
