//! The timeline of a run: a pure function of its name and seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use vedette_proto::v1::Kind;

/// How long the parts of a run take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Ordinary work before the first attack.
    pub warm_up: Duration,
    /// One attack.
    pub attack: Duration,
    /// Between two attacks.
    pub gap: Duration,
    /// Between the rounds.
    pub between: Duration,
    /// After the last attack.
    pub tail: Duration,
    /// The second restart's delay; the first is at once, each further one twice the last, as a kubelet's.
    pub backoff: Duration,
}

/// Where a program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In a pod created for it: bad from its first second.
    New,
    /// In a container that had been doing ordinary work.
    Inside,
}

impl Placement {
    /// Its word in labels and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Inside => "inside",
        }
    }
}

/// A program's dose; the same program is attack and placebo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dose {
    /// SHA-256.
    Hash {
        /// Threads.
        threads: u32,
        /// Share of each thread's time, percent.
        duty_pct: u32,
    },
    /// TCP connects, over the subnet or to living services.
    Connect {
        /// Per second.
        rate: u32,
        /// Over the subnet.
        sweep: bool,
    },
    /// HTTP requests to the web service.
    Load {
        /// Per second.
        rate: u32,
        /// Connections.
        connections: u32,
        /// Requests per connection.
        reuse: u32,
    },
    /// Uploads to the sink.
    Upload {
        /// Bytes per second while sending.
        rate: u64,
        /// Bytes per burst.
        burst: u64,
        /// Seconds between bursts.
        every: u64,
    },
    /// A container that ends by itself.
    Fail {
        /// Milliseconds it lives.
        after_ms: u64,
        /// Only the first life; else every one.
        once: bool,
    },
}

impl std::fmt::Display for Dose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hash { threads, duty_pct } => write!(f, "{threads} threads at {duty_pct} % of a core each"),
            Self::Connect { rate, sweep } => {
                write!(f, "{rate} connects/s {}", if *sweep { "over the subnet" } else { "to living services" })
            }
            Self::Load { rate, connections, .. } => write!(f, "{rate} requests/s over {connections} connections"),
            Self::Upload { rate, burst, every } => write!(f, "{burst} bytes every {every} s at {rate} bytes/s"),
            Self::Fail { after_ms, once } => write!(f, "fails after {after_ms} ms{}", if *once { ", once" } else { ", each time" }),
        }
    }
}

/// One attack or placebo.
#[derive(Clone, Debug)]
pub struct Episode {
    /// `r1-scan`, `r2-scan-placebo`.
    pub name: String,
    /// What it is, or looks like.
    pub kind: Kind,
    /// An attack; else a placebo.
    pub attack: bool,
    /// Where the program is started.
    pub placement: Placement,
    /// 1 or 2.
    pub round: u32,
    /// From the beginning of the run.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// How much.
    pub dose: Dose,
    /// Owner of the pod: the new one's, or the workload it is started inside.
    pub owner: &'static str,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `demo` or `smoke`.
    pub name: &'static str,
    /// What order and jitter came from.
    pub seed: u64,
    /// How long its parts take.
    pub timing: Timing,
    /// Name, begin and length of its parts.
    pub phases: Vec<(&'static str, Duration, Duration)>,
    /// Attacks and placebos.
    pub episodes: Vec<Episode>,
    /// Length in all.
    pub total: Duration,
}

/// Kinds that take turns; the crash loop runs beside them.
const TURNS: [Kind; 4] = [Kind::Mining, Kind::Scan, Kind::Flood, Kind::Exfiltration];
/// Neutral owners for the pods that are created for an episode: names must not tell.
const OWNERS: [&str; 12] = [
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
];

impl Plan {
    /// The plan with this name.
    #[must_use]
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let seconds = Duration::from_secs;
        match name {
            "demo" => Some(Self::two_rounds(
                "demo",
                seed,
                Timing {
                    warm_up: seconds(75),
                    attack: seconds(26),
                    gap: seconds(9),
                    between: seconds(15),
                    tail: seconds(18),
                    backoff: seconds(10),
                },
            )),
            // For tests: the same shape in half a minute; too short to say anything about detection.
            "smoke" => Some(Self::two_rounds(
                "smoke",
                seed,
                Timing {
                    warm_up: seconds(2),
                    attack: seconds(3),
                    gap: seconds(1),
                    between: seconds(1),
                    tail: seconds(1),
                    backoff: seconds(1),
                },
            )),
            _ => None,
        }
    }

