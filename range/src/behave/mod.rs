//! What runs inside the pods: ordinary services and the programs whose dose makes the attack. Every one is bounded in rate, time and memory.

mod api;
mod backup;
mod batch;
mod build;
mod cache;
mod cache_client;
mod chain;
mod compaction;
mod compress;
mod confines;
mod connect;
mod course;
mod cron;
mod database;
mod discovery;
mod disk_fill;
mod dns;
mod duty;
mod fail;
mod fork_bomb;
mod hash;
mod heal;
mod health_checks;
mod hoard;
mod http;
mod idle;
mod image_push;
mod journal;
mod key_value;
mod kitchen;
mod leak;
mod load;
mod log_shipper;
mod log_writer;
mod memory_hash;
mod miner;
mod numeric;
mod offspring;
mod pace;
mod pause;
mod pool;
mod program;
mod raw;
pub mod reach;
mod recipes;
mod recon;
mod resolver;
mod resync;
mod sale;
mod scan;
mod scratch;
mod shop;
mod sidecar;
mod sink;
mod slow_loris;
mod store;
mod syn_flood;
mod text;
mod tree;
mod unit;
mod upload;
mod warm_up;
mod web;
mod worker;

use std::{net::Ipv4Addr, path::PathBuf, process::ExitStatus, time::Duration};

use crate::guard::{Guard, Net, Refusal};

pub use connect::MAX_RATE as MAX_CONNECTS_PER_SECOND;
pub use load::MAX_RATE as MAX_REQUESTS_PER_SECOND;
pub use upload::MAX_RATE as MAX_UPLOAD_BYTES_PER_SECOND;

