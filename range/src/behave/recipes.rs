//! The recipes: which programs each takes, what it prepares, and what a round of it is.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use super::{
    BehaviourError,
    kitchen::{Kitchen, Programs, User, find},
    program::{ProgramArgs, Recipe},
    text::Language,
    tree,
};
use crate::guard::Net;

const MAX_JOBS: u32 = 16;
const MAX_TRANSACTIONS: u32 = 500;
const MAX_REQUESTS: u32 = 10_000;
/// Sources compiled per round.
const MAX_SOURCES: usize = 64;
/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(20);
/// Seconds of one run of pgbench, which begins by emptying its history.
const PGBENCH_SECONDS: u32 = 10;

/// The programs of a recipe, found.
pub(super) fn programs(args: &ProgramArgs) -> Result<Programs, BehaviourError> {
    const PGBENCH: (&str, &str) = ("pgbench", "postgresql-contrib");
    const REDIS_BENCHMARK: (&str, &str) = ("redis-benchmark", "redis-tools");
    let servers: &[_] = match args.recipe {
        Recipe::Xz => &[("xz", "xz-utils")],
        Recipe::Tar => &[("tar", "tar")],
        Recipe::Gcc => &[("gcc", "gcc")],
        Recipe::Rsync => &[("rsync", "rsync")],
        Recipe::Postgres => &[("initdb", "postgresql"), ("postgres", "postgresql")],
        Recipe::Redis => &[("redis-server", "redis-server")],
        Recipe::Pgbench => &[PGBENCH],
        Recipe::RedisBenchmark => &[REDIS_BENCHMARK],
    };
    let benchmark = match args.recipe {
        // Needed even where it only serves: it fills the tables.
        Recipe::Postgres => Some(PGBENCH),
        Recipe::Redis if !args.serve_only => Some(REDIS_BENCHMARK),
        _ => None,
    };
    find(&servers.iter().copied().chain(benchmark).collect::<Vec<_>>())
}

/// A recipe prepared.
pub(super) struct Dish<'a> {
    kitchen: &'a Kitchen,
    args: &'a ProgramArgs,
    /// What is packed, copied or compiled.
    files: Vec<PathBuf>,
    /// The server, where the recipe has one.
    server: Option<Child>,
    /// Where benchmarks go.
    target: Option<SocketAddrV4>,
}

/// Makes the material, and starts the server of a recipe that has one.
pub(super) fn prepare<'a>(args: &'a ProgramArgs, kitchen: &'a Kitchen, pods: Net) -> Result<Dish<'a>, BehaviourError> {
    let failed = |error| BehaviourError::File("fill", kitchen.path().to_owned(), error);
    let mut dish = Dish { kitchen, args, files: Vec::new(), server: None, target: args.target };
    match args.recipe {
        Recipe::Xz => {
            let text = super::compress::repeated(&mut Language::new(5), args.mib.clamp(1, tree::MAX_MIB) * 1024 * 1024);
            fs::write(kitchen.path().join("text"), text).map_err(failed)?;
        }
        Recipe::Tar | Recipe::Rsync => dish.files = tree::plant(&kitchen.path().join("tree"), args.mib, 5).map_err(failed)?,
        Recipe::Gcc => dish.files = tree::sources(&kitchen.path().join("source"), args.mib.clamp(1, MAX_SOURCES), 60).map_err(failed)?,
        Recipe::Postgres => dish.postgres(pods)?,
        Recipe::Redis => dish.redis()?,
        Recipe::Pgbench | Recipe::RedisBenchmark => {}
    }
    Ok(dish)
}