    fn two_rounds(name: &'static str, seed: u64, timing: Timing) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut owners = OWNERS;
        owners.shuffle(&mut rng);
        let mut owners = owners.into_iter();
        // Which kinds come as new workloads in the first round; in the second it is the others.
        let new_first = rng.random_bool(0.5);
        let mut order = TURNS;
        order.shuffle(&mut rng);
        let mut phases = vec![("warm-up", Duration::ZERO, timing.warm_up)];
        let mut episodes = Vec::new();
        let mut begin = timing.warm_up;
        let slot = timing.attack + timing.gap;
        for round in 1..=2u32 {
            if round == 2 {
                phases.push(("pause", begin, timing.between));
                begin += timing.between;
                let first = order;
                // Both floods have the same victim: the second comes late enough to be an event of its own, not the first again.
                let place = |order: &[Kind]| order.iter().position(|&kind| kind == Kind::Flood);
                while order == first || place(&order) < place(&first) {
                    order.shuffle(&mut rng);
                }
            }
            let length = slot * 4;
            phases.push((if round == 1 { "round 1" } else { "round 2" }, begin, length));
            let placement = |kind| if is_new(kind, round, new_first) { Placement::New } else { Placement::Inside };
            let mut owner = |kind, attack| match placement(kind) {
                Placement::New => owners.next().unwrap_or("extra"),
                Placement::Inside => host(kind, attack),
            };
            for (turn, kind) in (0u32..).zip(order) {
                let attack = Episode {
                    name: format!("r{round}-{}", kind.word()),
                    kind,
                    attack: true,
                    placement: placement(kind),
                    round,
                    at: begin + slot * turn + jitter(&mut rng, timing.gap / 6),
                    lasts: timing.attack,
                    dose: dose(kind, round, &mut rng),
                    owner: owner(kind, true),
                };
                // Two turns away, so that a placebo never runs beside the attack it looks like.
                let placebo = Episode {
                    name: format!("r{round}-{}-placebo", kind.word()),
                    attack: false,
                    at: begin + slot * ((turn + 2) % 4) + timing.attack * 2 / 5 + jitter(&mut rng, timing.gap / 6),
                    lasts: timing.attack * 9 / 10,
                    dose: placebo(kind),
                    owner: owner(kind, false),
                    ..attack.clone()
                };
                episodes.extend([attack, placebo]);
            }
            let kind = Kind::CrashLoop;
            let attack = Episode {
                name: format!("r{round}-crash_loop"),
                kind,
                attack: true,
                placement: placement(kind),
                round,
                at: begin + timing.attack * round / 3 + jitter(&mut rng, timing.gap / 6),
                // Failures at about 0, 0, 1 and 3 back-offs after the first; the fourth and its pause belong to it.
                lasts: timing.attack / 2 + timing.backoff * 4,
                dose: dose(kind, round, &mut rng),
                owner: owner(kind, true),
            };
            let placebo = Episode {
                name: format!("r{round}-crash_loop-placebo"),
                attack: false,
                at: begin + slot + timing.attack / 2 + jitter(&mut rng, timing.gap / 6),
                lasts: timing.attack * 3 / 2,
                dose: placebo(kind),
                owner: owner(kind, false),
                ..attack.clone()
            };
            episodes.extend([attack, placebo]);
            begin += length;
        }
        phases.push(("tail", begin, timing.tail));
        episodes.sort_by_key(|episode| episode.at);
        Self { name, seed, timing, phases, episodes, total: begin + timing.tail }
    }
}

fn is_new(kind: Kind, round: u32, new_first: bool) -> bool {
    let early = matches!(kind, Kind::Mining | Kind::Flood | Kind::CrashLoop);
    (early == new_first) == (round == 1)
}

/// The workload that a program is started inside. No two of one round share one: mining, floods and crash loops are inside in
/// the same round, scans and exfiltration in the other.
const fn host(kind: Kind, attack: bool) -> &'static str {
    match (kind, attack) {
        (Kind::Mining, true) => "cache",
        (Kind::Scan | Kind::Flood, true) => "session",
        (_, true) => "nightly-index",
        (Kind::Mining | Kind::Scan, false) => "mailer",
        (Kind::Flood | Kind::Exfiltration, false) => "search",
        (_, false) => "stock",
    }
}

