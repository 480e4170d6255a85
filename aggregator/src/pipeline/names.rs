//! Names that changed, and what agents tell held against what the API server does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use vedette_detect::{SubjectKey, Unclaimed};
use vedette_proto::v1;

use super::Pipeline;
use crate::{identity::IdentityError, kubernetes::Claim, problems::Source, roster::Renamed};

/// A container that no API object claims for so long is a fact.
const UNCLAIMED_MS: i64 = 60_000;
/// Nodes named in the problem about claims.
const LIARS_LISTED: usize = 3;

/// A node of the API server on which no agent was heard for so long has none.
const AGENTLESS_MS: i64 = 300_000;
/// Nodes named in the problem about them.
const AGENTLESS_LISTED: usize = 5;

impl Pipeline {
    /// Reads the identity file again if it changed.
    pub(super) fn refresh_names(&mut self) {
        match self.identity.refresh() {
            Ok(false) => {}
            Ok(true) => {
                self.problems.clear(Source::Identity);
                self.rename();
            }
            Err(error) => {
                self.problems.state(Source::Identity, error.to_string());
                if matches!(error, IdentityError::Lines { .. }) {
                    tracing::warn!(%error, "identity file");
                    self.rename();
                }
            }
        }
    }

    /// Names changed: containers alive have the new ones from now on; rows already stored keep the old.
    fn rename(&mut self) {
        let keys: Vec<u64> = self.roster.keys().collect();
        keys.into_iter().for_each(|key| self.rename_one(key));
    }

    /// The API server said something new: of these pods, or for the first time of all.
    pub(super) fn rename_changed(&mut self) {
        let changed = self.identity.changed_pods();
        let asked_now = self.identity.kubernetes().is_some_and(|kubernetes| kubernetes.find("", "", 0, "").is_some());
        let first = asked_now && !std::mem::replace(&mut self.api_known, asked_now);
        if changed.is_empty() && !first {
            return;
        }
        let concerned = |key: &u64| {
            self.roster.place(*key).is_some_and(|place| {
                let uid = &*place.added.pod_uid;
                !uid.is_empty() && (first || changed.contains(uid))
            })
        };
        let keys: Vec<u64> = self.roster.keys().filter(concerned).collect();
        keys.into_iter().for_each(|key| self.rename_one(key));
    }

    fn rename_one(&mut self, key: u64) {
        let Some(place) = self.roster.place(key).filter(|place| !place.added.container_id.is_empty()) else { return };
        let named = self.identity.name(&place.subject.cluster, &place.subject.node, &place.added);
        if matches!(named.claim, Claim::Elsewhere(_)) && place.claim != named.claim {
            self.counters.names_refused.inc();
        }
        let renamed = self.roster.rename(key, named);
        let Some(place) = self.roster.place(key).filter(|_| renamed != Renamed::No) else { return };
        self.fleet.container_added(key, &place.in_fleet());
        if renamed == Renamed::Names {
            self.detector.container_added(place.at(key), &place.added, false);
        }
    }

