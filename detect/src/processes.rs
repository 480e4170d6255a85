//! What processes show: names and privileges that are new for a workload, and its first raw socket.

use vedette_proto::{
    Column, Feature, Observation,
    v1::{Family, Kind, ProcessSeen},
};

use crate::{
    evidence,
    facts::Fact,
    fleet::{MAX_COMMS, MAX_PROCESS_FACTS, Workload},
};

/// FNV-1a: names are compared, never shown from here.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Takes in a process. What is new for a workload whose baseline serves is remembered as evidence for whatever happens in the next
/// moments: a name, a process outside its pod's network, more kinds of process than an agent tells of. A new capability is a note by
/// itself.
///
/// A build or a test does start many kinds of process: a workload that did so while its baseline was learnt goes on without a word.
pub fn seen(workload: &mut Workload, seen: &ProcessSeen, ready_s: f32) -> Option<Fact> {
    let ready = workload.baseline.ready(Feature::CpuCores as usize, ready_s);
    let name = hash(&seen.comm);
    let new_name = !workload.comms.contains(&name) && workload.comms.len() < MAX_COMMS;
    if new_name {
        workload.comms.push(name);
    }
    let gained = seen.cap_effective & !workload.capabilities;
    workload.capabilities |= seen.cap_effective;
    if !ready {
        workload.crowds |= seen.left_out > 0;
        workload.leaves_network |= seen.foreign_network_namespace;
        return None;
    }
    if seen.left_out > 0 && !workload.crowds {
        let left_out = seen.left_out;
        remember(
            workload,
            seen.unix_ms,
            format!("{left_out} more processes than are told by name: under ever new names, or very many at once"),
        );
    }
    let sentence = if gained != 0 {
        format!("process {:?} with capabilities never seen in this workload ({gained:#x})", seen.comm)
    } else if seen.foreign_network_namespace && !workload.leaves_network {
        format!("process {:?} in another network namespace than its pod", seen.comm)
    } else if new_name {
        format!("process {:?}, a name never seen in this workload", seen.comm)
    } else {
        return None;
    };
    remember(workload, seen.unix_ms, sentence.clone());
    (gained != 0).then(|| Fact {
        kind: Kind::Unknown,
        evidence: evidence::fact("new_capability", Family::Processes, sentence, None, "", seen.unix_ms, 20.0),
        reasoning: "fact: a process with a capability that no process of this workload had before",
        onset_ms: seen.unix_ms,
        quiet_ms: None,
    })
}

fn remember(workload: &mut Workload, unix_ms: i64, sentence: String) {
    if workload.process_facts.len() >= MAX_PROCESS_FACTS {
        workload.process_facts.remove(0);
    }
    workload.process_facts.push((unix_ms, sentence));
}

/// Whether a row holds the first raw or packet socket of a workload whose baseline serves; learns it otherwise.
pub fn raw_socket(workload: &mut Workload, row: &Observation, ready_s: f32) -> bool {
    if workload.raw_seen {
        return false;
    }
    let sockets = row.get(Column::RawSockets).unwrap_or(0).saturating_add(row.get(Column::PacketSockets).unwrap_or(0));
    if sockets == 0 {
        return false;
    }
    workload.raw_seen = true;
    workload.baseline.ready(Feature::RawSockets as usize, ready_s)
}
