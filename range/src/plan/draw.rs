//! What a seed decides about one episode: its intensity, whom it sends to, and everything that follows from that.

use std::{collections::HashMap, time::Duration};

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

use super::{
    Plan,
    act::{About, Act, Doing, Placement, Role},
    timeline::{BURSTS, Episode, Workload},
    values::{Between, Draw, Length, Names, Ordered, Scalar},
};
use crate::cgroups::Limits;

/// Neutral owners for pods that are made for an episode: names must not tell.
const OWNERS: [&str; 48] = [
    "report",
    "thumbnail",
    "invoice",
    "catalog-sync",
    "digest",
    "price-feed",
    "audit-log",
    "ledger",
    "geo-index",
    "tax-rates",
    "notifier",
    "recommend",
    "currency",
    "shipping",
    "coupon",
    "review",
    "inventory",
    "wishlist",
    "basket",
    "refund",
    "loyalty",
    "survey",
    "newsletter",
    "sitemap",
    "export",
    "importer",
    "scheduler",
    "archiver",
    "translate",
    "resizer",
    "webhook",
    "billing",
    "profile",
    "presence",
    "feedback",
    "calendar",
    "quota",
    "catalog-feed",
    "stock-sync",
    "mail-relay",
    "rates",
    "offers",
    "returns",
    "gift-cards",
    "banners",
    "glossary",
    "routes",
    "warehouse",
];

/// Values for an act's parameters.
pub(super) type Parameters = HashMap<String, Vec<Scalar>>;

/// What an episode is, before it is known when it happens.
pub(super) struct Wish<'a> {
    pub name: String,
    pub act_name: &'a str,
    pub act: &'a Act,
    pub role: Role,
    pub placebo_of: Option<String>,
    pub placement: Placement,
    pub round: u32,
    pub phase: &'a str,
    pub owner: String,
    pub doing: Doing,
    pub intensity: String,
}

/// Where the seed and what it has used up are kept.
pub(super) struct Drawing<'a> {
    pub plan: &'a Plan,
    pub workloads: &'a [Workload],
    pub rng: StdRng,
    owners: Vec<String>,
}

impl<'a> Drawing<'a> {
    /// Begins; `rng` is fresh from the seed.
    pub fn begin(plan: &'a Plan, workloads: &'a [Workload], mut rng: StdRng) -> Self {
        let mut owners = match &plan.file.new_pods.owners {
            Some(owners) => owners.0.clone(),
            None => OWNERS.map(str::to_owned).to_vec(),
        };
        owners.retain(|owner| workloads.iter().all(|workload| workload.name != *owner));
        owners.shuffle(&mut rng);
        Self { plan, workloads, rng, owners }
    }

    /// An owner that no pod had before.
    pub fn owner(&mut self) -> Result<String, String> {
        self.owners.pop().ok_or_else(|| "new_pods.owners: there are fewer names than new pods".to_owned())
    }

    /// Gives an owner back that was not used after all.
    pub fn give_back(&mut self, owner: String) {
        self.owners.push(owner);
    }

    /// Values for an act's parameters; those given here win over the act's and the plan's own. Nobody sends to `avoid`.
    pub fn parameters(
        &mut self,
        act: &Act,
        intensity: &Ordered<Draw>,
        targets: &Ordered<Names>,
        avoid: &str,
    ) -> Result<Parameters, String> {
        let mut parameters = Parameters::new();
        for (name, draw) in &act.intensity.0 {
            let draw = intensity.get(name).unwrap_or(draw);
            parameters.insert(name.clone(), vec![one(draw, &mut self.rng)]);
        }
        for (name, every) in act.targets() {
            if parameters.contains_key(name) {
                continue;
            }
            let named = targets.get(name).or_else(|| self.plan.file.targets.get(name));
            let named = named.ok_or_else(|| format!("the plan's targets have no `{name}`"))?;
            let mut others: Vec<_> = named.0.iter().filter(|target| workload_of(target) != avoid).cloned().collect();
            if others.is_empty() {
                return Err(format!("targets.{name} has nobody besides {avoid}"));
            }
            others.shuffle(&mut self.rng);
            if !every {
                others.truncate(1);
            }
            parameters.insert(name.to_owned(), others.into_iter().map(Scalar::Text).collect());
        }
        Ok(parameters)
    }

    /// A length between two. Short ones come more often (evenly in the inverse), as more fits into a run then.
    pub fn length(&mut self, between: Between<Length>) -> Duration {
        let (from, to) = (between.from.0.as_secs_f64(), between.to.0.as_secs_f64());
        let share: f64 = self.rng.random();
        let seconds = if from > 0.0 { 1.0 / (1.0 / from + share * (1.0 / to - 1.0 / from)) } else { to * share };
        Duration::from_millis((seconds * 1_000.0).round() as u64)
    }

    /// An instant between two, evenly.
    pub fn instant(&mut self, between: Between<Length>) -> Duration {
        let most = between.to.0.saturating_sub(between.from.0);
        between.from.0 + self.jitter(most)
    }

