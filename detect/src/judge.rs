//! One observation judged: levels, strengths, signatures, persistence, and what the baseline may learn from it.

use vedette_proto::{
    Column, Feature, Observation,
    v1::{Kind, Origin},
};

use crate::{
    Classifier,
    baseline::{Baseline, PLACES, needed_s},
    container::{Container, Fresh, bit},
    course,
    evidence::{self, Ranked},
    fleet::{Cluster, Node, Workload},
    namespaces::Profile,
    pods::{Pod, PodTraffic},
    signature::{SIGNATURES, Signature},
    thresholds as t, vector,
    view::{self, View, ramp},
    window::{self, Window},
};

/// What a container's row is judged against.
pub struct Surroundings<'a> {
    pub cluster: &'a Cluster,
    pub node: &'a mut Node,
    pub workload: &'a mut Workload,
    pub pod: &'a mut Pod,
    pub ready_s: f32,
    /// An incident of the workload is open: its baseline learns nothing.
    pub frozen: bool,
    /// What it does was beyond its normal when that normal was still known: the cold levels speak in full.
    pub was_odd: bool,
    /// Decides instead of the signatures.
    pub classifier: Option<&'a Classifier>,
}

/// A signature that persists, or a window that the classifier calls an attack, ready to be reported.
pub struct Suspicion {
    pub kind: Kind,
    /// From [`t::OPEN`] on it opens an incident, from [`t::STRONG`] on it may page.
    pub strength: f32,
    /// It may correct the kind of an incident that it did not open.
    pub refines: bool,
    pub onset_ms: i64,
    pub evidence: Vec<Ranked>,
    pub reasoning: String,
}

/// Below it a container is as calm as if nothing had been.
const CALM: f32 = 0.02;
/// How much the cold levels say of a container whose past is not known: too little to keep it from teaching.
const COLD_UNSURE: f32 = 0.25;

/// Judges one row of a container, teaches the baseline, and gives what is worth reporting.
///
/// Nothing is allocated for a container that is calm and within its normal.
pub fn judge(container: &mut Container, around: &mut Surroundings<'_>, unix_ms: i64, row: &Observation) -> Option<Suspicion> {
    let fresh = Fresh::of(row);
    if container.last_ms == i64::MIN {
        let unseen = unix_ms - container.first_seen_ms > t::COHORT_MS;
        container.past_unknown |= unseen || unix_ms - around.cluster.first_ms <= t::COHORT_MS;
    }
    container.take(unix_ms, &fresh);
    share_traffic(container, around, &fresh);

    let view = view(container, around, unix_ms);
    let odd = view::odd(&view, &fresh);
    let (is_born, strays) = (window::is_born(&view, unix_ms), window::strays(&view));
    let looked_at = is_born || strays || container.window.is_some();
    let vector = looked_at.then(|| vector::of(&view));
    if odd == 0 && !looked_at && container.heat() < CALM {
        (container.score, container.kind) = (0.0, Kind::Normal);
        container.rising_ms = 0;
        around.node.took(false);
        learn(container, around, &fresh, 0.0);
        return None;
    }
    let matches = matches(&view, odd);
    let now = matches.iter().fold(0.0f32, |most, &one| most.max(one));
    let warm = SIGNATURES.map(|signature| view.ready(signature.key));
    persist(container, &fresh, &matches, &warm);
    if now >= t::HOLD && container.rising_ms == 0 {
        container.rising_ms = unix_ms;
    } else if now < t::HOLD && container.heat() < 0.1 {
        container.rising_ms = 0;
    }
    around.node.took(strays);
    if let Some(vector) = &vector {
        let cold = !around.workload.baseline.ready(Feature::CpuCores as usize, around.ready_s);
        Window::follow(container, unix_ms, vector, strays || is_born, cold, around.node.straying);
    }
    container.score = container.heat();
    container.kind = kind_of(container, around.frozen);
    learn(container, around, &fresh, now);
    match around.classifier {
        Some(classifier) => ask(container, around, unix_ms, &fresh, classifier),
        None => suspicion(container, around, unix_ms, &fresh),
    }
}

