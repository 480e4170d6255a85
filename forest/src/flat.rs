//! A forest as one array of small nodes: rows go down a tree side by side, so that the processor waits for none of them.

use crate::{
    MAX_CLASSES, MAX_COLUMNS,
    tree::{Node, Tree, TreeError},
};

/// Rows that go down a tree together.
pub const BATCH: usize = 16;
/// Rows that go down one tree after the other, before the next one's turn comes: 64 KiB of them stay in the second cache.
const BLOCK: usize = 256;

/// Eight bytes. A leaf is a split that leads to itself: its threshold is infinite, nothing is above it, and missing stays.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Flat {
    threshold: f32,
    column: u8,
    /// 1: a row without the value goes right.
    missing_right: u8,
    /// The left child in its tree; the right one comes next.
    left: u16,
}

const _: () = assert!(size_of::<Flat>() == 8);

/// Where a tree is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    from: u32,
    to: u32,
    depth: u32,
}

/// The trees.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    columns: usize,
    classes: usize,
    trees: Vec<Stretch>,
    nodes: Vec<Flat>,
    /// Of each node: the first of its shares. A split's are nobody's.
    shares_of: Vec<u32>,
    shares: Vec<f32>,
}

/// A row with a place for every column there may be: no access needs a check. Where 64 suffice, a block of rows is in the nearest cache.
const NARROW: usize = 64;
const WIDE: usize = 256;
const _: () = assert!(MAX_COLUMNS <= WIDE);

impl Flat {
    /// The next node of a row; without `MISSING`, of one whose values are all known.
    #[inline(always)]
    fn next<const MISSING: bool, const W: usize>(&self, row: &[f32; W]) -> usize {
        let value = row[usize::from(self.column) % W];
        let missing = MISSING && value.is_nan();
        let right = u8::from(value > self.threshold) | u8::from(missing) & self.missing_right;
        usize::from(self.left) + usize::from(right)
    }
}

impl Forest {
    /// A forest of trees.
    ///
    /// # Errors
    /// What is wrong with the first tree that is none.
    pub fn new(columns: usize, classes: usize, trees: &[Tree]) -> Result<Self, TreeError> {
        if !(1..=MAX_COLUMNS).contains(&columns) || !(2..=MAX_CLASSES).contains(&classes) {
            return Err(TreeError::Shape(columns, classes));
        }
        let mut forest = Self { columns, classes, trees: Vec::new(), nodes: Vec::new(), shares_of: Vec::new(), shares: Vec::new() };
        for tree in trees {
            let depth = tree.check(columns, classes)?;
            let from = forest.nodes.len();
            for (place, node) in tree.nodes.iter().enumerate() {
                forest.shares_of.push(forest.shares.len() as u32);
                forest.nodes.push(match node {
                    Node::Split { column, threshold, missing_right, left } => {
                        Flat { threshold: *threshold, column: *column, missing_right: u8::from(*missing_right), left: *left as u16 }
                    }
                    Node::Leaf(shares) => {
                        forest.shares.extend_from_slice(shares);
                        Flat { threshold: f32::INFINITY, column: 0, missing_right: 0, left: place as u16 }
                    }
                });
            }
            forest.trees.push(Stretch { from: from as u32, to: forest.nodes.len() as u32, depth });
        }
        Ok(forest)
    }

    /// The trees again, as [`Forest::new`] takes them.
    #[must_use]
    pub fn trees(&self) -> Vec<Tree> {
        let node = |tree: &Stretch, place: u32| {
            let flat = self.nodes[place as usize];
            if flat.threshold.is_infinite() {
                let first = self.shares_of[place as usize] as usize;
                return Node::Leaf(self.shares[first..first + self.classes].to_vec());
            }
            debug_assert!(u32::from(flat.left) + tree.from > place);
            Node::Split {
                column: flat.column,
                threshold: flat.threshold,
                missing_right: flat.missing_right == 1,
                left: u32::from(flat.left),
            }
        };
        self.trees.iter().map(|tree| Tree { nodes: (tree.from..tree.to).map(|place| node(tree, place)).collect() }).collect()
    }

    /// How many values a row has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many classes there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The share of each class for every row: what trees say on average. `rows` are one after the other; so are the shares.
    ///
    /// # Panics
    /// Where `rows` is no whole number of rows, or `shares` has not as many.
    pub fn score(&self, rows: &[f32], shares: &mut [f32]) {
        let count = rows.len() / self.columns;
        assert_eq!((count * self.columns, count * self.classes), (rows.len(), shares.len()), "rows and shares");
        if self.columns <= NARROW { self.score_wide::<NARROW>(rows, shares) } else { self.score_wide::<WIDE>(rows, shares) }
    }

    fn score_wide<const W: usize>(&self, rows: &[f32], shares: &mut [f32]) {
        let count = rows.len() / self.columns;
        let mut block = vec![[0.0; W]; count.min(BLOCK)];
        let mut sums = vec![[0.0; MAX_CLASSES]; count.min(BLOCK)];
        for (rows, shares) in rows.chunks(BLOCK * self.columns).zip(shares.chunks_mut(BLOCK * self.classes)) {
            let count = rows.len() / self.columns;
            let (block, sums) = (&mut block[..count], &mut sums[..count]);
            for (row, values) in block.iter_mut().zip(rows.chunks_exact(self.columns)) {
                row[..self.columns].copy_from_slice(values);
            }
            sums.fill([0.0; MAX_CLASSES]);
            if rows.iter().any(|value| value.is_nan()) {
                self.add::<true, W>(block, sums)
            } else {
                self.add::<false, W>(block, sums)
            }
            let each = 1.0 / self.trees.len().max(1) as f32;
            for (sum, shares) in sums.iter().zip(shares.chunks_exact_mut(self.classes)) {
                shares.iter_mut().zip(sum).for_each(|(share, sum)| *share = sum * each);
            }
        }
    }

