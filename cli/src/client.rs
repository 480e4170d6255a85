//! The connection to the aggregator: where it is, whom to trust, which token to show; or a cluster that says all three.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
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
use vedette_proto::v1::model_service_client::ModelServiceClient;
use vedette_proto::v1::policy_service_client::PolicyServiceClient;
use vedette_proto::v1::query_service_client::QueryServiceClient;

use crate::cluster::{self, Cluster, Role};
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
    /// Kubeconfig that leads to an aggregator in a cluster [default without the above: KUBECONFIG, then ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the aggregator in the cluster [default: vedette]
    #[arg(long, global = true, env = "VEDETTE_NAMESPACE", value_name = "NAME", hide_env_values = true)]
    pub vedette_namespace: Option<String>,
    /// What the token asked for in the cluster is to allow [default: what the command needs]
    #[arg(long, global = true, value_name = "ROLE")]
    pub role: Option<Role>,
    /// Configuration file [default: $XDG_CONFIG_HOME/vedette/config.toml]
    #[arg(long, global = true, env = "VEDETTE_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

impl ConnectArgs {
    /// By a kubeconfig where one is asked for, or where nothing else is said and there is one; else [`ConnectArgs::target`]. A cluster is
    /// asked for a token of the role that the command needs.
    pub fn route(&self, needs: Role) -> Result<Route, Stop> {
        let settings = Settings::load(self.config.as_deref())?;
        let asked = self.kubeconfig.is_some() || self.context.is_some();
        let direct = [self.endpoint.is_some(), self.ca.is_some(), self.token_file.is_some(), self.data_dir.is_some()];
        let settled = [settings.endpoint.is_some(), settings.ca.is_some(), settings.token_file.is_some(), settings.data_dir.is_some()];
        let said = direct.into_iter().chain(settled).any(|said| said);
        if !asked && (said || !cluster::has_kubeconfig()) {
            return self.target().map(Route::Direct);
        }
        Ok(Route::Cluster(Cluster {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.vedette_namespace.clone().unwrap_or_else(|| "vedette".to_owned()),
            role: self.role.unwrap_or(needs),
        }))
    }

    /// Flags and environment first, then the configuration file, then the default.
    pub fn target(&self) -> Result<Target, Stop> {
        let settings = Settings::load(self.config.as_deref())?;
        let data_dir = self.data_dir.clone().or(settings.data_dir);
        let endpoint = self.endpoint.clone().or(settings.endpoint).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let beside = |name: &str| data_dir.as_ref().map(|dir| dir.join(name));
        let ca = self.ca.clone().or_else(|| beside("tls/ca.pem")).or(settings.ca).ok_or_else(|| {
            Stop::usage("whom to trust is not said: give --ca FILE and --token-file FILE, or --data-dir DIR on the aggregator's machine, or --kubeconfig FILE for one in a cluster")
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

/// The way to an aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Its address is known.
    Direct(Target),
    /// A cluster has it.
    Cluster(Cluster),
}

impl Route {
    /// Connects, and says in one line what stands in the way.
    pub async fn connect(&self) -> Result<Client, Stop> {
        match self {
            Self::Direct(target) => target.connect().await,
            Self::Cluster(cluster) => cluster.connect().await,
        }
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
        Ok(Client::over(&channel, &Token::renewed(Arc::new(RwLock::new(self.token()?)))))
    }

    fn endpoint(&self) -> Result<Endpoint, Stop> {
        if !self.endpoint.starts_with("https://") {
            return Err(Stop::usage(format!("endpoint {} must begin with https://; vedette speaks TLS only", escaped(&self.endpoint))));
        }
        let pem = read(&self.ca, "the aggregator's CA certificate", "--ca")?;
        endpoint(&self.endpoint, pem, self.server_name.as_deref(), &self.ca.display().to_string())
    }

    fn token(&self) -> Result<MetadataValue<Ascii>, Stop> {
        let text = read(&self.token_file, "the token", "--token-file")?;
        let token = text.trim();
        if token.is_empty() {
            return Err(Stop::usage(format!("the token file {} is empty", self.token_file.display())));
        }
        bearer(token).ok_or_else(|| Stop::usage(format!("{} does not hold one token", self.token_file.display())))
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

/// An address with whom to trust there; `ca` says where the certificates are from.
pub(crate) fn endpoint(url: &str, pem: String, server_name: Option<&str>, ca: &str) -> Result<Endpoint, Stop> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    if let Some(name) = server_name {
        tls = tls.domain_name(name);
    }
    let bad_url = |error: tonic::transport::Error| {
        Stop::usage(format!("endpoint {} is not an address like {DEFAULT_ENDPOINT}: {}", escaped(url), innermost(&error)))
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(bad_url)?;
    let endpoint =
        endpoint.tls_config(tls).map_err(|error| Stop::usage(format!("cannot use the CA certificate {ca}: {}", innermost(&error))))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A watch is silent for hours; without these a dead peer would look like a quiet cluster.
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

/// The header that shows a token; `None` if it is none.
pub(crate) fn bearer(token: &str) -> Option<MetadataValue<Ascii>> {
    if token.is_empty() {
        return None;
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The services of an aggregator.
#[derive(Clone, Debug)]
pub struct Client {
    /// The way there, for whatever is no client of one service.
    pub channel: Authorised,
    /// What the aggregator knows.
    pub query: QueryServiceClient<Authorised>,
    /// What people and simulations say.
    pub label: LabelServiceClient<Authorised>,
    /// What people are bothered with, and what they except.
    pub policy: PolicyServiceClient<Authorised>,
    /// Where observations go: a recording is played through it as an agent would deliver it.
    pub ingest: IngestServiceClient<Authorised>,
    /// Its kind classifiers.
    pub model: ModelServiceClient<Authorised>,
    /// The history, to take away.
    pub export: ExportServiceClient<Authorised>,
}

impl Client {
    /// All of them over one channel.
    pub(crate) fn over(channel: &Channel, token: &Token) -> Self {
        let client = || InterceptedService::new(channel.clone(), token.clone());
        Self {
            channel: client(),
            query: QueryServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            label: LabelServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            policy: PolicyServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            ingest: IngestServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            model: ModelServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            export: ExportServiceClient::new(client()).max_decoding_message_size(MAX_MESSAGE_BYTES),
        }
    }
}

/// A channel that shows the token with every request.
pub type Authorised = InterceptedService<Channel, Token>;

/// Adds `authorization: Bearer ...` to a request: what the holder says at that moment.
#[derive(Clone)]
pub struct Token(Arc<RwLock<MetadataValue<Ascii>>>);

impl Token {
    /// A token that somebody may replace by a fresher one.
    pub(crate) fn renewed(token: Arc<RwLock<MetadataValue<Ascii>>>) -> Self {
        Self(token)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

fn read(path: &Path, what: &str, flag: &str) -> Result<String, Stop> {
    fs::read_to_string(path).map_err(|error| Stop::usage(format!("cannot read {what} {}: {error}; check {flag}", path.display())))
}

/// The last cause is the one that names what happened; those above it say "transport error".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
