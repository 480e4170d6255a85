//! A small shop through two rounds of attacks and placebos, side by side: each attack once, and nothing else.

use vedette_proto::v1::Kind;

use crate::world::{Handle, Load, World};

const TURN_S: i64 = 35;
const ATTACK_S: f64 = 26.0;

/// What happens in a turn of the shop.
#[derive(Clone, Copy)]
struct Turn {
    kind: Kind,
    attack: Load,
    /// The workload it is started inside; none: a new one.
    inside: Option<&'static str>,
}

struct Shop {
    world: World,
    handles: Vec<(&'static str, Handle)>,
    phase: f64,
}

const NAMES: [&str; 8] = ["web", "cache", "archive", "frontend", "session", "mailer", "search", "nightly-index"];

/// Ordinary work of a workload at a second of the run.
fn ordinary(name: &str, t: f64) -> Load {
    match name {
        "web" => Load { accepts: 0.4, ..Load::web(20.0) },
        "frontend" => Load { opens: 0.4, ..Load::client(20.0) },
        "cache" => Load { accepts: 0.02, established: 3.0, cpu: 0.01, ..Load::web(30.0) },
        "session" => Load { opens: 0.02, established: 3.0, cpu: 0.01, ..Load::client(30.0) },
        "nightly-index" if t % 20.0 < 8.0 => Load::IDLE.mining(0.45),
        _ => Load { opens: 0.1, ..Load::IDLE },
    }
}

fn requests(rate: f64, reuse: f64) -> Load {
    let client = Load::client(rate);
    Load { opens: rate / reuse, established: 100.0, cpu: 0.01 + rate * 0.000_25, ..client }
}

impl Shop {
    fn new(phase: f64) -> Self {
        let mut world = World::new();
        let handles = NAMES.iter().map(|&name| (name, world.start(name, &format!("pod-{name}"), 0))).collect();
        Self { world, handles, phase }
    }

    /// One turn: the attack for 26 s beside a placebo of another kind inside a bystander, then a pause.
    fn turn(&mut self, turn: Turn, name: &'static str, placebo: Load) {
        let begin = self.phase;
        let flood = turn.kind == Kind::Flood;
        let new = turn.inside.is_none().then(|| self.world.start(name, &format!("pod-{name}"), 0));
        let bystander = self.world.start("bystander", &format!("pod-{}", self.world.now_ms), 0);
        let load_of = |name: &'static str, attack: bool| {
            move |t: f64| {
                let now = ordinary(name, begin + t);
                let during = (1.0..=ATTACK_S).contains(&t);
                match name {
                    "web" if during && flood => Load { cpu: 0.5, throttled: 0.5, accepts: 60.0, established: 120.0, ..Load::web(900.0) },
                    "archive" if during && turn.kind == Kind::Exfiltration => Load { accepts: 0.2, ..now.sink(turn.attack.tx_bytes) },
                    _ if during && attack => turn.attack.and(now),
                    "mailer" if during => placebo.and(now),
                    _ => now,
                }
            }
        };
        let loads: Vec<_> = NAMES.iter().map(|&name| load_of(name, turn.inside == Some(name))).collect();
        let mut all: Vec<(Handle, &dyn Fn(f64) -> Load)> =
            self.handles.iter().zip(&loads).map(|((_, handle), load)| (*handle, load as &dyn Fn(f64) -> Load)).collect();
        let (attack, placebo) = (|_: f64| turn.attack, |_: f64| placebo);
        if let Some(new) = new {
            all.push((new, &attack));
        }
        all.push((bystander, &placebo));
        self.world.run(ATTACK_S as i64, &all);
        all.pop();
        self.world.stop(bystander);
        if let Some(new) = new {
            all.pop();
            self.world.stop(new);
        }
        // The loads go back to ordinary by themselves; time in them begins again, so ordinary work shifts its phase a little.
        let loads: Vec<_> = NAMES.iter().map(|&name| move |t: f64| ordinary(name, begin + ATTACK_S + t)).collect();
        let rest: Vec<(Handle, &dyn Fn(f64) -> Load)> =
            self.handles.iter().zip(&loads).map(|((_, handle), load)| (*handle, load as &dyn Fn(f64) -> Load)).collect();
        self.world.run(TURN_S - ATTACK_S as i64, &rest);
        self.phase += TURN_S as f64;
    }
}

