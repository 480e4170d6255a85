//! A real aggregator on loopback ports of its own, and channels to it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use vedette_proto::v1::{QueryRequest, query_service_client::QueryServiceClient, query_value};

use crate::process::{self, Process};

/// A cold start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running aggregator.
pub struct Aggregator {
    /// The process.
    pub process: Process,
    /// Its folder: configuration, data, log.
    pub folder: PathBuf,
    /// Where it serves gRPC.
    pub grpc: SocketAddr,
    /// Where it serves its metrics and health.
    pub http: SocketAddr,
}

/// The configuration of an aggregator that keeps its data in `<folder>/data`; more lines may follow.
///
/// # Errors
/// Where there is no free port.
pub fn configure(folder: &Path, more: &str) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let (grpc, http) = (process::free_port()?, process::free_port()?);
    let data = folder.join("data");
    let text = format!(
        "cluster = \"test\"\ndata_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:{grpc}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n{more}\n",
        data.display().to_string()
    );
    fs::write(folder.join("aggregator.toml"), text)?;
    Ok((SocketAddr::from(([127, 0, 0, 1], grpc)), SocketAddr::from(([127, 0, 0, 1], http))))
}

impl Aggregator {
    /// Starts one in a folder, and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends or is not ready in time; holds its log.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let (grpc, http) = configure(folder, "")?;
        Self::start_configured(folder, grpc, http)
    }

    /// Starts one whose configuration is written already: the same again after a kill.
    ///
    /// # Errors
    /// Where it ends or is not ready in time; holds its log.
    pub fn start_configured(folder: &Path, grpc: SocketAddr, http: SocketAddr) -> anyhow::Result<Self> {
        let arguments = ["--config".into(), folder.join("aggregator.toml").into_os_string()];
        let mut process = Process::start("vedette-aggregator", arguments, folder)?;
        process.wait_for("readyz answers 200", START, || matches!(process::get(http, "/readyz"), Ok((200, _))))?;
        Ok(Self { process, folder: folder.to_owned(), grpc, http })
    }

    /// The certificate that clients trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("data/tls/ca.pem")
    }

    /// The administrator's token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("data/admin.token")
    }

    /// The agents' token.
    #[must_use]
    pub fn agent_token_file(&self) -> PathBuf {
        self.folder.join("data/agent.token")
    }

    /// A connection, as an agent or a tool makes it.
    ///
    /// # Errors
    /// Where the aggregator's CA cannot be read, or nobody answers.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let ca = fs::read(self.ca_file()).with_context(|| format!("cannot read {}", self.ca_file().display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
        Ok(Channel::from_shared(format!("https://{}", self.grpc))?.tls_config(tls)?.connect().await?)
    }

    /// A request with the administrator's token.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let token = fs::read_to_string(self.token_file()).with_context(|| format!("cannot read {}", self.token_file().display()))?;
        with_token(message, token.trim())
    }

    /// A request with the agents' token, which alone delivers what happens now.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn agent_request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let path = self.agent_token_file();
        let token = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        with_token(message, token.trim())
    }

    /// The rows that a SELECT gives.
    ///
    /// # Errors
    /// What the aggregator says.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let mut client = QueryServiceClient::new(self.channel().await?);
        let request = self.request(QueryRequest { sql: sql.to_owned(), max_rows: 1_000_000 })?;
        let mut parts = client.query(request).await?.into_inner();
        let mut rows = Vec::new();
        while let Some(part) = parts.message().await? {
            rows.extend(part.rows.into_iter().map(|row| row.values.into_iter().map(|value| json(value.value)).collect()));
        }
        Ok(rows)
    }

    /// The one number that a SELECT gives.
    ///
    /// # Errors
    /// What the aggregator says, or where the answer is something else.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let rows = self.sql(sql).await?;
        rows.first().and_then(|row| row.first()).and_then(Value::as_i64).with_context(|| format!("{sql} gave {rows:?}"))
    }
}

/// A request that shows a token.
///
/// # Errors
/// Where it is no token.
pub fn with_token<T>(message: T, token: &str) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}"))?);
    Ok(request)
}

fn json(value: Option<query_value::Value>) -> Value {
    match value {
        None => Value::Null,
        Some(query_value::Value::Integer(value) | query_value::Value::UnixMs(value)) => value.into(),
        Some(query_value::Value::Unsigned(value)) => value.into(),
        Some(query_value::Value::Number(value)) => value.into(),
        Some(query_value::Value::Text(value)) => value.into(),
        Some(query_value::Value::Boolean(value)) => value.into(),
        Some(query_value::Value::Binary(value)) => value.into(),
    }
}
