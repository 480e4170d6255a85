//! One tree, grown from the root by the split that makes its sides purest: Gini impurity over histograms.

use rand::{RngExt, rngs::StdRng};

use crate::{
    MAX_CLASSES,
    bins::{Bins, Column, MISSING},
    table::Sampler,
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
    /// How often each row is in this tree's sample.
    copies: Vec<u16>,
    /// The sample's rows; a node's are a stretch of it.
    rows: Vec<u32>,
    columns: Vec<u8>,
    /// Rows by code and class.
    histogram: Box<[[u32; MAX_CLASSES]; CODES]>,
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
            copies: vec![0; classes.len()],
            rows: Vec::with_capacity(classes.len()),
            columns: (0..bins.columns().len() as u8).collect(),
            histogram: Box::new([[0; MAX_CLASSES]; CODES]),
            sorted: Vec::with_capacity(SORTED),
            aside: Vec::new(),
        }
    }

    /// A tree of a sample of its own.
    pub fn grow(&mut self, sampler: &Sampler, rng: &mut StdRng) -> Tree {
        sampler.draw(&mut self.copies, rng);
        self.rows.clear();
        self.rows.extend((0..).zip(&self.copies).filter(|(_, copies)| **copies > 0).map(|(row, _)| row));
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

    /// The rows of each class in a node.
    fn totals(&self, from: usize, to: usize) -> [u32; MAX_CLASSES] {
        let mut totals = [0; MAX_CLASSES];
        for &row in &self.rows[from..to] {
            totals[usize::from(self.classes[row as usize])] += u32::from(self.copies[row as usize]);
        }
        totals
    }

    fn shares(&self, from: usize, to: usize) -> Vec<f32> {
        let totals = self.totals(from, to);
        let sum: u32 = totals.iter().sum();
        totals[..self.class_count].iter().map(|&total| total as f32 / sum as f32).collect()
    }

    /// The purest of a few columns drawn at random; more are looked at until one can be split.
    fn best_split(&mut self, from: usize, to: usize, rng: &mut StdRng) -> Option<Best> {
        if self.totals(from, to).iter().filter(|&&total| total > 0).count() < 2 {
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
        self.histogram[..codes].fill([0; MAX_CLASSES]);
        for &row in &self.rows[from..to] {
            let row = row as usize;
            self.histogram[usize::from(column.codes[row])][usize::from(self.classes[row])] += u32::from(self.copies[row]);
        }
        let first = usize::from(MISSING) + 1;
        let mut sides = Sides::default();
        for rows in &self.histogram[first..codes] {
            (0..self.class_count).for_each(|class| sides.known(class, rows[class]));
        }
        sides.begin();
        let mut best = None;
        for code in first..codes - 1 {
            let rows = &self.histogram[code];
            let before = sides.left_rows;
            (0..self.class_count).filter(|&class| rows[class] > 0).for_each(|class| sides.move_left(class, rows[class]));
            if sides.left_rows > before {
                sides.offer(code as u8, self.config.min_leaf, &mut best);
            }
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
                sides.known(usize::from(self.classes[row as usize]), u32::from(self.copies[row as usize]));
            }
        }
        self.sorted.sort_unstable();
        sides.begin();
        let mut best = None;
        for (place, &(code, row)) in self.sorted.iter().enumerate() {
            let row = row as usize;
            sides.move_left(usize::from(self.classes[row]), u32::from(self.copies[row]));
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

/// What lies on both sides of a split that moves from left to right, known values only. Whole numbers below 2^53: nothing is rounded.
#[derive(Default)]
struct Sides {
    left: [u32; MAX_CLASSES],
    right: [u32; MAX_CLASSES],
    left_rows: u32,
    right_rows: u32,
    /// Sums of the squares of the rows of each class.
    left_squares: u64,
    right_squares: u64,
    /// Purity without a split.
    before: f64,
}

impl Sides {
    /// Rows that are right of every split.
    fn known(&mut self, class: usize, rows: u32) {
        self.right_squares += u64::from(rows) * (2 * u64::from(self.right[class]) + u64::from(rows));
        self.right[class] += rows;
        self.right_rows += rows;
    }

    /// All known rows were told; the first split comes.
    fn begin(&mut self) {
        self.before = self.right_squares as f64 / f64::from(self.right_rows.max(1));
    }

    /// Rows change sides.
    fn move_left(&mut self, class: usize, rows: u32) {
        let many = u64::from(rows);
        self.right_squares -= many * (2 * u64::from(self.right[class]) - many);
        self.right[class] -= rows;
        self.right_rows -= rows;
        self.left_squares += many * (2 * u64::from(self.left[class]) + many);
        self.left[class] += rows;
        self.left_rows += rows;
    }

    /// Takes this split if it is better than the best one, and leaves enough rows on both sides.
    fn offer(&self, code: u8, min_leaf: u32, best: &mut Option<(u8, f64, bool)>) {
        if self.left_rows < min_leaf || self.right_rows < min_leaf {
            return;
        }
        let purity = |squares: u64, rows: u32| squares as f64 / f64::from(rows);
        let gain = purity(self.left_squares, self.left_rows) + purity(self.right_squares, self.right_rows) - self.before;
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

    const CONFIG: Config = Config { trees: 1, max_depth: 12, min_leaf: 1, columns_per_split: 1, first_class_draws: 1, seed: 0 };

    /// The best split of the only column, of all rows once, by histogram and by sorting.
    fn both(rows: &[(f32, u8)], min_leaf: u32) -> [Option<(u8, f64, bool)>; 2] {
        let mut table = Table::new(1, 3).unwrap();
        rows.iter().for_each(|(value, class)| table.push(&[*value], *class, 0).unwrap());
        let (bins, config) = (Bins::new(&table), Config { min_leaf, ..CONFIG });
        let mut grower = Grower::new(&bins, table.classes(), 3, &config);
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

            assert_eq!(one, other, "{rows:?}");
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
