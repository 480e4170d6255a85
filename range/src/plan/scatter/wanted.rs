//! What a scatter asks for: each act as often as it is wanted, with everything drawn but its place and time.

use std::{cmp::Reverse, time::Duration};

use rand::{RngExt, seq::SliceRandom};

use super::super::{
    act::{About, Act, Doing, Placement, Role},
    draw::{Drawing, Parameters},
    expand::LEAD,
    file::{Scatter, ScatterEntry, WorkloadFile},
    timeline::BURSTS,
    values::Ordered,
};

/// How much shorter or longer a placebo is than its attack.
const PLACEBO_LENGTHS: std::ops::RangeInclusive<f64> = 0.8..=1.2;

/// An act, and the placebo of an attack.
pub(super) struct Wanted<'a> {
    pub entry: &'a ScatterEntry,
    pub act_name: &'a str,
    pub act: &'a Act,
    /// The same for both.
    pub placement: Placement,
    /// The same for both.
    pub parameters: Parameters,
    /// How often it found no room so far.
    pub failures: u32,
    /// Which one of its act it is.
    number: usize,
    /// Shortest episode.
    shortest: Duration,
    /// Length of the act and of its placebo.
    lasts: [Duration; 2],
    /// Rollouts begin so long before, if it comes to that.
    lead: [Duration; 2],
}

impl Wanted<'_> {
    /// Its name in the run.
    pub fn name(&self, role: Role) -> String {
        let suffix = if role == Role::Placebo { "-placebo" } else { "" };
        format!("{}-{}{suffix}", self.act_name, self.number)
    }

    /// Shortest episode in its placement: less than two bursts would be one.
    pub fn least(&self) -> Duration {
        if self.placement == Placement::OnOff { self.shortest.max((BURSTS.on + BURSTS.off) * 2) } else { self.shortest }
    }

    /// Length in its placement: under the peak is not around it.
    pub fn lasts(&self, role: Role, drawing: &Drawing<'_>) -> Duration {
        let day = drawing.plan.file.peaks.as_ref().filter(|_| self.placement == Placement::Peak).map(|peaks| peaks.every.0);
        self.lasts[usize::from(role == Role::Placebo)].min(day.map_or(Duration::MAX, |day| day / 2)).max(self.least())
    }

    /// From the begin of its rollout to its onset.
    pub fn lead(&self, role: Role) -> Duration {
        if self.placement == Placement::Rollout { self.lead[usize::from(role == Role::Placebo)] } else { Duration::ZERO }
    }

    /// What is hard to place comes first.
    pub fn rank(&self, role: Role) -> (u8, Reverse<Duration>) {
        let has_victim = self.act.about == About::Target && role != Role::Placebo;
        let rank = match self.placement {
            Placement::Peak => 0,
            _ if has_victim => 1,
            Placement::Replicas | Placement::Rollout => 2,
            _ => 3,
        };
        (rank, Reverse(self.lasts[usize::from(role == Role::Placebo)]))
    }

    /// Draws another placement, if there is one.
    pub fn place_otherwise(&mut self, drawing: &mut Drawing<'_>) {
        let all = self.entry.placements.clone().unwrap_or_else(|| Placement::ALL.to_vec());
        let others: Vec<_> =
            all.into_iter().filter(|&other| other != self.placement && possible(self.act, other, self.entry, drawing)).collect();
        if !others.is_empty() {
            self.placement = others[drawing.rng.random_range(0..others.len())];
        }
    }
}

/// Everything that a scatter asks for.
pub(super) fn wishes<'a>(scatter: &'a Scatter, drawing: &mut Drawing<'a>) -> Result<Vec<Wanted<'a>>, String> {
    let plan = drawing.plan;
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for entry in &scatter.acts {
        let mut names: Vec<&str> = entry.act.0.iter().map(String::as_str).collect();
        names.shuffle(&mut drawing.rng);
        let mut placements = entry.placements.clone().unwrap_or_else(|| Placement::ALL.to_vec());
        placements.shuffle(&mut drawing.rng);
        let times = drawing.rng.random_range(entry.times.from.0..=entry.times.to.0);
        let mut turns = placements.iter().copied().cycle();
        for name in names.iter().cycle().take(times as usize) {
            let act = plan.act(name)?;
            let placement = turns.by_ref().take(placements.len()).find(|&placement| possible(act, placement, entry, drawing));
            let placement = placement.ok_or_else(|| format!("no workload suits {name} in any of its placements"))?;
            let range = entry.lasts.unwrap_or(scatter.lasts);
            let lasts = drawing.length(range);
            let share = drawing.rng.random_range(PLACEBO_LENGTHS);
            wanted.push(Wanted {
                entry,
                act_name: name,
                act,
                placement,
                parameters: drawing.parameters(act, &Ordered::default(), &Ordered::default(), "")?,
                failures: 0,
                number: wanted.iter().filter(|other| other.act_name == *name).count() + 1,
                shortest: range.from.0,
                lasts: [lasts, lasts.mul_f64(share)],
                lead: [drawing.length(LEAD), drawing.length(LEAD)],
            });
        }
    }
    Ok(wanted)
}

/// Whether an act makes sense in a placement, and there is a workload for it.
fn possible(act: &Act, placement: Placement, entry: &ScatterEntry, drawing: &Drawing<'_>) -> bool {
    act.suits(placement) && (placement == Placement::New || hosts(act, placement, entry, drawing).next().is_some())
}

/// Workloads that an act may run in.
pub(super) fn hosts<'a>(
    act: &'a Act,
    placement: Placement,
    entry: &'a ScatterEntry,
    drawing: &Drawing<'a>,
) -> impl Iterator<Item = &'a str> {
    let file = &drawing.plan.file;
    let loaded = move |name: &str| file.peaks.as_ref().is_some_and(|peaks| peaks.workloads.0.iter().any(|loaded| loaded == name));
    let rolls = matches!(act.doing, Doing::Rollout);
    let suits = move |name: &str, workload: &WorkloadFile| match placement {
        Placement::Replicas => workload.replicas > 1,
        Placement::Rollout => !file.is_target(name),
        // Under the peak the workload that the label is about is the loaded one.
        Placement::Peak => file.peaks.is_some() && (act.about == About::Target || loaded(name)),
        _ => !(rolls && file.is_target(name)),
    };
    let named = move |name: &str| entry.hosts.as_ref().is_none_or(|hosts| hosts.0.iter().any(|host| host == name));
    let hosts = file
        .workloads
        .0
        .iter()
        .filter(move |(name, workload)| workload.host && named(name) && workload.offers(&act.needs) && suits(name, workload));
    hosts.map(|(name, _)| name.as_str())
}
