//! The door: all state of detection, owned by one task.

use std::sync::Arc;

use vedette_proto::{
    Observation,
    v1::{self, BaselineState, Kind, Origin, Severity},
};

use crate::{
    Accepted, Change, Classifier, Config, ConfigError, ContainerAt, ContainerState, Namespaces, NodeHeard, Stats, SubjectKey, Verdict,
    container::{Container, Place},
    disagreement::{self, Disagreements, Lasting},
    facts::{self, Fact},
    fleet::{Fleet, Workload},
    fold::{Report, Topic},
    incident::Incidents,
    judge::{self, Surroundings},
    pods::Failure,
    prior::Priors,
    processes, rollout,
    silence::Silence,
    thresholds as t,
    vector::{self, Vector},
    view::View,
    window::Seen,
};

/// All classifier and incident state.
pub struct Detector {
    pub(crate) config: Config,
    pub(crate) fleet: Fleet,
    pub(crate) incidents: Incidents,
    pub(crate) silence: Silence,
    disagreements: Disagreements,
    /// Where the next look for what is to be written down begins.
    pub(crate) memory_at: usize,
    /// What a timer accepted.
    pub(crate) accepted: Vec<Accepted>,
    classifier: Option<Arc<Classifier>>,
    stats: Stats,
}

impl Detector {
    /// An empty detector; incidents count up from `next_incident_id`.
    #[must_use]
    pub fn new(config: Config, next_incident_id: u64) -> Self {
        let incidents = Incidents::new(&config, next_incident_id);
        Self {
            config,
            fleet: Fleet::new(),
            incidents,
            silence: Silence::default(),
            disagreements: Disagreements::default(),
            memory_at: 0,
            accepted: Vec::new(),
            classifier: None,
            stats: Stats::default(),
        }
    }

    /// The same with a classifier, which then decides instead of the signatures.
    #[must_use]
    pub fn with_classifier(mut self, classifier: Arc<Classifier>) -> Self {
        self.set_classifier(Some(classifier));
        self
    }

    /// From the next row on this one decides; `None`: the signatures do. What is open stays open until it is quiet.
    pub fn set_classifier(&mut self, classifier: Option<Arc<Classifier>>) {
        self.classifier = classifier;
        // What another model said is no part of what this one says.
        for window in self.fleet.containers.values_mut().filter_map(|container| container.window.as_deref_mut()) {
            window.said = [0.0; vedette_forest::MAX_CLASSES];
        }
    }

    /// From the next report on namespaces speak as these say; how many workloads have another profile by that. What people were told stays told.
    ///
    /// # Errors
    /// [`ConfigError`] names a pattern that no namespace can match; nothing is changed then.
    pub fn set_namespaces(&mut self, namespaces: Namespaces) -> Result<usize, ConfigError> {
        namespaces.check()?;
        let mut changed = 0;
        for workload in &mut self.fleet.workloads {
            let profile = namespaces.of(&workload.name.namespace);
            changed += usize::from(std::mem::replace(&mut workload.profile, profile) != profile);
        }
        self.config.namespaces = namespaces;
        Ok(changed)
    }

    /// The one that decides, if there is one.
    #[must_use]
    pub fn classifier(&self) -> Option<&Arc<Classifier>> {
        self.classifier.as_ref()
    }

