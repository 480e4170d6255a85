//! An aggregator in Kubernetes, reached with nothing but a kubeconfig: a short token, the CA from its ConfigMap, a port-forward.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use clap::ValueEnum;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use tokio::io::DuplexStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};

use crate::client::{self, Token};
use crate::escape::escaped;
use crate::exit::{Exit, Stop};

/// Where the aggregator listens in its pod.
const PORT: u16 = 7443;
/// The audience that the aggregator asks for.
const AUDIENCE: &str = "vedette-aggregator";
/// The name by which a port-forward arrives, and which the aggregator's certificate therefore carries.
const SERVER_NAME: &str = "localhost";
/// Finds the aggregator's pod.
const LABEL: &str = "app.kubernetes.io/name=vedette-aggregator";
/// The ConfigMap with the CA, and the key in it.
const CA: (&str, &str) = ("vedette-ca", "ca.crt");
/// A token's life, in seconds: an hour outlives a question, and a watch is not interrupted all the time.
const TOKEN_SECONDS: i64 = 3_600;
/// A command that runs longer has a fresh token after so long ...
const RENEW: Duration = Duration::from_secs(2_400);
/// ... and tries again this soon where it gets none.
const RETRY: Duration = Duration::from_secs(30);
/// An API server answers in milliseconds; a far one deserves a few round trips.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the token is to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Read
    Viewer,
    /// Read, label and answer
    Operator,
    /// Everything
    Admin,
}

impl Role {
    /// The word in the ServiceAccount's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    fn account(self) -> String {
        format!("vedette-{}", self.word())
    }
}

/// Which cluster, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `None`: `KUBECONFIG`, then `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the current one.
    pub context: Option<String>,
    /// Where the aggregator is.
    pub namespace: String,
    /// What to ask for.
    pub role: Role,
}

/// Whether there is a kubeconfig where `kubectl` would look.
#[must_use]
pub fn has_kubeconfig() -> bool {
    match std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) {
        Some(paths) => std::env::split_paths(&paths).any(|path| path.is_file()),
        None => std::env::var_os("HOME").is_some_and(|home| PathBuf::from(home).join(".kube/config").is_file()),
    }
}

