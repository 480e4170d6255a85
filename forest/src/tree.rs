//! One tree as a list of nodes, and what must hold of it wherever it comes from.

use crate::{MAX_CLASSES, MAX_COLUMNS};

/// Most nodes of a tree: a child is named by 16 bits.
const MAX_NODES: usize = 1 << 16;

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Rows at or below the threshold go left, those above it right.
    Split {
        /// Which value of a row decides.
        column: u8,
        /// The threshold.
        threshold: f32,
        /// Where a row goes whose value is missing.
        missing_right: bool,
        /// Place of the left child in the list; the right one comes next to it.
        left: u32,
    },
    /// A share for each class; together 1.
    Leaf(Vec<f32>),
}

/// The nodes, the root first, children after their parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// In order.
    pub nodes: Vec<Node>,
}

/// What is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No nodes, or too many.
    #[error("a tree has 1 to {MAX_NODES} nodes, not {0}")]
    Nodes(usize),
    /// A split by a column that there is not.
    #[error("node {node} asks for column {column}, there are {columns}")]
    Column {
        /// The node.
        node: usize,
        /// What it asks for.
        column: u8,
        /// How many there are.
        columns: usize,
    },
    /// NaN or infinite.
    #[error("node {0}: its threshold is not finite")]
    Threshold(usize),
    /// A child that is not there, comes before its parent, or has two parents.
    #[error("node {0}: its children are not two later nodes of their own")]
    Children(usize),
    /// Shares that are none.
    #[error("node {0}: its shares are not {1} numbers of 0 to 1 that make 1")]
    Shares(usize, usize),
    /// A node that no split leads to.
    #[error("node {0} belongs to no split")]
    Orphan(usize),
    /// Too many or too few columns or classes.
    #[error("{0} columns and {1} classes; 1 to {MAX_COLUMNS} and 2 to {MAX_CLASSES} are possible")]
    Shape(usize, usize),
}

impl Tree {
    /// The longest way from the root to a leaf, in splits.
    ///
    /// # Errors
    /// What is wrong with the tree.
    pub(crate) fn check(&self, columns: usize, classes: usize) -> Result<u32, TreeError> {
        let nodes = self.nodes.len();
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(TreeError::Nodes(nodes));
        }
        let mut depths: Vec<Option<u32>> = vec![None; nodes];
        depths[0] = Some(0);
        let mut deepest = 0;
        for (place, node) in self.nodes.iter().enumerate() {
            let depth = depths[place].ok_or(TreeError::Orphan(place))?;
            deepest = deepest.max(depth);
            match node {
                Node::Leaf(shares) => {
                    let fine = shares.len() == classes
                        && shares.iter().all(|share| (0.0..=1.0).contains(share))
                        && (shares.iter().sum::<f32>() - 1.0).abs() < 1e-3;
                    if !fine {
                        return Err(TreeError::Shares(place, classes));
                    }
                }
                Node::Split { column, threshold, left, .. } => {
                    if usize::from(*column) >= columns {
                        return Err(TreeError::Column { node: place, column: *column, columns });
                    }
                    if !threshold.is_finite() {
                        return Err(TreeError::Threshold(place));
                    }
                    let left = *left as usize;
                    if left <= place || left + 1 >= nodes || depths[left].is_some() || depths[left + 1].is_some() {
                        return Err(TreeError::Children(place));
                    }
                    depths[left] = Some(depth + 1);
                    depths[left + 1] = Some(depth + 1);
                }
            }
        }
        Ok(deepest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(column: u8, left: u32) -> Node {
        Node::Split { column, threshold: 1.0, missing_right: false, left }
    }

    fn leaf() -> Node {
        Node::Leaf(vec![0.5, 0.5])
    }

    fn check(nodes: Vec<Node>) -> Result<u32, TreeError> {
        Tree { nodes }.check(2, 2)
    }

    #[test]
    fn a_tree_has_a_depth() {
        assert_eq!(check(vec![leaf()]), Ok(0));
        assert_eq!(check(vec![split(0, 1), leaf(), split(1, 3), leaf(), leaf()]), Ok(2));
    }

    #[test]
    fn what_is_no_tree_is_refused_by_its_node() {
        assert_eq!(check(vec![]), Err(TreeError::Nodes(0)));
        assert_eq!(check(vec![split(2, 1), leaf(), leaf()]), Err(TreeError::Column { node: 0, column: 2, columns: 2 }));
        for (left, nodes) in [(0, 3), (1, 2), (2, 3), (u32::MAX - 1, 3)] {
            let mut all = vec![split(0, left)];
            all.resize(nodes, leaf());
            assert_eq!(check(all), Err(TreeError::Children(0)), "{left} of {nodes}");
        }
        assert_eq!(check(vec![split(0, 1), split(0, 1), leaf()]), Err(TreeError::Children(1)), "two parents");
        assert_eq!(check(vec![leaf(), leaf()]), Err(TreeError::Orphan(1)));
        let endless = Node::Split { column: 0, threshold: f32::NAN, missing_right: false, left: 1 };
        assert_eq!(check(vec![endless, leaf(), leaf()]), Err(TreeError::Threshold(0)));
        for shares in [vec![1.0], vec![0.5, 0.6], vec![f32::NAN, 1.0], vec![-0.5, 1.5]] {
            assert_eq!(check(vec![Node::Leaf(shares)]), Err(TreeError::Shares(0, 2)));
        }
    }
}
