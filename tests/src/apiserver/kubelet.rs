//! A small kubelet for the stand-in: runs what pods say, and tells by their statuses what became of it, in whole seconds as a real one.
//!
//! A program that neither listens nor sends is the real one, as a process of this machine. One that does would need the pod's own network:
//! it is played as far as others can see it, its exit code, its length and what a policy lets it reach included.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{
    process::Command,
    sync::{Notify, watch},
};
use vedette_range::behave::reach::{THROUGH, UNREACHED};

use super::{ApiServer, Shared};
use crate::checkout;

/// Delay before the second restart of a container; the first is at once, each further one twice the last. A real kubelet's is 10 s.
const BACKOFF: Duration = Duration::from_millis(300);
/// Exit code of what is killed.
const KILLED: i32 = 137;

/// What kind of cluster it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether network policies are enforced.
    pub enforces: bool,
    /// The first three numbers of its pods' addresses.
    pub network: [u8; 3],
    /// The only image that is there.
    pub image: String,
}

/// One life of a container as it really was, by the clock of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lived {
    /// Its pod.
    pub pod: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// It began, Unix milliseconds.
    pub start_unix_ms: i64,
    /// It ended; 0: it goes on.
    pub end_unix_ms: i64,
}

/// Whoever runs the pods.
pub struct Kubelet {
    settings: Settings,
    folder: tempfile::TempDir,
    pods: Mutex<HashMap<String, Arc<Running>>>,
    given: AtomicU64,
    lived: Mutex<Vec<Lived>>,
}

/// One pod that it runs.
pub struct Running {
    namespace: String,
    name: String,
    uid: String,
    spec: Value,
    address: String,
    work: PathBuf,
    turn: Mutex<Turn>,
    own_begun: AtomicU64,
    kill: Notify,
    leaves: watch::Sender<bool>,
    /// A life is going on.
    lives: watch::Sender<bool>,
}

/// Programs that have their turn instead of a container's own.
#[derive(Default)]
struct Turn {
    lives: Vec<Option<Vec<String>>>,
    begun: usize,
    until_unix_ms: i64,
}

/// Unix milliseconds.
#[must_use]
pub fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time as the API writes it: whole seconds, cut off.
#[must_use]
pub fn now() -> String {
    rfc3339(now_unix_ms())
}

fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl ApiServer {
    /// Pods are run from now on.
    ///
    /// # Errors
    /// Where there is no room for what they write.
    pub fn run_pods(&self, settings: Settings) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let kubelet = Arc::new(Kubelet { settings, folder, pods: Mutex::default(), given: AtomicU64::new(0), lived: Mutex::default() });
        *self.shared.kubelet.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&kubelet));
        tokio::spawn(look_after(Arc::clone(&self.shared), kubelet));
        Ok(())
    }

    /// Every life of a container so far, oldest first.
    #[must_use]
    pub fn lived(&self) -> Vec<Lived> {
        let kubelet = self.shared.kubelet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kubelet.map(|kubelet| kubelet.lived.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }
}

impl Kubelet {
    /// A pod that it runs, by its place.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Running>> {
        self.pods().values().find(|pod| pod.namespace == namespace && pod.name == name).cloned()
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self, pod: &Running, id: &str, start_unix_ms: i64) {
        let id = id.trim_start_matches("containerd://").to_owned();
        let lived = Lived { pod: pod.name.clone(), id, start_unix_ms, end_unix_ms: 0 };
        self.lived.lock().unwrap_or_else(PoisonError::into_inner).push(lived);
    }

    fn ended(&self, id: &str, end_unix_ms: i64) {
        let mut lived = self.lived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = lived.iter_mut().find(|life| id.ends_with(&life.id)) {
            life.end_unix_ms = end_unix_ms;
        }
    }

    fn next(&self) -> u64 {
        self.given.fetch_add(1, Ordering::Relaxed) + 1
    }
}

