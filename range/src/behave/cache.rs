//! A key-value store in memory, spoken to as `key_value.rs` says.

use std::{cell::RefCell, collections::HashMap, net::Ipv4Addr, rc::Rc};

use tokio::{io::BufReader, net::TcpStream, task::LocalSet};

use super::{
    BehaviourError,
    key_value::{Wish, found, kept, wish},
    listen,
};

/// Keys held; the store is cleared when there are more.
const MAX_KEYS: usize = 4_096;

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
    while let Some(wish) = wish(&mut stream).await? {
        match wish {
            Wish::Set(key, value) => {
                {
                    let mut keys = store.borrow_mut();
                    if keys.len() >= MAX_KEYS {
                        keys.clear();
                    }
                    keys.insert(key, value);
                }
                kept(&mut stream).await?;
            }
            Wish::Get(key) => {
                let value = store.borrow().get(&key).cloned().unwrap_or_default();
                found(&mut stream, &value).await?;
            }
        }
    }
    Ok(())
}
