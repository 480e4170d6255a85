//! Whether a plan makes sense before any seed: names that exist, programs that their behaviours take, lengths that fit.

use std::time::Duration;

use vedette_proto::v1::Kind;

use super::{
    Plan,
    act::{self, Act, Needs, Placement, Role},
    draw::workload_of,
    file::{EpisodeFile, PhaseFile, PlanFile, Rounds, Scatter, WorkloadFile},
    values::{Draw, Names, Ordered},
};

/// Longest name of a workload: with the suffixes of a pod it stays below what Kubernetes allows.
const MAX_NAME: usize = 40;
/// Most pods of one workload.
const MAX_REPLICAS: u32 = 8;
/// Most pods of a plan: a run has some 240 addresses, and rollouts use them up.
const MAX_PODS: u32 = 60;
/// Names that mean something else in a plan's addresses.
const RESERVED: [&str; 4] = ["self", "work", "shared", "pods"];

type Checked = Result<(), String>;

fn at<T>(field: impl std::fmt::Display, checked: Result<T, String>) -> Result<T, String> {
    checked.map_err(|problem| format!("{field}.{problem}"))
}

impl Plan {
    pub(super) fn check(&self) -> Checked {
        let file = &self.file;
        let shipped = act::shipped()?;
        for (name, act) in &file.acts.0 {
            act.check(name, &[&file.acts, shipped])?;
        }
        self.check_workloads()?;
        for (name, targets) in &file.targets.0 {
            self.check_targets(targets).map_err(|problem| format!("targets.{name}: {problem}"))?;
        }
        if let Some(peaks) = &file.peaks {
            if peaks.every.0.is_zero() {
                return Err("peaks.every: must be longer than nothing".to_owned());
            }
            peaks
                .workloads
                .0
                .iter()
                .try_for_each(|name| self.workload(name).map(|_| ()).map_err(|problem| format!("peaks.workloads: {problem}")))?;
        }
        if file.phases.is_empty() {
            return Err("phases: at least one".to_owned());
        }
        for (place, phase) in file.phases.iter().enumerate() {
            at(format!("phases[{place}]"), self.check_phase(phase))?;
        }
        Ok(())
    }

    fn check_workloads(&self) -> Checked {
        let file = &self.file;
        let mut names: Vec<&str> = Vec::new();
        let mut pods = 0;
        for (name, workload) in &file.workloads.0 {
            if !(1..=MAX_REPLICAS).contains(&workload.replicas) {
                return Err(format!("workloads.{name}.replicas: 1 to {MAX_REPLICAS} are possible"));
            }
            pods += workload.replicas;
            let own = std::iter::once((name, &workload.program, format!("workloads.{name}")));
            let clients =
                workload.clients.0.iter().map(|(client, program)| (client, program, format!("workloads.{name}.clients.{client}")));
            for (name, program, field) in own.chain(clients) {
                check_name(name).map_err(|problem| format!("{field}: {problem}"))?;
                if names.contains(&name.as_str()) {
                    return Err(format!("{field}: there are two workloads of this name"));
                }
                names.push(name);
                if let Some((parameter, _)) = program.parameters().next() {
                    return Err(format!("{field}.program: ${parameter} has a meaning in acts only"));
                }
                let missing = program.workloads().find(|target| !file.has(target));
                missing.map_or(Ok(()), |target| Err(format!("{field}.program: there is no workload `{target}`")))?;
            }
            pods += u32::try_from(workload.clients.0.len()).unwrap_or(u32::MAX);
        }
        if !(1..=MAX_PODS).contains(&pods) {
            return Err(format!("workloads: {pods} pods, 1 to {MAX_PODS} are possible"));
        }
        let own = file.new_pods.program.iter().flat_map(|program| program.workloads());
        let missing = own.into_iter().find(|target| !file.has(target));
        missing.map_or(Ok(()), |target| Err(format!("new_pods.program: there is no workload `{target}`")))
    }

    fn check_targets(&self, targets: &Names) -> Checked {
        for target in &targets.0 {
            if !target.starts_with('@') {
                return Err(format!("{target:?} must begin with @ and the name of a workload"));
            }
            if !self.file.has(workload_of(target)) {
                return Err(format!("there is no workload `{}`", workload_of(target)));
            }
        }
        Ok(())
    }

    fn workload(&self, name: &str) -> Result<&WorkloadFile, String> {
        self.file.workloads.get(name).ok_or_else(|| format!("there is no workload `{name}`, there are {}", self.file.workloads.keys()))
    }

