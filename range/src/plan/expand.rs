//! From a plan and a seed to a timeline: a pure function.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Plan, PlanError,
    act::Placement,
    draw::{Drawing, Wish, words},
    file::{EpisodeFile, PhaseFile, PlanFile, WorkloadFile},
    rounds, scatter,
    timeline::{Episode, Phase, Timeline, Workload},
    values::{Between, Length},
};
use crate::cgroups::Limits;

/// From the begin of a rollout to the onset of what follows it, at least and at most.
pub(super) const LEAD: Between<Length> = Between { from: Length(Duration::from_secs(6)), to: Length(Duration::from_secs(15)) };

/// Decides everything that the plan leaves open.
///
/// # Errors
/// When the seed leaves no room for what the plan asks for.
pub fn expand(plan: &Plan, seed: u64) -> Result<Timeline, PlanError> {
    decide(plan, seed).map_err(|problem| PlanError::Wrong { file: plan.source.clone(), problem: format!("{problem} (seed {seed})") })
}

fn decide(plan: &Plan, seed: u64) -> Result<Timeline, String> {
    let workloads = workloads(&plan.file);
    let mut drawing = Drawing::begin(plan, &workloads, StdRng::seed_from_u64(seed));
    let mut phases: Vec<Phase> = Vec::new();
    let mut episodes: Vec<Episode> = Vec::new();
    let mut begin = plan.file.warm_up.0;
    if !begin.is_zero() {
        phases.push(Phase { name: "warm-up".to_owned(), at: Duration::ZERO, lasts: begin });
    }
    for (place, phase) in plan.file.phases.iter().enumerate() {
        let at = |problem| format!("phases[{place}]: {problem}");
        if let Some(rounds) = &phase.rounds {
            let made = rounds::expand(rounds, plan.file.backoff.0, begin, &mut drawing).map_err(at)?;
            begin = made.phases.last().map_or(begin, |phase| phase.at + phase.lasts);
            phases.extend(made.phases);
            episodes.extend(made.episodes);
            continue;
        }
        let lasts = phase.lasts.unwrap_or_default().0;
        let made = Phase { name: phase.name.clone().unwrap_or_default(), at: begin, lasts };
        for (number, episode) in phase.episodes.iter().enumerate() {
            let one = explicit(episode, phase, &made, &mut drawing, &episodes);
            episodes.push(one.map_err(|problem| at(format!("episodes[{number}]: {problem}")))?);
        }
        if let Some(scatter) = &phase.scatter {
            scatter::expand(scatter, &made, &mut drawing, &mut episodes).map_err(|problem| at(format!("scatter: {problem}")))?;
        }
        phases.push(made);
        begin += lasts;
    }
    episodes.sort_by_key(|episode| episode.at);
    let timeline = Timeline { plan: plan.file.name.clone(), seed, backoff: plan.file.backoff.0, phases, episodes, total: begin, workloads };
    timeline.check()?;
    Ok(timeline)
}

/// The plan's workloads, clients behind those that they are clients of.
fn workloads(file: &PlanFile) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (name, workload) in &file.workloads.0 {
        workloads.push(Workload {
            name: name.clone(),
            kind: workload.kind,
            replicas: workload.replicas,
            limits: limits(workload),
            disk_bytes: workload.disk.map(|disk| disk.0),
            program: workload.program.clone(),
        });
        workloads.extend(workload.clients.0.iter().map(|(client, program)| Workload {
            name: client.clone(),
            kind: workload.kind,
            replicas: 1,
            limits: Limits { pids: Some(workload.pids), ..Limits::default() },
            disk_bytes: None,
            program: program.clone(),
        }));
    }
    workloads
}

fn limits(workload: &WorkloadFile) -> Limits {
    Limits {
        cpu_millicores: workload.cpu.map(|cpu| cpu.0),
        memory_bytes: workload.memory.map(|memory| memory.0),
        pids: Some(workload.pids),
    }
}

fn explicit(
    episode: &EpisodeFile,
    phase: &PhaseFile,
    made: &Phase,
    drawing: &mut Drawing<'_>,
    others: &[Episode],
) -> Result<Episode, String> {
    let plan = drawing.plan;
    let act = plan.act(&episode.act)?;
    let placement = episode.placement();
    let owner = match (&episode.host, placement) {
        (Some(hosts), _) => hosts.0[drawing.rng.random_range(0..hosts.0.len())].clone(),
        (None, _) => drawing.owner()?,
    };
    let parameters = drawing.parameters(act, &episode.intensity, &episode.targets, &owner)?;
    let after = episode.at.map_or(Duration::ZERO, |at| drawing.instant(at));
    let rest = phase.lasts.unwrap_or_default().0.saturating_sub(after);
    let lasts = episode.lasts.map_or(rest, |lasts| drawing.length(lasts));
    let lead = if placement == Placement::Rollout { drawing.length(LEAD).min(made.at + after) } else { Duration::ZERO };
    let same = others.iter().filter(|other| other.act == episode.act).count();
    let wish = Wish {
        name: if same == 0 { episode.act.clone() } else { format!("{}-{}", episode.act, same + 1) },
        act_name: &episode.act,
        act,
        role: act.role,
        placebo_of: None,
        placement,
        round: 0,
        phase: &made.name,
        owner,
        doing: act.doing.with(&parameters)?,
        intensity: words(act, &parameters),
    };
    Ok(drawing.episode(wish, made.at + after, lasts, lead))
}

impl EpisodeFile {
    /// Where it is placed.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement.unwrap_or(if self.host.is_some() { Placement::Inside } else { Placement::New })
    }
}
