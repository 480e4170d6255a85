//! Talks to the API server: lists in pages, watches with bookmarks, lists anew after 410 Gone, backs off with jitter.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    batch::v1::Job,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Resource,
    config::{KubeConfigOptions, Kubeconfig},
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle};

use super::{Kubernetes, Store, Watched};
use crate::{
    clock,
    problems::{Problems, Source},
};

/// First and longest wait after an error; each is a random part of it, so that aggregators do not return all at once.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A watch is renewed this often, seconds: a connection that died without a word is noticed then.
const WATCH_SECONDS: u32 = 120;
/// An answer of which nothing comes for so long will not: the server ends a watch itself after [`WATCH_SECONDS`], so only a connection that died
/// without a word is this silent.
const SILENT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// How often deleted pods are looked at.
const EXPIRE: Duration = Duration::from_secs(30);

/// Why the API server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The kubeconfig.
    #[error("kubernetes.kubeconfig {path}: {problem}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Not in a pod.
    #[error("kubernetes.kubeconfig is empty, and this is no pod with a service account: {0}")]
    InCluster(kube::config::InClusterError),
    /// TLS or the address.
    #[error("kubernetes: no client: {0}")]
    Client(Box<kube::Error>),
}

/// Starts the watches. The server need not answer: that is a problem, told in `status`, and tried again.
pub fn start(
    client: &Client,
    page_size: u32,
    kubernetes: &Arc<Kubernetes>,
    problems: &Arc<Problems>,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let of = |what| Follow { what, page_size, kubernetes: Arc::clone(kubernetes), problems: Arc::clone(problems), stop: stop.clone() };
    let replica_sets: Api<PartialObjectMeta<ReplicaSet>> = Api::all(client.clone());
    let jobs: Api<PartialObjectMeta<Job>> = Api::all(client.clone());
    vec![
        tokio::spawn(of(Watched::ReplicaSets).run(
            replica_sets,
            |store, set, _| store.owner(Watched::ReplicaSets, &set.metadata),
            |store, set, _| store.owner_deleted(&set.metadata),
        )),
        tokio::spawn(of(Watched::Jobs).run(
            jobs,
            |store, job, _| store.owner(Watched::Jobs, &job.metadata),
            |store, job, _| store.owner_deleted(&job.metadata),
        )),
        tokio::spawn(of(Watched::Nodes).run(
            Api::<Node>::all(client.clone()),
            |store, node, _| store.node(node),
            |store, node, _| store.node_deleted(node),
        )),
        tokio::spawn(of(Watched::Pods).run(Api::<Pod>::all(client.clone()), Store::pod, Store::pod_deleted)),
        tokio::spawn(expire(Arc::clone(kubernetes), stop.clone())),
    ]
}

/// How the API server is reached: by a kubeconfig, or, where the path is empty, as a pod of the cluster. Nothing is asked yet.
///
/// # Errors
/// [`KubernetesError`], one line.
pub async fn client(kubeconfig: &Path) -> Result<Client, KubernetesError> {
    let connection = if kubeconfig.as_os_str().is_empty() {
        kube::Config::incluster().map_err(KubernetesError::InCluster)?
    } else {
        let fail =
            |error: kube::config::KubeconfigError| KubernetesError::Kubeconfig { path: kubeconfig.to_owned(), problem: chain(&error) };
        let file = Kubeconfig::read_from(kubeconfig).map_err(fail)?;
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fail)?
    };
    connected(connection)
}

/// A client that waits for nobody for ever.
fn connected(mut connection: kube::Config) -> Result<Client, KubernetesError> {
    // Errors are to be seen by who asks, and waited for by his own rule.
    connection.default_retry = false;
    connection.read_timeout = Some(SILENT);
    // A connection that was idle before a request has not been silent for that long.
    connection.reset_reader_on_write = true;
    Client::try_from(connection).map_err(|error| KubernetesError::Client(Box::new(error)))
}