/// Asks the classifier about the window of a container, and gives what is worth reporting. Score and kind are then its word.
fn ask(container: &mut Container, around: &Surroundings<'_>, unix_ms: i64, fresh: &Fresh, classifier: &Classifier) -> Option<Suspicion> {
    (container.score, container.kind) = (0.0, Kind::Normal);
    let window = container.window.as_deref_mut().filter(|window| window::is_long_enough(window.length_s()))?;
    let probabilities = window.straying.then(|| classifier.probabilities(&window.seen()));
    window::hear(&mut window.said, probabilities.as_ref(), fresh.seconds(Feature::CpuCores as usize));
    let opinion = classifier.opinion(&window.said);
    let (ticket_from, page_from) = classifier.thresholds();
    let holds = opinion.abnormal >= ticket_from * t::HOLD_OF_TICKET;
    window.rising_ms = match window.rising_ms {
        _ if !holds => 0,
        0 => unix_ms,
        since_ms => since_ms,
    };
    let (onset_ms, length_s) = (window.rising_ms, window.length_s());
    container.score = opinion.abnormal;
    if !holds || opinion.abnormal < ticket_from && !around.frozen {
        return None;
    }
    container.kind = opinion.kind;
    let strength = if opinion.abnormal < ticket_from {
        t::HOLD
    } else if opinion.abnormal < page_from {
        t::OPEN + (t::STRONG - t::OPEN) * 0.95 * ramp(opinion.abnormal, ticket_from, page_from)
    } else {
        t::STRONG + (1.0 - t::STRONG) * ramp(opinion.abnormal, page_from, 1.0)
    };
    let (container, view) = (&*container, view(container, around, unix_ms));
    let matched = strongest(container, |signature| signature.kind == opinion.kind).or_else(|| strongest(container, |_| true));
    let mut evidence = match (opinion.kind, matched) {
        (Kind::MemoryLeak, _) => {
            evidence::of(&view, Feature::MemoryAnonBytes, &[Feature::MemoryAnonBytes, Feature::MemoryWorkingSetBytes], unix_ms)
        }
        (_, Some((signature, _))) => evidence::of(&view, signature.key, signature.shows, unix_ms),
        (_, None) => Vec::new(),
    };
    process_evidence(around.workload, unix_ms, &mut evidence);
    let signature = strongest(container, |_| true).filter(|(_, persistence)| *persistence >= t::HOLD);
    let signature = signature.map_or("no signature matches".to_owned(), |(signature, persistence)| {
        format!("signature {}: {} (persistence {persistence:.2})", signature.kind.word(), signature.stated)
    });
    Some(Suspicion {
        kind: opinion.kind,
        strength,
        refines: true,
        onset_ms,
        evidence,
        reasoning: format!(
            "classifier {}: attack {:.2}, {} {:.2} over {length_s:.0} s; {signature}; {}{}",
            classifier.name(),
            opinion.abnormal,
            opinion.kind.word(),
            opinion.of_kind,
            against(&view, Feature::CpuCores),
            widened(&view, around.workload.profile),
        ),
    })
}

/// The signature of these that persists most; `None` where none does.
fn strongest(container: &Container, of: impl Fn(&Signature) -> bool) -> Option<(&'static Signature, f32)> {
    let signatures: &'static [Signature] = &SIGNATURES;
    let all = signatures.iter().zip(container.persistence).filter(|(signature, persistence)| *persistence > 0.0 && of(signature));
    all.reduce(|best, one| if one.1 > best.1 { one } else { best })
}

/// What the container is held against.
fn against(view: &View<'_>, key: Feature) -> String {
    if view.ready(key) {
        format!("against the workload's own baseline of {:.0} s", view.baseline.track(key as usize).seconds)
    } else {
        format!("against levels of the cold start and {} other workloads", view.prior.workloads)
    }
}

