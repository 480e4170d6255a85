//! One tree, grown from the root by the split that makes its sides purest: Gini impurity over histograms of weights.

use rand::{RngExt, rngs::StdRng};

use crate::{
    MAX_CLASSES,
    bins::{Bins, Column, MISSING},
    train::Config,
    tree::{Node, Tree},
};

/// Up to so many rows, sorting them is faster than clearing and reading a histogram.
const SORTED: usize = 96;
const CODES: usize = 256;

/// Grows trees, one after the other; what it allocates is used again.
pub struct Grower<'a> {
    bins: &'a Bins,
    classes: &'a [u8],
    class_count: usize,
    config: &'a Config,
    /// Of each row in this tree's sample: 0 where it is not in it.
    weights: Vec<f32>,
    copies: Vec<u16>,
    /// The sample's rows; a node's are a stretch of it.
    rows: Vec<u32>,
    columns: Vec<u8>,
    /// Weight by code and class, and rows by code.
    histogram: Box<[[f32; MAX_CLASSES]; CODES]>,
    counts: Box<[u32; CODES]>,
    sorted: Vec<(u8, u32)>,
    aside: Vec<u32>,
}

/// A node still to be made.
struct Pending {
    place: usize,
    from: usize,
    to: usize,
    depth: u32,
}

/// The best split so far.
#[derive(Clone, Copy)]
struct Best {
    column: u8,
    code: u8,
    gain: f64,
    missing_right: bool,
}

impl<'a> Grower<'a> {
    pub fn new(bins: &'a Bins, classes: &'a [u8], class_count: usize, config: &'a Config) -> Self {
        Self {
            bins,
            classes,
            class_count,
            config,
            weights: vec![0.0; classes.len()],
            copies: vec![0; classes.len()],
            rows: Vec::with_capacity(classes.len()),
            columns: (0..bins.columns().len() as u8).collect(),
            histogram: Box::new([[0.0; MAX_CLASSES]; CODES]),
            counts: Box::new([0; CODES]),
            sorted: Vec::with_capacity(SORTED),
            aside: Vec::new(),
        }
    }

    /// A tree of a bootstrap sample; `row_weights` are of all rows.
    pub fn grow(&mut self, row_weights: &[f32], rng: &mut StdRng) -> Tree {
        self.sample(row_weights, rng);
        // In the order that the tree before left them, they would tell which tree that was.
        self.columns.sort_unstable();
        let mut nodes = vec![Node::Leaf(Vec::new())];
        let mut pending = vec![Pending { place: 0, from: 0, to: self.rows.len(), depth: 0 }];
        while let Some(Pending { place, from, to, depth }) = pending.pop() {
            let split = if depth < self.config.max_depth { self.best_split(from, to, rng) } else { None };
            let Some(best) = split else {
                nodes[place] = Node::Leaf(self.shares(from, to));
                continue;
            };
            let middle = self.part(from, to, &best);
            let left = nodes.len();
            nodes.push(Node::Leaf(Vec::new()));
            nodes.push(Node::Leaf(Vec::new()));
            nodes[place] = Node::Split {
                column: best.column,
                threshold: self.column(best.column).threshold(best.code),
                missing_right: best.missing_right,
                left: left as u32,
            };
            pending.push(Pending { place: left + 1, from: middle, to, depth: depth + 1 });
            pending.push(Pending { place: left, from, to: middle, depth: depth + 1 });
        }
        Tree { nodes }
    }

