//! Arrow values as the contract's values.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
        UInt64Array,
    },
    compute::cast,
    datatypes::{DataType, TimeUnit},
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use vedette_proto::v1::{QueryRow, QueryValue, query_value::Value};

/// A column cast to the widest type of its sort.
enum Values {
    Null,
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Number(Float64Array),
    Text(StringArray),
    Boolean(BooleanArray),
    Binary(BinaryArray),
    Instant(TimestampMillisecondArray),
    /// Everything else, printed as Arrow prints it.
    Printed(ArrayRef),
}

fn as_array<T: Clone + 'static>(column: &ArrayRef, to: &DataType) -> Result<T, ArrowError> {
    let cast = cast(column, to)?;
    let array = cast.as_any().downcast_ref::<T>().cloned();
    array.ok_or_else(|| ArrowError::CastError(format!("not a {to}")))
}

impl Values {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        use DataType as T;
        Ok(match column.data_type() {
            T::Null => Self::Null,
            T::Int8 | T::Int16 | T::Int32 | T::Int64 => Self::Integer(as_array(column, &T::Int64)?),
            T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Self::Unsigned(as_array(column, &T::UInt64)?),
            T::Float16 | T::Float32 | T::Float64 => Self::Number(as_array(column, &T::Float64)?),
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Self::Text(as_array(column, &T::Utf8)?),
            T::Boolean => Self::Boolean(as_array(column, &T::Boolean)?),
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => Self::Binary(as_array(column, &T::Binary)?),
            T::Timestamp(_, zone) => Self::Instant(as_array(column, &T::Timestamp(TimeUnit::Millisecond, zone.clone()))?),
            T::Dictionary(_, value) => Self::of(&cast(column, value)?)?,
            _ => Self::Printed(Arc::clone(column)),
        })
    }

    fn get(&self, row: usize) -> Result<Option<Value>, ArrowError> {
        macro_rules! get {
            ($array:expr, $value:expr) => {
                $array.is_valid(row).then(|| $value($array.value(row).into()))
            };
        }
        Ok(match self {
            Self::Null => None,
            Self::Integer(array) => get!(array, Value::Integer),
            Self::Unsigned(array) => get!(array, Value::Unsigned),
            Self::Number(array) => get!(array, Value::Number),
            Self::Text(array) => get!(array, Value::Text),
            Self::Boolean(array) => get!(array, Value::Boolean),
            Self::Binary(array) => get!(array, Value::Binary),
            Self::Instant(array) => get!(array, Value::UnixMs),
            Self::Printed(array) if array.is_null(row) => None,
            Self::Printed(array) => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Some(Value::Text(formatter.value(row).try_to_string()?))
            }
        })
    }
}

/// The rows of a batch.
///
/// # Errors
/// A type that Arrow cannot cast or print.
pub fn rows(batch: &RecordBatch) -> Result<Vec<QueryRow>, ArrowError> {
    let columns = batch.columns().iter().map(Values::of).collect::<Result<Vec<_>, _>>()?;
    let row = |place| {
        let values = columns.iter().map(|column| Ok(QueryValue { value: column.get(place)? })).collect::<Result<_, ArrowError>>()?;
        Ok(QueryRow { values })
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Float32Array, ListArray, StringViewArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    fn only(column: ArrayRef) -> Vec<Option<Value>> {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        rows(&batch).unwrap().into_iter().map(|mut row| row.values.remove(0).value).collect()
    }

    #[test]
    fn each_sort_of_column_keeps_its_type_and_absent_is_unset() {
        let zone: Option<Arc<str>> = Some("UTC".into());
        assert_eq!(only(Arc::new(Int64Array::from(vec![Some(-5), None]))), [Some(Value::Integer(-5)), None]);
        assert_eq!(only(Arc::new(UInt64Array::from(vec![u64::MAX]))), [Some(Value::Unsigned(u64::MAX))]);
        assert_eq!(only(Arc::new(Float32Array::from(vec![0.5]))), [Some(Value::Number(0.5))]);
        assert_eq!(only(Arc::new(StringViewArray::from(vec!["=1+1"]))), [Some(Value::Text("=1+1".into()))]);
        assert_eq!(only(Arc::new(BooleanArray::from(vec![true]))), [Some(Value::Boolean(true))]);
        assert_eq!(only(Arc::new(BinaryArray::from(vec![&b"\xff"[..]]))), [Some(Value::Binary(vec![0xff]))]);
        let instants = TimestampMillisecondArray::from(vec![1_700_000_000_000]).with_timezone_opt(zone);
        assert_eq!(only(Arc::new(instants)), [Some(Value::UnixMs(1_700_000_000_000))]);
        assert_eq!(only(Arc::new(DictionaryArray::<Int32Type>::from_iter(["a"]))), [Some(Value::Text("a".into()))]);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
        assert_eq!(only(Arc::new(list)), [Some(Value::Text("[1, ]".into()))]);
    }
}