fn rounds(phase: f64) -> Vec<(String, String, f64)> {
    let placebos = [
        Load::IDLE.mining(0.05),
        Load { opens: 2.0, tx_bytes: 900.0, rx_bytes: 900.0, ..Load::IDLE },
        requests(8.0, 50.0),
        Load::IDLE.upload(37e3),
    ];
    let plan = [
        Turn { kind: Kind::Mining, attack: Load::IDLE.mining(0.95), inside: Some("cache") },
        Turn { kind: Kind::Scan, attack: Load::IDLE.scan(150.0), inside: None },
        Turn { kind: Kind::Flood, attack: requests(1_200.0, 20.0), inside: Some("session") },
        Turn { kind: Kind::Exfiltration, attack: Load::IDLE.upload(5e6), inside: None },
        Turn { kind: Kind::Scan, attack: Load::IDLE.scan(70.0), inside: Some("session") },
        Turn { kind: Kind::Mining, attack: Load::IDLE.mining(0.7), inside: None },
        Turn { kind: Kind::Exfiltration, attack: Load::IDLE.upload(12e6), inside: Some("nightly-index") },
        Turn { kind: Kind::Flood, attack: requests(700.0, 5.0), inside: None },
    ];
    let names = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    let mut shop = Shop::new(phase);
    let loads: Vec<_> = NAMES.iter().map(|&name| move |t: f64| ordinary(name, phase + t)).collect();
    let calm: Vec<(Handle, &dyn Fn(f64) -> Load)> =
        shop.handles.iter().zip(&loads).map(|((_, handle), load)| (*handle, load as &dyn Fn(f64) -> Load)).collect();
    shop.world.run(75, &calm);
    shop.phase += 75.0;
    let mut onsets = Vec::new();
    for (place, turn) in plan.into_iter().enumerate() {
        onsets.push(shop.world.now_ms);
        shop.turn(turn, names[place], placebos[(place + 2) % 4]);
    }
    let told = shop.world.incidents().into_iter().map(|incident| {
        let onset = onsets.iter().rev().find(|&&onset| onset <= incident.opened_unix_ms).copied().unwrap_or(0);
        let name = incident.workload.as_ref().unwrap().owner_name.clone();
        let kind = Kind::try_from(incident.kind).unwrap().word().to_owned();
        (name, kind, (incident.opened_unix_ms - onset) as f64 / 1e3)
    });
    told.collect()
}

#[test]
fn two_rounds_of_attacks_open_once_each_and_placebos_nothing() {
    let mut delays = Vec::new();
    for phase in 0..20 {
        let told = rounds(f64::from(phase));

        let names: Vec<_> = told.iter().map(|(name, kind, _)| format!("{kind} {name}")).collect();
        let expected = [
            "mining cache",
            "scan n1",
            "flood web",
            "exfiltration n3",
            "scan session",
            "mining n5",
            "exfiltration nightly-index",
            "flood web",
        ];
        assert_eq!(names, expected, "phase {phase}: {told:?}");
        delays.extend(told.iter().map(|(_, _, delay)| *delay));
    }
    delays.sort_by(f64::total_cmp);
    let (p50, p95) = (delays[delays.len() / 2], delays[delays.len() * 95 / 100]);
    println!("onset to incident: p50 {p50} s, p95 {p95} s, worst {} s", delays[delays.len() - 1]);
    assert!(p50 <= 10.0 && p95 <= 20.0, "p50 {p50} s, p95 {p95} s");
}
