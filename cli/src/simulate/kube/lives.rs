//! Lives of containers from what a kubelet says of a pod: pure.
//!
//! Its times are whole seconds, cut off. A life is therefore written down from the second in which it began to the end of the one in
//! which it ended: never shorter than it was, and no other container has its id.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vedette_range::schedule::Life;

/// What is cut off at most, milliseconds.
const CUT_OFF_MS: i64 = 999;

/// Adds what a status tells: lives that begin, and how they end.
pub fn note(lives: &mut Vec<Life>, pod: &Pod) {
    let Some(pod_uid) = pod.metadata.uid.as_deref() else { return };
    for status in statuses(pod) {
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let present = status.state.as_ref();
        for ended in last.into_iter().chain(present.and_then(|state| state.terminated.as_ref())) {
            note_end(lives, pod_uid, &status.name, ended);
        }
        let running = present.and_then(|state| state.running.as_ref());
        if let (Some(running), Some(id)) = (running, status.container_id.as_deref()) {
            begun(lives, pod_uid, &status.name, id, running.started_at.as_ref());
        }
    }
}

/// A pod is there no more: what still ran of it ended.
pub fn end(lives: &mut [Life], pod_uid: &str, now_unix_ms: i64) {
    for life in lives.iter_mut().filter(|life| life.pod_uid == pod_uid && life.gone_unix_ms == 0) {
        let now = now_unix_ms.max(life.born_unix_ms);
        (life.ended_unix_ms, life.gone_unix_ms) = (now, now);
    }
}

/// How many lives the kubelet counted and nobody was told of: two statuses in one.
pub fn missed(lives: &[Life], pod: &Pod) -> usize {
    let Some(pod_uid) = pod.metadata.uid.as_deref() else { return 0 };
    let of = |status: &ContainerStatus| {
        let known = lives.iter().filter(|life| life.pod_uid == pod_uid && life.container == status.name).count();
        // Restarts are counted when they happen; a container that never was has none.
        let begun = if known == 0 { 0 } else { 1 + usize::try_from(status.restart_count).unwrap_or(0) };
        begun.saturating_sub(known)
    };
    statuses(pod).iter().map(of).sum()
}

/// The statuses of the ordinary containers.
pub fn statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// Event time of one of the API's times.
pub fn unix_ms(time: &Time) -> i64 {
    time.0.as_millisecond()
}

fn begun<'a>(lives: &'a mut Vec<Life>, pod_uid: &str, container: &str, id: &str, at: Option<&Time>) -> Option<&'a mut Life> {
    let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
    if id.is_empty() {
        return None;
    }
    let place = lives.iter().position(|life| life.container_id == id).or_else(|| {
        lives.push(Life {
            pod_uid: pod_uid.to_owned(),
            container: container.to_owned(),
            container_id: id.to_owned(),
            sandbox: false,
            // Without a time it never ran: an end alone makes no life.
            born_unix_ms: unix_ms(at?),
            ended_unix_ms: 0,
            gone_unix_ms: 0,
            failed: false,
        });
        Some(lives.len() - 1)
    });
    let place = place?;
    Some(&mut lives[place])
}

fn note_end(lives: &mut Vec<Life>, pod_uid: &str, container: &str, ended: &ContainerStateTerminated) {
    let id = ended.container_id.as_deref().unwrap_or_default();
    let Some(life) = begun(lives, pod_uid, container, id, ended.started_at.as_ref()) else { return };
    if let Some(at) = &ended.finished_at {
        let at = unix_ms(at) + CUT_OFF_MS;
        (life.ended_unix_ms, life.gone_unix_ms) = (at, at);
    }
    life.failed = ended.exit_code != 0;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(restarts: u32, state: Value, last: Value) -> Pod {
        let status = json!({
            "name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": restarts, "containerID": "containerd://now",
            "state": state, "lastState": last,
        });
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": {"containerStatuses": [status]}})).unwrap()
    }

    fn running(at: &str) -> Value {
        json!({"running": {"startedAt": at}})
    }

    fn terminated(id: &str, from: &str, to: &str, code: i32) -> Value {
        json!({"terminated": {"containerID": format!("containerd://{id}"), "startedAt": from, "finishedAt": to, "exitCode": code}})
    }

    #[test]
    fn each_life_has_its_id_and_its_times() {
        let mut lives = Vec::new();

        note(&mut lives, &pod(0, running("1970-01-01T00:00:01Z"), json!({})));
        note(&mut lives, &pod(0, terminated("now", "1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z", 1), json!({})));
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        note(&mut lives, &pod(1, waiting, terminated("two", "1970-01-01T00:00:04Z", "1970-01-01T00:00:04Z", 137)));

        let told: Vec<_> =
            lives.iter().map(|life| (life.container_id.as_str(), life.born_unix_ms, life.gone_unix_ms, life.failed)).collect();
        assert_eq!(told, [("now", 1_000, 3_999, true), ("two", 4_000, 4_999, true)]);
    }

    #[test]
    fn a_life_that_nobody_was_told_of_is_counted() {
        let mut lives = Vec::new();
        note(&mut lives, &pod(0, running("1970-01-01T00:00:01Z"), json!({})));
        let third = pod(2, terminated("three", "1970-01-01T00:00:09Z", "1970-01-01T00:00:09Z", 1), json!({}));

        note(&mut lives, &third);

        assert_eq!((lives.len(), missed(&lives, &third)), (2, 1));
    }

    #[test]
    fn what_still_runs_ends_with_its_pod_and_a_container_that_never_ran_is_no_life() {
        let mut lives = Vec::new();
        note(&mut lives, &pod(0, running("1970-01-01T00:00:01Z"), json!({})));
        note(&mut lives, &pod(0, json!({"terminated": {"containerID": "x://never", "exitCode": 128}}), json!({})));

        end(&mut lives, "u", 8_000);
        end(&mut lives, "another", 9_000);

        assert_eq!(lives.len(), 1);
        assert_eq!((lives[0].gone_unix_ms, lives[0].failed), (8_000, false));
    }
}
