//! Prometheus's HTTP API, as far as it is asked: instant queries of scalars and of ranges.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use reqwest::{StatusCode, Url, redirect::Policy};
use serde::Deserialize;
use vedette_crosscheck::Point;

use crate::config::PrometheusConfig;

/// An answer must come within.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes of an answer.
const MAX_BYTES: usize = 16 << 20;
/// Of an error's text so much is repeated.
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
    /// Its labels, the name among them.
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
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Matrix(Vec<Row>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Client {
    /// Reads the CA; the password and the token are read anew for every question.
    ///
    /// # Errors
    /// [`ClientError`] names the key and the file.
    pub fn new(config: &PrometheusConfig) -> Result<Self, ClientError> {
        let setup = |error: reqwest::Error| ClientError::Setup(innermost(&error));
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).pool_max_idle_per_host(1);
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
        Ok(Self { http: builder.build().map_err(setup)?, url, config: config.clone() })
    }

    /// What Prometheus's clock says, Unix milliseconds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn time(&self) -> Result<f64, ClientError> {
        match self.ask("time()").await? {
            Data::Scalar((_, value)) => {
                value.parse::<f64>().map(|seconds| seconds * 1e3).map_err(|_| self.not_understood(format!("time() is {value:?}")))
            }
            Data::Matrix(_) => Err(self.not_understood("time() is no scalar".to_owned())),
        }
    }

    /// The raw values of a range selector.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn range(&self, selector: &str) -> Result<Vec<Labelled>, ClientError> {
        let Data::Matrix(rows) = self.ask(selector).await? else { return Err(self.not_understood("no range of values".to_owned())) };
        Ok(rows
            .into_iter()
            .map(|row| {
                let point = |(at, value): (f64, String)| Some(Point { unix_ms: (at * 1e3).round() as i64, value: value.parse().ok()? });
                let points = row.values.into_iter().filter_map(point).filter(|point| point.value.is_finite()).collect();
                Labelled { labels: row.metric, points }
            })
            .collect())
    }

    async fn ask(&self, query: &str) -> Result<Data, ClientError> {
        let unreachable = |error: &reqwest::Error| ClientError::Unreachable { url: self.config.url.clone(), reason: innermost(error) };
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
                return Err(self.not_understood(format!("more than {MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status != StatusCode::OK {
            let said =
                serde_json::from_slice::<Answer>(&body).map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |answer| answer.error);
            return Err(ClientError::Refused { url: self.config.url.clone(), status: status.as_u16(), said: one_line(&said) });
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| self.not_understood(error.to_string()))?;
        match answer.data {
            Some(data) if answer.status == "success" => Ok(data),
            _ => Err(self.not_understood(format!("status {}: {}", one_line(&answer.status), one_line(&answer.error)))),
        }
    }

    fn not_understood(&self, reason: String) -> ClientError {
        ClientError::Answer { url: self.config.url.clone(), reason }
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
