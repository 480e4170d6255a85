//! Prometheus's HTTP API, as far as it is asked: instant queries of scalars and of ranges.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{StatusCode, Url, redirect::Policy};
use vedette_crosscheck::Point;

use super::answer::{self, Data, Room};
use crate::{
    config::PrometheusConfig,
    resolve::{Names, RESOLV_CONF},
};

/// An answer must come within.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes of an answer.
const MAX_BYTES: usize = 16 << 20;
/// Of an error's text so many characters are repeated: it is Prometheus's, and goes on to the aggregator, which refuses texts beyond 1 KiB.
const SAID: usize = 200;

/// Why Prometheus does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the configuration.
    #[error("prometheus.{key}: {path}: {reason}")]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No HTTP client to be had.
    #[error("prometheus: {0}")]
    Setup(String),
    /// It cannot be reached, or does not answer in time.
    #[error("cannot ask {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answers with an error.
    #[error("{url} answers {status}: {said}")]
    Refused {
        /// Where.
        url: String,
        /// HTTP's status.
        status: u16,
        /// What it said, cut.
        said: String,
    },
    /// It answers something that is not its API.
    #[error("{url} answers what is not understood: {reason}")]
    Answer {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
}

impl ClientError {
    /// The same in one word, for a metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Setup(_) => "file",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Answer { .. } => "answer",
        }
    }
}

/// One series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// Its labels that matter, the name among them.
    pub labels: BTreeMap<String, String>,
    /// Its values in the order of time.
    pub points: Vec<Point>,
}

impl Labelled {
    /// A label; empty where there is none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Asks one Prometheus.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    config: PrometheusConfig,
    room: Mutex<Room>,
}

impl Client {
    /// Reads the CA; the password and the token are read anew for every question.
    ///
    /// # Errors
    /// [`ClientError`] names the key and the file.
    pub fn new(config: &PrometheusConfig) -> Result<Self, ClientError> {
        let setup = |error: reqwest::Error| ClientError::Setup(innermost(&error));
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).pool_max_idle_per_host(1);
        // A static agent has no other way to a name's address.
        builder = builder.dns_resolver(Names { resolv_conf: RESOLV_CONF.into() });
        if !config.ca_file.as_os_str().is_empty() {
            let file = |reason| ClientError::File { key: "ca_file", path: config.ca_file.clone(), reason };
            let pem = std::fs::read(&config.ca_file).map_err(|error| file(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| file(innermost(&error)))?;
            if certificates.is_empty() {
                return Err(file("holds no certificate in PEM form".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let url = Url::parse(&format!("{}/api/v1/query", config.url.trim_end_matches('/')))
            .map_err(|error| ClientError::Setup(format!("url {:?}: {error}", config.url)))?;
        Ok(Self { http: builder.build().map_err(setup)?, url, config: config.clone(), room: Mutex::new(Room::ROUND) })
    }

    /// A round begins: its answers have all of the room.
    pub fn begin_round(&self) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Room::ROUND;
    }

    /// What Prometheus's clock says, Unix milliseconds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn time(&self) -> Result<i64, ClientError> {
        match self.ask("time()").await? {
            Data::Scalar(text) => answer::unix_ms(&text).ok_or_else(|| self.not_understood(&format!("time() is {text:?}"))),
            Data::Matrix(_) => Err(self.not_understood("time() is no scalar")),
        }
    }

    /// The raw values of a range selector.
    ///
    /// # Errors
    /// [`ClientError`]; also where the answers of this round hold more than [`Room::ROUND`].
    pub async fn range(&self, selector: &str) -> Result<Vec<Labelled>, ClientError> {
        match self.ask(selector).await? {
            Data::Matrix(series) => Ok(series),
            Data::Scalar(_) => Err(self.not_understood("no range of values")),
        }
    }

    async fn ask(&self, query: &str) -> Result<Data, ClientError> {
        let unreachable =
            |error: &reqwest::Error| ClientError::Unreachable { url: self.config.url.clone(), reason: one_line(&innermost(error)) };
        let mut request = self.http.post(self.url.clone()).form(&[("query", query)]);
        if !self.config.token_file.as_os_str().is_empty() {
            request = request.bearer_auth(read("token_file", &self.config.token_file)?);
        } else if !self.config.username.is_empty() {
            request = request.basic_auth(&self.config.username, Some(read("password_file", &self.config.password_file)?));
        }
        let mut response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(self.not_understood(&format!("more than {MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answer::read(&body, &mut room);
        drop(room);
        if status != StatusCode::OK {
            let said =
                answer.map_or_else(|_| String::from_utf8_lossy(&body[..body.len().min(4 * SAID)]).into_owned(), |answer| answer.error);
            return Err(ClientError::Refused { url: self.config.url.clone(), status: status.as_u16(), said: one_line(&said) });
        }
        let answer = answer.map_err(|error| self.not_understood(&error.to_string()))?;
        match answer.data {
            Some(data) if answer.status == "success" => Ok(data),
            _ => Err(self.not_understood(&format!("status {}: {}", one_line(&answer.status), one_line(&answer.error)))),
        }
    }

    fn not_understood(&self, reason: &str) -> ClientError {
        ClientError::Answer { url: self.config.url.clone(), reason: one_line(reason) }
    }
}

fn read(key: &'static str, path: &std::path::Path) -> Result<String, ClientError> {
    let file = |reason| ClientError::File { key, path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() { Err(file("is empty".to_owned())) } else { Ok(text.to_owned()) }
}

fn one_line(text: &str) -> String {
    text.chars().take(SAID).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The last cause is the one that names what happened.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Asks somebody who answers the same to everything.
    async fn told(status: &str, body: Vec<u8>) -> ClientError {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = PrometheusConfig { url: format!("http://{}", listener.local_addr().unwrap()), ..PrometheusConfig::default() };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            // It may have heard enough before the end.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        });
        let error = Client::new(&config).unwrap().range("up[1m]").await.unwrap_err();
        server.join().unwrap();
        error
    }

    /// The aggregator refuses longer texts, and the batch that they come in: rows would be lost with them.
    #[tokio::test(flavor = "multi_thread")]
    async fn whatever_is_answered_an_error_is_one_short_line() {
        let long = "\u{1b}[31m\nx".repeat(5_000);
        let quoted = serde_json::to_string(&long).unwrap();
        for (status, body) in [
            ("200 OK", quoted.clone()),
            ("200 OK", format!("{{\"status\":{quoted},\"error\":{quoted}}}")),
            ("200 OK", format!("{{\"data\":{{\"result\":[{quoted},{quoted}]}},\"status\":\"success\"}}")),
            ("200 OK", format!("{{\"data\":{quoted}}}")),
            ("400 Bad Request", format!("{{\"status\":\"error\",\"error\":{quoted}}}")),
            ("500 Internal Server Error", long.clone()),
        ] {
            let error = told(status, body.into_bytes()).await.to_string();

            assert!(error.len() < 1_024 && !error.contains(char::is_control), "{} bytes: {error:?}", error.len());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_without_an_end_is_given_up() {
        let error = told("200 OK", vec![b' '; MAX_BYTES + 1]).await.to_string();

        assert!(error.ends_with("more than 16777216 bytes"), "{error}");
    }
}