impl Cluster {
    /// Connects, and says in one line what stands in the way.
    pub async fn connect(&self) -> Result<client::Client, Stop> {
        let late = |_| Err(Stop::new(Exit::Unreachable, format!("{} does not answer within {} s", self.place(), PATIENCE.as_secs())));
        let asked = async {
            let api = self.api().await?;
            let token = self.token(&api).await?;
            let ca = self.ca(&api).await?;
            let pod = self.pod(&api).await?;
            Ok::<_, Stop>((api, token, ca, pod))
        };
        let (api, token, ca, pod) = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late)?;
        let said = Arc::new(Mutex::new(None));
        let pods = Api::namespaced(api.clone(), &self.namespace);
        let forward = Forward { pods, pod: pod.clone(), said: Arc::clone(&said) };
        let endpoint = client::endpoint(&format!("https://{SERVER_NAME}:{PORT}"), ca, None, "the ConfigMap vedette-ca")?;
        let channel = endpoint.connect_with_connector(forward).await.map_err(|error| {
            let cause = said.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| client::innermost(&error));
            let problem = format!("cannot reach pod {pod} in namespace {}: {}", self.namespace, escaped(&cause));
            let hint = if cause.contains("forbidden") {
                format!("; it takes `get` and `create` on pods/portforward there: {}", self.binding(self.role))
            } else {
                String::new()
            };
            Stop::new(Exit::Unreachable, format!("{problem}{hint}"))
        })?;
        let token = Arc::new(RwLock::new(token));
        tokio::spawn(renew(self.clone(), api, Arc::downgrade(&token)));
        Ok(client::Client::over(&channel, &Token::renewed(token)))
    }

    fn place(&self) -> String {
        match &self.context {
            Some(context) => format!("the API server of context {}", escaped(context)),
            None => "the API server of the kubeconfig's current context".to_owned(),
        }
    }

    /// What a person who may not is to ask for.
    fn binding(&self, role: Role) -> String {
        let (namespace, role) = (&self.namespace, role.word());
        format!("ask for `kubectl -n {namespace} create rolebinding NAME --clusterrole=vedette-{role} --user=YOU`")
    }

    /// A client of the API server.
    pub(crate) async fn api(&self) -> Result<Client, Stop> {
        let wrong = |error: &dyn std::fmt::Display| {
            Stop::usage(format!("kubeconfig: {}; see --kubeconfig and --context", escaped(&error.to_string())))
        };
        let file = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let file = file.map_err(|error| wrong(&error))?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(&error))?;
        config.connect_timeout = Some(PATIENCE);
        Client::try_from(config).map_err(|error| wrong(&error))
    }

    async fn token(&self, api: &Client) -> Result<MetadataValue<Ascii>, Stop> {
        let (account, namespace) = (self.role.account(), &self.namespace);
        let spec = TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts = Api::<ServiceAccount>::namespaced(api.clone(), namespace);
        let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.is_forbidden() => {
                let less = if self.role == Role::Viewer { "" } else { ", or try --role viewer" };
                let problem = format!("you may not ask for tokens of ServiceAccount {account} in namespace {namespace}");
                let need = format!("it takes `create` on serviceaccounts/token with resourceNames [{account}]");
                Stop::new(Exit::Refused, format!("{problem}: {need}; {}{less}", self.binding(self.role)))
            }
            kube::Error::Api(status) if status.is_not_found() => {
                let problem = format!("no ServiceAccount {account} in namespace {namespace}");
                Stop::new(Exit::Unreachable, format!("{problem}: is Vedette installed there? See --vedette-namespace and --context"))
            }
            _ => self.failed(&error),
        })?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        client::bearer(&token).ok_or_else(|| Stop::new(Exit::Failure, format!("{} gave no token for {account}", self.place())))
    }

    /// Beside the agents by default; where there is one namespace for all, in that.
    async fn ca(&self, api: &Client) -> Result<String, Stop> {
        let beside = format!("{}-agent", self.namespace);
        for namespace in [&beside, &self.namespace] {
            let maps = Api::<ConfigMap>::namespaced(api.clone(), namespace);
            match maps.get(CA.0).await {
                Ok(map) => match map.data.unwrap_or_default().remove(CA.1) {
                    Some(pem) if !pem.is_empty() => return Ok(pem),
                    _ => {
                        let problem = format!("ConfigMap {} in namespace {namespace} holds no {} yet", CA.0, CA.1);
                        return Err(Stop::new(Exit::Unreachable, format!("{problem}: does the aggregator run?")));
                    }
                },
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_forbidden() => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let problem = format!("no ConfigMap {} that you may read in namespace {beside} or {}", CA.0, self.namespace);
        Err(Stop::new(Exit::Unreachable, format!("{problem}: is Vedette installed there? See --vedette-namespace and --context")))
    }

    /// The aggregator's pod: a running one, if there is one.
    async fn pod(&self, api: &Client) -> Result<String, Stop> {
        let pods = Api::<Pod>::namespaced(api.clone(), &self.namespace);
        let found = pods.list(&ListParams::default().labels(LABEL)).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.is_forbidden() => {
                let problem = format!("you may not list the pods of namespace {}", self.namespace);
                Stop::new(Exit::Refused, format!("{problem}: {}", self.binding(self.role)))
            }
            _ => self.failed(&error),
        })?;
        let running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let names = found.items.iter().filter(|pod| running(pod)).filter_map(|pod| pod.metadata.name.clone());
        let none = || format!("no pod with {LABEL} runs in namespace {}: see `kubectl -n {0} get pods`", self.namespace);
        names.min().ok_or_else(|| Stop::new(Exit::Unreachable, none()))
    }

    /// What the API server said, in one line.
    pub(crate) fn failed(&self, error: &kube::Error) -> Stop {
        match error {
            kube::Error::Api(status) if status.code == 401 => {
                Stop::new(Exit::Refused, format!("{} does not accept the kubeconfig's credentials; does kubectl work?", self.place()))
            }
            kube::Error::Api(status) => Stop::new(Exit::Failure, format!("{} says: {}", self.place(), escaped(&status.message))),
            other => {
                let cause = client::innermost(other);
                Stop::new(Exit::Unreachable, format!("cannot reach {}: {}; does kubectl work?", self.place(), escaped(&cause)))
            }
        }
    }
}

/// Keeps the token of a long command fresh, until nobody holds it any more.
async fn renew(cluster: Cluster, api: Client, token: Weak<RwLock<MetadataValue<Ascii>>>) {
    let mut wait = RENEW;
    loop {
        tokio::time::sleep(wait).await;
        let Some(token) = token.upgrade() else { return };
        wait = match tokio::time::timeout(PATIENCE, cluster.token(&api)).await {
            Ok(Ok(fresh)) => {
                *token.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                RENEW
            }
            // The old one is good for a while; once it is not, the aggregator says so.
            _ => RETRY,
        };
    }
}

/// Opens a port-forward for every connection.
struct Forward {
    pods: Api<Pod>,
    pod: String,
    /// What the other end said of the last one that failed.
    said: Arc<Mutex<Option<String>>>,
}

impl Service<Uri> for Forward {
    type Response = TokioIo<DuplexStream>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (pods, pod, said) = (self.pods.clone(), self.pod.clone(), Arc::clone(&self.said));
        Box::pin(async move {
            let mut forwarded = pods.portforward(&pod, &[PORT]).await.inspect_err(|error| {
                if let kube::Error::Api(status) = error {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.message.clone());
                }
            })?;
            if let Some(error) = forwarded.take_error(PORT) {
                tokio::spawn(async move {
                    if let Some(text) = error.await {
                        *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    }
                });
            }
            Ok(TokioIo::new(forwarded.take_stream(PORT).expect("a port that was asked for has one stream")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_what_to_ask_for() {
        let cluster = Cluster { kubeconfig: None, context: None, namespace: "watch".into(), role: Role::Operator };

        let line = cluster.binding(cluster.role);

        assert!(line.contains("kubectl -n watch create rolebinding") && line.contains("--clusterrole=vedette-operator"), "{line}");
    }
}
