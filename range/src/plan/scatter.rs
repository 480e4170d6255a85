//! Episodes at random places of a phase. Nothing meets that must not: each workload holds one episode at a time, a placebo never runs
//! beside an attack of its kind, and no more happens at once than the machine carries.

use std::time::Duration;

use rand::{RngExt, seq::SliceRandom};

use super::{
    act::{About, Act, Doing, Placement, Role},
    draw::{Drawing, Parameters, Wish, words},
    expand::LEAD,
    file::{Scatter, ScatterEntry, WorkloadFile},
    spans::{crowded, without},
    timeline::{BURSTS, Episode, Phase},
    values::Ordered,
};

/// How often everything is placed anew before the seed is given up.
const ATTEMPTS: u32 = 100;
/// How often an episode that finds no room is halved.
const HALVINGS: u32 = 4;
/// Between an attack and what it touches, milliseconds: connections time out, queues empty.
const AFTERMATH_MS: i64 = 10_000;
/// Of two episodes, the share by which a placebo is shorter or longer than its attack.
const PLACEBO_LENGTHS: std::ops::RangeInclusive<f64> = 0.8..=1.2;

/// An episode that has a length but no place yet.
struct Wanted<'a> {
    entry: &'a ScatterEntry,
    act_name: &'a str,
    act: &'a Act,
    role: Role,
    placement: Placement,
    lasts: Duration,
    least: Duration,
    lead: Duration,
    parameters: Parameters,
    /// The attack and its placebo share a number.
    number: usize,
}

impl Wanted<'_> {
    fn name(&self) -> String {
        let suffix = if self.role == Role::Placebo { "-placebo" } else { "" };
        format!("{}-{}{suffix}", self.act_name, self.number)
    }

    /// What is hard to place comes first.
    fn rank(&self) -> (u8, std::cmp::Reverse<Duration>) {
        let rank = match self.placement {
            Placement::Peak => 0,
            Placement::Replicas | Placement::Rollout => 1,
            _ => 2,
        };
        (rank, std::cmp::Reverse(self.lasts))
    }
}

pub(super) fn expand<'a>(
    scatter: &'a Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'a>,
    episodes: &mut Vec<Episode>,
) -> Result<(), String> {
    let mut problem = String::new();
    for _ in 0..ATTEMPTS {
        let wanted = wishes(scatter, drawing)?;
        let before = episodes.len();
        match place_all(scatter, phase, drawing, wanted, episodes) {
            Ok(()) => return Ok(()),
            Err(error) => problem = error,
        }
        for episode in episodes.drain(before..).filter(|episode| episode.placement == Placement::New) {
            drawing.give_back(episode.owner);
        }
    }
    Err(format!("{problem}, {ATTEMPTS} times"))
}

/// What is to be placed, with everything drawn but place and time.
fn wishes<'a>(scatter: &'a Scatter, drawing: &mut Drawing<'a>) -> Result<Vec<Wanted<'a>>, String> {
    let plan = drawing.plan;
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for entry in &scatter.acts {
        let mut names: Vec<&str> = entry.act.0.iter().map(String::as_str).collect();
        names.shuffle(&mut drawing.rng);
        let mut placements = entry.placements.clone().unwrap_or_else(|| Placement::ALL.to_vec());
        placements.shuffle(&mut drawing.rng);
        let mut turn = 0;
        let times = drawing.rng.random_range(entry.times.from.0..=entry.times.to.0);
        for name in names.iter().cycle().take(times as usize) {
            let act = plan.act(name)?;
            let placement = loop {
                let placement = placements[turn % placements.len()];
                turn += 1;
                if act.suits(placement) && possible(act, placement, entry, drawing) {
                    break placement;
                }
                if turn > placements.len() * (times as usize + 1) {
                    return Err(format!("no workload suits {name} in any of its placements"));
                }
            };
            let range = entry.lasts.unwrap_or(scatter.lasts);
            // Less than two bursts would be one.
            let least = if placement == Placement::OnOff { range.from.0.max((BURSTS.on + BURSTS.off) * 2) } else { range.from.0 };
            let lasts = drawing.length(range).max(least);
            let lead = |drawing: &mut Drawing<'_>| if placement == Placement::Rollout { drawing.length(LEAD) } else { Duration::ZERO };
            let parameters = drawing.parameters(act, &Ordered::default(), &Ordered::default(), "")?;
            let number = wanted.iter().filter(|other| other.act_name == *name && other.role == act.role).count() + 1;
            let lead_of_it = lead(drawing);
            if act.role == Role::Attack {
                let share = drawing.rng.random_range(PLACEBO_LENGTHS);
                let (lasts, lead, parameters) = (lasts.mul_f64(share).max(least), lead(drawing), parameters.clone());
                wanted.push(Wanted { entry, act_name: name, act, role: Role::Placebo, placement, lasts, least, lead, parameters, number });
            }
            wanted.push(Wanted {
                entry,
                act_name: name,
                act,
                role: act.role,
                placement,
                lasts,
                least,
                lead: lead_of_it,
                parameters,
                number,
            });
        }
    }
    wanted.shuffle(&mut drawing.rng);
    wanted.sort_by_key(Wanted::rank);
    Ok(wanted)
}

