//! What training and scoring cost, beside scikit-learn and smartcore in the same run.
//!
//! Prints rows for `scripts/run-benches`. scikit-learn is asked through `python3`, or what `VEDETTE_PYTHON` names; without it its rows are left
//! out, and said so.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/oracle/smartcore_trees.rs"]
mod smartcore_trees;

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use smartcore_trees::Reference;
use vedette_forest::{Config, Forest, Table, train};

const ROWS: usize = 50_000;
const COLUMNS: usize = 30;
const CLASSES: usize = 6;
const TREES: usize = 100;
/// smartcore takes minutes for more.
const REFERENCE_ROWS: usize = 2_000;

/// Trains and scores there as here, and prints seconds and accuracy.
const SCIKIT_LEARN: &str = r#"
import json, sys, time
import numpy as np
from sklearn.ensemble import RandomForestClassifier
rows, columns, trees, jobs, seen, unseen = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]
def read(name):
    flat = np.fromfile(name, dtype=np.float32).reshape(rows, columns + 1)
    return np.ascontiguousarray(flat[:, :columns]), flat[:, columns].astype(int)
(x, y), (u, v) = read(seen), read(unseen)
forest = RandomForestClassifier(n_estimators=trees, max_depth=12, min_samples_leaf=5, n_jobs=jobs, random_state=1)
began = time.perf_counter(); forest.fit(x, y); fitted = time.perf_counter() - began
forest.n_jobs = 1
began = time.perf_counter(); told = forest.predict(u); predicted = time.perf_counter() - began
print(json.dumps({"fit_s": fitted, "predict_s": predicted, "accuracy": float((told == v).mean())}))
"#;

/// Classes that differ in a third of the columns, by less than the noise in each.
fn rows(seed: u64) -> (Vec<Vec<f32>>, Vec<u32>) {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..ROWS)
        .map(|_| {
            let class = rng.random_range(0..CLASSES);
            let shift = |column: usize| if column < COLUMNS / 3 && column % CLASSES == class { 0.7 } else { 0.0 };
            let row = (0..COLUMNS).map(|column| rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32) + shift(column)).collect();
            (row, class as u32)
        })
        .unzip()
}

fn seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed().as_secs_f64())
}

/// The quickest of three.
fn quickest<T>(mut work: impl FnMut() -> T) -> (T, f64) {
    let mut best = seconds(&mut work);
    for _ in 0..2 {
        let again = seconds(&mut work);
        if again.1 < best.1 {
            best = again;
        }
    }
    best
}

fn accuracy(told: &[u8], classes: &[u32]) -> f64 {
    told.iter().zip(classes).filter(|(told, class)| u32::from(**told) == **class).count() as f64 / classes.len() as f64
}

fn scikit_learn(seen: &(Vec<Vec<f32>>, Vec<u32>), unseen: &(Vec<Vec<f32>>, Vec<u32>), threads: usize) -> Option<Value> {
    let folder = std::env::temp_dir().join(format!("vedette-forest-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, (rows, classes): &(Vec<Vec<f32>>, Vec<u32>)| {
        let path = folder.join(name);
        let values = rows.iter().zip(classes).flat_map(|(row, class)| row.iter().copied().chain([*class as f32]));
        std::fs::write(&path, values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        path
    };
    let python = std::env::var("VEDETTE_PYTHON").unwrap_or_else(|_| "python3".into());
    let sizes = [ROWS, COLUMNS, TREES, threads].map(|size| size.to_string());
    let mut command = Command::new(python);
    command.args(["-c", SCIKIT_LEARN]).args(sizes).arg(write("seen", seen)).arg(write("unseen", unseen));
    let output = command.stderr(Stdio::inherit()).output();
    std::fs::remove_dir_all(&folder).unwrap();
    output.ok().filter(|output| output.status.success()).and_then(|output| serde_json::from_slice(&output.stdout).ok())
}

fn main() {
    let (seen, unseen) = (rows(1), rows(2));
    let mut table = Table::new(COLUMNS, CLASSES).unwrap();
    for (episode, (row, class)) in (0..).zip(seen.0.iter().zip(&seen.1)) {
        table.push(row, *class as u8, episode / 50).unwrap();
    }
    let threads = rayon::current_num_threads();
    let config = Config { trees: TREES, ..Config::of(COLUMNS, 1) };
    eprintln!("{ROWS} rows of {COLUMNS} columns and {CLASSES} classes, {TREES} trees, {threads} threads");
    let (forest, fit_s) = quickest(|| train(&table, &config, &|_| {}).unwrap());
    let flat = unseen.0.concat();
    let (told, predict_s) = quickest(|| forest.predict(&flat));
    let ours = accuracy(&told, &unseen.1);
    eprintln!("ours: {fit_s:.2} s, accuracy {ours:.4}");

    let few: (Vec<_>, Vec<_>) = (seen.0[..REFERENCE_ROWS].to_vec(), seen.1[..REFERENCE_ROWS].to_vec());
    let (reference, reference_fit_s) = seconds(|| Reference::fit(&few.0, &few.1, TREES as u16));
    let (theirs, reference_s) = quickest(|| reference.predict(&unseen.0));
    let same = Forest::new(COLUMNS, CLASSES, &reference.trees(CLASSES)).unwrap();
    let (voted, same_s) = quickest(|| same.predict(&flat));
    assert!(voted == theirs, "the same trees vote otherwise");
    eprintln!("smartcore: {reference_fit_s:.1} s for {REFERENCE_ROWS} rows");

    let per_s = |seconds: f64| ROWS as f64 / seconds;
    let mut out = vec![
        json!({"name": "forest: rows scored per core, against smartcore's predict with the same trees and votes", "value": per_s(same_s),
            "unit": "rows/s", "better": "higher", "budget": 10.0 * per_s(reference_s), "peer": "smartcore", "peer_value": per_s(reference_s),
            "ratio": reference_s / same_s}),
    ];
    match scikit_learn(&seen, &unseen, threads) {
        None => eprintln!("scikit-learn could not be asked (make prepare): not compared"),
        Some(peer) => {
            let of = |name: &str| peer[name].as_f64().unwrap();
            out.extend([
                json!({"name": "forest: rows scored per core", "value": per_s(predict_s), "unit": "rows/s", "better": "higher",
                    "budget": 5.0 * per_s(of("predict_s")), "peer": "scikit-learn", "peer_value": per_s(of("predict_s")),
                    "ratio": of("predict_s") / predict_s}),
                json!({"name": "forest: training 50,000 x 30 x 100 trees", "value": fit_s, "unit": "s", "better": "lower", "budget": of("fit_s"),
                    "peer": "scikit-learn", "peer_value": of("fit_s"), "ratio": of("fit_s") / fit_s}),
                json!({"name": "forest: accuracy on rows that were not seen", "value": ours, "unit": "share", "better": "higher",
                    "budget": of("accuracy") - 0.005, "peer": "scikit-learn", "peer_value": of("accuracy"), "ratio": ours / of("accuracy")}),
            ]);
        }
    }
    println!("{}", Value::from(out));
}