    /// A whole number of milliseconds up to `most`, evenly.
    pub fn jitter(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.rng.random_range(0..=u64::try_from(most.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The episode that a wish becomes at an instant.
    pub fn episode(&self, wish: Wish<'_>, at: Duration, lasts: Duration, lead: Duration) -> Episode {
        let new_pods = &self.plan.file.new_pods;
        let needs = wish.act.needs;
        // A placebo is about the pod that it runs in, whatever its attack is about: it hurts nobody.
        let about = if wish.role == Role::Placebo { About::Own } else { wish.act.about };
        let mut targets: Vec<String> = Vec::new();
        for target in wish.doing.programs().flat_map(|program| program.workloads()) {
            if !targets.iter().any(|known| known == target) {
                targets.push(target.to_owned());
            }
        }
        let more = |own: Option<u64>, needed: Option<u64>| own.map(|own| own.max(needed.unwrap_or(0)));
        let mut episode = Episode {
            name: wish.name,
            act: wish.act_name.to_owned(),
            kind: wish.act.kind.0,
            role: wish.role,
            placebo_of: wish.placebo_of,
            about,
            placement: wish.placement,
            round: wish.round,
            phase: wish.phase.to_owned(),
            at,
            lasts,
            lead,
            bursts: (wish.placement == Placement::OnOff).then_some(BURSTS),
            owner: wish.owner,
            targets,
            touched: Vec::new(),
            doing: wish.doing,
            own: new_pods.program.clone(),
            intensity: wish.intensity,
            limits: Limits {
                cpu_millicores: more(new_pods.cpu.map(|cpu| cpu.0), needs.cpu.map(|cpu| cpu.0)),
                memory_bytes: more(new_pods.memory.map(|memory| memory.0), needs.memory.map(|memory| memory.0)),
                pids: Some(new_pods.pids),
            },
            disk_bytes: needs.disk.map(|disk| disk.0),
            millicores: if wish.role == Role::Placebo { 0 } else { wish.act.cores.0 },
        };
        if episode.role == Role::Attack {
            episode.touched = self.touched(&episode, wish.act.touches);
        }
        episode
    }

    /// Whom an attack touches: those that it sends to, where it runs if the label is about its victim, and the victim's clients.
    fn touched(&self, episode: &Episode, targets: bool) -> Vec<String> {
        let about = episode.about_owner();
        let mut touched = vec![episode.owner.as_str()];
        if targets {
            touched.extend(episode.targets.iter().map(String::as_str));
        }
        if episode.about == About::Target {
            let clients = self.workloads.iter().filter(|client| client.program.workloads().any(|name| name == about));
            touched.extend(clients.map(|client| client.name.as_str()));
        }
        touched.retain(|name| *name != about);
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().map(str::to_owned).collect()
    }
}

/// The workload in `@WORKLOAD:PORT`.
pub(super) fn workload_of(target: &str) -> &str {
    let name = target.strip_prefix('@').unwrap_or(target);
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// What an act says of its intensity.
pub(super) fn words(act: &Act, parameters: &Parameters) -> String {
    let mut said = act.says.clone();
    for (name, _) in &act.intensity.0 {
        if let Some(value) = parameters.get(name).and_then(|values| values.first()) {
            said = said.replace(&format!("{{{name}}}"), &value.to_string());
        }
    }
    said
}

fn one(draw: &Draw, rng: &mut StdRng) -> Scalar {
    match draw {
        Draw::Fixed(value) => value.clone(),
        Draw::OneOf(values) => values[rng.random_range(0..values.len())].clone(),
        Draw::Whole(from, to) if *from > 0 && *to >= from.saturating_mul(10) => {
            let drawn = real(*from as f64, *to as f64, rng).round() as i64;
            Scalar::Integer(drawn.clamp(*from, *to))
        }
        Draw::Whole(from, to) => Scalar::Integer(rng.random_range(*from..=*to)),
        // Three digits are plenty for a dose, and can be read.
        Draw::Real(from, to) => Scalar::Number((real(*from, *to, rng) * 1_000.0).round() / 1_000.0),
    }
}

/// Evenly, or evenly in the logarithm where the upper end is ten times the lower or more.
fn real(from: f64, to: f64, rng: &mut StdRng) -> f64 {
    let share: f64 = rng.random();
    if from > 0.0 && to >= from * 10.0 { from * (to / from).powf(share) } else { from + (to - from) * share }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_wide_range_is_drawn_in_the_logarithm() {
        let mut rng = StdRng::seed_from_u64(1);
        let drawn: Vec<i64> = (0..1_000)
            .map(|_| match one(&Draw::Whole(2, 500), &mut rng) {
                Scalar::Integer(value) => value,
                other => panic!("{other}"),
            })
            .collect();

        assert!(drawn.iter().all(|value| (2..=500).contains(value)));
        let below = drawn.iter().filter(|&&value| value <= 32).count();
        assert!((400..600).contains(&below), "{below} of 1000 below the geometric middle");
    }
}
