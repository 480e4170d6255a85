//! A web service: HTTP/1.1 with keep-alive, a little hashing and a few kilobytes per request.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use super::{BehaviourError, hash::hash_for, listen};

/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 512;
/// Longest request head.
const MAX_HEAD: usize = 8 * 1024;

/// What the service does.
#[derive(clap::Args, Debug)]
pub struct WebArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// CPU time per request, microseconds
    #[arg(long, default_value_t = 150)]
    work_us: u64,
    /// Bytes per response
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
}

/// Serves until killed.
pub(super) async fn run(args: WebArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let args = Arc::new(args);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let args = Arc::clone(&args);
        tokio::spawn(async move {
            // A client that goes away is ordinary.
            let _ = serve(stream, &args).await;
            drop(place);
        });
    }
}

async fn serve(mut stream: TcpStream, args: &WebArgs) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(1024);
    let mut count = 0u32;
    loop {
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        };
        head.drain(..end);
        count = count.wrapping_add(1);
        let digest = hash_for(Duration::from_micros(args.work_us), count);
        let body: Vec<u8> = digest.iter().copied().cycle().take(args.bytes).collect();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[answer.as_bytes(), &body].concat()).await?;
    }
}
