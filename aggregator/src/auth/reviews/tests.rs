//! Reviews with an API server that a test plays; time is paused.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::auth::kubernetes::{Pod, User};

const AGENT: &str = "system:serviceaccount:vedette-agent:vedette-agent";
const VIEWER: &str = "system:serviceaccount:vedette:vedette-viewer";

/// What the test's API server knows.
#[derive(Default)]
struct Server {
    asked: AtomicUsize,
    down: AtomicBool,
    revoked: AtomicBool,
}

struct Nodes(HashMap<String, String>);

impl PodNodes for Nodes {
    fn node_of<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, Result<Option<String>, Unasked>> {
        Box::pin(async move { Ok(self.0.get(&pod.uid).cloned()) })
    }
}

fn base64url(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |bits: u32| char::from(LETTERS[bits as usize & 63]);
    let letters = text.as_bytes().chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |place| letter(bits >> (18 - 6 * place)))
    });
    letters.collect()
}

/// A token as a ServiceAccount has it; what follows the pod uid tells one from another.
fn token(subject: &str, audience: &str, seconds: i64, pod: &str) -> String {
    let expires = clock::unix_ms() / 1_000 + seconds;
    let claims = format!("{{\"aud\":[\"{audience}\"],\"exp\":{expires},\"sub\":\"{subject}\"}}");
    format!("e30.{}.{pod}", base64url(&claims))
}

fn agent(pod: &str) -> String {
    token(AGENT, "vedette-aggregator", 3_600, pod)
}

fn reviews(server: &Arc<Server>) -> Arc<Reviews> {
    let server = Arc::clone(server);
    let review: Review = Box::new(move |token| {
        let server = Arc::clone(&server);
        Box::pin(async move {
            server.asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if server.down.load(Ordering::Relaxed) {
                return Err(Unasked("connection refused".into()));
            }
            let (claims, pod) = (claims::read(&token).unwrap(), token.rsplit('.').next().unwrap().to_owned());
            if pod.starts_with("forged") || server.revoked.load(Ordering::Relaxed) {
                return Ok(Said::Nobody("invalid bearer token".into()));
            }
            let pod = (!pod.is_empty()).then(|| Pod { namespace: "vedette-agent".into(), name: "p".into(), uid: pod });
            Ok(Said::User(User { name: claims.subject, pod }))
        })
    });
    let nodes = Nodes(HashMap::from([("uid-1".to_owned(), "node-1".to_owned())]));
    let config = Config { token_review: true, ..Config::default() };
    Reviews::new((&config).into(), review, Arc::new(nodes), Arc::default())
}

fn from(last: u8) -> Option<IpAddr> {
    Some([10, 0, 0, last].into())
}

async fn reason(reviews: &Arc<Reviews>, token: &str) -> Refusal {
    reviews.check(token, from(1)).await.unwrap_err().reason
}