fn widened(view: &View<'_>, profile: Profile) -> &'static str {
    match (view.widened, profile) {
        (true, Profile::Strict) => ", widened: it rolls out",
        (true, _) => ", widened: it rolls out, and this is a ticket at most",
        (false, _) => "",
    }
}

fn view<'a>(container: &'a Container, around: &'a Surroundings<'_>, unix_ms: i64) -> View<'a> {
    let cpu_ready = around.workload.baseline.ready(Feature::CpuCores as usize, around.ready_s);
    View {
        container,
        baseline: &around.workload.baseline,
        season: around.workload.course.as_deref().map(|course| &course.season),
        prior: around.cluster.priors.of(around.workload.kind),
        pod: around.pod.traffic,
        node_cores: around.node.cores,
        node_fs_loss: around.node.fs_loss,
        ready_s: around.ready_s,
        widened: around.workload.hold_offs.cover(unix_ms),
        cold_weight: if cpu_ready || container.past_unknown && !around.was_odd { COLD_UNSURE } else { 1.0 },
    }
}

fn share_traffic(container: &Container, around: &mut Surroundings<'_>, fresh: &Fresh) {
    let (rx, tx) = (Feature::RxPacketsPerSec as usize, Feature::TxPacketsPerSec as usize);
    if fresh.mask >> rx & fresh.mask >> tx & 1 == 0 {
        return;
    }
    let growth = |place: usize| {
        let track = around.workload.baseline.track(place);
        if around.workload.baseline.ready(place, around.ready_s) { (container.level[place] - track.centre).max(0.0) } else { 0.0 }
    };
    around.pod.traffic =
        PodTraffic { known: true, growth: growth(rx).max(growth(tx)), rx_log: container.level[rx], tx_log: container.level[tx] };
}

fn matches(view: &View<'_>, odd: u64) -> [f32; SIGNATURES.len()] {
    let mut matches = [0.0; SIGNATURES.len()];
    for (one, signature) in matches.iter_mut().zip(&SIGNATURES) {
        if odd & bit(signature.key) != 0 {
            *one = (signature.matches)(view).clamp(0.0, 1.0);
        }
    }
    matches
}

fn persist(container: &mut Container, fresh: &Fresh, matches: &[f32; SIGNATURES.len()], warm: &[bool; SIGNATURES.len()]) {
    let starting = container.last_ms - container.first_seen_ms < t::STARTUP_MS && !container.past_unknown;
    for (place, signature) in SIGNATURES.iter().enumerate() {
        if fresh.mask & bit(signature.key) == 0 {
            // What is not read any more (another container reports the pod's network now) is not suspected any more.
            if container.known(signature.key as usize).is_none() {
                container.persistence[place] = 0.0;
            }
            continue;
        }
        let warm = warm[place] && !starting;
        let (tau_s, most_s) = if warm { (signature.warm_tau_s, t::WARM_SAMPLE_S) } else { (signature.cold_tau_s, t::COLD_SAMPLE_S) };
        let seconds = fresh.seconds(signature.key as usize).min(most_s);
        let persistence = &mut container.persistence[place];
        *persistence += (matches[place] - *persistence) * (1.0 - (-seconds / tau_s).exp());
    }
}

/// Teaches the workload's baseline, unless the container is odd; while an incident is open, its candidate.
fn learn(container: &Container, around: &mut Surroundings<'_>, fresh: &Fresh, now: f32) {
    if !container.already_running && container.last_ms - container.first_seen_ms < t::UNTAUGHT_MS {
        return;
    }
    let alive = around.workload.alive.max(1) as f32;
    if around.frozen {
        let candidate = course::candidate(around.workload, container.last_ms);
        return teach(&mut candidate.baseline, container, fresh, alive, around.ready_s);
    }
    if around.workload.candidate.is_some() {
        // The incident is over, and what it did is no more.
        around.workload.candidate = None;
    }
    if now < t::HOLD && container.heat() < t::HOLD {
        teach(&mut around.workload.baseline, container, fresh, alive, around.ready_s);
    }
}

fn teach(baseline: &mut Baseline, container: &Container, fresh: &Fresh, alive: f32, ready_s: f32) {
    let mut rest = fresh.mask;
    while rest != 0 {
        let place = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        debug_assert!(place < PLACES);
        let seconds = fresh.seconds(place) / alive;
        baseline.track_mut(place).learn(fresh.y[place], container.level[place], seconds, needed_s(place, ready_s));
    }
}