async fn look_after(shared: Arc<Shared>, kubelet: Arc<Kubelet>) {
    let mut signals = shared.signals.subscribe();
    let mut known: HashSet<String> = HashSet::new();
    loop {
        signals.mark_unchanged();
        let pods = shared.objects().page("pods", "", None, usize::MAX).0;
        for (_, object) in pods {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let uid = text(&metadata["uid"]);
            if object["status"].is_null() && known.insert(uid.clone()) {
                let number = kubelet.next();
                let [a, b, c] = kubelet.settings.network;
                let pod = Arc::new(Running {
                    namespace: text(&metadata["namespace"]),
                    name: text(&metadata["name"]),
                    uid: uid.clone(),
                    spec: object["spec"].clone(),
                    address: format!("{a}.{b}.{c}.{}", 10 + number % 240),
                    work: kubelet.folder.path().join(&uid),
                    turn: Mutex::default(),
                    own_begun: AtomicU64::new(0),
                    kill: Notify::new(),
                    leaves: watch::Sender::new(false),
                    lives: watch::Sender::new(false),
                });
                kubelet.pods().insert(uid.clone(), Arc::clone(&pod));
                tokio::spawn(run(Arc::clone(&shared), Arc::clone(&kubelet), pod));
            }
            if metadata["deletionTimestamp"].is_string()
                && let Some(pod) = kubelet.pods().get(&uid)
            {
                pod.leaves.send_replace(true);
            }
        }
        if signals.changed().await.is_err() {
            return;
        }
    }
}

async fn run(shared: Arc<Shared>, kubelet: Arc<Kubelet>, pod: Arc<Running>) {
    let _ = std::fs::create_dir_all(&pod.work);
    let container = &pod.spec["containers"][0];
    if container["image"] != json!(kubelet.settings.image) {
        pod.tell(&shared, "Pending", json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}), &Value::Null, 0, "");
        pod.wait_until_it_leaves().await;
        gone(&shared, &kubelet, &pod);
        return;
    }
    let (mut restarts, mut last) = (0, Value::Null);
    loop {
        let id = format!("containerd://{:064x}", (u128::from(kubelet.next()) << 64) | u128::from(std::process::id()));
        let start_unix_ms = now_unix_ms();
        let started = rfc3339(start_unix_ms);
        kubelet.begun(&pod, &id, start_unix_ms);
        pod.lives.send_replace(true);
        pod.tell(&shared, "Running", json!({"running": {"startedAt": started}}), &last, restarts, &id);
        let code = tokio::select! {
            code = pod.life(&shared, &kubelet) => code,
            () = pod.wait_until_it_leaves() => KILLED,
        };
        pod.lives.send_replace(false);
        let end_unix_ms = now_unix_ms();
        kubelet.ended(&id, end_unix_ms);
        let finished = rfc3339(end_unix_ms);
        let ended =
            json!({"terminated": {"containerID": id, "startedAt": started, "finishedAt": finished, "exitCode": code, "reason": "Error"}});
        let for_ever = pod.spec["restartPolicy"] == "Always";
        if *pod.leaves.borrow() || !for_ever {
            pod.tell(&shared, if code == 0 { "Succeeded" } else { "Failed" }, ended, &last, restarts, &id);
            pod.wait_until_it_leaves().await;
            break;
        }
        last = ended;
        let wait = if restarts == 0 { Duration::from_millis(50) } else { BACKOFF * 2u32.pow(restarts.min(10)) };
        pod.tell(&shared, "Running", json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last, restarts, &id);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = pod.wait_until_it_leaves() => break,
        }
        restarts += 1;
    }
    gone(&shared, &kubelet, &pod);
}

fn gone(shared: &Shared, kubelet: &Kubelet, pod: &Running) {
    kubelet.pods().remove(&pod.uid);
    shared.change(|objects| objects.delete("pods", &pod.namespace, &pod.name));
}

