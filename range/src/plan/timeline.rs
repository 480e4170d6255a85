//! A plan with everything decided: who is there, and what happens to whom from when to when. Times count from the run's begin.

use std::time::Duration;

use vedette_proto::v1::Kind;

use super::{
    act::{About, Doing, Placement, Role},
    file::OwnerKind,
    program::Program,
};
use crate::cgroups::Limits;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The plan's name.
    pub plan: String,
    /// What everything random came from.
    pub seed: u64,
    /// Delay before a container's second restart.
    pub backoff: Duration,
    /// What is there throughout, in the order in which it starts.
    pub workloads: Vec<Workload>,
    /// Stretches that follow each other without a hole.
    pub phases: Vec<Phase>,
    /// Attacks, look-alikes and placebos, in the order of their begin.
    pub episodes: Vec<Episode>,
    /// Length in all.
    pub total: Duration,
}

/// A workload that is there from the first second to the last.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its owner's name; also its container's.
    pub name: String,
    /// Its owner's kind.
    pub kind: OwnerKind,
    /// Pods.
    pub replicas: u32,
    /// Limits of each.
    pub limits: Limits,
    /// Size of each one's own disk, bytes. `None`: it has none.
    pub disk_bytes: Option<u64>,
    /// What it does.
    pub program: Program,
}

/// A stretch of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Begin.
    pub at: Duration,
    /// Length.
    pub lasts: Duration,
}

/// On and off, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// Length of one.
    pub on: Duration,
    /// From the end of one to the begin of the next.
    pub off: Duration,
}

/// What a run does at some moment.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// A phase begins.
    Phase(&'a Phase),
    /// An episode begins, or the rollout before it.
    Episode(&'a Episode),
}

/// As DESIGN.md has it.
pub const BURSTS: Bursts = Bursts { on: Duration::from_secs(2), off: Duration::from_secs(20) };

/// An attack, a look-alike or a placebo.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Its name in the run, such as `r1-scan` or `mining-memory-3`.
    pub name: String,
    /// The act; of a placebo that of its attack.
    pub act: String,
    /// What it is, or looks like.
    pub kind: Kind,
    /// What it is for.
    pub role: Role,
    /// Of a placebo: the attack that it stands beside.
    pub placebo_of: Option<String>,
    /// Whom the label is about.
    pub about: About,
    /// Where it is placed.
    pub placement: Placement,
    /// The round; 0 where there are none.
    pub round: u32,
    /// The phase that it begins in.
    pub phase: String,
    /// Begin: the onset.
    pub at: Duration,
    /// Length.
    pub lasts: Duration,
    /// The rollout that goes before begins this long before it; else zero.
    pub lead: Duration,
    /// On and off instead of throughout.
    pub bursts: Option<Bursts>,
    /// The workload that it runs in, or the owner of the pod that is made for it.
    pub owner: String,
    /// Workloads that its programs send to, in the order of their flags.
    pub targets: Vec<String>,
    /// Workloads that an attack touches without being about them.
    pub touched: Vec<String>,
    /// What is done.
    pub doing: Doing,
    /// What `own` means in a new pod's lives.
    pub own: Option<Program>,
    /// The dose in words.
    pub intensity: String,
    /// Limits of a new pod.
    pub limits: Limits,
    /// Size of a new pod's own disk, bytes.
    pub disk_bytes: Option<u64>,
    /// About how much of the machine it takes at most, thousandths of a core.
    pub millicores: u64,
}

impl Episode {
    /// End.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }

    /// When the first thing of it happens.
    #[must_use]
    pub fn begins(&self) -> Duration {
        self.at.saturating_sub(self.lead)
    }

    /// The workload that its label is about.
    #[must_use]
    pub fn about_owner(&self) -> &str {
        match self.about {
            About::Own => &self.owner,
            About::Target => self.targets.first().unwrap_or(&self.owner),
        }
    }