    fn column(&self, number: u8) -> &'a Column {
        &self.bins.columns()[usize::from(number)]
    }

    /// As many rows as there are, drawn with replacement.
    fn sample(&mut self, row_weights: &[f32], rng: &mut StdRng) {
        self.copies.fill(0);
        for _ in 0..row_weights.len() {
            let copies = &mut self.copies[rng.random_range(0..row_weights.len())];
            *copies = copies.saturating_add(1);
        }
        self.rows.clear();
        for (row, (&copies, &weight)) in self.copies.iter().zip(row_weights).enumerate() {
            self.weights[row] = f32::from(copies) * weight;
            if copies > 0 {
                self.rows.push(row as u32);
            }
        }
    }

    /// The weight of each class in a node.
    fn totals(&self, from: usize, to: usize) -> [f64; MAX_CLASSES] {
        let mut totals = [0.0; MAX_CLASSES];
        for &row in &self.rows[from..to] {
            totals[usize::from(self.classes[row as usize])] += f64::from(self.weights[row as usize]);
        }
        totals
    }

    fn shares(&self, from: usize, to: usize) -> Vec<f32> {
        let totals = self.totals(from, to);
        let sum: f64 = totals.iter().sum();
        totals[..self.class_count].iter().map(|total| (total / sum) as f32).collect()
    }

    /// The purest of a few columns drawn at random; more are looked at until one can be split.
    fn best_split(&mut self, from: usize, to: usize, rng: &mut StdRng) -> Option<Best> {
        if self.totals(from, to).iter().filter(|&&total| total > 0.0).count() < 2 {
            return None;
        }
        let mut best: Option<Best> = None;
        for looked_at in 0..self.columns.len() {
            if looked_at >= self.config.columns_per_split && best.is_some() {
                break;
            }
            let drawn = rng.random_range(looked_at..self.columns.len());
            self.columns.swap(looked_at, drawn);
            let number = self.columns[looked_at];
            let column = self.column(number);
            if column.is_constant() {
                continue;
            }
            let least = best.map_or(0.0, |best| best.gain);
            let found = if to - from <= SORTED { self.in_order(column, from, to) } else { self.in_histogram(column, from, to) };
            if let Some((code, gain, missing_right)) = found.filter(|found| found.1 > least) {
                best = Some(Best { column: number, code, gain, missing_right });
            }
        }
        best
    }

    /// The best split of a column by a histogram: last code on the left, gain, and whether most rows are right of it.
    fn in_histogram(&mut self, column: &Column, from: usize, to: usize) -> Option<(u8, f64, bool)> {
        let codes = column.len();
        self.histogram[..codes].fill([0.0; MAX_CLASSES]);
        self.counts[..codes].fill(0);
        for &row in &self.rows[from..to] {
            let row = row as usize;
            let code = usize::from(column.codes[row]);
            self.histogram[code][usize::from(self.classes[row])] += self.weights[row];
            self.counts[code] += u32::from(self.copies[row]);
        }
        let first = usize::from(MISSING) + 1;
        let mut sides = Sides::default();
        for code in first..codes {
            if self.counts[code] > 0 {
                for (class, &weight) in self.histogram[code][..self.class_count].iter().enumerate() {
                    sides.known(class, f64::from(weight));
                }
                sides.right_rows += self.counts[code];
            }
        }
        let mut best = None;
        for code in first..codes - 1 {
            if self.counts[code] == 0 {
                continue;
            }
            for (class, &weight) in self.histogram[code][..self.class_count].iter().enumerate() {
                if weight > 0.0 {
                    sides.move_left(class, f64::from(weight));
                }
            }
            sides.move_rows_left(self.counts[code]);
            sides.offer(code as u8, self.config.min_leaf, &mut best);
        }
        best
    }

    /// The same for a few rows, by sorting them.
    fn in_order(&mut self, column: &Column, from: usize, to: usize) -> Option<(u8, f64, bool)> {
        self.sorted.clear();
        let mut sides = Sides::default();
        for &row in &self.rows[from..to] {
            let code = column.codes[row as usize];
            if code != MISSING {
                self.sorted.push((code, row));
                sides.known(usize::from(self.classes[row as usize]), f64::from(self.weights[row as usize]));
                sides.right_rows += u32::from(self.copies[row as usize]);
            }
        }
        self.sorted.sort_unstable();
        let mut best = None;
        for (place, &(code, row)) in self.sorted.iter().enumerate() {
            let row = row as usize;
            sides.move_left(usize::from(self.classes[row]), f64::from(self.weights[row]));
            sides.move_rows_left(u32::from(self.copies[row]));
            if self.sorted.get(place + 1).is_some_and(|next| next.0 > code) {
                sides.offer(code, self.config.min_leaf, &mut best);
            }
        }
        best
    }

    /// Orders a node's rows by the side they go to; gives where the right side begins.
    fn part(&mut self, from: usize, to: usize, best: &Best) -> usize {
        let column = self.column(best.column);
        self.aside.clear();
        let mut kept = from;
        for place in from..to {
            let row = self.rows[place];
            let code = column.codes[row as usize];
            let right = if code == MISSING { best.missing_right } else { code > best.code };
            if right {
                self.aside.push(row);
            } else {
                self.rows[kept] = row;
                kept += 1;
            }
        }
        self.rows[kept..to].copy_from_slice(&self.aside);
        kept
    }
}

