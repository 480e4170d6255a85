//! The columns of `observations`: the same in SQL, in Parquet, in the full export and in a recording.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use vedette_proto::Column;

/// Name of the table of observations.
pub const OBSERVATIONS_TABLE: &str = "observations";
/// Name of the table of what agents had to drop.
pub const GAPS_TABLE: &str = "gaps";

/// The text columns that describe a row's subject, in schema order.
pub(crate) const SUBJECT_COLUMNS: [&str; 10] =
    ["cluster", "node", "namespace", "owner_kind", "owner_name", "container_name", "pod_name", "pod_uid", "container_id", "cgroup"];
/// Places of the columns, fixed by the tests below.
pub(crate) const TIME: usize = 0;
pub(crate) const NODE: usize = 2;
pub(crate) const CONTAINER_ID: usize = 9;
pub(crate) const ORIGIN: usize = 11;
pub(crate) const SCORE: usize = 12;
pub(crate) const KIND: usize = 13;
/// The first of `Column::ALL`.
pub(crate) const FIRST_VALUE: usize = 14;

/// Files are sorted by these, so that one container's hour is one run of rows.
pub(crate) const SORT_ORDER: [usize; 3] = [CONTAINER_ID, NODE, TIME];

fn schema(text: &DataType) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![Field::new("time", time, false)];
    fields.extend(SUBJECT_COLUMNS.iter().map(|name| Field::new(*name, text.clone(), false)));
    fields.push(Field::new("origin", text.clone(), false));
    fields.push(Field::new("score", DataType::Float32, false));
    fields.push(Field::new("kind", text.clone(), false));
    fields.extend(Column::ALL.iter().map(|column| Field::new(column.name(), DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

/// The schema that SQL sees: text as `Utf8View`, values as nullable `Int64`.
#[must_use]
pub fn observation_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::Utf8View));
    Arc::clone(&SCHEMA)
}

/// The schema rows are built and written in: text as dictionaries, which Parquet stores as plain strings.
pub(crate) fn file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> =
        LazyLock::new(|| schema(&DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))));
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_columns_are_as_stated() {
        let schema = observation_schema();
        let place = |name: &str| schema.index_of(name).unwrap();

        let places = [place("time"), place("node"), place("container_id"), place("origin"), place("score"), place("kind")];

        assert_eq!(places, [TIME, NODE, CONTAINER_ID, ORIGIN, SCORE, KIND]);
        assert_eq!(place(Column::ALL[0].name()), FIRST_VALUE);
        assert_eq!(schema.fields().len(), FIRST_VALUE + Column::COUNT);
    }
}
