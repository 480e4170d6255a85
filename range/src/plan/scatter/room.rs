//! When an episode may begin, beside those that are placed already.

use std::time::Duration;

use super::super::{
    act::{Placement, Role},
    draw::Drawing,
    file::Scatter,
    spans::{crowded, without},
    timeline::{Episode, Phase},
};

/// Between an attack and what it touches, milliseconds: connections time out, queues empty.
const AFTERMATH_MS: i64 = 10_000;

/// Stretches in which an episode may begin (its rollout, if it has one), milliseconds of the run.
pub(super) fn free(scatter: &Scatter, phase: &Phase, drawing: &Drawing<'_>, one: &Episode, episodes: &[Episode]) -> Vec<(i64, i64)> {
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
    for (begin, end) in full(scatter, one, episodes) {
        keep_off(begin, end, 0);
    }
    let (from, to) = (ms(phase.at), ms(phase.at + phase.lasts) - length);
    if one.placement != Placement::Peak {
        return without(from, to, busy);
    }
    // The middle of the episode lies within an eighth of a day of the top: the load is above seven tenths of its rise there.
    let half = length / 2;
    let near = drawing.plan.file.peaks.as_ref().map_or(0, |peaks| ms(peaks.every.0) / 8);
    let tops = tops(drawing, phase).map(|top| (top - half - near, top - half + near));
    tops.flat_map(|(first, last)| without(first.max(from), last.min(to), busy.clone())).collect()
}

/// Where so much happens already that one more would be too much.
fn full(scatter: &Scatter, one: &Episode, episodes: &[Episode]) -> Vec<(i64, i64)> {
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
    full
}

fn is_beside(placebo: &Episode, attack: &Episode) -> bool {
    placebo.role == Role::Placebo && attack.role == Role::Attack && placebo.kind == attack.kind
}

/// When the load is at its top in this phase, milliseconds of the run.
fn tops<'a>(drawing: &'a Drawing<'_>, phase: &Phase) -> impl Iterator<Item = i64> + 'a {
    let end = ms(phase.at + phase.lasts);
    let steps = drawing.plan.file.peaks.as_ref().map(|peaks| (ms(peaks.first.0), ms(peaks.every.0).max(1)));
    steps.into_iter().flat_map(move |(first, every)| (0..).map(move |turn| first + every * turn).take_while(move |&top| top < end))
}

fn ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}
