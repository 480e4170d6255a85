//! What every message must be: pure checks of names, lengths, counts and times.

use vedette_proto::v1;

use crate::{
    config,
    counters::Refusal::{self, Container, Field, Future, Limit, TooOld},
    ingest::Refused,
};

/// Later than this beyond the aggregator's clock is the future.
pub const FUTURE_MS: i64 = 60_000;
/// Latest instant that a replay may be of: that of a label.
const LATEST_MS: i64 = crate::label::check::LATEST_UNIX_MS - FUTURE_MS;
/// Longest path that the kernel gives out.
const CGROUP_BYTES: usize = 4_096;
const ID_BYTES: usize = 128;
const NAME_BYTES: usize = 253;
/// The kernel's TASK_COMM_LEN less its end.
const COMM_BYTES: usize = 15;
const TEXT_BYTES: usize = 1_024;
/// Most peers in one look, as the contract says.
const PEERS: usize = 32;
/// Most process facts in one batch: a hundred for each of a full node's containers would still be far less.
const PROCESSES: usize = 16_384;
const PEERS_SEEN: usize = 1_024;
/// Most comparisons in one round, as the contract says.
const CROSS_CHECKS: usize = 5_000;

/// Says no, with a reason.
fn no<T>(reason: Refusal, field: &str, problem: impl std::fmt::Display) -> Result<T, Refused> {
    Err(Refused::new(reason, format!("{field} {problem}")))
}

fn length(reason: Refusal, field: &str, text: &str, least: usize, most: usize) -> Result<(), Refused> {
    if text.len() < least || text.len() > most {
        return no(reason, field, format_args!("has {} bytes, must have {least} to {most}", text.len()));
    }
    Ok(())
}

/// A time that may be stated: not negative, not in the future.
fn time(field: &str, unix_ms: i64, now_unix_ms: i64) -> Result<(), Refused> {
    if unix_ms < 0 {
        return no(Field, field, "is before 1970");
    }
    if unix_ms > now_unix_ms + FUTURE_MS {
        let ahead = (unix_ms - now_unix_ms) / 1_000;
        return no(Future, field, format_args!("is {ahead} s in the future; check the node's clock"));
    }
    Ok(())
}

/// What the times of a stream are held against. A recording's clock was that of another machine and may be ahead of ours.
#[must_use]
pub fn clock_of(origin: v1::Origin, now_unix_ms: i64) -> i64 {
    if origin == v1::Origin::Replay { LATEST_MS } else { now_unix_ms }
}

/// Sets a time in the future to now; whether it was one. A node that booted with a wrong clock must not be locked out by what it saw then.
pub fn not_ahead(unix_ms: &mut i64, now_unix_ms: i64) -> bool {
    let ahead = *unix_ms > now_unix_ms.saturating_add(FUTURE_MS);
    if ahead {
        *unix_ms = now_unix_ms;
    }
    ahead
}

/// [`not_ahead`] for every time of a batch but its block's; how many were.
pub fn none_ahead(batch: &mut v1::Batch, now_unix_ms: i64) -> u64 {
    let added = batch.added.iter_mut().map(|added| &mut added.first_seen_unix_ms);
    let removed = batch.removed.iter_mut().map(|removed| &mut removed.unix_ms);
    let processes = batch.processes.iter_mut().map(|process| &mut process.unix_ms);
    let peers = batch.peers.iter_mut().map(|peers| &mut peers.unix_ms);
    let rounds = batch.cross_check.iter_mut().map(|round| &mut round.unix_ms);
    let mut count = 0;
    for unix_ms in added.chain(removed).chain(processes).chain(peers).chain(rounds) {
        count += u64::from(not_ahead(unix_ms, now_unix_ms));
    }
    if let Some(dropped) = &mut batch.dropped
        && not_ahead(&mut dropped.last_unix_ms, now_unix_ms)
    {
        count += 1;
        dropped.first_unix_ms = dropped.first_unix_ms.min(now_unix_ms);
    }
    count
}

/// Node names are DNS subdomains in Kubernetes; elsewhere host names, which may have capitals and underscores.
fn node_name(name: &str) -> Result<(), Refused> {
    length(Refusal::Hello, "hello.node", name, 1, NAME_BYTES)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.bytes().all(allowed) {
        return no(Refusal::Hello, "hello.node", "may hold only letters, digits and - . _");
    }
    Ok(())
}