fn place_all(
    scatter: &Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'_>,
    wanted: Vec<Wanted<'_>>,
    episodes: &mut Vec<Episode>,
) -> Result<(), String> {
    for mut wish in wanted {
        let mut placed = place(scatter, phase, drawing, &wish, episodes)?;
        for _ in 0..HALVINGS {
            if placed.is_some() || wish.lasts <= wish.least {
                break;
            }
            wish.lasts = (wish.lasts / 2).max(wish.least);
            placed = place(scatter, phase, drawing, &wish, episodes)?;
        }
        let lasts = wish.lasts.as_secs();
        episodes.push(placed.ok_or_else(|| format!("no room for {} ({}, {lasts} s)", wish.name(), wish.placement.word()))?);
    }
    Ok(())
}

/// One episode, at one of all the places and times that are left for it.
fn place(
    scatter: &Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'_>,
    wish: &Wanted<'_>,
    episodes: &[Episode],
) -> Result<Option<Episode>, String> {
    let hosts: Vec<String> = match wish.placement {
        Placement::New => vec![drawing.owner()?],
        placement => hosts(wish.act, placement, wish.entry, drawing).map(str::to_owned).collect(),
    };
    let mut choices: Vec<(Episode, Vec<(i64, i64)>)> = Vec::new();
    for host in &hosts {
        let episode = candidate(drawing, phase, wish, host)?;
        // Nobody sends to itself.
        if !episode.targets.contains(host) {
            let free = free(scatter, phase, drawing, &episode, episodes);
            choices.push((episode, free));
        }
    }
    let total: i64 = choices.iter().flat_map(|(_, free)| free).map(|(from, to)| to - from).sum();
    if total <= 0 {
        if wish.placement == Placement::New {
            hosts.into_iter().for_each(|owner| drawing.give_back(owner));
        }
        return Ok(None);
    }
    let mut left = drawing.rng.random_range(0..total);
    for (mut episode, free) in choices {
        for (from, to) in free {
            if left < to - from {
                episode.at = duration(from + left) + episode.lead;
                return Ok(Some(episode));
            }
            left -= to - from;
        }
    }
    Ok(None)
}

/// The episode as it would be in this host; its time is not decided.
fn candidate(drawing: &Drawing<'_>, phase: &Phase, wish: &Wanted<'_>, host: &str) -> Result<Episode, String> {
    let doing = match (wish.role, &wish.act.placebo) {
        (Role::Placebo, Some(placebo)) => placebo,
        _ => &wish.act.doing,
    };
    let said = words(wish.act, &wish.parameters);
    let attack = format!("{}-{}", wish.act_name, wish.number);
    let made = Wish {
        name: wish.name(),
        act_name: wish.act_name,
        act: wish.act,
        role: wish.role,
        placebo_of: (wish.role == Role::Placebo).then_some(attack),
        placement: wish.placement,
        round: 0,
        phase: &phase.name,
        owner: host.to_owned(),
        doing: doing.with(&wish.parameters)?,
        intensity: if wish.role == Role::Placebo { format!("beside: {said}") } else { said },
    };
    Ok(drawing.episode(made, phase.at, wish.lasts, wish.lead))
}