impl Running {
    /// Whether a container of it runs.
    pub fn lives(&self) -> bool {
        *self.lives.borrow()
    }

    /// Gives others their turn, and ends the present life; gives when.
    pub fn turn(&self, lives: Vec<Option<Vec<String>>>, milliseconds: i64) -> i64 {
        let now = now_unix_ms();
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Turn { lives, begun: 0, until_unix_ms: now + milliseconds };
        self.kill.notify_waiters();
        now
    }

    /// Arguments as a kubelet fills them in, and with the pod's directory where it is here.
    pub fn filled(&self, arguments: &[String]) -> Vec<String> {
        let work = self.work.display().to_string();
        arguments.iter().map(|argument| argument.replace("$(POD_IP)", &self.address).replace("/work", &work)).collect()
    }

    async fn wait_until_it_leaves(&self) {
        // The sender lives as long as this does.
        let _ = self.leaves.subscribe().wait_for(|leaves| *leaves).await.is_ok();
    }

    fn tell(&self, shared: &Shared, phase: &str, state: Value, last: &Value, restarts: u32, id: &str) {
        let container = &self.spec["containers"][0];
        let mut status = json!({
            "name": container["name"], "image": container["image"], "imageID": "", "ready": state["running"].is_object(),
            "restartCount": restarts, "state": state, "lastState": if last.is_null() { json!({}) } else { last.clone() },
        });
        if !id.is_empty() {
            status["containerID"] = json!(id);
        }
        shared.change(|objects| {
            let Some(found) = objects.get("pods", &self.namespace, &self.name) else { return };
            if found["metadata"]["uid"] != json!(self.uid) {
                return;
            }
            let mut object = (*found).clone();
            object["spec"]["nodeName"] = json!("stand-in");
            object["status"] = json!({"phase": phase, "podIP": self.address, "containerStatuses": [status]});
            objects.set("pods", object);
        });
    }

    /// One life of the container; gives its exit code.
    async fn life(&self, shared: &Shared, kubelet: &Kubelet) -> i32 {
        let args: Vec<String> = serde_json::from_value(self.spec["containers"][0]["args"].clone()).unwrap_or_default();
        let (program, until_unix_ms) = self.whose_turn(self.filled(&args));
        let left = until_unix_ms.map(|until| Duration::from_millis(u64::try_from(until - now_unix_ms()).unwrap_or(0)));
        tokio::select! {
            code = self.program(shared, kubelet, &program) => code,
            () = self.kill.notified() => KILLED,
            () = async { match left { Some(left) => tokio::time::sleep(left).await, None => std::future::pending().await } } => KILLED,
        }
    }