    /// Holds what agents tell against what the API server does.
    pub(super) fn claims(&mut self, now_unix_ms: i64) {
        let Some(kubernetes) = self.identity.kubernetes() else { return };
        self.counters.known_pods.set(kubernetes.sizes().pods as i64);
        for rollout in kubernetes.take_rollouts() {
            let owner = v1::Workload {
                cluster: kubernetes.cluster().to_owned(),
                namespace: rollout.namespace.as_ref().to_owned(),
                owner_kind: rollout.owner_kind.as_ref().to_owned(),
                owner_name: rollout.owner_name.as_ref().to_owned(),
                container_name: String::new(),
            };
            let held_off = self.detector.rolled_out(&owner, rollout.unix_ms);
            let (namespace, kind, name) = (owner.namespace, owner.owner_kind, owner.owner_name);
            tracing::info!(namespace, kind, name, template = %rollout.template, held_off, "rollout");
            self.counters.rollouts.inc();
            self.counters.hold_offs.inc_by(held_off as u64);
        }
        let (healthy_unix_ms, sizes) = (kubernetes.healthy_unix_ms(), kubernetes.sizes());
        let (mut unclaimed, mut differ) = (0, 0);
        let mut liars: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for key in self.roster.keys() {
            let Some(place) = self.roster.place(key) else { continue };
            differ += i64::from(place.facts.as_ref().and_then(|facts| facts.restarts).is_some_and(|told| place.added.restarts > told));
            let what = match &place.claim {
                Claim::Unasked | Claim::Listed => continue,
                Claim::Unlisted => Unclaimed::Container,
                Claim::Unknown => Unclaimed::Pod,
                Claim::Elsewhere(node) => {
                    liars.entry(&place.subject.node).or_insert((0, node)).0 += 1;
                    Unclaimed::OtherNode(node)
                }
            };
            // A static pod's mirror may never come to be, and its uid is a hash: 32 digits without a dash.
            let Some(healthy_unix_ms) = healthy_unix_ms.filter(|_| place.added.pod_uid.contains('-')) else { continue };
            let since_unix_ms = healthy_unix_ms.max(place.added.first_seen_unix_ms);
            if now_unix_ms - since_unix_ms >= UNCLAIMED_MS {
                unclaimed += i64::from(self.detector.unclaimed(SubjectKey(key), what, now_unix_ms));
            }
        }
        self.counters.unclaimed.set(unclaimed);
        self.counters.restarts_differ.set(differ);
        let mut lines: Vec<String> = liars
            .iter()
            .take(LIARS_LISTED)
            .map(|(node, (count, other))| {
                format!("node {node} tells of {count} containers of pods of other nodes, such as {other}: not named")
            })
            .collect();
        lines.extend((liars.len() > LIARS_LISTED).then(|| format!("and {} more nodes", liars.len() - LIARS_LISTED)));
        lines.extend((sizes.refused > 0).then(|| format!("{} pods and owners not known, limits of kubernetes were met", sizes.refused)));
        lines.extend((sizes.contested > 0).then(|| format!("{} times a pod had the uid of another", sizes.contested)));
        match lines.is_empty() {
            true => self.problems.clear(Source::Claims),
            false => self.problems.state(Source::Claims, lines.join("; ")),
        }
    }

    /// Nodes that the API server lists and no agent watches: what happens there is not seen. The DaemonSet tolerates every taint, so none is excused.
    pub(super) fn agentless(&self, now_unix_ms: i64) {
        let before_unix_ms = now_unix_ms - AGENTLESS_MS;
        // Who just began to listen heard nobody because of that.
        let Some(kubernetes) = self.identity.kubernetes().filter(|_| self.hearing_unix_ms <= before_unix_ms) else { return };
        let Some(nodes) = kubernetes.nodes_before(before_unix_ms) else { return };
        let own = |node: &v1::Node| (node.cluster == *self.cluster).then(|| (node.name.clone(), node.last_heard_unix_ms > before_unix_ms));
        let agents: HashMap<String, bool> = self.fleet.presence(|node, _, _, _| own(node)).into_iter().flatten().collect();
        // Agents may be named otherwise than their nodes; then nothing can be said.
        let comparable = agents.is_empty() || nodes.iter().any(|name| agents.contains_key(&**name));
        let missing = |name: &&Arc<str>| comparable && !agents.get(&***name).copied().unwrap_or(false);
        let missing: BTreeSet<String> = nodes.iter().filter(missing).map(|name| (**name).to_owned()).collect();
        self.counters.nodes_without_agent.set(missing.len() as i64);
        if missing.is_empty() {
            self.problems.clear(Source::Agents);
        } else {
            let named: Vec<&str> = missing.iter().take(AGENTLESS_LISTED).map(String::as_str).collect();
            let more = missing.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let line = format!(
                "no agent heard for {} minutes on {} of {} nodes: {}{more}",
                AGENTLESS_MS / 60_000,
                missing.len(),
                nodes.len(),
                named.join(", ")
            );
            self.problems.state(Source::Agents, line);
        }
        self.fleet.set_without_agent(missing);
    }
}