/// When an episode may begin (its rollout, if it has one), milliseconds of the run.
fn free(scatter: &Scatter, phase: &Phase, drawing: &Drawing<'_>, one: &Episode, episodes: &[Episode]) -> Vec<(i64, i64)> {
    let length = ms(one.lead + one.lasts);
    let apart = ms(scatter.apart.0);
    let mut busy = Vec::new();
    // An episode must not overlap begin..end, with so much before and after.
    let mut keep_off = |begin: i64, end: i64, margin: i64| busy.push((begin - length - margin, end + margin));
    for other in episodes {
        let (begin, end) = (ms(other.begins()), ms(other.ends()));
        if one.exclusive().any(|name| other.exclusive().any(|wanted| wanted == name)) {
            keep_off(begin, end, apart);
        } else if one.meets(other) || is_beside(one, other) || is_beside(other, one) {
            keep_off(begin, end, AFTERMATH_MS);
        }
    }
    let stretches = |role: Option<Role>, weight: fn(&Episode) -> u64| -> Vec<(i64, i64, u64)> {
        let others = episodes.iter().filter(|other| role.is_none_or(|role| other.role == role));
        others.map(|other| (ms(other.begins()), ms(other.ends()), weight(other))).collect()
    };
    let most = |limit: usize| (limit as u64).saturating_sub(1);
    let mut full = crowded(&stretches(None, |_| 1), most(scatter.at_once.episodes));
    if one.role == Role::Attack {
        full.extend(crowded(&stretches(Some(Role::Attack), |_| 1), most(scatter.at_once.attacks)));
    }
    if let Some(cores) = scatter.cores {
        full.extend(crowded(&stretches(None, |other| other.millicores), cores.0.saturating_sub(one.millicores)));
    }
    for (begin, end) in full {
        keep_off(begin, end, 0);
    }
    let (from, to) = (ms(phase.at), ms(phase.at + phase.lasts) - length);
    if one.placement != Placement::Peak {
        return without(from, to, busy);
    }
    // The middle of the episode lies near the top.
    let half = length / 2;
    let tops = tops(drawing, phase).map(|top| (top - half - length / 8, top - half + length / 8));
    tops.flat_map(|(first, last)| without(first.max(from), last.min(to), busy.clone())).collect()
}

fn is_beside(placebo: &Episode, attack: &Episode) -> bool {
    placebo.role == Role::Placebo && attack.role == Role::Attack && placebo.kind == attack.kind
}

/// When the load is at its top in this phase, milliseconds of the run.
fn tops<'a>(drawing: &'a Drawing<'_>, phase: &Phase) -> impl Iterator<Item = i64> + 'a {
    let end = ms(phase.at + phase.lasts);
    let peaks = drawing.plan.file.peaks.as_ref();
    let steps = peaks.map(|peaks| (ms(peaks.first.0), ms(peaks.every.0).max(1)));
    steps.into_iter().flat_map(move |(first, every)| (0..).map(move |turn| first + every * turn).take_while(move |&top| top < end))
}

/// Whether there is any workload for it.
fn possible(act: &Act, placement: Placement, entry: &ScatterEntry, drawing: &Drawing<'_>) -> bool {
    placement == Placement::New || hosts(act, placement, entry, drawing).next().is_some()
}

/// Workloads that an act may run in.
fn hosts<'a>(act: &'a Act, placement: Placement, entry: &'a ScatterEntry, drawing: &Drawing<'a>) -> impl Iterator<Item = &'a str> {
    let file = &drawing.plan.file;
    let loaded = move |name: &str| file.peaks.as_ref().is_some_and(|peaks| peaks.workloads.0.iter().any(|loaded| loaded == name));
    // Under the peak the workload that the label is about is the loaded one.
    let suits = move |name: &str, workload: &WorkloadFile| match placement {
        Placement::Replicas => workload.replicas > 1,
        Placement::Rollout => !file.is_target(name),
        Placement::Peak => act.about == About::Target || loaded(name),
        _ => true,
    };
    let rolls = matches!(act.doing, Doing::Rollout);
    let named = move |name: &str| entry.hosts.as_ref().is_none_or(|hosts| hosts.0.iter().any(|host| host == name));
    let hosts = file.workloads.0.iter().filter(move |(name, workload)| {
        workload.host && named(name) && workload.offers(&act.needs) && suits(name, workload) && !(rolls && file.is_target(name))
    });
    hosts.map(|(name, _)| name.as_str())
}

fn ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
