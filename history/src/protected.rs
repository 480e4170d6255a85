//! What retention must spare.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, StringArray},
    compute,
    datatypes::{DataType, TimestampMillisecondType},
    error::ArrowError,
};
use vedette_proto::v1::Selector;

/// Rows that retention must spare.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Protected {
    /// From here, Unix ms, inclusive.
    pub start_unix_ms: i64,
    /// Up to here, Unix ms, exclusive; `i64::MAX` for no end.
    pub end_unix_ms: i64,
    /// Whose rows: every field that is set must match; all empty means everybody's. A container id may be a prefix.
    pub selector: Selector,
}

impl Protected {
    pub(crate) fn touches(&self, min_unix_ms: i64, max_unix_ms: i64) -> bool {
        self.start_unix_ms <= max_unix_ms && min_unix_ms < self.end_unix_ms
    }
}

/// Stands for a set of ranges; never 0, which stands for none.
pub(crate) fn fingerprint(protected: &[&Protected]) -> i64 {
    let mut hasher = DefaultHasher::new();
    protected.hash(&mut hasher);
    // 63 bits, so that no two sets meet at a sign; odd, so that it is never 0.
    (hasher.finish() >> 1) as i64 | 1
}

/// Which rows of a batch some range spares.
pub(crate) fn mask(batch: &RecordBatch, protected: &[&Protected]) -> Result<BooleanArray, ArrowError> {
    let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
    let names = ["cluster", "node", "namespace", "owner_kind", "owner_name", "container_name", "pod_uid", "container_id"];
    let mut texts: Vec<StringArray> = Vec::new();
    for name in names {
        let column = batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("column {name} is missing")))?;
        texts.push(compute::cast(column, &DataType::Utf8)?.as_string::<i32>().clone());
    }
    let spared = |row: usize| {
        protected.iter().any(|range| {
            let selector = &range.selector;
            let wanted = [
                &selector.cluster,
                &selector.node,
                &selector.namespace,
                &selector.owner_kind,
                &selector.owner_name,
                &selector.container_name,
                &selector.pod_uid,
            ];
            range.touches(times.value(row), times.value(row))
                && wanted.iter().zip(&texts).all(|(wanted, texts)| wanted.is_empty() || texts.value(row) == wanted.as_str())
                && texts[7].value(row).starts_with(selector.container_id.as_str())
        })
    };
    Ok((0..batch.num_rows()).map(|row| Some(spared(row))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ranges_have_different_fingerprints() {
        let ranges: Vec<Protected> =
            (0..1_000).map(|start_unix_ms| Protected { start_unix_ms, end_unix_ms: i64::MAX, selector: Selector::default() }).collect();

        let prints: std::collections::HashSet<i64> = ranges.iter().map(|range| fingerprint(&[range])).collect();

        assert_eq!(prints.len(), ranges.len());
        assert!(prints.iter().all(|&print| print > 0));
    }
}
