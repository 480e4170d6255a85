//! Between a browser, which speaks plain HTTP to loopback, and the aggregator, which speaks TLS with a CA that browsers do not know.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tonic_web::GrpcWebLayer;
use tower_layer::Layer;

use super::door::{self, To, cookie, text};
use super::sessions::{HOURS, Sessions};
use crate::client::Authorised;

/// Connections at once; a browser opens six. More wait.
const MAX_CONNECTIONS: usize = 64;
/// The header of a request on loopback arrives at once.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Carries the session's key; see [`super::sessions::Entered`].
const KEY: &str = "x-vedette-key";
/// For what is not a file of the console, whose policy the aggregator sets.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The sessions, and the way to the aggregator.
pub struct Proxy {
    aggregator: Authorised,
    address: SocketAddr,
    /// Stands in labels and answers unless the person says another name.
    author: String,
    sessions: Mutex<Sessions>,
}

/// Serves for ever.
pub async fn serve<T>(listener: TcpListener, proxy: Arc<Proxy>) -> T {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, mostly: pause, or this loop takes a whole core.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.answer(request).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
            // A browser that goes away in the middle is no failure of ours.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Proxy {
    /// Nobody may enter before [`Proxy::invite`].
    pub fn new(aggregator: Authorised, address: SocketAddr, author: String) -> Self {
        Self { aggregator, address, author, sessions: Mutex::default() }
    }

    /// An address that opens one session. What follows `#` stays in the browser: it is in no request and in no log.
    pub fn invite(&self) -> String {
        let token = secret();
        self.sessions().invite(&token, now());
        format!("http://{}/#{token}", self.address)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cookie_name(&self) -> String {
        // Cookies know no ports: two consoles would log each other out.
        format!("vedette-{}", self.address.port())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let checked = door::check(self.address, request.method(), request.uri().path(), request.headers());
        let mut response = match checked {
            Err((status, why)) => plain(status, why),
            Ok(To::File(path)) => self.file(&path).await,
            Ok(To::Enter) => self.enter(request.headers()),
            Ok(to) => match self.ends(request.headers()) {
                None => plain(StatusCode::UNAUTHORIZED, "no session: open the address that `vedette console` prints"),
                Some(_) if to == To::Leave => self.leave(request.headers()),
                Some(ends_unix_ms) if to == To::Session => self.session(ends_unix_ms, None),
                Some(_) => self.call(request).await,
            },
        };
        protect(response.headers_mut());
        response
    }

    fn ends(&self, headers: &HeaderMap) -> Option<i64> {
        self.sessions().ends(cookie(headers, &self.cookie_name())?, text(headers, KEY)?, now())
    }

    fn enter(&self, headers: &HeaderMap) -> Response<Body> {
        let token = text(headers, header::AUTHORIZATION.as_str()).and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
        let Some(entered) = self.sessions().enter(token, now(), secret) else {
            return plain(
                StatusCode::UNAUTHORIZED,
                "this address was used or is void: press Enter where `vedette console` runs for another",
            );
        };
        let name = self.cookie_name();
        let set = format!("{name}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", entered.cookie, HOURS * 3_600);
        let mut response = self.session(entered.ends_unix_ms, Some(&entered.key));
        response.headers_mut().insert(header::SET_COOKIE, set.parse().expect("hexadecimal digits are a header"));
        response
    }

    fn leave(&self, headers: &HeaderMap) -> Response<Body> {
        let name = self.cookie_name();
        self.sessions().leave(cookie(headers, &name).unwrap_or_default());
        let mut response = plain(StatusCode::OK, "the session is over");
        let set = format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
        response.headers_mut().insert(header::SET_COOKIE, set.parse().expect("a port is a header"));
        response
    }

    fn session(&self, ends_unix_ms: i64, key: Option<&str>) -> Response<Body> {
        let mut said = json!({ "author": self.author, "ends_unix_ms": ends_unix_ms });
        if let Some(key) = key {
            said["key"] = key.into();
        }
        let mut response = Response::new(bytes(said.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn file(&self, path: &str) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.version_mut() = Version::HTTP_2;
        // A path was checked to hold nothing that a URI may not.
        *request.uri_mut() = path.parse().expect("a checked path is a URI");
        match called(self.aggregator.clone(), request).await {
            // A refusal of gRPC is a 200 without a page.
            Ok(response) if response.headers().contains_key("grpc-status") => {
                let said = text(response.headers(), "grpc-message").unwrap_or("an older version?");
                plain(StatusCode::BAD_GATEWAY, &format!("this aggregator gives no console: {said}"))
            }
            Ok(response) => response.map(Body::new),
            Err(why) => plain(StatusCode::BAD_GATEWAY, &why),
        }
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = head.uri;
        // Nothing else of what a browser says is the aggregator's business, the cookie least of all.
        for name in [header::CONTENT_TYPE.as_str(), "grpc-timeout", "x-user-agent"] {
            if let Some(value) = head.headers.get(name) {
                request.headers_mut().insert(header::HeaderName::from_bytes(name.as_bytes()).expect("a name"), value.clone());
            }
        }
        match called(GrpcWebLayer::new().layer(self.aggregator.clone()), request).await {
            Ok(response) => response,
            Err(why) => plain(StatusCode::BAD_GATEWAY, &why),
        }
    }
}

/// Calls once the way is free.
async fn called<S, B>(mut service: S, request: Request<B>) -> Result<S::Response, String>
where
    S: Service<Request<B>>,
    S::Error: std::error::Error + 'static,
{
    let said = |error: S::Error| format!("the aggregator cannot be reached: {}", crate::client::innermost(&error));
    std::future::poll_fn(|context| service.poll_ready(context)).await.map_err(said)?;
    service.call(request).await.map_err(said)
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(bytes(format!("{}\n", crate::escape::escaped(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn bytes(text: String) -> Body {
    Body::new(text)
}

/// Headers of every answer, whoever made it.
fn protect(headers: &mut HeaderMap) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// 32 bytes that nobody guesses, as hexadecimal digits.
fn secret() -> String {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).expect("the kernel gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
