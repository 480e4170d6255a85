//! Real programs from Debian by fixed recipes: nothing but a recipe's own commands is ever run, everything it writes is below its
//! directory, it listens on the pod's own address only, and its processes die with it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{
    BehaviourError, Bounds,
    kitchen::Kitchen,
    offspring::{reap, tended},
    recipes,
};

/// Least rest between two rounds.
const MIN_REST: Duration = Duration::from_millis(20);

/// What is run.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// xz compresses a text and checks the result
    Xz,
    /// tar packs a tree and unpacks it
    Tar,
    /// gcc compiles C sources, several at a time, and links them
    Gcc,
    /// rsync copies a tree of which some files changed
    Rsync,
    /// A postgres server, with a pgbench beside it unless told otherwise
    Postgres,
    /// pgbench against a postgres of this range
    Pgbench,
    /// A redis server, with a redis-benchmark beside it unless told otherwise
    Redis,
    /// redis-benchmark against a redis of this range
    RedisBenchmark,
}

/// Which recipe, how much of it.
#[derive(clap::Args, Debug)]
pub struct ProgramArgs {
    #[command(flatten)]
    pub(super) bounds: Bounds,
    /// What is run
    #[arg(long, value_enum)]
    pub(super) recipe: Recipe,
    /// The workload's directory; everything is written to `program` below it
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// The pod's own address: where postgres and redis listen
    #[arg(long, required_if_eq_any([("recipe", "postgres"), ("recipe", "redis")]))]
    pub(super) address: Option<Ipv4Addr>,
    /// Port that postgres and redis listen on; 5432 and 6379 without it
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// The server that pgbench and redis-benchmark use
    #[arg(long, required_if_eq_any([("recipe", "pgbench"), ("recipe", "redis-benchmark")]))]
    pub(super) target: Option<SocketAddrV4>,
    /// The server alone, without a benchmark in the same pod
    #[arg(long)]
    pub(super) serve_only: bool,
    /// Transactions (pgbench, at most 500) or requests (redis-benchmark, at most 10,000) per second
    #[arg(long, default_value_t = 50)]
    pub(super) rate: u32,
    /// Clients of the benchmarks and compilers at a time, at most 16
    #[arg(long, default_value_t = 4)]
    pub(super) jobs: u32,
    /// Size of what is packed, copied and compressed, MiB, at most 512; of what is compiled, files
    #[arg(long, default_value_t = 8)]
    pub(super) mib: usize,
    /// Rest between two rounds, milliseconds
    #[arg(long, default_value_t = 500)]
    rest_ms: u64,
    /// Ends by itself after this long; without it, it goes on until it is killed
    #[arg(long)]
    seconds: Option<u64>,
}

/// Runs the recipe until its time is over.
pub(super) fn run(args: &ProgramArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    let listens = args.address.map(|address| SocketAddrV4::new(address, 0));
    for target in args.target.into_iter().chain(listens) {
        guard.check(target)?;
    }
    // Before there are two processes that could complain.
    let programs = recipes::programs(args)?;
    tended(|| {
        let began = Instant::now();
        let over = || args.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
        let kitchen = Kitchen::open(&args.dir, programs)?;
        let mut dish = recipes::prepare(args, &kitchen, guard.allowed())?;
        while !over() {
            dish.round()?;
            reap_unless_serving(&dish);
            thread::sleep(Duration::from_millis(args.rest_ms).max(MIN_REST));
        }
        Ok(())
    })
}

/// Orphans are taken away where nobody waits for a server at the same time.
fn reap_unless_serving(dish: &recipes::Dish<'_>) {
    if !dish.serves() {
        reap();
    }
}