    /// A container (or a node) exists. Telling it again is harmless; with another workload, it moves there.
    ///
    /// `live` is false for what a late or replayed stream says: it never pages.
    pub fn container_added(&mut self, at: ContainerAt<'_>, added: &v1::ContainerAdded, live: bool) {
        let cluster = self.fleet.cluster(at.cluster);
        if self.fleet.clusters[cluster as usize].origin == Origin::Unspecified {
            self.fleet.clusters[cluster as usize].origin = if live { Origin::Live } else { Origin::Late };
        }
        if let Some(container) = self.fleet.containers.get(&at.key) {
            let moved = *at.workload != self.fleet.workloads[container.place.workload as usize].name;
            if moved {
                self.move_container(at, added.first_seen_unix_ms);
            }
            return;
        }
        if self.fleet.containers.len() >= self.config.max_containers {
            self.stats.containers_refused += 1;
            return;
        }
        let node = self.fleet.node(cluster, at.node);
        let Some(workload) = self.workload(cluster, node, at.workload) else {
            self.stats.containers_refused += 1;
            return;
        };
        let window_ms = i64::from(self.config.crash_loop_window_seconds) * 1_000;
        let pod_name = if at.pod_uid.is_empty() { at.container_id } else { at.pod_uid };
        let pod_limit = self.config.max_containers;
        let pod = self.fleet.pod(cluster, pod_name, added.first_seen_unix_ms, window_ms, pod_limit);
        let place = Place { cluster, node, workload, pod, slot: added.slot };
        let shown_pod = if at.pod_name.is_empty() { at.pod_uid } else { at.pod_name };
        let mut container = Container::new(place, at.container_id, shown_pod);
        container.first_seen_ms = added.first_seen_unix_ms;
        container.restarts = added.restarts;
        container.already_running = added.already_running;
        container.past_unknown = added.already_running;
        self.fleet.containers.insert(at.key, Box::new(container));
        let of = &mut self.fleet.workloads[workload as usize];
        of.alive += 1;
        of.remembered = false;
        of.last_ms = of.last_ms.max(added.first_seen_unix_ms);
        let pod = &mut self.fleet.pods[pod as usize];
        pod.alive += 1;
        if at.container_id.is_empty() {
            return;
        }
        let least = if self.incidents.is_failing(workload) { 1 } else { t::FAILURES };
        if let Some(failures) = pod.added(workload, added, window_ms, least) {
            let origin = match self.fleet.clusters[cluster as usize].origin {
                _ if live => Origin::Live,
                Origin::Live => Origin::Late,
                seen => seen,
            };
            self.crash_loop(at.key, &failures, origin);
        }
    }

    /// A container's cgroup is gone; `origin` is that of the batch that says so: what is late or replayed never pages.
    pub fn container_removed(&mut self, key: SubjectKey, removed: &v1::ContainerRemoved, origin: Origin) {
        self.disagreements.forget(key);
        let Some(container) = self.fleet.containers.get(&key) else { return };
        let place = container.place;
        let known = !container.past_unknown || container.last_ms != i64::MIN;
        let failure = Failure { unix_ms: removed.unix_ms, lived_ms: known.then_some((removed.unix_ms - container.first_seen_ms).max(0)) };
        let restarts = container.restarts;
        let window_ms = i64::from(self.config.crash_loop_window_seconds) * 1_000;
        let least = if self.incidents.is_failing(place.workload) { 1 } else { t::FAILURES };
        let pod = &mut self.fleet.pods[place.pod as usize];
        pod.alive = pod.alive.saturating_sub(1);
        if removed.pod_remains
            && let Some(failures) = pod.removed(place.slot, place.workload, restarts, failure, window_ms, least)
        {
            self.crash_loop(key, &failures, origin);
        }
        let workload = &mut self.fleet.workloads[place.workload as usize];
        workload.alive = workload.alive.saturating_sub(1);
        workload.last_ms = workload.last_ms.max(removed.unix_ms);
        if let Some(mut container) = self.fleet.containers.remove(&key) {
            self.fleet.workloads[place.workload as usize].siblings.leave(&mut container.sibling);
        }
    }

    /// A process name with its privileges was seen, in a batch of this origin.
    pub fn process_seen(&mut self, key: SubjectKey, seen: &v1::ProcessSeen, origin: Origin) {
        let Some(container) = self.fleet.containers.get(&key) else { return };
        let place = container.place;
        let ready_s = self.config.baseline_ready_seconds as f32;
        let Some(note) = processes::seen(&mut self.fleet.workloads[place.workload as usize], seen, ready_s) else { return };
        self.report_fact(key, note, Severity::Note, origin, seen.unix_ms);
    }

