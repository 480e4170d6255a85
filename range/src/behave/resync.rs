//! A controller: lists an API's resources page by page over one connection, watches one of them over another, and lists all again from
//! time to time. It reads as much as a storm of questions does, without opening connections.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use super::{
    BehaviourError, Bounds,
    http::{Ask, Client},
    jittered,
};
use crate::guard::Guard;

/// Least time from one list to the next.
const MIN_RELIST: Duration = Duration::from_secs(1);
/// Pages per list; an API that says there are more is left.
const MAX_PAGES: usize = 50;
/// Between two pages, and after an API that failed.
const SPACING: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);

/// Which API, how often.
#[derive(clap::Args, Debug)]
pub struct ResyncArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The API
    #[arg(long)]
    target: SocketAddrV4,
    /// A path to list; may be repeated
    #[arg(long = "list", default_values_t = ["/api/v1/pods".to_owned(), "/api/v1/services".to_owned(), "/api/v1/configmaps".to_owned()])]
    lists: Vec<String>,
    /// The path to watch
    #[arg(long, default_value = "/api/v1/pods")]
    watch: String,
    /// Objects per page
    #[arg(long, default_value_t = 500)]
    page: u32,
    /// Seconds from one list of everything to the next, at least 1
    #[arg(long, default_value_t = 30)]
    relist_seconds: u64,
    /// Ends by itself after this long; without it, it goes on until it is killed
    #[arg(long)]
    seconds: Option<u64>,
}

/// Lists and watches until its time is over.
pub(super) async fn run(args: ResyncArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let both = async { tokio::join!(list_for_ever(&guard, &args), watch_for_ever(&guard, &args)) };
    match args.seconds {
        // Over is over.
        Some(seconds) => drop(tokio::time::timeout(Duration::from_secs(seconds), both).await),
        None => drop(both.await),
    }
    Ok(())
}

async fn list_for_ever(guard: &Guard, args: &ResyncArgs) {
    let mut connection = None;
    let every = Duration::from_secs(args.relist_seconds).max(MIN_RELIST);
    loop {
        let began = Instant::now();
        for path in &args.lists {
            if let Err(error) = list(guard, &mut connection, args, path).await {
                eprintln!("{}: cannot list {path}: {error}", args.target);
                connection = None;
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::time::sleep(jittered(every).saturating_sub(began.elapsed())).await;
    }
}

/// Every page of one resource; the number of objects.
async fn list(guard: &Guard, connection: &mut Option<Client>, args: &ResyncArgs, path: &str) -> std::io::Result<usize> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(Client::connect(guard, args.target).await?),
    };
    let (mut objects, mut more) = (0, String::new());
    for _ in 0..MAX_PAGES {
        let answer = client.ask(&Ask::get(format!("{path}?limit={}{more}", args.page))).await?;
        if answer.status != 200 {
            return Err(std::io::Error::other(format!("status {}", answer.status)));
        }
        let (seen, token) = page(&answer.body);
        objects += seen;
        let Some(token) = token else { break };
        more = format!("&continue={token}");
        tokio::time::sleep(SPACING).await;
    }
    Ok(objects)
}

/// Objects on a page, and the token for the next. What is not the list of an API has none.
fn page(body: &[u8]) -> (usize, Option<String>) {
    let list: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let token = list["metadata"]["continue"].as_str().filter(|token| !token.is_empty());
    (list["items"].as_array().map_or(0, Vec::len), token.map(str::to_owned))
}

async fn watch_for_ever(guard: &Guard, args: &ResyncArgs) {
    loop {
        // An API ends a watch now and then; a client begins another.
        if let Err(error) = watch(guard, args).await {
            eprintln!("{}: watch of {} ended: {error}", args.target, args.watch);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch(guard: &Guard, args: &ResyncArgs) -> std::io::Result<()> {
    let mut client = Client::connect(guard, args.target).await?;
    loop {
        let mut events = client.follow(&Ask::get(format!("{}?watch=true", args.watch))).await?;
        if events.status != 200 {
            return Err(std::io::Error::other(format!("status {}", events.status)));
        }
        while client.more(&mut events).await?.is_some() {}
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_objects_and_perhaps_a_token() {
        assert_eq!(page(br#"{"metadata":{"continue":"abc"},"items":[{},{}]}"#), (2, Some("abc".to_owned())));
        assert_eq!(page(br#"{"metadata":{"continue":""},"items":[{}]}"#), (1, None));
        assert_eq!(page(b"<html>"), (0, None));
    }
}
