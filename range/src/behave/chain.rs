//! A service that calls the next ones: each request fans out over keep-alive connections, and the answer is made of theirs.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    BehaviourError, Bounds,
    hash::hash_for,
    http::{Ask, Asked, Client, Reply, serve},
    listen,
    shop::hexadecimal,
};
use crate::guard::Guard;

/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 64;
/// Calls per request, whatever is asked for.
const MAX_FAN_OUT: usize = 8;
/// Idle connections kept per next service; what is given back beyond that is closed.
const MAX_IDLE: usize = 8;
/// Most CPU time per request.
const MAX_WORK: Duration = Duration::from_millis(50);

/// Where the service is in its chain.
#[derive(clap::Args, Debug)]
pub struct ChainArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A service to call for every request; may be repeated, and left out by the last of a chain
    #[arg(long)]
    next: Vec<SocketAddrV4>,
    /// Calls per request, at most 8, in turn over the next services, all at once
    #[arg(long, default_value_t = 2)]
    fan_out: usize,
    /// CPU time per request, microseconds, at most 50 ms
    #[arg(long, default_value_t = 200)]
    work_us: u64,
}

struct Link {
    guard: Guard,
    target: SocketAddrV4,
    idle: Mutex<Vec<Client>>,
}

impl Link {
    /// Over an idle connection if one still works, else over a new one.
    async fn call(&self, ask: &Ask) -> std::io::Result<Vec<u8>> {
        let idle = self.idle().pop();
        if let Some(client) = idle
            && let Ok(body) = self.over(client, ask).await
        {
            return Ok(body);
        }
        self.over(Client::connect(&self.guard, self.target).await?, ask).await
    }

    async fn over(&self, mut client: Client, ask: &Ask) -> std::io::Result<Vec<u8>> {
        let answer = client.ask(ask).await?;
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(client);
        }
        if answer.status < 500 { Ok(answer.body) } else { Err(std::io::Error::other(format!("status {}", answer.status))) }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until killed.
pub(super) async fn run(args: ChainArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    for &next in &args.next {
        guard.check(next)?;
    }
    let listener = listen(args.address, args.port).await?;
    let links = args.next.iter().map(|&target| Link { guard, target, idle: Mutex::default() });
    let links: Arc<Vec<_>> = Arc::new(links.collect());
    let work = Duration::from_micros(args.work_us).min(MAX_WORK);
    let fan_out = if links.is_empty() { 0 } else { args.fan_out.clamp(1, MAX_FAN_OUT) };
    serve(listener, MAX_CONNECTIONS, move |asked: Asked| {
        let links = Arc::clone(&links);
        async move {
            if asked.path == "/healthz" {
                return Reply::text(200, "ok\n");
            }
            let calls = links.iter().cycle().take(fan_out).enumerate().map(|(place, link)| {
                let ask = Ask::get(format!("/items/{}", place * 7));
                async move { link.call(&ask).await }
            });
            let parts: Vec<_> = futures::future::join_all(calls).await;
            let digest = hash_for(work, parts.len() as u32);
            let Ok(parts) = parts.into_iter().collect::<Result<Vec<_>, _>>() else { return Reply::text(502, "a next service failed\n") };
            let parts: Vec<_> = parts.iter().map(|part| format!("{{\"bytes\":{},\"sha256\":\"{}\"}}", part.len(), sum(part))).collect();
            let body = format!("{{\"session\":\"{}\",\"parts\":[{}]}}\n", hexadecimal(&digest), parts.join(","));
            Reply { status: 200, kind: "application/json", body: body.into() }
        }
    })
    .await;
    Ok(())
}

fn sum(part: &[u8]) -> String {
    hexadecimal(&Sha256::digest(part))
}