/// What lies on both sides of a split that moves from left to right, known values only.
#[derive(Default)]
struct Sides {
    left: [f64; MAX_CLASSES],
    right: [f64; MAX_CLASSES],
    /// Sums of both, and of their squares.
    left_sum: f64,
    right_sum: f64,
    left_squares: f64,
    right_squares: f64,
    left_rows: u32,
    right_rows: u32,
    /// Purity without a split.
    before: f64,
}

impl Sides {
    /// A weight that is right of every split.
    fn known(&mut self, class: usize, weight: f64) {
        self.right_squares += weight * (2.0 * self.right[class] + weight);
        self.right[class] += weight;
        self.right_sum += weight;
        self.before = self.right_squares / self.right_sum.max(f64::MIN_POSITIVE);
    }

    /// A weight changes sides.
    fn move_left(&mut self, class: usize, weight: f64) {
        self.right_squares -= weight * (2.0 * self.right[class] - weight);
        self.right[class] -= weight;
        self.right_sum -= weight;
        self.left_squares += weight * (2.0 * self.left[class] + weight);
        self.left[class] += weight;
        self.left_sum += weight;
    }

    fn move_rows_left(&mut self, rows: u32) {
        self.left_rows += rows;
        self.right_rows -= rows;
    }

    /// Takes this split if it is better than the best one, and leaves enough rows on both sides.
    fn offer(&self, code: u8, min_leaf: u32, best: &mut Option<(u8, f64, bool)>) {
        if self.left_rows < min_leaf || self.right_rows < min_leaf || self.left_sum <= 0.0 || self.right_sum <= 0.0 {
            return;
        }
        let gain = self.left_squares / self.left_sum + self.right_squares / self.right_sum - self.before;
        // Less is rounding.
        if gain > 1e-9 * self.before && best.is_none_or(|(_, most, _)| gain > most) {
            *best = Some((code, gain, self.right_rows > self.left_rows));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::Table;

    const CONFIG: Config = Config { trees: 1, max_depth: 12, min_leaf: 1, columns_per_split: 1, seed: 0 };

    /// The best split of the only column, of all rows once, by histogram and by sorting.
    fn both(rows: &[(f32, u8)], min_leaf: u32) -> [Option<(u8, f64, bool)>; 2] {
        let mut table = Table::new(1, 3).unwrap();
        rows.iter().for_each(|(value, class)| table.push(&[*value], *class, 0).unwrap());
        let (bins, config) = (Bins::new(&table), Config { min_leaf, ..CONFIG });
        let mut grower = Grower::new(&bins, table.classes(), 3, &config);
        grower.weights.fill(1.0);
        grower.copies.fill(1);
        grower.rows = (0..rows.len() as u32).collect();
        let column = &bins.columns()[0];
        [grower.in_histogram(column, 0, rows.len()), grower.in_order(column, 0, rows.len())]
    }

    #[test]
    fn the_purest_split_is_found() {
        let [one, other] = both(&[(1.0, 0), (2.0, 0), (3.0, 1), (4.0, 1), (5.0, 1)], 1);

        let (code, gain, missing_right) = one.unwrap();
        assert_eq!((code, missing_right), (2, true));
        // Both sides pure: 2 + 3 against (4 + 9) / 5.
        assert!((gain - 2.4).abs() < 1e-9, "{gain}");
        assert_eq!(one, other);
    }

    #[test]
    fn both_ways_find_the_same() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..200 {
            let rows: Vec<(f32, u8)> = (0..60)
                .map(|_| {
                    let value = if rng.random_bool(0.2) { f32::NAN } else { rng.random_range(0..20) as f32 };
                    (value, rng.random_range(0..3))
                })
                .collect();

            let [one, other] = both(&rows, 5);

            let round = |found: Option<(u8, f64, bool)>| found.map(|(code, gain, right)| (code, (gain * 1e9).round(), right));
            assert_eq!(round(one), round(other), "{rows:?}");
        }
    }

    #[test]
    fn missing_values_part_nothing() {
        let rows: Vec<(f32, u8)> = (0..100).map(|n| if n % 2 == 0 { (f32::NAN, 0) } else { (1.0 + (n % 4) as f32, 1) }).collect();

        let [one, other] = both(&rows, 1);

        assert_eq!((one, other), (None, None), "the known values are all of one class");
    }

    #[test]
    fn a_leaf_has_its_least_rows() {
        let rows = [(1.0, 0), (2.0, 1), (3.0, 1), (4.0, 1)];

        assert_eq!(both(&rows, 2)[0].unwrap().0, 2, "not after the first");
        assert_eq!(both(&rows, 3), [None, None]);
    }
}
