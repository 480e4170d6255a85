//! The connection to the aggregator: where it is, whom to trust, which token to show.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use vedette_proto::v1::export_service_client::ExportServiceClient;
use vedette_proto::v1::ingest_service_client::IngestServiceClient;
use vedette_proto::v1::label_service_client::LabelServiceClient;
use vedette_proto::v1::query_service_client::QueryServiceClient;

use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::settings::Settings;

/// Where an aggregator listens unless somebody says otherwise.
pub const DEFAULT_ENDPOINT: &str = "https://127.0.0.1:7443";
/// A local aggregator answers in milliseconds; a far one deserves a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger than any message the aggregator sends; a larger one is an error, not memory.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Flags that say how to reach the aggregator.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Address of the aggregator [default: https://127.0.0.1:7443]
    #[arg(long, global = true, env = "VEDETTE_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// PEM file with the certificate of the aggregator's CA
    #[arg(long, global = true, env = "VEDETTE_CA", value_name = "FILE", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// File that holds the token to show
    #[arg(long, global = true, env = "VEDETTE_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Data directory of an aggregator on this machine: its CA and admin token are used
    #[arg(long, global = true, env = "VEDETTE_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Name that the certificate must carry, where it is not the host of the endpoint (port forwarding)
    #[arg(long, global = true, env = "VEDETTE_SERVER_NAME", value_name = "NAME", hide_env_values = true)]
    pub server_name: Option<String>,
    /// Configuration file [default: $XDG_CONFIG_HOME/vedette/config.toml]
    #[arg(long, global = true, env = "VEDETTE_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

impl ConnectArgs {
    /// Flags and environment first, then the configuration file, then the default.
    pub fn target(&self) -> Result<Target, Stop> {
        let settings = Settings::load(self.config.as_deref())?;
        let data_dir = self.data_dir.clone().or(settings.data_dir);
        let endpoint = self.endpoint.clone().or(settings.endpoint).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let beside = |name: &str| data_dir.as_ref().map(|dir| dir.join(name));
        let ca = self.ca.clone().or_else(|| beside("tls/ca.pem")).or(settings.ca).ok_or_else(|| {
            Stop::usage("whom to trust is not said: give --ca FILE and --token-file FILE, or --data-dir DIR on the aggregator's machine")
        })?;
        let token_file = self
            .token_file
            .clone()
            .or_else(|| beside("admin.token"))
            .or(settings.token_file)
            .ok_or_else(|| Stop::usage("no token: give --token-file FILE, or --data-dir DIR on the aggregator's machine"))?;
        Ok(Target { endpoint, ca, token_file, server_name: self.server_name.clone().or(settings.server_name) })
    }
}

/// An aggregator and how to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https://HOST:PORT`.
    pub endpoint: String,
    /// PEM file of the CA.
    pub ca: PathBuf,
    /// File with the token.
    pub token_file: PathBuf,
    /// Name that the certificate must carry. `None` means: the endpoint's host.
    pub server_name: Option<String>,
}

impl Target {
    /// An aggregator on this machine, by its data directory.
    pub fn in_data_dir(endpoint: impl Into<String>, dir: &Path) -> Self {
        Self { endpoint: endpoint.into(), ca: dir.join("tls/ca.pem"), token_file: dir.join("admin.token"), server_name: None }
    }

    /// Connects, and says in one line what stands in the way.
    pub async fn connect(&self) -> Result<Client, Stop> {
        let channel = self.endpoint()?.connect().await.map_err(|error| self.unreachable(&error))?;
        let token = Token(self.token()?);
        let client = |channel: Channel| InterceptedService::new(channel, token.clone());
        Ok(Client {
            query: QueryServiceClient::new(client(channel.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES),
            label: LabelServiceClient::new(client(channel.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES),
            ingest: IngestServiceClient::new(client(channel.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES),
            export: ExportServiceClient::new(client(channel)).max_decoding_message_size(MAX_MESSAGE_BYTES),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, Stop> {
        let url = escaped(&self.endpoint);
        if !self.endpoint.starts_with("https://") {
            return Err(Stop::usage(format!("endpoint {url} must begin with https://; vedette speaks TLS only")));
        }
        let pem = read(&self.ca, "the aggregator's CA certificate", "--ca")?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        let bad_url = |error: tonic::transport::Error| {
            Stop::usage(format!("endpoint {url} is not an address like {DEFAULT_ENDPOINT}: {}", innermost(&error)))
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(bad_url)?;
        let endpoint = endpoint
            .tls_config(tls)
            .map_err(|error| Stop::usage(format!("cannot use the CA certificate {}: {}", self.ca.display(), innermost(&error))))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A watch is silent for hours; without these a dead peer would look like a quiet cluster.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true))
    }

    fn token(&self) -> Result<MetadataValue<Ascii>, Stop> {
        let text = read(&self.token_file, "the token", "--token-file")?;
        let token = text.trim();
        if token.is_empty() {
            return Err(Stop::usage(format!("the token file {} is empty", self.token_file.display())));
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| Stop::usage(format!("{} does not hold one token", self.token_file.display())))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Stop {
        let url = escaped(&self.endpoint);
        let cause = escaped(&innermost(error));
        let lower = cause.to_lowercase();
        let message = if lower.contains("unknownissuer") || lower.contains("badsignature") {
            format!("{url} shows a certificate that the CA in {} did not sign; give its own CA with --ca", self.ca.display())
        } else if lower.contains("not valid for name") {
            format!("the certificate of {url} is for another name ({cause}); give the right one with --server-name")
        } else if lower.contains("certificate") {
            format!("the certificate of {url} is not acceptable: {cause}")
        } else if lower.contains("refused") {
            format!("nothing listens at {url}: start vedette-aggregator there, or give its address with --endpoint")
        } else {
            format!("cannot reach {url}: {cause}; is --endpoint right?")
        };
        Stop::new(Exit::Unreachable, message)
    }
}

/// The services of an aggregator.
#[derive(Clone, Debug)]
pub struct Client {
    /// What the aggregator knows.
    pub query: QueryServiceClient<Authorised>,
    /// What people and simulations say.
    pub label: LabelServiceClient<Authorised>,
    /// Where observations go: a recording is played through it as an agent would deliver it.
    pub ingest: IngestServiceClient<Authorised>,
    /// The history, to take away.
    pub export: ExportServiceClient<Authorised>,
}

/// A channel that shows the token with every request.
pub type Authorised = InterceptedService<Channel, Token>;

/// Adds `authorization: Bearer ...` to a request.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

fn read(path: &Path, what: &str, flag: &str) -> Result<String, Stop> {
    fs::read_to_string(path).map_err(|error| Stop::usage(format!("cannot read {what} {}: {error}; check {flag}", path.display())))
}

/// The last cause is the one that names what happened; those above it say "transport error".
fn innermost(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if error.source().is_none() { error.to_string() } else { cause.to_string() }
}
