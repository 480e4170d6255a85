//! One address that is told: TLS, a token or a password, and answers that are bounded.

use std::{path::Path, time::Duration};

use reqwest::{StatusCode, redirect::Policy};
use vedette_resolve::{Names, RESOLV_CONF};

use super::Receiver;

/// An answer must come within.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer so much is read, and of that so much repeated.
const MAX_ANSWER: usize = 64 << 10;
const SAID: usize = 200;

/// Why somebody cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A file of the configuration.
    #[error("{receiver}: {key}: {path}: {reason}")]
    File {
        /// The receiver.
        receiver: String,
        /// The key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It cannot be reached, or does not answer in time.
    #[error("{receiver}: cannot reach {url}: {reason}")]
    Unreachable {
        /// The receiver.
        receiver: String,
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answers with an error.
    #[error("{receiver}: {url} answers {status}: {said}")]
    Refused {
        /// The receiver.
        receiver: String,
        /// Where.
        url: String,
        /// HTTP's status.
        status: u16,
        /// What it said, cut.
        said: String,
    },
}

impl NotifyError {
    /// The same in one word, for a metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
        }
    }

    /// Whether the same call will be refused for ever: it is what was said that is wrong, not the moment.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 413 | 422, .. })
    }
}

/// Tells one address.
pub struct Client {
    receiver: Receiver,
    url: String,
    /// Made at the first call: a CA file may come later, and its lack must not keep the aggregator from starting.
    http: Option<reqwest::Client>,
}

impl Client {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(receiver: &Receiver, url: &str) -> Self {
        Self { receiver: receiver.clone(), url: url.trim_end_matches('/').to_owned(), http: None }
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a webhook's calls are signed with.
    ///
    /// # Errors
    /// [`NotifyError::File`].
    pub fn secret(&self) -> Result<Vec<u8>, NotifyError> {
        let secret = self.read("secret_file", &self.receiver.secret_file)?;
        if secret.len() < 16 {
            return Err(self.file("secret_file", &self.receiver.secret_file, "holds less than 16 bytes".to_owned()));
        }
        Ok(secret.into_bytes())
    }

    /// Sends JSON to a path below the address.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub async fn post(&mut self, path: &str, headers: &[(&'static str, String)], body: Vec<u8>) -> Result<(), NotifyError> {
        let url = format!("{}{path}", self.url);
        let http = match &self.http {
            Some(http) => http.clone(),
            None => {
                let built = self.build()?;
                self.http.insert(built).clone()
            }
        };
        let mut request = http.post(url).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let receiver = &self.receiver;
        if !receiver.token_file.as_os_str().is_empty() {
            request = request.bearer_auth(self.read("token_file", &receiver.token_file)?);
        } else if !receiver.username.is_empty() {
            request = request.basic_auth(&receiver.username, Some(self.read("password_file", &receiver.password_file)?));
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            said.extend_from_slice(&chunk);
            if said.len() > MAX_ANSWER {
                break;
            }
        }
        Err(self.refused(status, &String::from_utf8_lossy(&said)))
    }

    fn build(&self) -> Result<reqwest::Client, NotifyError> {
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).pool_max_idle_per_host(1);
        // A static program has no other way to a name's address.
        builder = builder.dns_resolver(Names { resolv_conf: RESOLV_CONF.into() });
        let ca_file = &self.receiver.ca_file;
        if !ca_file.as_os_str().is_empty() {
            let pem = std::fs::read(ca_file).map_err(|error| self.file("ca_file", ca_file, error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| self.file("ca_file", ca_file, innermost(&error)))?;
            if certificates.is_empty() {
                return Err(self.file("ca_file", ca_file, "holds no certificate in PEM form".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(|error| self.unreachable(&error))
    }

    fn read(&self, key: &'static str, path: &Path) -> Result<String, NotifyError> {
        let text = std::fs::read_to_string(path).map_err(|error| self.file(key, path, error.to_string()))?;
        let text = text.trim();
        if text.is_empty() { Err(self.file(key, path, "is empty".to_owned())) } else { Ok(text.to_owned()) }
    }

    fn file(&self, key: &'static str, path: &Path, reason: String) -> NotifyError {
        NotifyError::File { receiver: self.receiver.name.clone(), key, path: path.display().to_string(), reason }
    }

    fn unreachable(&self, error: &reqwest::Error) -> NotifyError {
        NotifyError::Unreachable { receiver: self.receiver.name.clone(), url: self.url.clone(), reason: innermost(error) }
    }

    fn refused(&self, status: StatusCode, said: &str) -> NotifyError {
        let said = said.trim().chars().take(SAID).map(|c| if c.is_control() { ' ' } else { c }).collect();
        NotifyError::Refused { receiver: self.receiver.name.clone(), url: self.url.clone(), status: status.as_u16(), said }
    }
}

/// The last cause is the one that names what happened.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
