//! Pods as a kubelet would look after them, whatever runs them: a sandbox, a container with a new id per life, restarts with
//! back-off, extra programs started inside, and a record of it all.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;
use tokio::{
    process::Child,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::warn;

use crate::{
    cgroups::{CgroupError, Cgroups, Limits},
    events::{Event, emit},
    home::Home,
    network::{Network, NetworkError, PodNetwork},
    now_unix_ms,
    runtime::{Container, PodPlace, Runtime, RuntimeError},
    schedule::{Life, PodRecord, Schedule},
};

/// Longest back-off between two lives, as a kubelet's.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Name that kubelets give to sandboxes.
const SANDBOX: &str = "POD";

/// Why a pod could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Its cgroups.
    #[error("pod {0}: {1}")]
    Cgroup(String, #[source] CgroupError),
    /// Its network.
    #[error("pod {0}: {1}")]
    Network(String, #[source] NetworkError),
    /// Its sandbox or container.
    #[error("pod {0}: {1}")]
    Runtime(String, #[source] RuntimeError),
    /// The identity file could not be written.
    #[error("cannot write the identity of pod {0}: {1}")]
    Identity(String, std::io::Error),
    /// The container is between two lives.
    #[error("pod {0} has no running container to start a program in")]
    NotRunning(String),
    /// The task that looks after it is gone.
    #[error("pod {0} is not looked after any more")]
    Unattended(String),
}

/// Everything that the pods of one run share.
pub struct Site {
    /// The run's cgroups.
    pub cgroups: Cgroups,
    /// The run's network.
    pub network: Network,
    /// The run's directory.
    pub home: Home,
    /// What runs the pods.
    pub runtime: Runtime,
    /// Where identities go. `None`: nowhere.
    pub identities: Option<Mutex<std::fs::File>>,
    /// What is known so far.
    pub schedule: Mutex<Schedule>,
    /// Delay before the second restart.
    pub backoff: Duration,
}

impl Site {
    /// What is known so far, to read or add to.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A behaviour with its arguments, and the name its process goes by.
#[derive(Clone, Debug)]
pub struct Program {
    /// The process's name, at most 15 bytes.
    pub comm: String,
    /// Arguments after `behave`.
    pub args: Vec<String>,
}

/// Who a pod is.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Owner's kind, such as `Deployment`.
    pub owner_kind: &'static str,
    /// Owner's name; also the container's.
    pub owner_name: String,
    /// Limits of its container; `pids` is the pod's.
    pub limits: Limits,
    /// Directories of the run, its own and shared ones, which its container sees under the same paths.
    pub dirs: Vec<PathBuf>,
}

/// Namespace of every pod of a run.
pub const NAMESPACE: &str = "shop";

enum Order {
    /// Run these from now on, one per life, the last for ever; end the present life first.
    Become(Vec<Program>),
    Stop,
}

/// A pod, sandbox running; its container after [`Pod::start`].
pub struct Pod {
    site: Arc<Site>,
    /// Uid, 36 characters.
    pub uid: String,
    /// Who it is.
    pub spec: PodSpec,
    /// Its network.
    pub network: PodNetwork,
    place: PodPlace,
    sandbox: Mutex<Option<Container>>,
    sandbox_id: String,
    /// Container id of the present life.
    present: watch::Sender<Option<String>>,
    orders: Mutex<Option<(mpsc::Sender<Order>, JoinHandle<()>)>>,
}

impl Pod {
    /// Makes cgroups and network, writes the identity down, and starts the sandbox.
    ///
    /// # Errors
    /// When any of it fails; what was made is removed by [`crate::clean`].
    pub async fn create(site: &Arc<Site>, spec: PodSpec) -> Result<Arc<Self>, PodError> {
        let uid = random_uid();
        let suffix = format!("{}-{}", random_hex(10), random_hex(5));
        let name =
            if spec.owner_kind == "StatefulSet" { format!("{}-0", spec.owner_name) } else { format!("{}-{suffix}", spec.owner_name) };
        let network = site.network.pod().await.map_err(|error| PodError::Network(name.clone(), error))?;
        let record = PodRecord {
            pod_uid: uid.clone(),
            namespace: NAMESPACE.to_owned(),
            pod: name.clone(),
            owner_kind: spec.owner_kind.to_owned(),
            owner_name: spec.owner_name.clone(),
            containers: vec![spec.owner_name.clone()],
            address: network.address.to_string(),
            born_unix_ms: now_unix_ms(),
            gone_unix_ms: 0,
        };
        if let Some(file) = &site.identities {
            write_identity(file, &record).map_err(|error| PodError::Identity(name.clone(), error))?;
        }
        site.schedule().pods.push(record);
        let place = PodPlace {
            uid: uid.clone(),
            name: name.clone(),
            container: spec.owner_name.clone(),
            cgroup: format!("kubepods/burstable/pod{uid}"),
            limits: spec.limits,
            dirs: spec.dirs.clone(),
            network: network.clone(),
        };
        let cgroup = |error| PodError::Cgroup(name.clone(), error);
        site.cgroups.create(&place.cgroup).map_err(cgroup)?;
        site.cgroups.limit(&place.cgroup, Limits { pids: spec.limits.pids, ..Limits::default() }).map_err(cgroup)?;
        let sandbox = site.runtime.sandbox(&place).await.map_err(|error| PodError::Runtime(name, error))?;
        let pod = Self {
            site: Arc::clone(site),
            uid,
            spec,
            network,
            place,
            sandbox_id: sandbox.id().to_owned(),
            sandbox: Mutex::new(None),
            present: watch::Sender::new(None),
            orders: Mutex::new(None),
        };
        pod.begun(&sandbox, true);
        *pod.sandbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(sandbox);
        Ok(Arc::new(pod))
    }

    /// Starts the container: one program per life, the last one for ever. Returns once its first process is there.
    ///
    /// # Errors
    /// When the first life cannot begin.
    pub async fn start(self: &Arc<Self>, programs: Vec<Program>) -> Result<(), PodError> {
        // Orders are few and answered at once.
        let (orders, receive) = mpsc::channel(4);
        let mut present = self.present.subscribe();
        let attendant = tokio::spawn(Arc::clone(self).attend(programs, receive));
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = Some((orders, attendant));
        let started = present.wait_for(Option::is_some).await.is_ok();
        if started { Ok(()) } else { Err(self.unattended()) }
    }

    /// Ends the present life badly and goes on with these programs.
    ///
    /// # Errors
    /// When nobody looks after the pod any more.
    pub async fn become_one(&self, programs: Vec<Program>) -> Result<(), PodError> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|orders| orders.0.clone());
        orders.ok_or_else(|| self.unattended())?.send(Order::Become(programs)).await.map_err(|_| self.unattended())
    }

    /// Starts a program inside the running container, as `kubectl exec` would; dropping the child ends it.
    ///
    /// # Errors
    /// When no container runs or the process cannot be started.
    pub fn exec(&self, program: &Program) -> Result<Child, PodError> {
        let id = self.present.borrow().clone().ok_or_else(|| PodError::NotRunning(self.spec.owner_name.clone()))?;
        self.site.runtime.exec(&self.place, &id, program).map_err(|error| self.runtime(error))
    }

    /// Container id of the present life.
    #[must_use]
    pub fn container_id(&self) -> Option<String> {
        self.present.borrow().clone()
    }

    /// Ids that its container had at some time in this range.
    #[must_use]
    pub fn container_ids(&self, start_unix_ms: i64, stop_unix_ms: i64) -> Vec<String> {
        let schedule = self.site.schedule();
        let lives = schedule.lives.iter().filter(|life| life.pod_uid == self.uid && !life.sandbox);
        let lives = lives.filter(|life| life.born_unix_ms < stop_unix_ms && (life.gone_unix_ms == 0 || life.gone_unix_ms > start_unix_ms));
        lives.map(|life| life.container_id.clone()).collect()
    }

    /// When its container failed, since then.
    #[must_use]
    pub fn failures_since(&self, unix_ms: i64) -> Vec<i64> {
        self.site.schedule().failures_since(&self.uid, unix_ms)
    }

    /// Ends container and sandbox and removes the pod.
    ///
    /// # Errors
    /// When a cgroup cannot be removed.
    pub async fn stop(&self) -> Result<(), PodError> {
        let attended = self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((orders, attendant)) = attended {
            let _ = orders.send(Order::Stop).await;
            let _ = attendant.await;
        }
        let sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sandbox) = sandbox {
            self.end(sandbox, false).await?;
        }
        let removed = self.site.cgroups.remove(&self.place.cgroup).await;
        removed.map_err(|error| PodError::Cgroup(self.spec.owner_name.clone(), error))?;
        let mut schedule = self.site.schedule();
        if let Some(record) = schedule.pods.iter_mut().find(|record| record.pod_uid == self.uid) {
            record.gone_unix_ms = now_unix_ms();
        }
        Ok(())
    }

    async fn attend(self: Arc<Self>, mut programs: Vec<Program>, mut orders: mpsc::Receiver<Order>) {
        let mut life = 0;
        // Lives that ended by themselves or were ended badly, since the pod began or changed its programs.
        let mut failures = 0;
        let mut attempt = 0;
        while let Some(program) = programs.get(life).or(programs.last()) {
            let mut container = match self.site.runtime.container(&self.place, &self.sandbox_id, attempt, program).await {
                Ok(container) => container,
                Err(error) => {
                    warn!(error = %self.runtime(error), "cannot start a container");
                    break;
                }
            };
            attempt += 1;
            self.begun(&container, false);
            self.present.send_replace(Some(container.id().to_owned()));
            let order = tokio::select! {
                well = container.wait() => {
                    (life, failures) = (life + 1, failures + 1);
                    if !well {
                        emit(&Event::Ended { owner_name: &self.spec.owner_name, container_id: container.id(), failures });
                    }
                    None
                }
                order = orders.recv() => Some(order.unwrap_or(Order::Stop)),
            };
            self.present.send_replace(None);
            if let Err(error) = self.end(container, !matches!(order, Some(Order::Stop))).await {
                warn!(%error, "cannot end a container");
                break;
            }
            let order = match order {
                // The life that an order ended counts as a failure; a kubelet would begin the next as it does after any first one.
                Some(Order::Become(next)) => {
                    tokio::time::sleep(self.delay(1)).await;
                    (programs, life, failures) = (next, 0, 1);
                    continue;
                }
                Some(order) => Some(order),
                None => tokio::select! {
                    () = tokio::time::sleep(self.delay(failures)) => None,
                    order = orders.recv() => Some(order.unwrap_or(Order::Stop)),
                },
            };
            match order {
                None => {}
                Some(Order::Become(next)) => (programs, life, failures) = (next, 0, 0),
                Some(Order::Stop) => break,
            }
        }
    }

    /// As a kubelet: the first restart at once (a runtime needs about a second), then back-off that doubles.
    fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(2).min(16);
        if failures <= 1 { self.site.backoff / 10 } else { (self.site.backoff * 2u32.pow(doublings)).min(MAX_BACKOFF) }
    }

    fn begun(&self, container: &Container, sandbox: bool) {
        self.site.schedule().lives.push(Life {
            pod_uid: self.uid.clone(),
            container: if sandbox { SANDBOX.to_owned() } else { self.spec.owner_name.clone() },
            container_id: container.id().to_owned(),
            sandbox,
            born_unix_ms: container.born_unix_ms(),
            ended_unix_ms: 0,
            gone_unix_ms: 0,
            failed: false,
        });
    }

    async fn end(&self, container: Container, failed: bool) -> Result<(), PodError> {
        let id = container.id().to_owned();
        let (ended, removed) = container.end().await;
        let mut schedule = self.site.schedule();
        if let Some(life) = schedule.lives.iter_mut().rev().find(|life| life.container_id == id) {
            *life = Life { ended_unix_ms: ended.ended_unix_ms, gone_unix_ms: ended.gone_unix_ms, failed, ..life.clone() };
        }
        removed.map_err(|error| self.runtime(error))
    }

    fn runtime(&self, error: RuntimeError) -> PodError {
        PodError::Runtime(self.spec.owner_name.clone(), error)
    }

    fn unattended(&self) -> PodError {
        PodError::Unattended(self.spec.owner_name.clone())
    }
}

/// One line of the aggregator's identity file.
fn write_identity(file: &Mutex<std::fs::File>, pod: &PodRecord) -> std::io::Result<()> {
    use std::io::Write;

    let mut line = serde_json::json!({
        "pod_uid": pod.pod_uid,
        "namespace": pod.namespace,
        "pod": pod.pod,
        "owner_kind": pod.owner_kind,
        "owner_name": pod.owner_name,
        "containers": pod.containers,
    })
    .to_string();
    line.push('\n');
    // One write, so that a reader never sees half a line of ours followed by another's.
    file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
}

/// Random lower-case hexadecimal digits.
#[must_use]
pub fn random_hex(digits: usize) -> String {
    let mut rng = rand::rng();
    (0..digits).map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0')).collect()
}

fn random_uid() -> String {
    let digits = random_hex(31);
    let variant = ['8', '9', 'a', 'b'][rand::random_range(0..4)];
    format!("{}-{}-4{}-{variant}{}-{}", &digits[..8], &digits[8..12], &digits[12..15], &digits[15..18], &digits[18..30])
}