/// Checks a Hello; gives the spool id and the origin.
///
/// # Errors
/// [`Refused`] names the field.
pub fn hello(hello: &v1::Hello, own_cluster: &str, limits: &config::Ingest, now: i64) -> Result<([u8; 16], v1::Origin), Refused> {
    node_name(&hello.node)?;
    let Ok(spool_id) = <[u8; 16]>::try_from(&hello.spool_id[..]) else {
        return no(Refusal::Hello, "hello.spool_id", format_args!("has {} bytes, must have 16", hello.spool_id.len()));
    };
    let origin = match v1::Origin::try_from(hello.origin) {
        Ok(v1::Origin::Unspecified) | Err(_) => return no(Refusal::Hello, "hello.origin", "must be live, late or replay"),
        Ok(origin) => origin,
    };
    if origin == v1::Origin::Replay {
        if !config::is_cluster_name(&hello.replay_session) {
            return no(Refusal::Hello, "hello.replay_session", "must be 1 to 63 characters of a-z 0-9 - .");
        }
        if hello.replay_session == own_cluster {
            return no(Refusal::Hello, "hello.replay_session", "is this aggregator's own cluster");
        }
    } else if !hello.replay_session.is_empty() {
        return no(Refusal::Hello, "hello.replay_session", "must be empty unless origin is replay");
    }
    length(Refusal::Hello, "hello.agent_version", &hello.agent_version, 0, ID_BYTES)?;
    length(Refusal::Hello, "hello.boot_id", &hello.boot_id, 0, ID_BYTES)?;
    if hello.column_ids.len() > vedette_proto::observation::MAX_COLUMNS {
        return no(Refusal::Hello, "hello.column_ids", format_args!("has {} ids, more than the limit of 512", hello.column_ids.len()));
    }
    if !hello.column_ids.windows(2).all(|pair| pair[0] < pair[1]) {
        return no(Refusal::Hello, "hello.column_ids", "must ascend");
    }
    if hello.containers.len() > limits.max_containers {
        return no(Limit, "hello.containers", format_args!("has {}, more than ingest.max_containers", hello.containers.len()));
    }
    for added in &hello.containers {
        container(added, origin, now)?;
    }
    Ok((spool_id, origin))
}

/// Checks a container.
///
/// # Errors
/// [`Refused`] names the field.
pub fn container(added: &v1::ContainerAdded, origin: v1::Origin, now: i64) -> Result<(), Refused> {
    if added.container_ref == 0 {
        return no(Container, "container_ref", "0 is the node itself");
    }
    length(Container, "container_id", &added.container_id, 1, ID_BYTES)?;
    length(Container, "pod_uid", &added.pod_uid, 0, ID_BYTES)?;
    length(Container, "cgroup", &added.cgroup, 1, CGROUP_BYTES)?;
    length(Container, "runtime", &added.runtime, 0, 32)?;
    length(Container, "watch_name", &added.watch_name, 0, ID_BYTES)?;
    if added.recorded_workload.is_some() && origin != v1::Origin::Replay {
        return no(Container, "recorded_workload", "is for replays only: an agent does not know it");
    }
    if let Some(workload) = &added.recorded_workload {
        length(Container, "recorded_workload.namespace", &workload.namespace, 0, NAME_BYTES)?;
        length(Container, "recorded_workload.owner_kind", &workload.owner_kind, 1, NAME_BYTES)?;
        length(Container, "recorded_workload.owner_name", &workload.owner_name, 1, CGROUP_BYTES)?;
        length(Container, "recorded_workload.container_name", &workload.container_name, 0, NAME_BYTES)?;
    }
    length(Container, "recorded_pod_name", &added.recorded_pod_name, 0, NAME_BYTES)?;
    time("container.first_seen_unix_ms", added.first_seen_unix_ms, now)
}

/// Checks what a batch says besides its block and references.
///
/// # Errors
/// [`Refused`] names the field.
pub fn batch(batch: &v1::Batch, origin: v1::Origin, limits: &config::Ingest, now: i64) -> Result<(), Refused> {
    let counts = [
        ("batch.added", batch.added.len(), limits.max_containers),
        ("batch.removed", batch.removed.len(), limits.max_containers),
        ("batch.processes", batch.processes.len(), PROCESSES),
        ("batch.peers", batch.peers.len(), PEERS_SEEN),
    ];
    if let Some((field, count, limit)) = counts.into_iter().find(|(_, count, limit)| count > limit) {
        return no(Limit, field, format_args!("has {count} entries, more than the limit of {limit}"));
    }
    for added in &batch.added {
        container(added, origin, now)?;
    }
    for removed in &batch.removed {
        time("removed.unix_ms", removed.unix_ms, now)?;
    }
    for process in &batch.processes {
        length(Field, "process.comm", &process.comm, 0, COMM_BYTES)?;
        if process.seccomp.is_some_and(|mode| mode > 2) {
            return no(Field, "process.seccomp", "must be 0, 1 or 2");
        }
        time("process.unix_ms", process.unix_ms, now)?;
    }
    for seen in &batch.peers {
        if seen.peers.len() > PEERS {
            return no(Limit, "peers", format_args!("has {} entries, more than the limit of {PEERS}", seen.peers.len()));
        }
        for peer in &seen.peers {
            if peer.address.parse::<std::net::IpAddr>().is_err() {
                return no(Field, "peer.address", "is not an IP address");
            }
            if peer.port > u32::from(u16::MAX) {
                return no(Field, "peer.port", "is above 65535");
            }
        }
        time("peers.unix_ms", seen.unix_ms, now)?;
    }
    if let Some(round) = &batch.cross_check {
        cross_check(round, now)?;
    }
    if let Some(dropped) = &batch.dropped {
        length(Field, "dropped.reason", &dropped.reason, 0, TEXT_BYTES)?;
        time("dropped.first_unix_ms", dropped.first_unix_ms, now)?;
        time("dropped.last_unix_ms", dropped.last_unix_ms, now)?;
        if dropped.first_unix_ms > dropped.last_unix_ms {
            return no(Field, "dropped.first_unix_ms", "is after dropped.last_unix_ms");
        }
        // SQL's integers are signed.
        if dropped.batches > i64::MAX as u64 || dropped.observations > i64::MAX as u64 {
            return no(Field, "dropped.batches", "is beyond what can be counted");
        }
    }
    Ok(())
}