    /// What a node's agent found comparing its counters with Prometheus's; what disagrees for long is a ticket.
    pub fn cross_checked(&mut self, node: SubjectKey, checks: &[(SubjectKey, v1::CrossCheck)], origin: Origin, unix_ms: i64) {
        for Lasting { key, since_ms, evidence } in self.disagreements.round(node, checks, unix_ms) {
            let Some(container) = self.fleet.containers.get(&key) else { continue };
            let report = report(&self.fleet, container, origin, unix_ms);
            self.incidents.report(Report {
                topic: Topic::Disagreement,
                effect: Some("counted differently by Prometheus (scrape, clock or agent fault?)"),
                fact: true,
                most: report.most.min(Severity::Ticket),
                onset_ms: since_ms,
                evidence,
                reasoning: "both read the same kernel: a scrape, a clock or the agent is at fault; it proves nothing else".to_owned(),
                quiet_ms: disagreement::QUIET_MS,
                ..report
            });
        }
    }

    /// Scores one observation and learns from it.
    pub fn observe(&mut self, key: SubjectKey, origin: Origin, unix_ms: i64, row: &Observation) -> Verdict {
        self.stats.observations += 1;
        let Some(container) = self.fleet.containers.get_mut(&key) else {
            self.stats.unknown_containers += 1;
            return Verdict::NORMAL;
        };
        if unix_ms <= container.last_ms {
            self.stats.out_of_order += 1;
            return Verdict::NORMAL;
        }
        let place = container.place;
        let cluster = &mut self.fleet.clusters[place.cluster as usize];
        cluster.first_ms = cluster.first_ms.min(unix_ms);
        cluster.reach(unix_ms);
        let node = &mut self.fleet.nodes[place.node as usize];
        if unix_ms > node.clock_ms {
            node.clock_ms = unix_ms;
            cluster.due = true;
        }
        if origin != Origin::Late || cluster.origin == Origin::Unspecified {
            cluster.origin = origin;
        }
        if container.is_node {
            container.last_ms = unix_ms;
            judge::node_row(&mut self.fleet.nodes[place.node as usize], unix_ms, row);
            let fact = facts::of_node(container, unix_ms, row);
            if let Some(residual) = self.fleet.nodes[place.node as usize].residual.node(unix_ms, row) {
                self.report_fact(key, residual, Severity::Note, origin, unix_ms);
            }
            return self.with_facts(key, fact.into_iter().collect(), origin, unix_ms, Verdict::NORMAL);
        }
        let ready_s = self.config.baseline_ready_seconds as f32;
        let frozen = self.incidents.is_frozen(place.workload);
        let mut around = Surroundings {
            cluster,
            node: &mut self.fleet.nodes[place.node as usize],
            workload: &mut self.fleet.workloads[place.workload as usize],
            pod: &mut self.fleet.pods[place.pod as usize],
            ready_s,
            frozen,
            was_odd: frozen && self.incidents.was_odd(place.workload),
            classifier: self.classifier.as_deref(),
        };
        around.workload.node = place.node;
        around.workload.last_ms = around.workload.last_ms.max(unix_ms);
        let suspicion = judge::judge(container, &mut around, unix_ms, row);
        let verdict = Verdict { score: container.score, kind: container.kind };
        let raw_is_new = processes::raw_socket(around.workload, row, ready_s);
        let outlier = around.workload.siblings.compare(container, unix_ms, !frozen && container.score < t::HOLD);
        let turn = around.workload.turn_is_due(unix_ms);
        let mut facts = facts::of_row(container, unix_ms, row, raw_is_new);
        facts.extend(facts::of_memory(container, unix_ms, row));
        if let (Some(suspicion), Some(container)) = (suspicion, self.fleet.containers.get(&key)) {
            self.incidents.report(Report {
                kind: suspicion.kind,
                strength: suspicion.strength,
                refines: suspicion.refines,
                onset_ms: suspicion.onset_ms,
                evidence: suspicion.evidence,
                reasoning: suspicion.reasoning,
                quiet_ms: i64::from(self.config.resolve_after_seconds) * 1_000,
                ..report(&self.fleet, container, origin, unix_ms)
            });
        }
        if let (Some(outlier), Some(container)) = (outlier, self.fleet.containers.get(&key)) {
            self.incidents.report(Report {
                kind: outlier.kind,
                onset_ms: outlier.onset_ms,
                evidence: outlier.evidence,
                reasoning: outlier.reasoning.to_owned(),
                quiet_ms: i64::from(self.config.resolve_after_seconds) * 1_000,
                ..report(&self.fleet, container, origin, unix_ms)
            });
        }
        if let Some(since_ms) = turn {
            self.turn(key, origin, unix_ms, since_ms);
        }
        self.with_facts(key, facts, origin, unix_ms, verdict)
    }