    /// Adds what every tree says of every row: a tree stays in the cache for all of them.
    fn add<const MISSING: bool, const W: usize>(&self, rows: &[[f32; W]], sums: &mut [[f32; MAX_CLASSES]]) {
        for tree in &self.trees {
            let (whole, rest) = rows.as_chunks::<BATCH>();
            let (sums_of_whole, sums_of_rest) = sums.split_at_mut(whole.len() * BATCH);
            for (rows, sums) in whole.iter().zip(sums_of_whole.chunks_exact_mut(BATCH)) {
                self.descend::<MISSING, BATCH, W>(tree, rows, sums);
            }
            for (row, sum) in rest.iter().zip(sums_of_rest) {
                self.descend::<MISSING, 1, W>(tree, std::array::from_ref(row), std::slice::from_mut(sum));
            }
        }
    }

    #[inline]
    fn descend<const MISSING: bool, const N: usize, const W: usize>(
        &self,
        tree: &Stretch,
        rows: &[[f32; W]; N],
        sums: &mut [[f32; MAX_CLASSES]],
    ) {
        let nodes = &self.nodes[tree.from as usize..tree.to as usize];
        let mut places = [0usize; N];
        for _ in 0..tree.depth {
            for (place, row) in places.iter_mut().zip(rows) {
                *place = nodes[*place].next::<MISSING, W>(row);
            }
        }
        for (place, sum) in places.iter().zip(sums) {
            let first = self.shares_of[tree.from as usize + place] as usize;
            for (sum, share) in sum.iter_mut().zip(&self.shares[first..first + self.classes]) {
                *sum += share;
            }
        }
    }

    /// The class with the largest share of each row; the first of equals.
    ///
    /// # Panics
    /// Where `rows` is no whole number of rows.
    #[must_use]
    pub fn predict(&self, rows: &[f32]) -> Vec<u8> {
        let mut shares = vec![0.0; rows.len() / self.columns * self.classes];
        self.score(rows, &mut shares);
        let largest = |shares: &[f32]| {
            let better = |best: (usize, f32), (class, &share): (usize, &f32)| if share > best.1 { (class, share) } else { best };
            shares.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u8
        };
        shares.chunks_exact(self.classes).map(largest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(shares: [f32; 2]) -> Node {
        Node::Leaf(shares.to_vec())
    }

    fn stump(missing_right: bool) -> Tree {
        let split = Node::Split { column: 1, threshold: 2.0, missing_right, left: 1 };
        Tree { nodes: vec![split, leaf([1.0, 0.0]), leaf([0.0, 1.0])] }
    }

    fn score(forest: &Forest, rows: &[[f32; 2]]) -> Vec<f32> {
        let mut shares = vec![0.0; rows.len() * 2];
        forest.score(&rows.concat(), &mut shares);
        shares.chunks(2).map(|shares| shares[1]).collect()
    }

    #[test]
    fn a_row_goes_left_up_to_the_threshold_and_where_it_is_missing_as_the_split_says() {
        let rows = [[9.0, 2.0], [9.0, 2.1], [9.0, f32::NAN], [f32::NAN, 0.0]];

        assert_eq!(score(&Forest::new(2, 2, &[stump(false)]).unwrap(), &rows), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(score(&Forest::new(2, 2, &[stump(true)]).unwrap(), &rows), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(score(&Forest::new(2, 2, &[stump(true), stump(false)]).unwrap(), &rows), [0.0, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn a_row_alone_and_one_in_a_batch_come_to_the_same() {
        let deep = Tree {
            nodes: vec![
                Node::Split { column: 0, threshold: 20.0, missing_right: false, left: 1 },
                leaf([0.25, 0.75]),
                Node::Split { column: 1, threshold: 0.5, missing_right: true, left: 3 },
                leaf([1.0, 0.0]),
                leaf([0.5, 0.5]),
            ],
        };
        let forest = Forest::new(2, 2, &[deep, stump(true)]).unwrap();
        let rows: Vec<[f32; 2]> = (0..37).map(|n| [n as f32, if n % 5 == 0 { f32::NAN } else { (n % 4) as f32 }]).collect();

        let together = score(&forest, &rows);

        let alone: Vec<f32> = rows.iter().flat_map(|row| score(&forest, &[*row])).collect();
        assert_eq!(together, alone);
        assert_eq!((together[1], together[21]), ((0.75 + 0.0) / 2.0, (0.5 + 0.0) / 2.0));
    }

    #[test]
    fn a_forest_gives_its_trees_back() {
        let trees = [stump(true), Tree { nodes: vec![leaf([0.5, 0.5])] }];

        assert_eq!(Forest::new(2, 2, &trees).unwrap().trees(), trees);
    }

    #[test]
    fn a_tree_that_is_none_makes_no_forest() {
        assert!(matches!(Forest::new(1, 2, &[stump(true)]), Err(TreeError::Column { column: 1, .. })));
        assert_eq!(Forest::new(2, 17, &[]), Err(TreeError::Shape(2, 17)));
    }
}
