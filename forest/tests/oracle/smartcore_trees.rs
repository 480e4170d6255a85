//! A forest of smartcore's, and its trees as ours.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use smartcore::{
    ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters},
    linalg::basic::matrix::DenseMatrix,
};
use vedette_forest::{Node, Tree};

/// The reference.
pub struct Reference(RandomForestClassifier<f32, u32, DenseMatrix<f32>, Vec<u32>>);

impl Reference {
    /// Trees as ours: one level less than they are told, leaves of 5 rows.
    pub fn fit(rows: &Vec<Vec<f32>>, classes: &Vec<u32>, trees: u16) -> Self {
        let parameters =
            RandomForestClassifierParameters::default().with_n_trees(trees).with_max_depth(12).with_min_samples_leaf(5).with_seed(1);
        Self(RandomForestClassifier::fit(&DenseMatrix::from_2d_vec(rows).unwrap(), classes, parameters).unwrap())
    }

    /// The class of each row.
    pub fn predict(&self, rows: &Vec<Vec<f32>>) -> Vec<u8> {
        self.0.predict(&DenseMatrix::from_2d_vec(rows).unwrap()).unwrap().into_iter().map(|class| class as u8).collect()
    }

    /// Its trees, read from what it serialises: their fields are private. A leaf gives all to one class, as it votes.
    pub fn trees(&self, classes: usize) -> Vec<Tree> {
        let text = serde_json::to_value(&self.0).unwrap();
        text["trees"].as_array().unwrap().iter().map(|tree| tree_of(tree["nodes"].as_array().unwrap(), classes)).collect()
    }
}

fn tree_of(theirs: &[Value], classes: usize) -> Tree {
    let mut nodes = vec![Node::Leaf(Vec::new())];
    let mut pending = vec![(0, 0)];
    while let Some((place, number)) = pending.pop() {
        let node = &theirs[number];
        let child = |name: &str| node[name].as_u64().map(|child| child as usize);
        nodes[place] = match child("true_child").zip(child("false_child")) {
            None => {
                let class = node["output"].as_u64().unwrap() as usize;
                Node::Leaf((0..classes).map(|one| f32::from(u8::from(one == class))).collect())
            }
            Some((yes, no)) => {
                let left = nodes.len();
                nodes.extend([Node::Leaf(Vec::new()), Node::Leaf(Vec::new())]);
                pending.extend([(left, yes), (left + 1, no)]);
                let column = node["split_feature"].as_u64().unwrap() as u8;
                Node::Split { column, threshold: at_most(node["split_value"].as_f64().unwrap()), missing_right: false, left: left as u32 }
            }
        };
    }
    Tree { nodes }
}

/// The largest single-precision number up to a double: the same rows lie at or below it.
fn at_most(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) > value { near.next_down() } else { near }
}
