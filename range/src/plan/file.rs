//! The schema of a plan's file, as docs/plans.md describes it. Unknown keys are errors.

use serde::Deserialize;
use vedette_proto::v1::Kind;

use super::{
    act::{Act, Doing, KindWord, Placement},
    program::Program,
    values::{Between, Cores, Draw, Length, Names, Ordered, Size},
};

/// A whole plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What everything random comes from, unless the command line says otherwise. Without either: different in every run.
    pub seed: Option<u64>,
    /// Delay before a container's second restart; the first is at once, each further one twice the last.
    #[serde(default = "ten_seconds")]
    pub backoff: Length,
    /// Ordinary work before the first phase.
    #[serde(default)]
    pub warm_up: Length,
    /// What is there from the first second to the last, in the order in which it starts.
    pub workloads: Ordered<WorkloadFile>,
    /// What pods are like that are made for one episode.
    #[serde(default)]
    pub new_pods: NewPods,
    /// Names by which acts ask for somebody to send to: `@WORKLOAD:PORT` each.
    #[serde(default)]
    pub targets: Ordered<Names>,
    /// When the load is at the top of its day.
    pub peaks: Option<Peaks>,
    /// Further acts beside those of the catalogue.
    #[serde(default)]
    pub acts: Ordered<Act>,
    /// What happens, one after the other.
    pub phases: Vec<PhaseFile>,
}

const fn ten_seconds() -> Length {
    Length(std::time::Duration::from_secs(10))
}

/// Kinds of owners that a workload may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OwnerKind {
    /// Interchangeable pods with random names.
    #[default]
    Deployment,
    /// Pods with numbers.
    StatefulSet,
    /// A pod per node.
    DaemonSet,
    /// Runs to its end.
    Job,
    /// Starts jobs.
    CronJob,
}

impl OwnerKind {
    /// As Kubernetes spells it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}

/// A workload and its pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadFile {
    /// Its owner's kind.
    #[serde(default)]
    pub kind: OwnerKind,
    /// Pods, 1 to 8.
    #[serde(default = "one")]
    pub replicas: u32,
    /// CPU limit.
    pub cpu: Option<Cores>,
    /// Memory limit.
    pub memory: Option<Size>,
    /// Most processes and threads of a pod.
    #[serde(default = "most_pids")]
    pub pids: u64,
    /// A disk of its own, `@work` for its programs.
    pub disk: Option<Size>,
    /// What it does.
    pub program: Program,
    /// Further workloads without limits, each one pod: its clients, by their names.
    #[serde(default)]
    pub clients: Ordered<Program>,
    /// Whether episodes may be scattered into it.
    #[serde(default = "yes")]
    pub host: bool,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// A kubelet's usual bound for a pod is far higher; this keeps one machine safe.
const fn most_pids() -> u64 {
    512
}

/// Pods that are made for one episode.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewPods {
    /// Names of their owners; none comes twice in a run. A list of neutral ones unless given: names must not tell.
    pub owners: Option<Names>,
    /// CPU limit.
    pub cpu: Option<Cores>,
    /// Memory limit; an act that needs more gets more.
    pub memory: Option<Size>,
    /// Most processes and threads.
    pub pids: u64,
    /// What `own` means in their lives.
    pub program: Option<Program>,
}

impl Default for NewPods {
    fn default() -> Self {
        Self { owners: None, cpu: None, memory: Some(Size(128 << 20)), pids: most_pids(), program: None }
    }
}

/// When the load is at the top of its day: at `first`, and then every `every`, from the begin of the run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peaks {
    /// The first one.
    pub first: Length,
    /// From one to the next.
    pub every: Length,
    /// Whose load it is.
    pub workloads: Names,
}

/// A stretch of a plan: ordinary work alone, or with episodes in one of three forms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseFile {
    /// Its name.
    pub name: Option<String>,
    /// Its length.
    pub lasts: Option<Length>,
    /// Episodes one by one.
    #[serde(default)]
    pub episodes: Vec<EpisodeFile>,
    /// Episodes at random places.
    pub scatter: Option<Scatter>,
    /// Two rounds in which kinds take turns.
    pub rounds: Option<Rounds>,
}

