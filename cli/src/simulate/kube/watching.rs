//! What a run knows of its pods: a watch of the namespace, each status noted as it comes, and waiting for what a status says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use vedette_range::now_unix_ms;
use vedette_range::schedule::Schedule;

use super::lives;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};

/// After an error of the watch; the next one begins with a list, which misses nothing that still is.
const RETRY: Duration = Duration::from_secs(1);
/// A watch is renewed this often, seconds: a connection that died without a word is noticed then.
const WATCH_SECONDS: u32 = 60;
/// Why a container that waits will go on waiting.
const HOPELESS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// One pod by its name.
#[derive(Clone, Debug)]
struct Seen {
    pod: Pod,
    gone: bool,
}

/// Everything that is known so far.
#[derive(Default)]
struct Known {
    /// As many as the run makes, which the quota bounds at any time.
    pods: HashMap<String, Seen>,
    schedule: Schedule,
    /// The last thing that went wrong with the watch.
    trouble: Option<String>,
}

/// The watch, for as long as this is there.
pub struct Watching {
    known: Arc<Mutex<Known>>,
    changed: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    /// Watches from now on.
    pub fn begin(pods: Api<Pod>, schedule: Schedule) -> Self {
        let known = Arc::new(Mutex::new(Known { schedule, ..Known::default() }));
        let changed = watch::Sender::new(0);
        let task = tokio::spawn(follow(pods, Arc::clone(&known), changed.clone()));
        Self { known, changed, task }
    }

    /// What is known so far, to read or add to.
    pub fn with<T>(&self, what: impl FnOnce(&mut Schedule) -> T) -> T {
        what(&mut lock(&self.known).schedule)
    }

    /// Lives that the kubelets counted and nobody was told of.
    pub fn missed(&self) -> usize {
        let known = lock(&self.known);
        known.pods.values().map(|seen| lives::missed(&known.schedule.lives, &seen.pod)).sum()
    }

    /// Whether a container of this pod runs at the moment.
    pub fn runs(&self, name: &str) -> bool {
        lock(&self.known).pods.get(name).is_some_and(|seen| !seen.gone && running(&seen.pod))
    }

    /// Waits until a pod's container runs and it has an address; gives the pod.
    pub async fn running(&self, name: &str, limit: Duration) -> Result<Pod, Stop> {
        let said = |pod: &Pod| match hopeless(pod) {
            Some(why) => Some(Err(Stop::new(Exit::Failure, format!("pod {name} cannot run: {}", escaped(&why))))),
            None => (address(pod).is_some() && running(pod)).then(|| Ok(pod.clone())),
        };
        let late = |pod: Option<&Pod>| {
            let why = pod.and_then(unscheduled).map_or_else(String::new, |why| format!(": {}", escaped(&why)));
            Stop::new(Exit::Failure, format!("pod {name} does not run after {} s{why}", limit.as_secs()))
        };
        self.until(name, limit, said, late).await
    }

    /// Waits until a pod has an address; `None`: it has none in time. What it runs may have ended already.
    pub async fn addressed(&self, name: &str, limit: Duration) -> Result<Option<String>, Stop> {
        let said = |pod: &Pod| match hopeless(pod) {
            Some(why) => Some(Err(Stop::new(Exit::Failure, format!("pod {name} cannot run: {}", escaped(&why))))),
            None => address(pod).map(|address| Ok(Some(address.to_owned()))),
        };
        let until = Instant::now() + limit;
        let late = |_: Option<&Pod>| Stop::new(Exit::Failure, format!("pod {name} has no address after {} s", limit.as_secs()));
        match self.until(name, limit, said, late).await {
            Err(_) if Instant::now() >= until => Ok(None),
            settled => settled,
        }
    }

    /// Waits until a pod's container ended for good; gives its exit code and what it said last.
    pub async fn ended(&self, name: &str, limit: Duration) -> Result<(i32, String), Stop> {
        let said = |pod: &Pod| {
            let ended = lives::statuses(pod).first()?.state.as_ref()?.terminated.as_ref();
            match (ended, hopeless(pod)) {
                (Some(ended), _) => Some(Ok((ended.exit_code, ended.message.clone().unwrap_or_default()))),
                (None, Some(why)) => Some(Err(Stop::new(Exit::Failure, format!("pod {name} cannot run: {}", escaped(&why))))),
                (None, None) => None,
            }
        };
        let late = |_: Option<&Pod>| Stop::new(Exit::Failure, format!("pod {name} does not end within {} s", limit.as_secs()));
        self.until(name, limit, said, late).await
    }

    /// Waits until a pod is gone; whether it is.
    pub async fn gone(&self, name: &str, limit: Duration) -> bool {
        let mut changes = self.changed.subscribe();
        let until = Instant::now() + limit;
        loop {
            changes.mark_unchanged();
            // One that nobody was told of yet is not gone.
            if lock(&self.known).pods.get(name).is_some_and(|seen| seen.gone) {
                return true;
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                return false;
            }
        }
    }