/// Why a behaviour ended badly.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The guard refused a target.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A socket or file operation.
    #[error("cannot {0}: {1}")]
    Io(&'static str, std::io::Error),
    /// A file operation.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, std::io::Error),
    /// More of something than a behaviour takes.
    #[error("too many {0}: at most {1}")]
    TooMany(&'static str, usize),
    /// A program of Debian's is not here.
    #[error("{program} is not installed here: Debian's package {package} brings it")]
    Missing {
        /// The program.
        program: &'static str,
        /// What to install.
        package: &'static str,
    },
    /// A program of Debian's failed.
    #[error("{0} failed: {1}")]
    Program(String, String),
    /// The process that does the work failed; it said why.
    #[error("the work ended: {0}")]
    Tended(ExitStatus),
}

/// Where a behaviour may send to.
#[derive(clap::Args, Clone, Debug)]
pub struct Bounds {
    /// The /24 of the run's pods, may be repeated: nothing else is ever sent to but the ranges that follow from it
    #[arg(long, required = true)]
    allow: Vec<Net>,
    /// Inode of the network namespace to stay out of: the host's
    #[arg(long)]
    host_namespace: u64,
}

impl Bounds {
    fn guard(&self) -> Result<Guard, Refusal> {
        let guard = Guard::new(&self.allow, self.host_namespace)?;
        guard.own_address()?;
        Ok(guard)
    }
}

/// A behaviour and its dose.
#[derive(clap::Subcommand, Debug)]
pub enum Behaviour {
    /// Holds a pod's namespaces and sleeps
    Pause,
    /// A web service doing real work per request
    Web(web::WebArgs),
    /// HTTP clients at a given rate: a steady client, or a flood
    Load(load::LoadArgs),
    /// A key-value store
    Cache(cache::CacheArgs),
    /// Long connections to the key-value store
    CacheClient(cache_client::CacheClientArgs),
    /// Cycles of work and rest, with disk writes
    Batch(batch::BatchArgs),
    /// SHA-256 over nonces: a miner at full duty, a checksum job at little
    Hash(hash::HashArgs),
    /// TCP connects: a scan over the subnet, or a health check of a few services
    Connect(connect::ConnectArgs),
    /// Uploads: bulk, or a little now and then
    Upload(upload::UploadArgs),
    /// Where uploads go
    Sink(sink::SinkArgs),
    /// A small worker that can be told to fail
    Worker(worker::WorkerArgs),
    /// A memory-hard miner (mining)
    MemoryHash(memory_hash::MemoryHashArgs),
    /// The other end of a miner's connection
    Pool(pool::PoolArgs),
    /// A sweep by connects, raw SYNs or datagrams (scan)
    Scan(scan::ScanArgs),
    /// SYNs without connections (flood)
    SynFlood(syn_flood::SynFloodArgs),
    /// Connections that never finish a request (flood)
    SlowLoris(slow_loris::SlowLorisArgs),
    /// A container that ends badly (crash loop)
    Fail(fail::FailArgs),
    /// A storm of questions to an API (recon)
    Recon(recon::ReconArgs),
    /// The answers of an API server
    Api(api::ApiArgs),
    /// Processes that start processes (fork bomb)
    ForkBomb(fork_bomb::ForkBombArgs),
    /// Memory that grows (memory leak)
    Leak(leak::LeakArgs),
    /// Files until the disk is full (disk fill)
    DiskFill(disk_fill::DiskFillArgs),
    /// A dose of nothing (placebo)
    Idle(idle::IdleArgs),
    /// A service that calls the next ones for each request
    Chain(chain::ChainArgs),
    /// A key-value store with a write-ahead log on disk
    Database(database::DatabaseArgs),
    /// A service's log file, rotated; with bursts, a disk that fills and is given back
    LogWriter(log_writer::LogWriterArgs),
    /// Follows a log file and sends it to a store
    LogShipper(log_shipper::LogShipperArgs),
    /// Takes and acknowledges chunks: of logs, backups, images
    Store(store::StoreArgs),
    /// Answers health probes and does nothing else
    Sidecar(sidecar::SidecarArgs),
    /// A short process every so often
    Cron(cron::CronArgs),
    /// One short job; builds and cron start it
    #[command(hide = true)]
    Unit(unit::UnitArgs),
    /// Real programs from Debian by fixed recipes
    Program(program::ProgramArgs),
    /// A compression batch (looks like mining)
    Compress(compress::CompressArgs),
    /// A numeric batch (looks like mining)
    Numeric(numeric::NumericArgs),
    /// Visitors who come, look around and go (looks like a flood)
    Sale(sale::SaleArgs),
    /// A tar stream of files to a store (looks like exfiltration)
    Backup(backup::BackupArgs),
    /// Layers of an image to a store (looks like exfiltration)
    ImagePush(image_push::ImagePushArgs),
    /// Answers questions after pods' names
    Resolver(resolver::ResolverArgs),
    /// Endpoints looked up and connected to (looks like a scan)
    Discovery(discovery::DiscoveryArgs),
    /// Many endpoints asked how they are (looks like a scan)
    HealthChecks(health_checks::HealthChecksArgs),
    /// List and watch of an API (looks like recon)
    Resync(resync::ResyncArgs),
    /// Fails so many times, then is well (looks like a crash loop)
    Heal(heal::HealArgs),
    /// Memory that grows to a plateau (looks like a leak)
    WarmUp(warm_up::WarmUpArgs),
    /// Segments written, merged and removed (looks like a disk fill)
    Compaction(compaction::CompactionArgs),
    /// Many short processes, so many at a time (looks like a fork bomb)
    Build(build::BuildArgs),
    /// Whether a cluster enforces its network policies
    #[command(hide = true)]
    Reach(reach::ReachArgs),
}

/// Runs a behaviour until it is killed, fails or its time is over.
///
/// # Errors
/// When the guard refuses, or its own sockets and files do not work.
pub fn run(behaviour: Behaviour) -> Result<(), BehaviourError> {
    match behaviour {
        Behaviour::Pause => pause::run(),
        Behaviour::Hash(args) => hash::run(&args),
        Behaviour::Web(args) => asynchronous(web::run(args)),
        Behaviour::Load(args) => asynchronous(load::run(args)),
        Behaviour::Cache(args) => asynchronous(cache::run(args)),
        Behaviour::CacheClient(args) => asynchronous(cache_client::run(args)),
        Behaviour::Batch(args) => batch::run(&args),
        Behaviour::Connect(args) => asynchronous(connect::run(args)),
        Behaviour::Upload(args) => asynchronous(upload::run(args)),
        Behaviour::Sink(args) => asynchronous(sink::run(args)),
        Behaviour::Worker(args) => asynchronous(worker::run(args)),
        Behaviour::MemoryHash(args) => memory_hash::run(&args),
        Behaviour::Pool(args) => asynchronous(pool::run(args)),
        Behaviour::Scan(args) => asynchronous(scan::run(args)),
        Behaviour::SynFlood(args) => asynchronous(syn_flood::run(args)),
        Behaviour::SlowLoris(args) => asynchronous(slow_loris::run(args)),
        Behaviour::Fail(args) => fail::run(&args),
        Behaviour::Recon(args) => asynchronous(recon::run(args)),
        Behaviour::Api(args) => asynchronous(api::run(args)),
        Behaviour::ForkBomb(args) => fork_bomb::run(&args),
        Behaviour::Leak(args) => leak::run(&args),
        Behaviour::DiskFill(args) => disk_fill::run(&args),
        Behaviour::Idle(args) => idle::run(&args),
        Behaviour::Chain(args) => asynchronous(chain::run(args)),
        Behaviour::Database(args) => asynchronous(database::run(args)),
        Behaviour::LogWriter(args) => log_writer::run(&args),
        Behaviour::LogShipper(args) => asynchronous(log_shipper::run(args)),
        Behaviour::Store(args) => asynchronous(store::run(args)),
        Behaviour::Sidecar(args) => asynchronous(sidecar::run(args)),
        Behaviour::Cron(args) => cron::run(&args),
        Behaviour::Unit(args) => unit::run(&args),
        Behaviour::Program(args) => program::run(&args),
        Behaviour::Compress(args) => compress::run(&args),
        Behaviour::Numeric(args) => numeric::run(&args),
        Behaviour::Sale(args) => asynchronous(sale::run(args)),
        Behaviour::Backup(args) => asynchronous(backup::run(args)),
        Behaviour::ImagePush(args) => asynchronous(image_push::run(args)),
        Behaviour::Resolver(args) => asynchronous(resolver::run(args)),
        Behaviour::Discovery(args) => asynchronous(discovery::run(args)),
        Behaviour::HealthChecks(args) => asynchronous(health_checks::run(args)),
        Behaviour::Resync(args) => asynchronous(resync::run(args)),
        Behaviour::Heal(args) => asynchronous(heal::run(args)),
        Behaviour::WarmUp(args) => warm_up::run(&args),
        Behaviour::Compaction(args) => compaction::run(&args),
        Behaviour::Build(args) => build::run(&args),
        Behaviour::Reach(args) => asynchronous(reach::run(args)),
    }
}

fn asynchronous(work: impl Future<Output = Result<(), BehaviourError>>) -> Result<(), BehaviourError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| BehaviourError::Io("start a runtime", error))?.block_on(work)
}

async fn listen(address: Ipv4Addr, port: u16) -> Result<tokio::net::TcpListener, BehaviourError> {
    tokio::net::TcpListener::bind((address, port)).await.map_err(|error| BehaviourError::Io("listen", error))
}

/// An interval of `mean`, shortened or stretched by up to a fifth.
fn jittered(mean: Duration) -> Duration {
    mean.mul_f64(rand::random_range(0.8..1.2))
}
