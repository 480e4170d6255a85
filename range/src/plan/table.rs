//! Timelines and the list of sessions as tables, for people.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    PlanError,
    act::{Placement, Role},
    expand,
    sessions::{Session, Sessions, Set},
    timeline::{Episode, Timeline},
    values::Length,
};

/// The phases and episodes of a run, a line each, and how many there are of each kind.
#[must_use]
pub fn timeline(timeline: &Timeline) -> String {
    let mut out = format!("{}, seed {}, {}\n\n", timeline.plan, timeline.seed, Length(timeline.total));
    let mut rows = vec![["AT", "LASTS", "EPISODE", "ROLE", "KIND", "PLACEMENT", "IN", "ABOUT", "DOSE"].map(str::to_owned)];
    let mut episodes = timeline.episodes.iter().peekable();
    for phase in &timeline.phases {
        let mut row: [String; 9] = Default::default();
        row[..3].clone_from_slice(&[Length(phase.at).to_string(), Length(phase.lasts).to_string(), format!("= {}", phase.name)]);
        rows.push(row);
        while let Some(episode) = episodes.next_if(|episode| episode.at < phase.at + phase.lasts) {
            rows.push(row_of(episode));
        }
    }
    aligned(&mut out, &rows);
    let _ = writeln!(out, "\n{}", counts(timeline));
    out
}

/// Every session of a list, and over all of them the episodes of each act by placement.
///
/// # Errors
/// When a session's plan is missing, or leaves its seed no room.
pub fn sessions(sessions: &Sessions) -> Result<String, PlanError> {
    let mut rows = vec![["NAME", "PLAN", "SEED", "BACKEND", "SET", "LASTS", "ATTACKS", "LOOK-ALIKES", "PLACEBOS"].map(str::to_owned)];
    let mut acts: BTreeMap<(Role, &str, String), BTreeMap<Placement, usize>> = BTreeMap::new();
    for session in &sessions.sessions {
        let timeline = expand(&session.plan()?, session.seed)?;
        rows.push(row_of_session(session, &timeline));
        for episode in &timeline.episodes {
            *acts.entry((episode.role, episode.kind.word(), episode.act.clone())).or_default().entry(episode.placement).or_default() += 1;
        }
    }
    let mut out = String::new();
    aligned(&mut out, &rows);
    let mut counts = vec![["ROLE", "KIND", "ACT", "EPISODES", "new", "inside", "rollout", "peak", "replicas", "on_off"].map(str::to_owned)];
    for ((role, kind, act), placements) in &acts {
        let total: usize = placements.values().sum();
        let head = [role.word().to_owned(), (*kind).to_owned(), act.clone(), total.to_string()];
        let each = Placement::ALL.map(|placement| placements.get(&placement).copied().unwrap_or(0).to_string());
        let cells: Vec<String> = head.into_iter().chain(each).collect();
        counts.extend(<[String; 10]>::try_from(cells));
    }
    out.push('\n');
    aligned(&mut out, &counts);
    Ok(out)
}

fn row_of_session(session: &Session, timeline: &Timeline) -> [String; 9] {
    let count = |role| timeline.episodes.iter().filter(|episode| episode.role == role).count().to_string();
    [
        session.name.clone(),
        session.plan.clone(),
        session.seed.to_string(),
        session.backend.word().to_owned(),
        if session.set == Set::Cal { "CAL" } else { "DEV" }.to_owned(),
        Length(timeline.total).to_string(),
        count(Role::Attack),
        count(Role::LookAlike),
        count(Role::Placebo),
    ]
}

/// Columns as wide as their widest cell.
fn aligned<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let widths: Vec<_> = (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
}

fn row_of(episode: &Episode) -> [String; 9] {
    [
        Length(episode.at).to_string(),
        Length(episode.lasts).to_string(),
        episode.name.clone(),
        episode.role.word().to_owned(),
        episode.kind.word().to_owned(),
        episode.placement.word().to_owned(),
        episode.owner.clone(),
        episode.about_owner().to_owned(),
        episode.intensity.clone(),
    ]
}

/// Such as `3 attacks (mining 1, scan 2), 2 look-alikes (scan 2), 3 placebos (...)`.
fn counts(timeline: &Timeline) -> String {
    let mut roles: Vec<_> = timeline.episodes.iter().map(|episode| episode.role).collect();
    roles.sort_unstable();
    roles.dedup();
    let said = roles.into_iter().map(|role| {
        let of_role: Vec<_> = timeline.episodes.iter().filter(|episode| episode.role == role).collect();
        let mut kinds: Vec<_> = of_role.iter().map(|episode| episode.kind.word()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let count = |kind| format!("{kind} {}", of_role.iter().filter(|episode| episode.kind.word() == kind).count());
        let kinds: Vec<_> = kinds.into_iter().map(count).collect();
        format!("{} {}s ({})", of_role.len(), role.word(), kinds.join(", "))
    });
    let said: Vec<_> = said.collect();
    if said.is_empty() { "no episodes".to_owned() } else { said.join(", ") }
}
