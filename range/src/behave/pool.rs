//! The other end of a miner's quiet connection: takes messages of a line each, answers them, and sends a new job now and then.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time::Instant,
};

use super::{BehaviourError, jittered, listen};

/// Miners at once; more are closed unanswered.
const MAX_MINERS: usize = 64;
/// Longest message.
const MAX_MESSAGE: u64 = 4_096;

/// The answer to a share.
const TAKEN: &[u8] = b"{\"id\":0,\"error\":null,\"result\":{\"status\":\"OK\"}}\n";

/// Where it listens, how often it has news.
#[derive(clap::Args, Debug)]
pub struct PoolArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 3333)]
    port: u16,
    /// Mean seconds between two jobs
    #[arg(long, default_value_t = 60)]
    job_seconds: u64,
}

/// Serves until killed.
pub(super) async fn run(args: PoolArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let places = Arc::new(Semaphore::new(MAX_MINERS));
    let every = Duration::from_secs(args.job_seconds.max(1));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        tokio::spawn(async move {
            // A miner that goes away is ordinary.
            let _ = serve(stream, every).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, every: Duration) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let mut next = Instant::now() + jittered(every);
    loop {
        let read_line = async { (&mut read).take(MAX_MESSAGE).read_until(b'\n', &mut line).await };
        tokio::select! {
            read = read_line => {
                if read? == 0 {
                    return Ok(());
                }
                let login = line.windows(7).any(|word| word == b"\"login\"");
                line.clear();
                write.write_all(if login { job() } else { TAKEN.to_vec() }.as_slice()).await?;
            }
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + jittered(every);
                write.write_all(&job()).await?;
            }
        }
    }
}

/// A job of some 300 bytes.
fn job() -> Vec<u8> {
    let blob: String = (0..5).map(|_| format!("{:032x}", rand::random::<u128>())).collect();
    let target = rand::random::<u32>();
    format!("{{\"method\":\"job\",\"params\":{{\"blob\":\"{blob}\",\"target\":\"{target:08x}\",\"algo\":\"rx/0\"}}}}\n").into_bytes()
}