impl Dish<'_> {
    /// Whether the recipe has a server.
    pub(super) const fn serves(&self) -> bool {
        self.server.is_some()
    }

    /// One round of the recipe.
    pub(super) fn round(&mut self) -> Result<(), BehaviourError> {
        if let Some(server) = &mut self.server
            && let Ok(Some(status)) = server.try_wait()
        {
            return Err(BehaviourError::Program("the server".to_owned(), status.to_string()));
        }
        let kitchen = self.kitchen;
        match self.args.recipe {
            Recipe::Xz => {
                kitchen.run(kitchen.command("xz", None).args(["--keep", "--force", "--threads=1", "-3", "text"]))?;
                kitchen.run(kitchen.command("xz", None).args(["--test", "text.xz"]))
            }
            Recipe::Tar => {
                kitchen.run(kitchen.command("tar", None).args(["--create", "--file=archive.tar", "tree"]))?;
                let copy = kitchen.room("copy", None)?;
                kitchen.run(kitchen.command("tar", None).args(["--extract", "--file=archive.tar", "--directory=copy"]))?;
                fs::remove_dir_all(&copy).map_err(|error| BehaviourError::File("remove", copy, error))
            }
            Recipe::Gcc => self.compile(),
            Recipe::Rsync => {
                let edited = tree::edit(&self.files, self.files.len() / 10 + 1);
                edited.map_err(|error| BehaviourError::File("edit", kitchen.path().join("tree"), error))?;
                kitchen.run(kitchen.command("rsync", None).args(["--archive", "--delete", "--checksum", "tree/", "copy/"]))
            }
            Recipe::Postgres | Recipe::Redis if self.args.serve_only => Ok(()),
            Recipe::Postgres | Recipe::Pgbench => self.pgbench(),
            Recipe::Redis | Recipe::RedisBenchmark => self.redis_benchmark(),
        }
    }

    fn jobs(&self) -> usize {
        self.args.jobs.clamp(1, MAX_JOBS) as usize
    }

    fn compile(&self) -> Result<(), BehaviourError> {
        let mut running: Vec<Child> = Vec::new();
        for source in &self.files {
            while running.len() >= self.jobs() {
                running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
                thread::sleep(Duration::from_millis(5));
            }
            let mut command = self.kitchen.command("gcc", None);
            command.args(["-O2", "-c", "-o"]).arg(source.with_extension("o")).arg(source);
            running.push(self.kitchen.begin(&mut command)?);
        }
        for mut child in running {
            // A compilation that failed is missed by the link.
            let _ = child.wait();
        }
        let mut link = self.kitchen.command("gcc", None);
        link.args(["-nostdlib", "-r", "-o", "program.o"]).args(self.files.iter().map(|source| source.with_extension("o")));
        self.kitchen.run(&mut link)
    }

    /// As the user that Debian made for it: as root it refuses.
    fn postgres(&mut self, pods: Net) -> Result<(), BehaviourError> {
        let missing = BehaviourError::Missing { program: "the user postgres", package: "postgresql" };
        let user = Some(User::named("postgres").ok_or(missing)?);
        let data = self.kitchen.room("postgres", user)?;
        let mut initialise = self.kitchen.command("initdb", user);
        initialise.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres", "--pgdata"]).arg(&data);
        self.kitchen.run(&mut initialise)?;
        let access = data.join("pg_hba.conf");
        let allowed = OpenOptions::new().append(true).open(&access).and_then(|mut file| writeln!(file, "host all all {pods} trust"));
        allowed.map_err(|error| BehaviourError::File("extend", access, error))?;
        let address = self.listens(5432);
        let mut command = self.kitchen.command("postgres", user);
        command.arg("-D").arg(&data).args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-k", ""]);
        for setting in [
            "shared_buffers=32MB",
            "max_connections=40",
            "max_wal_size=64MB",
            "min_wal_size=32MB",
            "checkpoint_timeout=60s",
            // /dev/shm is not below the directory.
            "dynamic_shared_memory_type=mmap",
            "autovacuum_naptime=20s",
            "max_parallel_workers=2",
        ] {
            command.args(["-c", setting]);
        }
        self.serve(command, address)?;
        let mut fill = self.kitchen.command("pgbench", None);
        fill.args(["--initialize", "--quiet", "--username=postgres", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        fill.arg("postgres");
        // It listens before it takes anybody.
        let began = Instant::now();
        loop {
            match self.kitchen.run(&mut fill) {
                Err(_) if began.elapsed() < STARTING => thread::sleep(Duration::from_millis(200)),
                outcome => return outcome,
            }
        }
    }

    fn redis(&mut self) -> Result<(), BehaviourError> {
        // As root it works too, where Debian's user is missing.
        let user = User::named("redis");
        let data = self.kitchen.room("redis", user)?;
        let address = self.listens(6379);
        let mut command = self.kitchen.command("redis-server", user);
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--dir"]).arg(data);
        // Its own address is all it listens on, and only the run's pods reach that.
        command.args(["--protected-mode", "no", "--daemonize", "no", "--save", "", "--appendonly", "yes"]);
        command.args(["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--auto-aof-rewrite-min-size", "16mb"]);
        self.serve(command, address)
    }

    fn listens(&self, port: u16) -> SocketAddrV4 {
        // The flag is required for these recipes; loopback is the pod's own as well.
        SocketAddrV4::new(self.args.address.unwrap_or(Ipv4Addr::LOCALHOST), self.args.port.unwrap_or(port))
    }

    /// Starts the server, its log in the directory, and waits until it listens.
    fn serve(&mut self, mut command: std::process::Command, address: SocketAddrV4) -> Result<(), BehaviourError> {
        let path = self.kitchen.path().join("server.log");
        let log = File::create(&path).map_err(|error| BehaviourError::File("create", path.clone(), error))?;
        let mut server = self.kitchen.begin(command.stderr(log))?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > STARTING || !matches!(server.try_wait(), Ok(None)) {
                let name = command.get_program().to_string_lossy().into_owned();
                return Err(BehaviourError::Program(name, format!("does not listen on {address}: {}", last_line(&path))));
            }
            thread::sleep(Duration::from_millis(50));
        }
        (self.server, self.target) = (Some(server), Some(address));
        Ok(())
    }

    fn pgbench(&self) -> Result<(), BehaviourError> {
        let Some(target) = self.target else { return Ok(()) };
        let rate = self.args.rate.clamp(1, MAX_TRANSACTIONS).to_string();
        let clients = self.jobs().to_string();
        let mut command = self.kitchen.command("pgbench", None);
        command.args(["--username=postgres", "-h", &target.ip().to_string(), "-p", &target.port().to_string()]);
        command.args(["--client", &clients, "--rate", &rate, "--time", &PGBENCH_SECONDS.to_string(), "postgres"]);
        self.patiently(&mut command)
    }

    /// It has no rate of its own: so many requests, then the rest of the second.
    fn redis_benchmark(&self) -> Result<(), BehaviourError> {
        let Some(target) = self.target else { return Ok(()) };
        let began = Instant::now();
        let requests = (self.args.rate.clamp(1, MAX_REQUESTS) / 2).max(1).to_string();
        let mut command = self.kitchen.command("redis-benchmark", None);
        command.args(["-h", &target.ip().to_string(), "-p", &target.port().to_string(), "-t", "set,get", "-q"]);
        command.args(["-n", &requests, "-c", &self.jobs().to_string(), "-d", "512", "-r", "20000"]);
        self.patiently(&mut command)?;
        thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        Ok(())
    }

    /// A benchmark whose server is elsewhere tries again when that is away.
    fn patiently(&self, command: &mut std::process::Command) -> Result<(), BehaviourError> {
        match self.kitchen.run(command) {
            Err(error) if !self.serves() => {
                eprintln!("{error}");
                thread::sleep(Duration::from_secs(1));
                Ok(())
            }
            outcome => outcome,
        }
    }
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