#[tokio::test(start_paused = true)]
async fn an_agents_token_is_that_of_its_pods_node_and_asked_about_once() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    let token = agent("uid-1");

    let granted = futures::future::join_all((0..50).map(|_| reviews.check(&token, from(1)))).await;

    let callers: Vec<_> = granted.into_iter().map(|grant| grant.unwrap().caller).collect();
    assert!(callers.iter().all(|caller| caller.role == Role::Agent && caller.node.as_deref() == Some("node-1")));
    assert_eq!((callers.len(), server.asked.load(Ordering::Relaxed)), (50, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_token_says_of_itself_refuses_it_without_a_call() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);

    let reasons = [
        reason(&reviews, "no-token").await,
        reason(&reviews, &token(AGENT, "vedette-aggregator", -1, "uid-1")).await,
        reason(&reviews, &token(AGENT, "https://kubernetes.default.svc", 3_600, "uid-1")).await,
        reason(&reviews, &token("system:serviceaccount:shop:web", "vedette-aggregator", 3_600, "uid-1")).await,
    ];

    assert_eq!(reasons, [Refusal::Unauthenticated, Refusal::Expired, Refusal::Audience, Refusal::PermissionDenied]);
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_nobody_knows_and_a_token_without_one_deliver_nothing() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);

    assert_eq!(reason(&reviews, &agent("uid-2")).await, Refusal::UnknownPod);
    assert_eq!(reason(&reviews, &agent("")).await, Refusal::UnknownPod);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_ends_what_is_open_within_a_minute() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    let token = agent("uid-1");
    let grant = reviews.check(&token, from(1)).await.unwrap();
    let over = tokio::spawn(grant.over());
    tokio::time::sleep(Duration::from_secs(100)).await;

    server.revoked.store(true, Ordering::Relaxed);
    let revoked = Instant::now();
    let refused = over.await.unwrap();

    assert_eq!(refused.reason, Refusal::Revoked);
    assert!(revoked.elapsed() <= Duration::from_secs(46), "{:?}", revoked.elapsed());
    assert_eq!(reason(&reviews, &token).await, Refusal::Revoked);
}

#[tokio::test(start_paused = true)]
async fn what_is_open_ends_with_its_token() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    // The wall clock of the claims does not stand still with the paused one, but moves by far less than this.
    let token = token(VIEWER, "vedette-aggregator", 100, "");
    let opened = Instant::now();

    let refused = reviews.check(&token, from(1)).await.unwrap().over().await;

    assert_eq!(refused.reason, Refusal::Expired);
    assert!((90..=101).contains(&opened.elapsed().as_secs()), "{:?}", opened.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_good_token_outlives_an_outage_of_the_api_server_for_the_grace_only() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    let token = agent("uid-1");
    reviews.check(&token, from(1)).await.unwrap();
    server.down.store(true, Ordering::Relaxed);

    tokio::time::sleep(Duration::from_secs(200)).await;
    let within = reviews.check(&token, from(1)).await;
    let stranger = reason(&reviews, &agent("uid-1 of another")).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let beyond = reason(&reviews, &token).await;
    server.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = reviews.check(&token, from(1)).await;

    assert!(within.is_ok() && after.is_ok());
    assert_eq!((stranger, beyond), (Refusal::Unavailable, Refusal::Unavailable));
    assert!(reviews.problems.lines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_asked_about_by_everybody() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    server.down.store(true, Ordering::Relaxed);

    let tokens: Vec<_> = (0..200u8).map(|n| agent(&format!("uid of {n}"))).collect();
    let answers = futures::future::join_all(tokens.iter().zip(0..).map(|(token, n)| reviews.check(token, from(n)))).await;

    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|refused| refused.reason == Refusal::Unavailable)));
    assert!(server.asked.load(Ordering::Relaxed) <= AT_ONCE, "{}", server.asked.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_forged_tokens_reaches_neither_the_api_server_nor_others() {
    let server = Arc::new(Server::default());
    let reviews = reviews(&server);
    let good = agent("uid-1");
    reviews.check(&good, from(1)).await.unwrap();

    let tokens: Vec<_> = (0..2_000).map(|n| agent(&format!("forged-{n}"))).collect();
    let flood = futures::future::join_all(tokens.iter().map(|token| reviews.check(token, from(1)))).await;
    let limited = flood.iter().filter(|answer| answer.as_ref().is_err_and(|refused| refused.reason == Refusal::Limit)).count();
    let known = reviews.check(&good, from(1)).await;
    let other = reviews.check(&token(VIEWER, "vedette-aggregator", 3_600, ""), from(2)).await;

    assert_eq!((flood.len(), limited), (2_000, 2_000 - 32));
    assert!(known.is_ok() && other.is_ok());
    // The known one, those that the address had tries for, and the other's.
    assert_eq!(server.asked.load(Ordering::Relaxed), 1 + 32 + 1);
}