    /// Workloads that nothing else may happen to meanwhile.
    pub fn exclusive(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.owner.as_str()).chain(std::iter::once(self.about_owner()))
    }

    /// Whether two episodes want the same workload for themselves, or one that the other touches.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let wants = |one: &Self, name: &str| one.exclusive().any(|own| own == name);
        let touches = |one: &Self, name: &str| one.touched.iter().any(|touched| touched == name);
        self.exclusive().any(|name| wants(other, name) || touches(other, name)) || self.touched.iter().any(|name| wants(other, name))
    }

    /// Whether two episodes run at the same time.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.begins() < other.ends() && other.begins() < self.ends()
    }
}

impl Timeline {
    /// The same with a clock that runs `speed` times as fast: phases, episodes, bursts and back-off shorten; rates of behaviours stay.
    #[must_use]
    pub fn at_speed(mut self, speed: f64) -> Self {
        let quicker = |length: &mut Duration| *length = length.div_f64(speed);
        quicker(&mut self.backoff);
        quicker(&mut self.total);
        for phase in &mut self.phases {
            quicker(&mut phase.at);
            quicker(&mut phase.lasts);
        }
        for episode in &mut self.episodes {
            quicker(&mut episode.at);
            quicker(&mut episode.lasts);
            quicker(&mut episode.lead);
            if let Some(bursts) = &mut episode.bursts {
                quicker(&mut bursts.on);
                quicker(&mut bursts.off);
            }
        }
        self
    }

    /// Everything that begins, in the order of time; a phase before what begins with it.
    #[must_use]
    pub fn moments(&self) -> Vec<(Duration, Moment<'_>)> {
        let phases = self.phases.iter().map(|phase| (phase.at, Moment::Phase(phase)));
        let episodes = self.episodes.iter().map(|episode| (episode.begins(), Moment::Episode(episode)));
        let mut moments: Vec<_> = phases.chain(episodes).collect();
        moments.sort_by_key(|moment| moment.0);
        moments
    }

    /// Workloads whose programs send to this one.
    pub fn clients<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a str> {
        self.workloads.iter().filter(move |client| client.program.workloads().any(|name| name == of)).map(|client| client.name.as_str())
    }

    /// What must not be: two episodes that want one workload at the same time, or one beyond the end.
    ///
    /// # Errors
    /// One line that names them.
    pub fn check(&self) -> Result<(), String> {
        for (place, one) in self.episodes.iter().enumerate() {
            if one.ends() > self.total {
                return Err(format!("episode {} ends after the plan", one.name));
            }
            if let Some(other) = self.episodes[place + 1..].iter().find(|other| one.overlaps(other) && one.meets(other)) {
                return Err(format!("episodes {} and {} meet in one workload at the same time", one.name, other.name));
            }
        }
        Ok(())
    }
}

/// Workloads so that those come first that others send to; where they send to each other, the plan's order stays.
#[must_use]
pub fn in_order(workloads: &[Workload]) -> Vec<&Workload> {
    let mut waiting: Vec<&Workload> = workloads.iter().collect();
    let mut order: Vec<&Workload> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let started = |name: &str| order.iter().any(|workload| workload.name == name);
        let ready = |workload: &&Workload| workload.program.workloads().all(|name| name == workload.name || started(name));
        let next = waiting.iter().position(ready).unwrap_or(0);
        order.push(waiting.remove(next));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, program: &str) -> Workload {
        Workload {
            name: name.to_owned(),
            kind: OwnerKind::Deployment,
            replicas: 1,
            limits: Limits::default(),
            disk_bytes: None,
            program: serde_norway::from_str(program).unwrap(),
        }
    }

    #[test]
    fn servers_start_before_their_clients_whatever_the_plan_lists_first() {
        let workloads = [
            workload("frontend", "{behaviour: load, target: '@web:8080'}"),
            workload("job", "{behaviour: batch, dir: '@work'}"),
            workload("web", "{behaviour: worker, target: '@cache:80'}"),
            workload("cache", "{behaviour: cache, address: '@self'}"),
        ];

        let order: Vec<_> = in_order(&workloads).into_iter().map(|workload| workload.name.as_str()).collect();

        assert_eq!(order, ["job", "cache", "web", "frontend"]);
    }
}
