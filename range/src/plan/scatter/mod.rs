//! Episodes at random places of a phase. Nothing meets that must not: each workload holds one episode at a time, a placebo never runs
//! beside an attack of its kind, and no more happens at once than the machine carries.

mod room;
mod wanted;

use std::time::Duration;

use rand::{RngExt, seq::SliceRandom};

use self::{
    room::free,
    wanted::{Wanted, hosts, wishes},
};
use super::{
    act::{Placement, Role},
    draw::{Drawing, Wish, words, workload_of},
    file::Scatter,
    timeline::{Episode, Phase},
};

/// How often everything is placed anew before the seed is given up.
const ATTEMPTS: u32 = 200;
/// How often an act finds no room before it is placed otherwise. Sooner, and what is easily placed would be favoured.
const PATIENCE: u32 = 4;
/// How often an episode that finds no room is halved.
const HALVINGS: u32 = 4;

pub(super) fn expand<'a>(
    scatter: &'a Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'a>,
    episodes: &mut Vec<Episode>,
) -> Result<(), String> {
    let mut wanted = wishes(scatter, drawing)?;
    let mut order: Vec<(usize, Role)> = Vec::new();
    for (place, wish) in wanted.iter().enumerate() {
        order.push((place, wish.act.role));
        order.extend((wish.act.role == Role::Attack).then_some((place, Role::Placebo)));
    }
    let before = episodes.len();
    let mut problem = String::new();
    for _ in 0..ATTEMPTS {
        order.shuffle(&mut drawing.rng);
        order.sort_by_key(|(place, role)| wanted[*place].rank(*role));
        let Some((failed, role)) = place_all(scatter, phase, drawing, &wanted, &order, episodes)? else { return Ok(()) };
        let wish = &mut wanted[failed];
        problem = format!("no room for {} ({}, {} s)", wish.name(role), wish.placement.word(), wish.least().as_secs());
        wish.failures += 1;
        if wish.failures.is_multiple_of(PATIENCE) {
            wish.place_otherwise(drawing);
        }
        for episode in episodes.drain(before..).filter(|episode| episode.placement == Placement::New) {
            drawing.give_back(episode.owner);
        }
    }
    Err(format!("{problem}, at last of {ATTEMPTS} times"))
}

/// Places everything; gives what found no room, if any.
fn place_all(
    scatter: &Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'_>,
    wanted: &[Wanted<'_>],
    order: &[(usize, Role)],
    episodes: &mut Vec<Episode>,
) -> Result<Option<(usize, Role)>, String> {
    for &(number, role) in order {
        let wish = &wanted[number];
        let mut lasts = wish.lasts(role, drawing);
        let mut placed = place(scatter, phase, drawing, (wish, role, lasts), episodes)?;
        for _ in 0..HALVINGS {
            if placed.is_some() || lasts <= wish.least() {
                break;
            }
            lasts = (lasts / 2).max(wish.least());
            placed = place(scatter, phase, drawing, (wish, role, lasts), episodes)?;
        }
        let Some(placed) = placed else { return Ok(Some((number, role))) };
        episodes.push(placed);
    }
    Ok(None)
}

/// One episode, at one of all the places and times that are left for it.
fn place(
    scatter: &Scatter,
    phase: &Phase,
    drawing: &mut Drawing<'_>,
    (wish, role, lasts): (&Wanted<'_>, Role, Duration),
    episodes: &[Episode],
) -> Result<Option<Episode>, String> {
    let owners: Vec<String> = match wish.placement {
        Placement::New => vec![drawing.owner()?],
        placement => hosts(wish.act, placement, wish.entry, drawing).map(str::to_owned).collect(),
    };
    let mut choices: Vec<(Episode, Vec<(i64, i64)>)> = Vec::new();
    for owner in &owners {
        let episode = candidate(drawing, phase, (wish, role, lasts), owner)?;
        // Nobody sends to itself.
        if !episode.targets.contains(owner) {
            let free = free(scatter, phase, drawing, &episode, episodes);
            choices.push((episode, free));
        }
    }
    let total: i64 = choices.iter().flat_map(|(_, free)| free).map(|(from, to)| to - from).sum();
    if total <= 0 {
        if wish.placement == Placement::New {
            owners.into_iter().for_each(|owner| drawing.give_back(owner));
        }
        return Ok(None);
    }
    let mut left = drawing.rng.random_range(0..total);
    for (mut episode, free) in choices {
        for (from, to) in free {
            if left < to - from {
                episode.at = Duration::from_millis(u64::try_from(from + left).unwrap_or(0)) + episode.lead;
                return Ok(Some(episode));
            }
            left -= to - from;
        }
    }
    Ok(None)
}

/// The episode as it would be with this owner; its time is not decided.
fn candidate(
    drawing: &Drawing<'_>,
    phase: &Phase,
    (wish, role, lasts): (&Wanted<'_>, Role, Duration),
    owner: &str,
) -> Result<Episode, String> {
    let mut parameters = wish.parameters.clone();
    for targets in parameters.values_mut().filter(|targets| targets.len() > 1) {
        // Of many, the host itself is left out; an only one decides where it cannot run.
        targets.retain(|target| workload_of(&target.to_string()) != owner);
    }
    let doing = match (role, &wish.act.placebo) {
        (Role::Placebo, Some(placebo)) => placebo,
        _ => &wish.act.doing,
    };
    let said = words(wish.act, &parameters);
    let made = Wish {
        name: wish.name(role),
        act_name: wish.act_name,
        act: wish.act,
        role,
        placebo_of: (role == Role::Placebo).then(|| wish.name(Role::Attack)),
        placement: wish.placement,
        round: 0,
        phase: &phase.name,
        owner: owner.to_owned(),
        doing: doing.with(&parameters)?,
        intensity: if role == Role::Placebo { format!("beside: {said}") } else { said },
    };
    Ok(drawing.episode(made, phase.at, lasts, wish.lead(role)))
}