    fn check_phase(&self, phase: &PhaseFile) -> Checked {
        if let Some(rounds) = &phase.rounds {
            if phase.name.is_some() || phase.lasts.is_some() || !phase.episodes.is_empty() || phase.scatter.is_some() {
                return Err("rounds: stand alone, they name and measure their phases themselves".to_owned());
            }
            return at("rounds", self.check_rounds(rounds));
        }
        if phase.name.as_ref().is_none_or(String::is_empty) {
            return Err("name: missing".to_owned());
        }
        let lasts = phase.lasts.ok_or("lasts: missing")?.0;
        if lasts.is_zero() {
            return Err("lasts: must be longer than nothing".to_owned());
        }
        for (place, episode) in phase.episodes.iter().enumerate() {
            at(format!("episodes[{place}]"), self.check_episode(episode, lasts))?;
        }
        phase.scatter.as_ref().map_or(Ok(()), |scatter| at("scatter", self.check_scatter(scatter, lasts)))
    }

    fn check_episode(&self, episode: &EpisodeFile, phase: Duration) -> Checked {
        let act = self.act(&episode.act).map_err(|problem| format!("act: {problem}"))?;
        let placement = episode.placement();
        if !act.suits(placement) {
            return Err(format!("placement: {} makes no sense for {}", placement.word(), episode.act));
        }
        self.check_intensity(act, &episode.act, &episode.intensity)?;
        for (name, targets) in &episode.targets.0 {
            if !act.targets().any(|(target, _)| target == name) {
                return Err(format!("targets.{name}: {} asks for nobody of this name", episode.act));
            }
            self.check_targets(targets).map_err(|problem| format!("targets.{name}: {problem}"))?;
        }
        self.check_asked(act, &episode.act, &episode.targets)?;
        for host in episode.host.iter().flat_map(|hosts| &hosts.0) {
            if placement == Placement::New {
                check_name(host).map_err(|problem| format!("in: {problem}"))?;
                if self.file.has(host) {
                    return Err(format!("in: `{host}` is a workload already; a new pod needs an owner of its own"));
                }
                continue;
            }
            let workload = self.workload(host).map_err(|problem| format!("in: {problem}"))?;
            if !workload.offers(&act.needs) {
                return Err(format!("in: `{host}` does not offer what {} needs ({})", episode.act, act.needs));
            }
            if placement == Placement::Replicas && workload.replicas < 2 {
                return Err(format!("in: `{host}` has one replica"));
            }
            let rolls = placement == Placement::Rollout || act.doing == act::Doing::Rollout;
            if rolls && self.file.is_target(host) {
                return Err(format!("in: others send to `{host}`, whose pods must keep their addresses"));
            }
        }
        if episode.host.is_none() && placement != Placement::New {
            return Err(format!("in: missing; {} needs a workload", placement.word()));
        }
        let begins = episode.at.map_or(Duration::ZERO, |at| at.to.0);
        let ends = begins + episode.lasts.map_or(Duration::ZERO, |lasts| lasts.to.0);
        if ends > phase || begins >= phase {
            return Err("lasts: the episode would end after its phase".to_owned());
        }
        Ok(())
    }

    /// Every name exists, and its extremes are taken by the act's programs.
    fn check_intensity(&self, act: &Act, name: &str, intensity: &Ordered<Draw>) -> Checked {
        for (field, _) in &intensity.0 {
            if act.intensity.get(field).is_none() {
                return Err(format!("intensity.{field}: {name} has no such intensity, it has {}", act.intensity.keys()));
            }
        }
        let mut merged = act.clone();
        for (field, draw) in &mut merged.intensity.0 {
            if let Some(other) = intensity.get(field) {
                draw.clone_from(other);
            }
        }
        merged.check_programs(name).map_err(|problem| format!("intensity: {problem}"))
    }

    fn check_asked(&self, act: &Act, name: &str, given: &Ordered<Names>) -> Checked {
        let missing = act.targets().find(|(target, _)| given.get(target).is_none() && self.file.targets.get(target).is_none());
        missing.map_or(Ok(()), |(target, _)| Err(format!("act: {name} asks for `{target}`, which the plan's targets do not have")))
    }

    fn check_scatter(&self, scatter: &Scatter, phase: Duration) -> Checked {
        if scatter.at_once.attacks == 0 || scatter.at_once.episodes == 0 {
            return Err("at_once: at least one".to_owned());
        }
        for (place, entry) in scatter.acts.iter().enumerate() {
            let checked = self.check_entry(entry, scatter, phase);
            at(format!("acts[{place}]"), checked)?;
        }
        Ok(())
    }