    /// Judges the silence of nodes; `now_unix_ms` is the aggregator's clock. Give all nodes, about once a second: also those known from
    /// before a restart.
    pub fn nodes(&mut self, now_unix_ms: i64, nodes: &[NodeHeard<'_>]) {
        let Self { config, fleet, incidents, silence, .. } = self;
        silence.judge(config, fleet, incidents, now_unix_ms, nodes);
    }

    /// Event time of a node or of its whole cluster moved on: resolves what is over.
    ///
    /// An incident is over by the clocks of its own nodes, so call it after the rows of every node, also one that is behind.
    pub fn advance(&mut self, cluster: &str, unix_ms: i64) {
        let Some(place) = self.fleet.known_cluster(cluster) else { return };
        let of = &mut self.fleet.clusters[place as usize];
        of.reach(unix_ms);
        let (clock_ms, elapsed_ms) = (of.clock_ms, of.elapsed_ms);
        if of.due || clock_ms - of.checked_ms.max(0) >= 1_000 {
            of.checked_ms = clock_ms;
            of.due = false;
            let fleet = &self.fleet;
            self.incidents.resolve_quiet(place, elapsed_ms, |node| fleet.node_clock(node));
        }
        let of = &mut self.fleet.clusters[place as usize];
        if clock_ms - of.prior_ms.max(0) >= t::PRIOR_EVERY_MS {
            of.prior_ms = clock_ms;
            let counts = |workload: &&Workload| {
                workload.cluster == place
                    && (workload.alive > 0 || workload.remembered && clock_ms.saturating_sub(workload.last_ms) <= t::PRIOR_REMEMBERED_MS)
            };
            let workloads = self.fleet.workloads.iter().filter(counts);
            let baselines = workloads.map(|workload| (workload.node, workload.kind, &*workload.baseline));
            self.fleet.clusters[place as usize].priors = Priors::of_all(baselines, self.config.baseline_ready_seconds as f32);
        }
    }

    /// A cluster is over, as a replay is when its last stream ended: its open incidents resolve at its clock, and all that
    /// is known of it is forgotten, so that the same name may begin anew at any event time.
    pub fn cluster_over(&mut self, cluster: &str) {
        let Some(place) = self.fleet.known_cluster(cluster) else { return };
        self.incidents.cluster_over(place, self.fleet.clusters[place as usize].clock_ms);
        let workloads = self.fleet.forget_cluster(place);
        self.silence.forget(cluster, &workloads);
    }

    /// A node was replaced and is not expected any more: incidents that only it could end are over.
    pub fn node_over(&mut self, cluster: &str, node: &str) {
        let node = self.fleet.known_cluster(cluster).and_then(|cluster| self.fleet.known_node(cluster, node));
        node.into_iter().for_each(|node| self.incidents.node_over(node));
    }

    /// What changed since the last call, in order.
    pub fn changes(&mut self) -> Vec<Change> {
        self.incidents.take_changes()
    }

    /// What is known of a container.
    #[must_use]
    pub fn container_state(&self, key: SubjectKey) -> Option<ContainerState> {
        let container = self.fleet.containers.get(&key)?;
        let workload = container.place.workload;
        let baseline = &self.fleet.workloads[workload as usize].baseline;
        let baseline = if self.incidents.is_frozen(workload) {
            BaselineState::Frozen
        } else if baseline.ready(vedette_proto::Feature::CpuCores as usize, self.config.baseline_ready_seconds as f32) {
            BaselineState::Ready
        } else {
            BaselineState::Learning
        };
        Some(ContainerState { score: container.score, baseline })
    }

    /// What the kind classifier sees of a container as it was last observed; `None` of a node, and of what is not known.
    #[must_use]
    pub fn vector(&self, key: SubjectKey) -> Option<Vector> {
        let container = self.fleet.containers.get(&key).filter(|container| !container.is_node)?;
        let place = container.place;
        let (node, workload) = (&self.fleet.nodes[place.node as usize], &self.fleet.workloads[place.workload as usize]);
        Some(vector::of(&View {
            container,
            baseline: &workload.baseline,
            season: workload.course.as_deref().map(|course| &course.season),
            prior: self.fleet.clusters[place.cluster as usize].priors.of(workload.kind),
            pod: self.fleet.pods[place.pod as usize].traffic,
            node_cores: node.cores,
            node_fs_loss: node.fs_loss,
            ready_s: self.config.baseline_ready_seconds as f32,
            widened: workload.hold_offs.cover(container.last_ms),
            cold_weight: 1.0,
        }))
    }

    /// The window of a container that strays, since when it does (event time, Unix milliseconds), and whether it did at the last row; `None`
    /// of one that does not.
    #[must_use]
    pub fn window(&self, key: SubjectKey) -> Option<(i64, bool, Seen)> {
        let window = self.fleet.containers.get(&key)?.window.as_deref()?;
        Some((window.since_ms, window.straying, window.seen()))
    }

    /// Sizes and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            containers: self.fleet.containers.len(),
            workloads: self.fleet.workload_count(),
            open_incidents: self.incidents.open_count(),
            incidents_opened: self.incidents.opened,
            incidents_refused: self.incidents.refused,
            ..self.stats
        }
    }

    pub(crate) fn workload(&mut self, cluster: u32, node: u32, name: &v1::Workload) -> Option<u32> {
        let incidents = &self.incidents;
        let (limit, profile) = (self.config.max_workloads, || self.config.namespaces.of(&name.namespace));
        let (place, evicted) = self.fleet.workload(cluster, node, name, limit, profile, |workload| incidents.is_open(workload))?;
        self.stats.workloads_evicted += evicted as u64;
        Some(place)
    }

    /// Identity became known or changed: the container keeps its levels and takes the other workload's baseline; where
    /// that has none yet, it brings what it learnt under its old name.
    fn move_container(&mut self, at: ContainerAt<'_>, unix_ms: i64) {
        let cluster = self.fleet.cluster(at.cluster);
        let node = self.fleet.node(cluster, at.node);
        let Some(to) = self.workload(cluster, node, at.workload) else { return };
        let Some(container) = self.fleet.containers.get_mut(&at.key) else { return };
        let from = std::mem::replace(&mut container.place.workload, to);
        if !at.pod_name.is_empty() {
            container.pod = at.pod_name.into();
        }
        let from = &mut self.fleet.workloads[from as usize];
        from.siblings.leave(&mut container.sibling);
        from.alive = from.alive.saturating_sub(1);
        let learnt = from.baseline.clone();
        let to = &mut self.fleet.workloads[to as usize];
        if to.baseline.is_empty() {
            to.baseline = learnt;
        }
        to.alive += 1;
        to.remembered = false;
        to.last_ms = to.last_ms.max(unix_ms);
    }

    fn crash_loop(&mut self, key: SubjectKey, failures: &[Failure], origin: Origin) {
        let Some(fact) = facts::of_failures(failures) else { return };
        let unix_ms = failures.last().map_or(fact.onset_ms, |last| last.unix_ms);
        // Fewer failures than make a crash loop keep alive the one that is open: its back-off may be longer than the window.
        let strength = if failures.len() >= t::FAILURES { 1.0 } else { t::HOLD };
        self.report(key, fact, strength, judge::most_severe(origin), origin, unix_ms);
    }

    fn with_facts(&mut self, key: SubjectKey, facts: Vec<Fact>, origin: Origin, unix_ms: i64, verdict: Verdict) -> Verdict {
        let mut verdict = verdict;
        for fact in facts {
            verdict = Verdict { score: 1.0, kind: if verdict.kind == Kind::Normal { fact.kind } else { verdict.kind } };
            self.report_fact(key, fact, judge::most_severe(origin), origin, unix_ms);
        }
        if verdict.score >= 1.0
            && let Some(container) = self.fleet.containers.get_mut(&key)
        {
            container.score = verdict.score;
        }
        verdict
    }

    fn report_fact(&mut self, key: SubjectKey, fact: Fact, most: Severity, origin: Origin, unix_ms: i64) {
        self.report(key, fact, 1.0, most, origin, unix_ms);
    }

    /// A fact, or, with a strength below [`t::OPEN`], what is not one yet and only keeps alive what is open.
    fn report(&mut self, key: SubjectKey, fact: Fact, strength: f32, most: Severity, origin: Origin, unix_ms: i64) {
        let Some(container) = self.fleet.containers.get(&key) else { return };
        let workload = &self.fleet.workloads[container.place.workload as usize];
        let holds = strength >= t::OPEN;
        let mut evidence = if holds { vec![fact.evidence] } else { Vec::new() };
        if most > Severity::Note && holds {
            judge::process_evidence(workload, unix_ms, &mut evidence);
        }
        self.incidents.report(Report {
            kind: fact.kind,
            topic: if fact.kind == Kind::CrashLoop { Topic::Failures } else { Topic::Behaviour },
            strength,
            fact: holds,
            most: rollout::most(workload, most, unix_ms),
            onset_ms: fact.onset_ms,
            evidence,
            reasoning: format!("{}{}", fact.reasoning, workload.profile.said()),
            quiet_ms: fact.quiet_ms.unwrap_or(i64::from(self.config.resolve_after_seconds) * 1_000),
            ..report(&self.fleet, container, origin, unix_ms)
        });
    }
}

/// What every report on a container says of where and when; what is abnormal is for the caller to say.
pub(crate) fn report<'a>(fleet: &'a Fleet, container: &'a Container, origin: Origin, unix_ms: i64) -> Report<'a> {
    let place = container.place;
    let node = &fleet.nodes[place.node as usize];
    let workload = &fleet.workloads[place.workload as usize];
    Report {
        cluster: place.cluster,
        workload: place.workload,
        name: &workload.name,
        kind: Kind::Unknown,
        topic: Topic::Behaviour,
        effect: None,
        strength: 1.0,
        refines: false,
        fact: false,
        least: Severity::Note,
        most: rollout::most(workload, judge::most_severe(origin), unix_ms),
        onset_ms: unix_ms,
        unix_ms,
        clock_ms: node.clock_ms,
        elapsed_ms: fleet.clusters[place.cluster as usize].elapsed_ms,
        origin,
        node: &node.name,
        node_place: place.node,
        pod: &container.pod,
        container_id: &container.id,
        evidence: Vec::new(),
        reasoning: String::new(),
        quiet_ms: 0,
    }
}
