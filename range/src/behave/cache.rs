//! A key-value store over TCP: `S key length\n` then the bytes, answered `+\n`; `G key\n`, answered `length\n` and the bytes.

use std::{cell::RefCell, collections::HashMap, net::Ipv4Addr, rc::Rc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::LocalSet,
};

use super::{BehaviourError, listen};

/// Keys held; the store is cleared when there are more.
const MAX_KEYS: usize = 4_096;
/// Longest value, bytes.
pub(super) const MAX_VALUE: usize = 16 * 1024;

type Store = Rc<RefCell<HashMap<String, Vec<u8>>>>;

/// Where the store listens.
#[derive(clap::Args, Debug)]
pub struct CacheArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 6379)]
    port: u16,
}

/// Serves until killed.
pub(super) async fn run(args: CacheArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let store = Store::default();
    LocalSet::new()
        .run_until(async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let store = Rc::clone(&store);
                tokio::task::spawn_local(async move {
                    // A client that goes away is ordinary.
                    let _ = serve(stream, &store).await;
                });
            }
        })
        .await
}

async fn serve(stream: TcpStream, store: &Store) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut stream).take(256).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("S"), Some(key), Some(length)) => {
                let length = length.parse().ok().filter(|&length| length <= MAX_VALUE).ok_or(std::io::ErrorKind::InvalidData)?;
                let mut value = vec![0; length];
                stream.read_exact(&mut value).await?;
                {
                    let mut keys = store.borrow_mut();
                    if keys.len() >= MAX_KEYS {
                        keys.clear();
                    }
                    keys.insert(key.to_owned(), value);
                }
                stream.write_all(b"+\n").await?;
            }
            (Some("G"), Some(key), None) => {
                let value = store.borrow().get(key).cloned().unwrap_or_default();
                stream.write_all(&[format!("{}\n", value.len()).as_bytes(), &value].concat()).await?;
            }
            _ => return Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}
