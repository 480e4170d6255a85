//! A store for what is shipped, backed up or pushed: it takes named chunks, hashes and acknowledges each, and keeps only digests.
//!
//! `P name length\n` then the bytes, answered `+ digest\n`; `Q digest\n`, answered `+\n` where such a chunk was taken before, else `-\n`.
//! A digest is SHA-256 in hexadecimal.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use super::{BehaviourError, listen, shop::hexadecimal};
use crate::guard::Guard;

/// Longest chunk, bytes; a client that announces more is cut off.
pub(super) const MAX_CHUNK: usize = 8 * 1024 * 1024;
/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 64;
/// Digests remembered; all are forgotten when there are more.
const MAX_DIGESTS: usize = 10_000;
/// Longest line of the protocol, bytes.
const MAX_LINE: u64 = 512;
/// How long a client waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the store listens.
#[derive(clap::Args, Debug)]
pub struct StoreArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 9100)]
    port: u16,
}

type Digests = Arc<Mutex<HashSet<String>>>;

/// Takes chunks until killed.
pub(super) async fn run(args: StoreArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let digests = Digests::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let digests = Arc::clone(&digests);
        tokio::spawn(async move {
            // A client that goes away is ordinary.
            let _ = converse(stream, &digests).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, digests: &Digests) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut line = String::new();
        if (&mut stream).take(MAX_LINE).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("P"), Some(_), Some(length)) => {
                let mut left = length.parse().ok().filter(|&length| length <= MAX_CHUNK).ok_or(io::ErrorKind::InvalidData)?;
                let mut sum = Sha256::new();
                while left > 0 {
                    let part = buffer.len().min(left);
                    stream.read_exact(&mut buffer[..part]).await?;
                    sum.update(&buffer[..part]);
                    left -= part;
                }
                let digest = hexadecimal(&sum.finalize());
                stream.write_all(format!("+ {digest}\n").as_bytes()).await?;
                let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
                if digests.len() >= MAX_DIGESTS {
                    digests.clear();
                }
                digests.insert(digest);
            }
            (Some("Q"), Some(digest), None) => {
                let known = digests.lock().unwrap_or_else(PoisonError::into_inner).contains(digest);
                stream.write_all(if known { b"+\n" } else { b"-\n" }).await?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One connection to a store.
pub(super) struct Depositor {
    stream: BufReader<TcpStream>,
}

impl Depositor {
    /// Connects, if the guard allows it.
    pub(super) async fn connect(guard: &Guard, target: SocketAddrV4) -> io::Result<Self> {
        guard.check(target).map_err(io::Error::other)?;
        let stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a chunk and waits for its acknowledgement; an error where the store hashed something else than was sent.
    pub(super) async fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let digest = hexadecimal(&Sha256::digest(bytes));
        let answer = self.exchange(format!("P {name} {}\n", bytes.len()), bytes).await?;
        if answer.strip_prefix("+ ") != Some(&digest) {
            return Err(io::Error::other(format!("the store took {name} as {answer:?}")));
        }
        Ok(digest)
    }

    /// Whether the store took such a chunk before.
    pub(super) async fn has(&mut self, digest: &str) -> io::Result<bool> {
        Ok(self.exchange(format!("Q {digest}\n"), &[]).await? == "+")
    }

    async fn exchange(&mut self, line: String, bytes: &[u8]) -> io::Result<String> {
        timeout(PATIENCE, async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.write_all(bytes).await?;
            let mut answer = String::new();
            if (&mut self.stream).take(MAX_LINE).read_line(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(answer.trim_end().to_owned())
        })
        .await?
    }
}
