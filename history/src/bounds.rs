//! What a query's filters say about time, node and container: enough to leave files and blocks unread.

use std::collections::HashSet;

use datafusion::{
    common::ScalarValue,
    logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, expr::InList},
    prelude::{col, lit},
};

use crate::Subject;

/// Most containers or nodes by which pages are chosen: each is compared with the ends of every page.
pub(crate) const MAX_SUBJECTS: usize = 128;

/// Necessary conditions of a row. What filters say beyond it is left to DataFusion.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// Inclusive, Unix ms.
    pub from: i64,
    /// Inclusive, Unix ms.
    pub to: i64,
    /// Allowed container ids; `None` means any.
    pub containers: Option<HashSet<String>>,
    /// Allowed nodes; `None` means any.
    pub nodes: Option<HashSet<String>>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { from: i64::MIN, to: i64::MAX, containers: None, nodes: None }
    }
}

impl Bounds {
    pub(crate) fn of(filters: &[Expr]) -> Self {
        let mut bounds = Self::default();
        filters.iter().for_each(|filter| bounds.take_in(filter));
        bounds
    }

    /// What follows from `filters` for single columns, where they do not say it themselves: the hull of what an `OR` says.
    pub(crate) fn conditions(&self, filters: &[Expr]) -> Vec<Expr> {
        let either = |filter: &Expr| matches!(filter, Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }));
        let mut conditions = Vec::new();
        if !filters.iter().any(either) {
            return conditions;
        }
        for (name, wanted) in [("container_id", &self.containers), ("node", &self.nodes)] {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| (1..=MAX_SUBJECTS).contains(&wanted.len())) {
                let mut wanted: Vec<&String> = wanted.iter().collect();
                wanted.sort_unstable();
                let one = |text: &String| lit(ScalarValue::Utf8View(Some(text.clone())));
                conditions.push(col(name).in_list(wanted.into_iter().map(one).collect(), false));
            }
        }
        let instant = |unix_ms| lit(ScalarValue::TimestampMillisecond(Some(unix_ms), Some("UTC".into())));
        if self.from > i64::MIN {
            conditions.push(col("time").gt_eq(instant(self.from)));
        }
        if self.to < i64::MAX {
            conditions.push(col("time").lt_eq(instant(self.to)));
        }
        conditions
    }

    pub(crate) fn touches(&self, min_unix_ms: i64, max_unix_ms: i64) -> bool {
        min_unix_ms <= self.to && max_unix_ms >= self.from
    }

    /// Whether only some subjects are wanted.
    pub(crate) fn chooses_subjects(&self) -> bool {
        self.containers.is_some() || self.nodes.is_some()
    }

    pub(crate) fn wants(&self, subject: &Subject) -> bool {
        self.containers.as_ref().is_none_or(|wanted| wanted.contains(&subject.container_id))
            && self.nodes.as_ref().is_none_or(|wanted| wanted.contains(&subject.node))
    }

    fn take_in(&mut self, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.take_in(left);
                self.take_in(right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => self.intersect(Self::either(left, right)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if let (Some(column), Expr::Literal(value, _)) = (column(left), right.as_ref()) {
                    self.compare(column, *op, value);
                } else if let (Expr::Literal(value, _), Some(column), Some(op)) = (left.as_ref(), column(right), op.swap()) {
                    self.compare(column, op, value);
                }
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                if let (Some(column), Expr::Literal(low, _), Expr::Literal(high, _)) = (column(expr), low.as_ref(), high.as_ref()) {
                    self.compare(column, Operator::GtEq, low);
                    self.compare(column, Operator::LtEq, high);
                }
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                let texts: Option<HashSet<String>> = list
                    .iter()
                    .map(|item| match item {
                        Expr::Literal(value, _) => text(value),
                        _ => None,
                    })
                    .collect();
                if let (Some(column), Some(texts)) = (column(expr), texts) {
                    self.allow(column, texts);
                }
            }
            _ => {}
        }
    }

    /// What holds of a row for which one of two filters does. DataFusion also writes a short `IN` this way.
    fn either(left: &Expr, right: &Expr) -> Self {
        let [left, right] = [left, right].map(|filter| {
            let mut bounds = Self::default();
            bounds.take_in(filter);
            bounds
        });
        let both = |left: Option<HashSet<String>>, right: Option<HashSet<String>>| Some(&left? | &right?);
        Self {
            from: left.from.min(right.from),
            to: left.to.max(right.to),
            containers: both(left.containers, right.containers),
            nodes: both(left.nodes, right.nodes),
        }
    }

    fn intersect(&mut self, other: Self) {
        self.from = self.from.max(other.from);
        self.to = self.to.min(other.to);
        if let Some(containers) = other.containers {
            self.allow("container_id", containers);
        }
        if let Some(nodes) = other.nodes {
            self.allow("node", nodes);
        }
    }

    fn compare(&mut self, column: &str, op: Operator, value: &ScalarValue) {
        if column == "time" {
            let Some((floor, exact)) = milliseconds(value) else { return };
            // Between two milliseconds lies no row: a bound may be widened to the next one, never narrowed.
            match op {
                Operator::Eq => {
                    self.from = self.from.max(floor);
                    self.to = self.to.min(floor);
                }
                Operator::Gt => self.from = self.from.max(floor.saturating_add(1)),
                Operator::GtEq => self.from = self.from.max(if exact { floor } else { floor.saturating_add(1) }),
                Operator::Lt => self.to = self.to.min(if exact { floor.saturating_sub(1) } else { floor }),
                Operator::LtEq => self.to = self.to.min(floor),
                _ => {}
            }
        } else if op == Operator::Eq
            && let Some(text) = text(value)
        {
            self.allow(column, HashSet::from([text]));
        }
    }

    fn allow(&mut self, column: &str, texts: HashSet<String>) {
        let allowed = match column {
            "container_id" => &mut self.containers,
            "node" => &mut self.nodes,
            _ => return,
        };
        *allowed = Some(match allowed.take() {
            Some(before) => before.intersection(&texts).cloned().collect(),
            None => texts,
        });
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(column.name()),
        // A cast of a text or a time to another width keeps its order and its equality.
        Expr::Cast(Cast { expr, .. }) => match expr.as_ref() {
            Expr::Column(column) if matches!(column.name(), "container_id" | "node") => Some(column.name()),
            _ => None,
        },
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}