    fn check_entry(&self, entry: &super::file::ScatterEntry, scatter: &Scatter, phase: Duration) -> Checked {
        for name in &entry.act.0 {
            let act = self.act(name).map_err(|problem| format!("act: {problem}"))?;
            self.check_asked(act, name, &Ordered::default())?;
            if let Some(cores) = scatter.cores.filter(|cores| *cores < act.cores) {
                return Err(format!("act: {name} takes {} thousandths of a core, the scatter has {}", act.cores.0, cores.0));
            }
        }
        for host in entry.hosts.iter().flat_map(|hosts| &hosts.0) {
            self.workload(host).map_err(|problem| format!("in: {problem}"))?;
        }
        if entry.placements.as_ref().is_some_and(Vec::is_empty) {
            return Err("placements: an empty list".to_owned());
        }
        let lasts = entry.lasts.unwrap_or(scatter.lasts);
        if lasts.from.0.is_zero() || lasts.from.0 > phase {
            return Err("lasts: must fit into the phase".to_owned());
        }
        Ok(())
    }

    fn check_rounds(&self, rounds: &Rounds) -> Checked {
        if rounds.turns.0.len() < rounds.late.len() + 2 || rounds.turns.0.len() < 3 {
            return Err("turns: too few to take turns in two different orders".to_owned());
        }
        if rounds.attack.0.is_zero() {
            return Err("attack: must be longer than nothing".to_owned());
        }
        for (word, turn) in rounds.all() {
            let kind = Kind::from_word(word).ok_or_else(|| format!("turns: unknown kind `{word}`"))?;
            if turn.doses.len() != 2 {
                return Err(format!("turns.{word}.doses: {} given, two rounds need two", turn.doses.len()));
            }
            for (place, dose) in turn.doses.iter().enumerate() {
                let field = format!("turns.{word}.doses[{place}]");
                let act = self.act(&dose.act).map_err(|problem| format!("{field}.act: {problem}"))?;
                if act.kind.0 != kind || act.role != Role::Attack {
                    return Err(format!("{field}.act: {} is no attack of kind {word}", dose.act));
                }
                at(&field, self.check_intensity(act, &dose.act, &dose.intensity))?;
                at(&field, self.check_asked(act, &dose.act, &Ordered::default()))?;
            }
            for (field, host) in [("in", &turn.host), ("placebo.in", &turn.placebo.host)] {
                self.workload(host).map_err(|problem| format!("turns.{word}.{field}: {problem}"))?;
            }
        }
        Ok(())
    }
}

impl PlanFile {
    /// Whether there is a workload, or a client, of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.workloads.0.iter().any(|(workload, file)| workload == name || file.clients.get(name).is_some())
    }

    /// Whether anybody sends to a workload, or may be told to.
    #[must_use]
    pub fn is_target(&self, name: &str) -> bool {
        let workloads = self
            .workloads
            .0
            .iter()
            .flat_map(|(_, file)| std::iter::once(&file.program).chain(file.clients.0.iter().map(|client| &client.1)));
        let mut programs = workloads.chain(&self.new_pods.program);
        let mut named = self.targets.0.iter().flat_map(|(_, names)| &names.0);
        programs.any(|program| program.workloads().any(|target| target == name)) || named.any(|target| workload_of(target) == name)
    }
}

impl WorkloadFile {
    /// Whether a container of it offers what an act needs.
    #[must_use]
    pub fn offers(&self, needs: &Needs) -> bool {
        let enough = |has: Option<u64>, needed: Option<u64>| needed.is_none_or(|needed| has.is_none_or(|has| has >= needed));
        let disk = needs.disk.is_none_or(|needed| self.disk.is_some_and(|disk| disk >= needed));
        let memory = enough(self.memory.map(|memory| memory.0), needs.memory.map(|memory| memory.0));
        let limited = needs.memory_at_most.is_none_or(|most| self.memory.is_some_and(|memory| memory <= most));
        disk && memory && limited && enough(self.cpu.map(|cpu| cpu.0), needs.cpu.map(|cpu| cpu.0))
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.memory.map(|memory| format!("{} MiB of memory", memory.0 >> 20));
        let limit = self.memory_at_most.map(|memory| format!("a memory limit of at most {} MiB", memory.0 >> 20));
        let disk = self.disk.map(|disk| format!("a disk of {} MiB", disk.0 >> 20));
        let cpu = self.cpu.map(|cpu| format!("{} thousandths of a core", cpu.0));
        let needs: Vec<_> = memory.into_iter().chain(limit).chain(disk).chain(cpu).collect();
        f.write_str(&if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") })
    }
}

/// Names become parts of pod names: as Kubernetes has them.
fn check_name(name: &str) -> Checked {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !plain || name.len() > MAX_NAME || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        return Err(format!(
            "the name {name:?} must be at most {MAX_NAME} small letters, digits and -, begin with a letter and not end with -"
        ));
    }
    if RESERVED.contains(&name) { Err(format!("the name `{name}` means something else in a plan")) } else { Ok(()) }
}