fn dose(kind: Kind, round: u32, rng: &mut StdRng) -> Dose {
    let first = round == 1;
    let mut about = |value: u64| value * rng.random_range(90..=110) / 100;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    match kind {
        Kind::Mining if first => Dose::Hash { threads: 1, duty_pct: 95 },
        Kind::Mining => Dose::Hash { threads: 2, duty_pct: small(about(42)) },
        Kind::Scan => Dose::Connect { rate: small(about(if first { 150 } else { 70 })), sweep: true },
        Kind::Flood if first => Dose::Load { rate: small(about(1_200)), connections: 120, reuse: 20 },
        Kind::Flood => Dose::Load { rate: small(about(700)), connections: 60, reuse: 5 },
        Kind::Exfiltration if first => Dose::Upload { rate: about(5_000_000), burst: u64::MAX, every: 1 },
        Kind::Exfiltration => Dose::Upload { rate: about(12_000_000), burst: u64::MAX, every: 1 },
        _ => Dose::Fail { after_ms: about(if first { 400 } else { 800 }), once: false },
    }
}

const fn placebo(kind: Kind) -> Dose {
    match kind {
        Kind::Mining => Dose::Hash { threads: 1, duty_pct: 5 },
        Kind::Scan => Dose::Connect { rate: 2, sweep: false },
        Kind::Flood => Dose::Load { rate: 8, connections: 2, reuse: 50 },
        Kind::Exfiltration => Dose::Upload { rate: 1_000_000, burst: 300_000, every: 8 },
        _ => Dose::Fail { after_ms: 3_000, once: true },
    }
}

fn jitter(rng: &mut StdRng, most: Duration) -> Duration {
    most.mul_f64(rng.random())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> impl Iterator<Item = Plan> {
        (0..200).map(|seed| Plan::named("demo", seed).unwrap())
    }

    #[test]
    fn every_kind_comes_once_a_round_once_new_and_once_inside_with_as_many_placebos() {
        for plan in plans() {
            for kind in TURNS.into_iter().chain([Kind::CrashLoop]) {
                for attack in [true, false] {
                    let mut placements: Vec<_> =
                        plan.episodes.iter().filter(|e| e.kind == kind && e.attack == attack).map(|e| (e.round, e.placement)).collect();
                    placements.sort_by_key(|placement| placement.0);
                    assert_eq!(placements.len(), 2, "seed {}", plan.seed);
                    assert_ne!(placements[0].1, placements[1].1, "seed {}", plan.seed);
                }
            }
        }
    }

    #[test]
    fn the_rounds_differ_in_order_and_intensity() {
        for plan in plans() {
            let order = |round| {
                let attacks = plan.episodes.iter().filter(move |e| e.attack && e.round == round && e.kind != Kind::CrashLoop);
                attacks.map(|e| e.kind).collect::<Vec<_>>()
            };
            assert_ne!(order(1), order(2), "seed {}", plan.seed);
        }
    }

    #[test]
    fn nothing_in_one_workload_overlaps_and_everything_ends_in_time() {
        for plan in plans() {
            assert!(plan.total <= Duration::from_secs(390));
            for one in &plan.episodes {
                assert!(one.at + one.lasts <= plan.total, "seed {} {}", plan.seed, one.name);
                for other in plan.episodes.iter().filter(|other| other.name != one.name && other.owner == one.owner) {
                    let apart = one.at + one.lasts <= other.at || other.at + other.lasts <= one.at;
                    assert!(apart, "seed {}: {} and {} in {}", plan.seed, one.name, other.name, one.owner);
                }
            }
        }
    }

    #[test]
    fn the_second_flood_is_far_from_the_first() {
        for plan in plans() {
            let floods: Vec<_> = plan.episodes.iter().filter(|e| e.kind == Kind::Flood && e.attack).collect();
            assert!(floods[1].at - (floods[0].at + floods[0].lasts) > Duration::from_secs(100), "seed {}", plan.seed);
        }
    }

    #[test]
    fn placebos_of_a_flood_never_run_during_one() {
        for plan in plans() {
            for flood in plan.episodes.iter().filter(|e| e.kind == Kind::Flood && e.attack) {
                for placebo in plan.episodes.iter().filter(|e| e.kind == Kind::Flood && !e.attack) {
                    assert!(flood.at + flood.lasts <= placebo.at || placebo.at + placebo.lasts <= flood.at, "seed {}", plan.seed);
                }
            }
        }
    }
}
