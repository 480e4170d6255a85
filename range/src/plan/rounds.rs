//! Two rounds in which kinds take turns, each attack with a placebo: the shape of the demonstration.

use std::time::Duration;

use rand::{RngExt, seq::SliceRandom};
use vedette_proto::v1::Kind;

use super::{
    act::{Placement, Role},
    draw::{Drawing, Wish, words},
    file::{Rounds, Turn},
    timeline::{Episode, Phase},
    values::Ordered,
};

/// What the rounds become.
pub(super) struct Made {
    pub phases: Vec<Phase>,
    pub episodes: Vec<Episode>,
}

/// One kind and what the plan says of it.
type Player<'a> = (Kind, &'a Turn);

pub(super) fn expand(rounds: &Rounds, backoff: Duration, mut begin: Duration, drawing: &mut Drawing<'_>) -> Result<Made, String> {
    let read = |turns: &'static str, (word, turn): &'_ (String, Turn)| {
        Kind::from_word(word).map(|kind| (kind, turn.clone())).ok_or_else(|| format!("rounds.{turns}: unknown kind `{word}`"))
    };
    let turns: Vec<_> = rounds.turns.0.iter().map(|turn| read("turns", turn)).collect::<Result<_, _>>()?;
    let beside: Vec<_> = rounds.beside.0.iter().map(|turn| read("beside", turn)).collect::<Result<_, _>>()?;
    // Which kinds come as new workloads in the first round; in the second it is the others.
    let together_first = drawing.rng.random_bool(0.5);
    let mut order: Vec<usize> = (0..turns.len()).collect();
    order.shuffle(&mut drawing.rng);
    let (mut phases, mut episodes) = (Vec::new(), Vec::new());
    let slot = rounds.attack.0 + rounds.gap.0;
    let count = u32::try_from(turns.len()).unwrap_or(u32::MAX);
    for round in 1..=2u32 {
        if round == 2 {
            phases.push(Phase { name: "pause".to_owned(), at: begin, lasts: rounds.between.0 });
            begin += rounds.between.0;
            let first = order.clone();
            let place = |order: &[usize], kind| order.iter().position(|&player| turns[player].0 == kind);
            let early = |order: &[usize]| rounds.late.iter().any(|kind| place(order, kind.0) < place(&first, kind.0));
            while order == first || early(&order) {
                order.shuffle(&mut drawing.rng);
            }
        }
        let name = format!("round {round}");
        let length = slot * count;
        let mut stage = Stage { rounds, drawing, round, phase: &name, is_together_new: together_first == (round == 1) };
        for (turn, &player) in (0u32..).zip(&order) {
            let player = (turns[player].0, &turns[player].1);
            // Half the turns away, so that a placebo never runs beside the attack it looks like.
            let opposite = begin + slot * ((turn + count / 2) % count) + rounds.attack.0 * 2 / 5;
            let attack = stage.attack(player, begin + slot * turn, rounds.attack.0)?;
            let placebo = stage.placebo(player, &attack, opposite, rounds.attack.0 * 9 / 10)?;
            episodes.extend([attack, placebo]);
        }
        for (kind, turn) in &beside {
            // Failures at about 0, 0, 1 and 3 back-offs after the first; the fourth and its pause belong to it.
            let lasts = rounds.attack.0 / 2 + backoff * 4;
            let attack = stage.attack((*kind, turn), begin + rounds.attack.0 * round / 3, lasts)?;
            let placebo = stage.placebo((*kind, turn), &attack, begin + slot + rounds.attack.0 / 2, rounds.attack.0 * 3 / 2)?;
            episodes.extend([attack, placebo]);
        }
        phases.push(Phase { name, at: begin, lasts: length });
        begin += length;
    }
    Ok(Made { phases, episodes })
}

/// One round while it is made.
struct Stage<'a, 'b> {
    rounds: &'a Rounds,
    drawing: &'a mut Drawing<'b>,
    round: u32,
    phase: &'a str,
    is_together_new: bool,
}

impl Stage<'_, '_> {
    fn placement(&self, kind: Kind) -> Placement {
        if self.rounds.is_together(kind) == self.is_together_new { Placement::New } else { Placement::Inside }
    }

    fn owner(&mut self, kind: Kind, host: &str) -> Result<String, String> {
        if self.placement(kind) == Placement::New { self.drawing.owner() } else { Ok(host.to_owned()) }
    }

    fn jittered(&mut self, at: Duration) -> Duration {
        at + self.drawing.jitter(self.rounds.gap.0 / 6)
    }

    fn attack(&mut self, (kind, turn): Player<'_>, at: Duration, lasts: Duration) -> Result<Episode, String> {
        let dose = &turn.doses[self.round as usize - 1];
        let act = self.drawing.plan.act(&dose.act)?;
        let at = self.jittered(at);
        let owner = self.owner(kind, &turn.host)?;
        let parameters = self.drawing.parameters(act, &dose.intensity, &Ordered::default(), &owner)?;
        let wish = Wish {
            name: format!("r{}-{}", self.round, kind.word()),
            act_name: &dose.act,
            act,
            role: Role::Attack,
            placebo_of: None,
            placement: self.placement(kind),
            round: self.round,
            phase: self.phase,
            owner,
            doing: act.doing.with(&parameters)?,
            intensity: words(act, &parameters),
        };
        Ok(self.drawing.episode(wish, at, lasts, Duration::ZERO))
    }

    fn placebo(&mut self, (kind, turn): Player<'_>, attack: &Episode, at: Duration, lasts: Duration) -> Result<Episode, String> {
        let dose = &turn.doses[self.round as usize - 1];
        let act = self.drawing.plan.act(&dose.act)?;
        let at = self.jittered(at);
        let owner = self.owner(kind, &turn.placebo.host)?;
        let parameters = self.drawing.parameters(act, &dose.intensity, &Ordered::default(), &owner)?;
        let doing = turn.placebo.doing.as_ref().or(act.placebo.as_ref()).ok_or_else(|| format!("act {} has no placebo", dose.act))?;
        let wish = Wish {
            name: format!("{}-placebo", attack.name),
            act_name: &dose.act,
            act,
            role: Role::Placebo,
            placebo_of: Some(attack.name.clone()),
            placement: self.placement(kind),
            round: self.round,
            phase: self.phase,
            owner,
            doing: doing.with(&parameters)?,
            intensity: turn.placebo.says.clone(),
        };
        Ok(self.drawing.episode(wish, at, lasts, Duration::ZERO))
    }
}