fn suspicion(container: &Container, around: &Surroundings<'_>, unix_ms: i64, fresh: &Fresh) -> Option<Suspicion> {
    let (place, &persistence) = container
        .persistence
        .iter()
        .enumerate()
        .reduce(|best, one| if one.1 > best.1 { one } else { best })
        .filter(|(_, persistence)| **persistence >= t::HOLD)?;
    let signature = &SIGNATURES[place];
    if fresh.mask & bit(signature.key) == 0 || persistence < t::OPEN && !around.frozen {
        return None;
    }
    let view = view(container, around, unix_ms);
    let mut evidence = evidence::of(&view, signature.key, signature.shows, unix_ms);
    process_evidence(around.workload, unix_ms, &mut evidence);
    Some(Suspicion {
        kind: signature.kind,
        strength: persistence,
        refines: false,
        onset_ms: if container.rising_ms == 0 { unix_ms } else { container.rising_ms },
        evidence,
        reasoning: format!(
            "{}: {} (persistence {persistence:.2}, {}{}{})",
            signature.kind.word(),
            signature.stated,
            against(&view, signature.key),
            widened(&view, around.workload.profile),
            around.workload.profile.said()
        ),
    })
}

/// New process names and privileges of the last moments belong to whatever happens now.
pub fn process_evidence(workload: &Workload, unix_ms: i64, evidence: &mut Vec<Ranked>) {
    for (seen_ms, sentence) in &workload.process_facts {
        if (unix_ms - seen_ms).abs() <= t::PROCESS_FACT_MS {
            let family = vedette_proto::v1::Family::Processes;
            let name = format!("process:{sentence}");
            let mut fact = evidence::fact(&name, family, sentence.clone(), None, "", *seen_ms, 2.0);
            "new_process".clone_into(&mut fact.evidence.feature);
            if !evidence.iter().any(|one| one.evidence.feature == "new_process") {
                evidence.push(fact);
            }
        }
    }
}

/// Takes in what a node's row says of the node: CPUs, and how fast its file system fills.
pub fn node_row(node: &mut Node, unix_ms: i64, row: &Observation) {
    let parts = [Column::NodeCpuBusyUs, Column::NodeCpuIdleUs, Column::NodeCpuStealUs];
    if let (Some(us), Some(_)) = (row.get(Column::IntervalUs).filter(|&us| us > 0), row.get(Column::NodeCpuIdleUs)) {
        let total: u64 = parts.iter().filter_map(|&part| row.get(part)).fold(0, u64::saturating_add);
        let cores = (total as f64 / us as f64).round() as f32;
        // A short or late interval may round to one CPU less; CPUs do not come and go.
        node.cores = node.cores.max(cores.min(4_096.0));
    }
    if let Some(available) = row.get(Column::NodeFsAvailableBytes) {
        if let Some((last_ms, last)) = node.fs_last
            && unix_ms > last_ms
        {
            let seconds = (unix_ms - last_ms) as f32 / 1e3;
            let loss = (last as f32 - available as f32) / seconds;
            node.fs_loss += (loss - node.fs_loss) * (1.0 - (-seconds / 10.0).exp());
        }
        node.fs_last = Some((unix_ms, available));
    }
}

/// The kind that a verdict names: only what persists is abnormal.
fn kind_of(container: &Container, open: bool) -> Kind {
    let mut best = (0.0, Kind::Normal);
    for (&persistence, signature) in container.persistence.iter().zip(&SIGNATURES) {
        if persistence > best.0 {
            best = (persistence, signature.kind);
        }
    }
    if best.0 >= t::OPEN || open && best.0 >= t::HOLD { best.1 } else { Kind::Normal }
}

/// The highest severity that data of an origin may reach.
pub fn most_severe(origin: Origin) -> vedette_proto::v1::Severity {
    if origin == Origin::Live { vedette_proto::v1::Severity::Page } else { vedette_proto::v1::Severity::Ticket }
}