async fn expire(kubernetes: Arc<Kubernetes>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EXPIRE);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = tick.tick() => kubernetes.expire(clock::unix_ms()),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One watch.
struct Follow {
    what: Watched,
    page_size: u32,
    kubernetes: Arc<Kubernetes>,
    problems: Arc<Problems>,
    stop: watch::Receiver<bool>,
}

impl Follow {
    async fn run<K>(mut self, api: Api<K>, exists: fn(&mut Store, &K, i64), deleted: fn(&mut Store, &K, i64))
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let config = watcher::Config::default().page_size(self.page_size).timeout(WATCH_SECONDS);
        let mut wait = BACKOFF_MIN;
        loop {
            let mut events = std::pin::pin!(watcher::watcher(api.clone(), config.clone()));
            // A watch that cannot begin is given up for a new list: that it begins again in the end is not told, that a list ended is.
            let mut anew = false;
            while !anew {
                let event = tokio::select! {
                    () = stopped(&mut self.stop) => return,
                    event = events.next() => event,
                };
                let now_unix_ms = clock::unix_ms();
                match event {
                    None => return,
                    Some(Ok(event)) => {
                        // That a list begins says nothing yet of the server.
                        let began = matches!(event, Event::Init);
                        let listed = matches!(event, Event::InitDone);
                        self.kubernetes.change(|store| match &event {
                            Event::Init => store.begin(self.what),
                            Event::InitApply(object) | Event::Apply(object) => exists(store, object, now_unix_ms),
                            Event::InitDone => store.end(self.what, now_unix_ms),
                            Event::Delete(object) => deleted(store, object, now_unix_ms),
                        });
                        if !began {
                            wait = BACKOFF_MIN;
                            self.works(listed, now_unix_ms);
                        }
                    }
                    Some(Err(error)) => {
                        anew = matches!(error, watcher::Error::WatchStartFailed(_) | watcher::Error::WatchError(_));
                        self.fails(&error);
                        let pause = wait.mul_f64(rand::random_range(0.5..1.0));
                        wait = (wait * 2).min(BACKOFF_MAX);
                        tokio::select! {
                            () = stopped(&mut self.stop) => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
            }
        }
    }

    fn works(&self, listed: bool, now_unix_ms: i64) {
        if self.kubernetes.works(self.what, listed, now_unix_ms) {
            tracing::info!(what = self.what.word(), "the watch of the API server works again");
            self.tell();
        }
    }

    fn fails(&self, error: &watcher::Error) {
        if is_gone(error) {
            // Too old is no fault: it is listed anew.
            tracing::info!(what = self.what.word(), "the watch of the API server was too old");
            return;
        }
        if let watcher::Error::WatchFailed(error) = error {
            // A connection that ended is nothing yet; what the next one comes to is told.
            tracing::debug!(what = self.what.word(), %error, "a watch of the API server was cut");
            return;
        }
        let error = chain(error);
        tracing::warn!(what = self.what.word(), error, "the watch of the API server does not work");
        self.kubernetes.fails(self.what, error);
        self.tell();
    }

    fn tell(&self) {
        match self.kubernetes.problem() {
            Some(line) => self.problems.state(Source::Kubernetes, line),
            None => self.problems.clear(Source::Kubernetes),
        }
    }
}

fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 410
        }
        _ => false,
    }
}

/// An error with what caused it, on one line, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel takes the connection, and nobody ever answers on it.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_falls_silent_is_given_up() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let client = connected(kube::Config::new(address.parse().unwrap())).unwrap();
        let began = tokio::time::Instant::now();

        let (pods, all) = (Api::<Pod>::all(client), kube::api::ListParams::default());
        let outcome = tokio::time::timeout(Duration::from_secs(3_600), pods.list(&all)).await;

        assert!(matches!(&outcome, Ok(Err(_))), "{outcome:?}");
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(WATCH_SECONDS.into()) && waited < 2 * SILENT, "{waited:?}");
    }
}
