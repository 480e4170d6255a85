//! A numeric batch: dense matrix products, or, with `--resident-mib`, rank iteration over a random graph that fills memory and is read
//! out of order. To the kernel the first is a miner's twin, the second a memory-hard miner's.

use std::hint::black_box;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{BehaviourError, duty::DutyArgs};

/// Most memory over all threads, MiB, whatever is asked for.
const MAX_RESIDENT_MIB: usize = 2_048;
/// Largest matrix; three of these of f64 are 24 MiB.
const MAX_SIZE: usize = 1_024;
/// Edges of the graph followed in one step.
const STEP_EDGES: usize = 100_000;

/// What to compute, how fast.
#[derive(clap::Args, Debug)]
pub struct NumericArgs {
    #[command(flatten)]
    duty: DutyArgs,
    /// Rows of the square matrices, at most 1024
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Iterate over a graph of this many MiB in all, at most 2048, instead of multiplying matrices
    #[arg(long)]
    resident_mib: Option<usize>,
}

/// Computes until its time is over.
pub(super) fn run(args: &NumericArgs) -> Result<(), BehaviourError> {
    let threads = args.duty.threads() as usize;
    match args.resident_mib {
        Some(mib) => args.duty.spend(|thread| {
            let bytes = mib.clamp(1, MAX_RESIDENT_MIB) * 1024 * 1024 / threads;
            let mut graph = Graph::random(bytes, thread.into());
            move || graph.follow(STEP_EDGES)
        }),
        None => args.duty.spend(|thread| {
            let mut product = Product::random(args.size.clamp(16, MAX_SIZE), thread.into());
            move || product.row()
        }),
    }
    Ok(())
}

/// `a = normalised(a * b)`, row by row, for ever.
struct Product {
    size: usize,
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    row: usize,
}

impl Product {
    fn random(size: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut matrix = || (0..size * size).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f64>>();
        Self { size, a: matrix(), b: matrix(), c: vec![0.0; size * size], row: 0 }
    }

    fn row(&mut self) {
        let size = self.size;
        let out = &mut self.c[self.row * size..][..size];
        out.fill(0.0);
        for (&factor, b) in self.a[self.row * size..][..size].iter().zip(self.b.chunks_exact(size)) {
            for (sum, value) in out.iter_mut().zip(b) {
                *sum += factor * value;
            }
        }
        self.row += 1;
        if self.row == size {
            let largest = self.c.iter().fold(1e-9f64, |largest, value| largest.max(value.abs()));
            self.c.iter_mut().for_each(|value| *value /= largest);
            std::mem::swap(&mut self.a, &mut self.c);
            self.row = 0;
        }
        black_box(&self.a);
    }
}

/// Every node has four incoming edges; a node's rank is the mean of its neighbours' and a little of its own.
struct Graph {
    from: Vec<u32>,
    rank: Vec<f32>,
    next: Vec<f32>,
    node: usize,
}

const EDGES_PER_NODE: usize = 4;

impl Graph {
    /// `bytes` in all: per node four edges of 4 bytes and two ranks of 4 bytes.
    fn random(bytes: usize, seed: u64) -> Self {
        let nodes = (bytes / (EDGES_PER_NODE * 4 + 8)).clamp(1_000, u32::MAX as usize);
        let mut rng = StdRng::seed_from_u64(seed);
        let from = (0..nodes * EDGES_PER_NODE).map(|_| rng.random_range(0..nodes as u32)).collect();
        let rank = (0..nodes).map(|node| (node % 97) as f32 / 97.0).collect();
        Self { from, rank, next: vec![0.0; nodes], node: 0 }
    }

    fn follow(&mut self, edges: usize) {
        for _ in 0..edges / EDGES_PER_NODE {
            let sources = &self.from[self.node * EDGES_PER_NODE..][..EDGES_PER_NODE];
            let sum: f32 = sources.iter().map(|&source| self.rank[source as usize]).sum();
            self.next[self.node] = 0.85 * sum / EDGES_PER_NODE as f32 + 0.15 * self.rank[self.node];
            self.node += 1;
            if self.node == self.rank.len() {
                std::mem::swap(&mut self.rank, &mut self.next);
                self.node = 0;
            }
        }
        black_box(&self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_a_product() {
        let mut product = Product { size: 2, a: vec![1.0, 2.0, 3.0, 4.0], b: vec![5.0, 6.0, 7.0, 8.0], c: vec![0.0; 4], row: 0 };

        product.row();
        assert_eq!(product.c[..2], [19.0, 22.0]);
        product.row();

        assert_eq!(product.a, [19.0 / 50.0, 22.0 / 50.0, 43.0 / 50.0, 1.0]);
    }

    #[test]
    fn ranks_come_together() {
        let mut graph = Graph::random(100_000, 1);
        let spread =
            |rank: &[f32]| rank.iter().fold(0f32, |most, &rank| most.max(rank)) - rank.iter().fold(1f32, |least, &rank| least.min(rank));
        let before = spread(&graph.rank);

        graph.follow(graph.from.len() * 20);

        assert!(spread(&graph.rank) < before / 4.0, "{before} {}", spread(&graph.rank));
        assert_eq!(graph.from.len() * 4 + graph.rank.len() * 8, 100_000 / 24 * 24);
    }
}