fn cross_check(round: &v1::CrossCheckRound, now: i64) -> Result<(), Refused> {
    time("cross_check.unix_ms", round.unix_ms, now)?;
    length(Field, "cross_check.error", &round.error, 0, TEXT_BYTES)?;
    if round.checks.len() > CROSS_CHECKS {
        return no(Limit, "cross_check.checks", format_args!("has {} entries, more than the limit of {CROSS_CHECKS}", round.checks.len()));
    }
    for check in &round.checks {
        if [check.ours, check.theirs, check.seconds].into_iter().flatten().any(|value| !value.is_finite()) {
            return no(Field, "cross_check", "holds a number that is not finite");
        }
    }
    Ok(())
}

/// Checks the time of a block; a replay may be of any time.
///
/// # Errors
/// [`Refused`] says by how much it is off.
pub fn block_time(unix_ms: i64, origin: v1::Origin, limits: &config::Ingest, now: i64) -> Result<(), Refused> {
    time("block.unix_ms", unix_ms, now)?;
    let limit_ms = i64::from(limits.age_limit_hours) * 3_600_000;
    if origin != v1::Origin::Replay && unix_ms < now - limit_ms {
        let hours = (now - unix_ms) / 3_600_000;
        return no(TooOld, "block.unix_ms", format_args!("is {hours} h old, beyond the limit of {} h", limits.age_limit_hours));
    }
    Ok(())
}

/// Checks a heartbeat.
///
/// # Errors
/// [`Refused`] names the field.
pub fn heartbeat(heartbeat: &v1::Heartbeat) -> Result<(), Refused> {
    length(Field, "heartbeat.sensor_error", &heartbeat.sensor_error, 0, TEXT_BYTES)
}

/// Checks a goodbye.
///
/// # Errors
/// [`Refused`] names the field.
pub fn goodbye(goodbye: &v1::Goodbye) -> Result<(), Refused> {
    length(Field, "goodbye.reason", &goodbye.reason, 0, TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_the_future_become_now() {
        let (now, far) = (1_750_000_000_000, 1_900_000_000_000);
        let dropped = v1::Dropped { first_unix_ms: far - 1, last_unix_ms: far, ..v1::Dropped::default() };
        let removed = vec![v1::ContainerRemoved { unix_ms: far, ..v1::ContainerRemoved::default() }];
        let mut said = v1::Batch { sequence: 1, removed, dropped: Some(dropped), ..v1::Batch::default() };

        let ahead = none_ahead(&mut said, now);

        assert_eq!(ahead, 2);
        assert_eq!(said.removed[0].unix_ms, now);
        assert!(batch(&said, v1::Origin::Live, &config::Ingest::default(), now).is_ok());
    }

    #[test]
    fn a_recording_may_come_from_a_clock_ahead_of_ours_and_from_long_ago() {
        let (now, limits) = (1_750_000_000_000, config::Ingest::default());
        let at = |origin, unix_ms| block_time(unix_ms, origin, &limits, clock_of(origin, now)).is_ok();

        let replayed = [0, now - 400 * 86_400_000, now + 400 * 86_400_000, i64::MAX].map(|unix_ms| at(v1::Origin::Replay, unix_ms));
        let live = [now, now - 400 * 86_400_000, now + 400 * 86_400_000].map(|unix_ms| at(v1::Origin::Live, unix_ms));

        assert_eq!(replayed, [true, true, true, false]);
        assert_eq!(live, [true, false, false]);
    }
}
