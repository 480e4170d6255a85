//! smartcore as reference: its trees vote the same here, and ours learn as well as its.

#![allow(clippy::unwrap_used)]

mod smartcore_trees;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use smartcore_trees::Reference;
use vedette_forest::{Config, Forest, Table, train};

const COLUMNS: usize = 10;
const CLASSES: usize = 4;

/// Classes as overlapping clouds.
fn rows(seed: u64, count: usize) -> (Vec<Vec<f32>>, Vec<u32>) {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let class = rng.random_range(0..CLASSES);
            let row =
                (0..COLUMNS).map(|column| rng.random_range(-1.0..1.0f32) + if column % CLASSES == class { 0.6 } else { 0.0 }).collect();
            (row, class as u32)
        })
        .unzip()
}

fn accuracy(told: &[u8], classes: &[u32]) -> f64 {
    told.iter().zip(classes).filter(|(told, class)| u32::from(**told) == **class).count() as f64 / classes.len() as f64
}

#[test]
fn its_trees_vote_the_same_in_the_flat_form() {
    let (seen, classes) = rows(1, 600);
    let unseen = rows(2, 3_000).0;
    let reference = Reference::fit(&seen, &classes, 15);

    let forest = Forest::new(COLUMNS, CLASSES, &reference.trees(CLASSES)).unwrap();

    assert_eq!(forest.predict(&unseen.concat()), reference.predict(&unseen));
}

#[test]
fn ours_learn_as_well() {
    let (seen, classes) = rows(1, 2_000);
    let (unseen, truth) = rows(2, 4_000);
    let mut table = Table::new(COLUMNS, CLASSES).unwrap();
    for (episode, (row, class)) in (0..).zip(seen.iter().zip(&classes)) {
        table.push(row, *class as u8, episode).unwrap();
    }

    let config = Config { trees: 40, ..Config::of(COLUMNS, 1) };
    let ours = accuracy(&train(&table, &config, &|_| {}).unwrap().predict(&unseen.concat()), &truth);

    let theirs = accuracy(&Reference::fit(&seen, &classes, 40).predict(&unseen), &truth);
    assert!(ours > theirs - 0.015 && theirs > 0.5, "{ours} against {theirs}");
}