/// Milliseconds rounded down, and whether nothing was cut off.
fn milliseconds(value: &ScalarValue) -> Option<(i64, bool)> {
    match *value {
        ScalarValue::TimestampSecond(Some(value), _) => Some((value.checked_mul(1_000)?, true)),
        ScalarValue::TimestampMillisecond(Some(value), _) => Some((value, true)),
        ScalarValue::TimestampMicrosecond(Some(value), _) => Some((value.div_euclid(1_000), value % 1_000 == 0)),
        ScalarValue::TimestampNanosecond(Some(value), _) => Some((value.div_euclid(1_000_000), value % 1_000_000 == 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(unix_ms: i64) -> Expr {
        Expr::Literal(ScalarValue::TimestampMillisecond(Some(unix_ms), Some("UTC".into())), None)
    }

    fn set(texts: &[&str]) -> Option<HashSet<String>> {
        Some(texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn ranges_of_labels_are_bound_by_their_hull() {
        let range = |container: &str, from, to| {
            col("container_id").eq(lit(container)).and(col("time").gt_eq(millis(from))).and(col("time").lt(millis(to)))
        };

        let bounds = Bounds::of(&[range("a", 10, 20).or(range("b", 50, 60)), col("node").eq(lit("n")), col("score").gt(lit(0.5))]);

        assert_eq!(bounds, Bounds { from: 10, to: 59, containers: set(&["a", "b"]), nodes: set(&["n"]) });
    }

    #[test]
    fn what_one_side_leaves_open_stays_open() {
        let bounds = Bounds::of(&[col("container_id").eq(lit("a")).or(col("kind").eq(lit("scan"))), lit("a").not_eq(col("container_id"))]);

        assert_eq!(bounds, Bounds::default());
    }

    #[test]
    fn a_bound_between_milliseconds_keeps_every_row_that_fits() {
        let nanos = |value| Expr::Literal(ScalarValue::TimestampNanosecond(Some(value), None), None);

        let bounds = Bounds::of(&[col("time").gt(nanos(1_500_000)), col("time").lt(nanos(7_500_000))]);

        assert_eq!((bounds.from, bounds.to), (2, 7));
    }
}