/// One episode.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeFile {
    /// The act.
    pub act: String,
    /// Where it is placed; `inside` where `in` is said, else `new`.
    pub placement: Option<Placement>,
    /// The workload that it runs in, or several to draw one from; of a new pod its owner.
    #[serde(rename = "in")]
    pub host: Option<Names>,
    /// Begin, from the begin of the phase.
    pub at: Option<Between<Length>>,
    /// Length; to the end of the phase unless said.
    pub lasts: Option<Between<Length>>,
    /// Instead of the act's own.
    #[serde(default)]
    pub intensity: Ordered<Draw>,
    /// Instead of the plan's own.
    #[serde(default)]
    pub targets: Ordered<Names>,
}

/// Episodes at random places of a phase, so that nothing meets that must not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scatter {
    /// How many may run at once.
    #[serde(default)]
    pub at_once: AtOnce,
    /// What all that run at once may take of the machine, by the acts' own estimates.
    pub cores: Option<Cores>,
    /// Between two episodes of one workload.
    #[serde(default = "a_minute")]
    pub apart: Length,
    /// Length of an episode.
    #[serde(default = "usual_lengths")]
    pub lasts: Between<Length>,
    /// What there is.
    pub acts: Vec<ScatterEntry>,
}

const fn a_minute() -> Length {
    Length(std::time::Duration::from_secs(60))
}

const fn usual_lengths() -> Between<Length> {
    Between { from: Length(std::time::Duration::from_secs(30)), to: Length(std::time::Duration::from_secs(300)) }
}

/// How many episodes may run at once.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AtOnce {
    /// Attacks.
    pub attacks: usize,
    /// Episodes of any role.
    pub episodes: usize,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { attacks: 1, episodes: 4 }
    }
}

/// So many episodes of one act, or of several in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScatterEntry {
    /// The acts; which comes first is drawn.
    pub act: Names,
    /// How many episodes.
    #[serde(default = "once")]
    pub times: Between<Count>,
    /// Where; in turn, the first is drawn. Everywhere that suits unless said.
    pub placements: Option<Vec<Placement>>,
    /// Length of an episode, instead of the scatter's own.
    pub lasts: Option<Between<Length>>,
    /// The workloads that it may run in; all that host unless said.
    #[serde(rename = "in")]
    pub hosts: Option<Names>,
}

const fn once() -> Between<Count> {
    Between { from: Count(1), to: Count(1) }
}

/// A small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl std::str::FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|&count| count <= 100).map(Self).ok_or_else(|| format!("{text:?} is not a number from 0 to 100"))
    }
}

/// Two rounds of the same kinds, in different order and dose. In one round a kind comes as a new workload, in the other inside a
/// running one. Each attack has a placebo, two turns away.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    /// Length of an attack.
    pub attack: Length,
    /// Between two attacks.
    pub gap: Length,
    /// Between the rounds.
    pub between: Length,
    /// Kinds that come as new workloads in the same round; the others do in the other round. Which round is drawn.
    pub together: Vec<KindWord>,
    /// Kinds that come no earlier in the second round than in the first, since both have the same victim.
    #[serde(default)]
    pub late: Vec<KindWord>,
    /// Kinds that take turns.
    pub turns: Ordered<Turn>,
    /// Kinds that run beside the turns.
    #[serde(default)]
    pub beside: Ordered<Turn>,
}

impl Rounds {
    /// Every turn with its kind.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Turn)> {
        self.turns.0.iter().chain(&self.beside.0).map(|(kind, turn)| (kind.as_str(), turn))
    }

    /// Whether a kind is one of [`Rounds::together`].
    #[must_use]
    pub fn is_together(&self, kind: Kind) -> bool {
        self.together.contains(&KindWord(kind))
    }
}

/// One kind in both rounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The workload that the attack is started inside.
    #[serde(rename = "in")]
    pub host: String,
    /// Of the first and of the second round.
    pub doses: Vec<Dose>,
    /// The placebo's own.
    pub placebo: PlaceboTurn,
}

/// An attack's act and intensity in one round.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dose {
    /// The act.
    pub act: String,
    /// Instead of the act's own.
    #[serde(default)]
    pub intensity: Ordered<Draw>,
}

/// A kind's placebo in both rounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceboTurn {
    /// The workload that it is started inside.
    #[serde(rename = "in")]
    pub host: String,
    /// Instead of the act's own placebo.
    #[serde(rename = "do")]
    pub doing: Option<Doing>,
    /// Its intensity in words.
    pub says: String,
}