    /// As `vedette-range keep` decides.
    fn whose_turn(&self, args: Vec<String>) -> (Vec<String>, Option<i64>) {
        if args.first().is_none_or(|word| word != "keep") {
            return (args, None);
        }
        let own = lives(&args);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !turn.lives.is_empty() && now_unix_ms() < turn.until_unix_ms {
            let program = turn.lives.get(turn.begun).or(turn.lives.last()).cloned().flatten();
            turn.begun += 1;
            if let Some(program) = program {
                return (self.filled(&program), Some(turn.until_unix_ms));
            }
        } else {
            turn.lives.clear();
        }
        let begun = usize::try_from(self.own_begun.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        (own.get(begun).or(own.last()).cloned().flatten().unwrap_or_default(), None)
    }

    async fn program(&self, shared: &Shared, kubelet: &Kubelet, args: &[String]) -> i32 {
        if args.get(1).is_some_and(|word| word == "reach") {
            return self.reach(shared, kubelet, args);
        }
        if !is_played(args) {
            let mut command = Command::new(checkout::binary("vedette-range"));
            let command = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            return command.status().await.ok().and_then(|status| status.code()).unwrap_or(KILLED);
        }
        let number = |flag: &str| args.iter().find_map(|arg| arg.strip_prefix(flag)?.parse::<u64>().ok());
        let (wait, code) = match (number("--fail-after-ms="), number("--seconds=")) {
            (Some(ms), _) => (Duration::from_millis(ms), 1),
            (None, Some(seconds)) => (Duration::from_secs(seconds), 0),
            (None, None) => return std::future::pending().await,
        };
        tokio::time::sleep(wait).await;
        code
    }

    /// What `vedette-range behave reach` would find.
    fn reach(&self, shared: &Shared, kubelet: &Kubelet, args: &[String]) -> i32 {
        let reaches = |flag: &str| {
            let address = args.iter().find_map(|arg| Some(arg.strip_prefix(flag)?.split(':').next()?.to_owned()));
            address.is_some_and(|address| !kubelet.settings.enforces || self.may_reach(shared, &address))
        };
        match (reaches("--open="), reaches("--shut=")) {
            (false, _) => UNREACHED,
            (true, true) => THROUGH,
            (true, false) => 0,
        }
    }

    fn may_reach(&self, shared: &Shared, address: &str) -> bool {
        let objects = shared.objects();
        let pods = objects.page("pods", &self.namespace, None, usize::MAX).0;
        let labels =
            |wanted: &dyn Fn(&Value) -> bool| pods.iter().find(|(_, pod)| wanted(pod)).map(|(_, pod)| pod["metadata"]["labels"].clone());
        let from = labels(&|pod| pod["metadata"]["uid"] == json!(self.uid));
        let to = labels(&|pod| pod["status"]["podIP"] == json!(address));
        let (Some(from), Some(to)) = (from, to) else { return false };
        let policies: Vec<Value> =
            objects.page("networkpolicies", &self.namespace, None, usize::MAX).0.into_iter().map(|(_, one)| one["spec"].clone()).collect();
        allows(&policies, "Egress", &from, &to) && allows(&policies, "Ingress", &to, &from)
    }
}

/// Whether a program listens or sends.
pub fn is_played(args: &[String]) -> bool {
    args.iter().any(|arg| arg.starts_with("--allow=") || arg.starts_with("--address="))
}

/// What `--life` says, one by one.
pub fn lives(args: &[String]) -> Vec<Option<Vec<String>>> {
    let said = args.iter().filter_map(|arg| arg.strip_prefix("--life="));
    said.map(|life| if life == "own" { None } else { serde_json::from_str(life).ok() }).collect()
}

/// Whether policies let a pod deal with another one in a direction: those that select it all speak of what is allowed.
fn allows(policies: &[Value], direction: &str, one: &Value, other: &Value) -> bool {
    let (rules, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_it = |policy: &&Value| list(&policy["policyTypes"]).contains(&json!(direction)) && selects(&policy["podSelector"], one);
    let about: Vec<&Value> = policies.iter().filter(of_it).collect();
    let allowed = |policy: &Value| {
        let peers = list(&policy[rules]).into_iter().flat_map(|rule| list(&rule[peers])).collect::<Vec<_>>();
        peers.iter().any(|peer| selects(&peer["podSelector"], other))
    };
    about.is_empty() || about.into_iter().any(allowed)
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    selector.is_object() && wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_whole_seconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(1_709_210_096_500), "2024-02-29T12:34:56Z");
    }

    #[test]
    fn what_no_policy_selects_is_free_and_what_one_does_is_not() {
        let pod = json!({"role": "pod"});
        let deny = json!({"podSelector": {}, "policyTypes": ["Egress"]});
        let open =
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"role": "pod"}}}]}]});

        assert!(allows(&[], "Egress", &pod, &pod));
        assert!(!allows(std::slice::from_ref(&deny), "Egress", &pod, &pod) && allows(std::slice::from_ref(&deny), "Ingress", &pod, &pod));
        assert!(allows(&[deny.clone(), open.clone()], "Egress", &pod, &pod));
        assert!(!allows(&[deny, open], "Egress", &pod, &json!({"role": "outside"})));
    }
}
