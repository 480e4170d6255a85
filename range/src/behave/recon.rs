//! A storm of questions to an API: many paths, each over a new connection, or all over one that is kept.

use std::{net::SocketAddrV4, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use super::{
    BehaviourError, Bounds,
    course::{CourseArgs, Tempo},
};
use crate::guard::Guard;

/// Most questions per second, whatever is asked for.
pub const MAX_RATE: u32 = 500;
/// Most connections at once; a slow API slows the storm.
const MAX_IN_FLIGHT: usize = 128;
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest head, and longest body that is read, of an answer.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: usize = 16 << 20;
/// About as long as the token of a ServiceAccount.
const TOKEN_BYTES: usize = 900;
/// What is asked for in each namespace, and of the cluster.
const NAMESPACED: [&str; 9] = [
    "api/v1/namespaces/{}/secrets",
    "api/v1/namespaces/{}/pods",
    "api/v1/namespaces/{}/configmaps",
    "api/v1/namespaces/{}/services",
    "api/v1/namespaces/{}/serviceaccounts",
    "api/v1/namespaces/{}/endpoints",
    "apis/apps/v1/namespaces/{}/deployments",
    "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "apis/batch/v1/namespaces/{}/jobs",
];
const NAMESPACES: [&str; 7] = ["default", "kube-system", "shop", "monitoring", "ingress", "payments", "ci"];
const CLUSTER: [&str; 8] = [
    "version",
    "api",
    "apis",
    "api/v1",
    "api/v1/nodes",
    "api/v1/namespaces",
    "api/v1/pods",
    "apis/rbac.authorization.k8s.io/v1/clusterroles",
];

/// What is read of an answer before the connection is closed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it, and the server closes first
    Whole,
    /// Its first line: the rest is unread when the connection closes, which the kernel answers with a reset
    Status,
    /// Either, at random
    Mixed,
}

/// Whom it asks, how much, how.
#[derive(clap::Args, Debug)]
pub struct ReconArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The API
    #[arg(long)]
    target: SocketAddrV4,
    /// Questions per second, at most 500
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// All questions over one connection
    #[arg(long)]
    keep_alive: bool,
    /// What is read of an answer; over one connection always all
    #[arg(long, value_enum, default_value_t = Reading::Mixed)]
    read: Reading,
    #[command(flatten)]
    course: CourseArgs,
}

/// Asks in the given dose until its time is over.
pub(super) async fn run(args: ReconArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let token: Arc<str> = (0..TOKEN_BYTES).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect::<String>().into();
    let course = args.course.begin();
    let tempo = Tempo::new(course, f64::from(args.rate.clamp(1, MAX_RATE)));
    // A question that is under way when the time is over is not waited for.
    let _ = timeout(course.left(), async {
        if args.keep_alive { over_one(&guard, &args, &token, tempo).await } else { over_many(guard, &args, token, tempo).await }
    })
    .await;
    Ok(())
}

async fn over_one(guard: &Guard, args: &ReconArgs, token: &str, mut tempo: Tempo) {
    let mut connection = None;
    while let Some(due) = tempo.due().await {
        for _ in 0..due {
            // An API that went away is asked again over a new connection.
            if ask_again(guard, args.target, &mut connection, token).await.is_err() {
                connection = None;
            }
        }
    }
}

async fn ask_again(guard: &Guard, target: SocketAddrV4, connection: &mut Option<BufReader<TcpStream>>, token: &str) -> std::io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(open(guard, target).await?),
    };
    ask(stream, token, false).await?;
    timeout(PATIENCE, read_whole(stream)).await?
}

async fn over_many(guard: Guard, args: &ReconArgs, token: Arc<str>, mut tempo: Tempo) {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let (target, read) = (args.target, args.read);
    while let Some(due) = tempo.due().await {
        for _ in 0..due {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let token = Arc::clone(&token);
            tokio::spawn(async move {
                // Refused, forbidden and not found are answers too.
                let _ = timeout(PATIENCE, ask_once(&guard, target, &token, read)).await;
                drop(place);
            });
        }
    }
}

async fn ask_once(guard: &Guard, target: SocketAddrV4, token: &str, read: Reading) -> std::io::Result<()> {
    let mut stream = open(guard, target).await?;
    let whole = match read {
        Reading::Whole => true,
        Reading::Status => false,
        Reading::Mixed => rand::random(),
    };
    ask(&mut stream, token, whole).await?;
    if whole {
        read_whole(&mut stream).await?;
        // The server closes; its end is read, so that neither side resets.
        stream.read(&mut [0]).await.map(drop)
    } else {
        // Past the buffer: what the kernel holds unread is what makes it reset.
        stream.get_mut().read_exact(&mut [0; 12]).await.map(drop)
    }
}

async fn open(guard: &Guard, target: SocketAddrV4) -> std::io::Result<BufReader<TcpStream>> {
    guard.check(target).map_err(std::io::Error::other)?;
    let stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

async fn ask(stream: &mut BufReader<TcpStream>, token: &str, last: bool) -> std::io::Result<()> {
    let connection = if last { "close" } else { "keep-alive" };
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: kubernetes.default.svc\r\nAccept: application/json\r\nConnection: {connection}\r\nAuthorization: Bearer {token}\r\n\r\n",
        path()
    );
    stream.write_all(request.as_bytes()).await
}

/// One of some 70 paths.
fn path() -> String {
    let place = rand::random_range(0..NAMESPACED.len() * NAMESPACES.len() + CLUSTER.len());
    match place.checked_sub(CLUSTER.len()) {
        None => CLUSTER[place].to_owned(),
        Some(place) => NAMESPACED[place % NAMESPACED.len()].replace("{}", NAMESPACES[place / NAMESPACED.len()]),
    }
}

async fn read_whole(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut length = None;
    let mut line = String::new();
    {
        let mut head = (&mut *stream).take(MAX_HEAD);
        loop {
            line.clear();
            if head.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
    }
    let length = length.filter(|&length| length <= MAX_BODY).ok_or(std::io::ErrorKind::InvalidData)?;
    stream.read_exact(&mut vec![0; length]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn many_paths_are_asked_for() {
        let paths: HashSet<_> = (0..5_000).map(|_| path()).collect();

        assert_eq!(paths.len(), NAMESPACED.len() * NAMESPACES.len() + CLUSTER.len());
        assert!(paths.contains("version") && paths.contains("api/v1/namespaces/ci/secrets"));
        assert!(paths.iter().all(|path| !path.contains('{')));
    }
}