    async fn until<T>(
        &self,
        name: &str,
        limit: Duration,
        said: impl Fn(&Pod) -> Option<Result<T, Stop>>,
        late: impl Fn(Option<&Pod>) -> Stop,
    ) -> Result<T, Stop> {
        let mut changes = self.changed.subscribe();
        let until = Instant::now() + limit;
        loop {
            changes.mark_unchanged();
            let (pod, trouble) = {
                let known = lock(&self.known);
                match known.pods.get(name) {
                    Some(seen) if seen.gone => {
                        return Err(Stop::new(Exit::Failure, format!("pod {name} was removed by somebody else")));
                    }
                    seen => (seen.map(|seen| seen.pod.clone()), known.trouble.clone()),
                }
            };
            if let Some(said) = pod.as_ref().and_then(&said) {
                return said;
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                let stop = late(pod.as_ref());
                return Err(match trouble {
                    Some(trouble) => Stop::new(stop.exit, format!("{}; the watch of pods says: {}", stop.message, escaped(&trouble))),
                    None => stop,
                });
            }
        }
    }
}

async fn follow(pods: Api<Pod>, known: Arc<Mutex<Known>>, changed: watch::Sender<u64>) {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let mut listed: Vec<String> = Vec::new();
    let mut events = std::pin::pin!(watcher::watcher(pods, config));
    while let Some(event) = events.next().await {
        let failed = event.is_err();
        {
            let mut known = lock(&known);
            known.trouble = event.as_ref().err().map(ToString::to_string);
            match event {
                Ok(Event::Apply(pod)) => known.note(pod),
                Ok(Event::Delete(pod)) => {
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    known.note(pod);
                    known.end(&name);
                }
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.extend(pod.metadata.name.clone());
                    known.note(pod);
                }
                Ok(Event::InitDone) => known.end_all_but(&listed),
                Err(_) => {}
            }
        }
        changed.send_modify(|turn| *turn += 1);
        if failed {
            sleep(RETRY).await;
        }
    }
}

impl Known {
    fn note(&mut self, pod: Pod) {
        lives::note(&mut self.schedule.lives, &pod);
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.pods.insert(name, Seen { pod, gone: false });
    }

    fn end(&mut self, name: &str) {
        let Some(seen) = self.pods.get_mut(name).filter(|seen| !seen.gone) else { return };
        seen.gone = true;
        let uid = seen.pod.metadata.uid.clone().unwrap_or_default();
        let now = now_unix_ms();
        lives::end(&mut self.schedule.lives, &uid, now);
        if let Some(record) = self.schedule.pods.iter_mut().find(|record| record.pod_uid == uid) {
            record.gone_unix_ms = now;
        }
    }

    fn end_all_but(&mut self, listed: &[String]) {
        let absent: Vec<String> = self.pods.keys().filter(|name| !listed.contains(name)).cloned().collect();
        absent.iter().for_each(|name| self.end(name));
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pod's own address.
pub fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|address| !address.is_empty())
}

fn running(pod: &Pod) -> bool {
    let leaves = pod.metadata.deletion_timestamp.is_some();
    !leaves && lives::statuses(pod).iter().any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// Why a pod will never run.
fn hopeless(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = |reason: &str, message: Option<&String>| {
        let message = message.map_or_else(String::new, |message| format!(": {message}"));
        let hint =
            if reason.contains("Image") { "; load the image into the cluster (docs/lab.md), or name another by --image" } else { "" };
        format!("{reason}{message}{hint}")
    };
    let of_container = lives::statuses(pod).iter().find_map(|status| {
        let waits = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waits.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
        Some(waiting(reason, waits.message.as_ref()))
    });
    let of_pod = || {
        // Evicted, or beyond its deadline: its containers may have no status at all.
        let failed = status.phase.as_deref() == Some("Failed") && status.reason.is_some();
        failed.then(|| waiting(status.reason.as_deref().unwrap_or_default(), status.message.as_ref()))
    };
    of_container.or_else(of_pod)
}

/// Why no node takes it so far.
fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    scheduled.message.clone().or_else(|| scheduled.reason.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "uid": "u"}, "status": status})).unwrap()
    }

    fn waiting(reason: &str) -> Value {
        let state = json!({"waiting": {"reason": reason, "message": "not found"}});
        json!({"containerStatuses": [{"name": "web", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    #[test]
    fn an_image_that_is_not_there_is_hopeless_and_a_back_off_is_not() {
        let why = hopeless(&pod(waiting("ErrImagePull"))).unwrap();

        assert!(why.starts_with("ErrImagePull: not found; load the image"), "{why}");
        assert_eq!(hopeless(&pod(waiting("CrashLoopBackOff"))), None);
        assert_eq!(hopeless(&pod(waiting("ContainerCreating"))), None);
        assert_eq!(hopeless(&pod(json!({"phase": "Failed", "reason": "Evicted"}))), Some("Evicted".to_owned()));
    }

    #[test]
    fn what_went_while_nobody_watched_is_noticed_by_the_next_list() {
        let mut known = Known::default();
        let state = json!({"running": {"startedAt": "1970-01-01T00:00:01Z"}});
        let status =
            json!({"name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state, "containerID": "x://a"});
        known.note(pod(json!({"podIP": "10.213.1.2", "containerStatuses": [status]})));

        known.end_all_but(&[]);

        assert!(known.pods["web-0"].gone);
        assert!(known.schedule.lives[0].gone_unix_ms > 1_000);
    }
}
