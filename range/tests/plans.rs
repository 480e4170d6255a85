//! Plans: the shipped ones hold their promises for any seed, and a wrong one is one clear line.

use std::time::Duration;

use proptest::prelude::*;
use vedette_proto::v1::Kind;
use vedette_range::plan::{
    Plan,
    act::{About, Placement, Role, shipped},
    expand,
    program::behaviours,
    sessions::{Backend, Session, Sessions, Set},
    timeline::{Episode, Timeline},
};

/// Kinds that the demonstration shows.
const DEMO_KINDS: [Kind; 5] = [Kind::Mining, Kind::Scan, Kind::Flood, Kind::Exfiltration, Kind::CrashLoop];

fn timeline(plan: &str, seed: u64) -> Timeline {
    expand(&Plan::load(plan).expect("shipped"), seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

fn demos() -> impl Iterator<Item = Timeline> {
    let plan = Plan::load("demo").expect("shipped");
    (0..200).map(move |seed| expand(&plan, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}")))
}

fn of_kind(timeline: &Timeline, kind: Kind, role: Role) -> Vec<&Episode> {
    timeline.episodes.iter().filter(|episode| episode.kind == kind && episode.role == role).collect()
}

fn apart(one: &Episode, other: &Episode) -> bool {
    one.ends() <= other.begins() || other.ends() <= one.begins()
}

/// A small mix with every placement.
const MIX: &str = r#"
name: mix
description: for tests
warm_up: 30s
workloads:
  web: {replicas: 2, program: {behaviour: web, address: "@self"}, clients: {visitors: {behaviour: load, target: "@web:8080"}}}
  sink: {program: {behaviour: sink, address: "@self"}}
  one: {program: {behaviour: worker, target: "@web:8080"}}
  two: {replicas: 2, program: {behaviour: worker, target: "@web:8080"}}
  three: {program: {behaviour: batch, dir: "@work"}}
targets: {victim: ["@web:8080"], sink: ["@sink:9000"], service: ["@web:8080"], services: ["@web:8080"]}
peaks: {first: 2m, every: 4m, workloads: [one, web]}
phases:
  - name: session
    lasts: 15m
    scatter:
      at_once: {attacks: 2, episodes: 4}
      cores: 2
      apart: 20s
      lasts: [30s, 2m]
      acts:
        - {act: mining-sha256, times: [4, 6]}
        - {act: [flood-http, scan-connect], times: 4, placements: [new, inside, peak]}
        - {act: exfiltration-bulk, times: 2, in: [one, two], placements: [inside, replicas, on_off, rollout]}
"#;

fn mix(seed: u64) -> Timeline {
    expand(&Plan::parse("mix", MIX).expect("sound"), seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

#[test]
fn in_the_demo_every_kind_comes_once_a_round_once_new_and_once_inside_with_as_many_placebos() {
    for timeline in demos() {
        for kind in DEMO_KINDS {
            for role in [Role::Attack, Role::Placebo] {
                let mut placements: Vec<_> = of_kind(&timeline, kind, role).iter().map(|e| (e.round, e.placement)).collect();
                placements.sort_unstable();
                let rounds: Vec<_> = placements.iter().map(|placement| placement.0).collect();
                assert_eq!(rounds, [1, 2], "seed {}", timeline.seed);
                let mut places = [placements[0].1, placements[1].1];
                places.sort_unstable();
                assert_eq!(places, [Placement::New, Placement::Inside], "seed {}", timeline.seed);
            }
        }
        assert_eq!(timeline.episodes.len(), 20);
    }
}

#[test]
fn the_demos_rounds_differ_in_order_and_intensity() {
    for timeline in demos() {
        let order = |round| {
            let attacks = timeline.episodes.iter().filter(move |e| e.role == Role::Attack && e.round == round && e.kind != Kind::CrashLoop);
            attacks.map(|e| e.kind).collect::<Vec<_>>()
        };
        assert_ne!(order(1), order(2), "seed {}", timeline.seed);
        for kind in DEMO_KINDS {
            let attacks = of_kind(&timeline, kind, Role::Attack);
            assert_ne!(attacks[0].intensity, attacks[1].intensity, "seed {}", timeline.seed);
        }
    }
}

#[test]
fn the_demo_ends_in_time_and_nothing_in_one_workload_overlaps() {
    for timeline in demos() {
        assert!(timeline.total <= Duration::from_secs(390));
        for (place, one) in timeline.episodes.iter().enumerate() {
            assert!(one.ends() <= timeline.total, "seed {} {}", timeline.seed, one.name);
            for other in timeline.episodes[place + 1..].iter().filter(|other| other.owner == one.owner) {
                assert!(apart(one, other), "seed {}: {} and {} in {}", timeline.seed, one.name, other.name, one.owner);
            }
        }
    }
}

#[test]
fn the_demos_second_flood_is_far_from_the_first_and_no_placebo_of_one_runs_beside() {
    for timeline in demos() {
        let floods = of_kind(&timeline, Kind::Flood, Role::Attack);
        assert!(floods[1].at.saturating_sub(floods[0].ends()) > Duration::from_secs(100), "seed {}", timeline.seed);
        for placebo in of_kind(&timeline, Kind::Flood, Role::Placebo) {
            assert!(floods.iter().all(|flood| apart(flood, placebo)), "seed {}", timeline.seed);
        }
    }
}

#[test]
fn in_the_demo_only_clients_of_the_victim_and_the_receiver_of_an_upload_are_touched() {
    let timeline = timeline("demo", 7);

    for episode in &timeline.episodes {
        let expected: Vec<&str> = match (episode.role, episode.kind) {
            (Role::Attack, Kind::Flood) => vec!["frontend", &episode.owner],
            (Role::Attack, Kind::Exfiltration) => vec!["archive"],
            _ => Vec::new(),
        };
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(episode.touched, expected, "{}", episode.name);
        let about = if (episode.role, episode.kind) == (Role::Attack, Kind::Flood) { "web" } else { &episode.owner };
        assert_eq!(episode.about_owner(), about, "{}", episode.name);
    }
}

#[test]
fn the_original_session_has_its_phases() {
    for (plan, length) in [("seed-session", 300), ("seed-session-short", 5)] {
        let timeline = timeline(plan, 1);

        let kinds = ["mining", "scan", "flood", "crash_loop", "exfiltration"];
        assert_eq!(timeline.phases.len(), 11);
        assert_eq!(timeline.total, Duration::from_secs(length * 11));
        for (place, phase) in timeline.phases.iter().enumerate() {
            assert_eq!((phase.at, phase.lasts), (Duration::from_secs(length * place as u64), Duration::from_secs(length)));
            let inside: Vec<_> = timeline.episodes.iter().filter(|episode| episode.phase == phase.name).collect();
            if place % 2 == 0 {
                assert!(inside.is_empty(), "{}", phase.name);
                continue;
            }
            assert_eq!(inside.len(), 1, "{}", phase.name);
            assert_eq!(inside[0].kind.word(), kinds[place / 2]);
            assert_eq!((inside[0].at, inside[0].lasts), (phase.at, phase.lasts), "{}", phase.name);
        }
    }
}

#[test]
fn a_clock_that_runs_faster_shortens_everything_alike() {
    let (slow, fast) = (mix(3), mix(3).at_speed(10.0));

    assert_eq!(fast.total, slow.total / 10);
    for (slow, fast) in slow.episodes.iter().zip(&fast.episodes) {
        assert!(fast.at.abs_diff(slow.at / 10) < Duration::from_micros(1));
        assert!(fast.lasts.abs_diff(slow.lasts / 10) < Duration::from_micros(1));
        assert_eq!(fast.bursts.map(|bursts| bursts.off * 10), slow.bursts.map(|bursts| bursts.off));
        assert_eq!(fast.doing, slow.doing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_seed_gives_the_same_timeline(seed: u64) {
        prop_assert_eq!(format!("{:?}", mix(seed)), format!("{:?}", mix(seed)));
    }

    #[test]
    fn whatever_the_seed_a_scatter_keeps_its_rules(seed: u64) {
        let timeline = mix(seed);
        let (from, to) = (Duration::from_secs(30), Duration::from_secs(930));
        for (place, one) in timeline.episodes.iter().enumerate() {
            prop_assert!(one.begins() >= from && one.ends() <= to, "{} lies outside", one.name);
            let least = if one.placement == Placement::OnOff { 44 } else { 30 };
            prop_assert!(one.lasts >= Duration::from_secs(least), "{} is too short", one.name);
            prop_assert!(one.lasts <= Duration::from_secs(120).mul_f64(1.21), "{} is too long", one.name);
            for other in timeline.episodes[place + 1..].iter().filter(|other| one.meets(other)) {
                prop_assert!(!one.overlaps(other), "{} and {} meet", one.name, other.name);
            }
            for other in timeline.episodes.iter().filter(|other| one.role == Role::Placebo && other.role == Role::Attack && other.kind == one.kind) {
                prop_assert!(apart(one, other), "{} runs beside {}", one.name, other.name);
            }
            let at_once = |role: Option<Role>| {
                let others = timeline.episodes.iter().filter(|other| role.is_none_or(|role| other.role == role));
                others.filter(|other| other.begins() <= one.begins() && one.begins() < other.ends()).count()
            };
            prop_assert!(at_once(None) <= 4 && at_once(Some(Role::Attack)) <= 2, "too much at once at {}", one.name);
        }
    }

    #[test]
    fn whatever_the_seed_every_attack_has_its_placebo(seed: u64) {
        let timeline = mix(seed);
        for attack in timeline.episodes.iter().filter(|episode| episode.role == Role::Attack) {
            let of_it: Vec<_> = timeline.episodes.iter().filter(|other| other.placebo_of.as_ref() == Some(&attack.name)).collect();
            prop_assert_eq!(of_it.len(), 1, "{}", &attack.name);
            prop_assert_eq!(of_it[0].placement, attack.placement);
            prop_assert_eq!(of_it[0].about, About::Own);
        }
    }

    #[test]
    fn whatever_the_seed_placements_are_what_they_say(seed: u64) {
        let timeline = mix(seed);
        let workload = |name: &str| timeline.workloads.iter().find(|workload| workload.name == name);
        let mut new: Vec<&str> = Vec::new();
        for episode in &timeline.episodes {
            match episode.placement {
                Placement::New => new.push(&episode.owner),
                Placement::Replicas => prop_assert!(workload(&episode.owner).is_some_and(|workload| workload.replicas > 1)),
                Placement::Rollout => {
                    prop_assert!(episode.lead >= Duration::from_secs(6));
                    prop_assert!(timeline.clients(&episode.owner).next().is_none(), "{} loses its clients", episode.owner);
                }
                Placement::Peak => {
                    let middle = (episode.at + episode.lasts / 2).as_secs_f64();
                    let off = (middle - 120.0).rem_euclid(240.0);
                    prop_assert!(off.min(240.0 - off) <= 31.0, "{} s off the top", off);
                }
                Placement::OnOff => prop_assert!(episode.bursts.is_some()),
                Placement::Inside => {}
            }
            prop_assert_eq!(episode.placement == Placement::New, workload(&episode.owner).is_none());
            prop_assert_eq!(episode.placement == Placement::OnOff, episode.bursts.is_some());
        }
        let count = new.len();
        new.sort_unstable();
        new.dedup();
        prop_assert_eq!(new.len(), count, "an owner came twice");
    }
}

/// The mix with one thing changed.
fn wrong(from: &str, to: &str) -> String {
    assert!(MIX.contains(from), "{from}");
    Plan::parse("plans/mine.yaml", &MIX.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn what_makes_no_sense_is_one_line_with_file_and_field() {
    let cases = [
        ("name: mix", "nane: mix", "unknown field `nane`, expected one of `name`"),
        ("warm_up: 30s", "warm_up: 30", "warm_up: \"30\" is not a length"),
        ("warm_up: 30s", "warm_up: 30s\nseed: -1", "seed: invalid"),
        ("behaviour: sink,", "behaviour: sinkk,", "workloads.sink.program: unknown behaviour `sinkk`, there are "),
        (
            "behaviour: sink,",
            "behaviour: sink, prt: 5,",
            "workloads.sink.program: unknown field `prt` of behaviour sink, it has address, port",
        ),
        (
            "behaviour: sink,",
            "behaviour: sink, port: many,",
            "workloads.sink.program: behaviour sink: invalid value 'many' for '--port <PORT>'",
        ),
        ("behaviour: sink, address: \"@self\"", "behaviour: sink", "behaviour sink: the following required arguments were not provided"),
        ("  one: {program", "  one: {memory: 64MB, program", "workloads.one.memory: \"64MB\" is not a size such as 64MiB"),
        ("  one: {program", "  one: {replicas: 9, program", "workloads.one.replicas: 1 to 8 are possible"),
        ("  one: {program", "  self: {program", "workloads.self: the name `self` means something else"),
        ("  one: {program", "  One: {program", "workloads.One: the name \"One\" must be"),
        ("  one: {program", "  two: {program", "`two` is there twice"),
        ("  one: {program", "  visitors: {program", "workloads.visitors: there are two workloads of this name"),
        (
            "one: {program: {behaviour: worker, target: \"@web",
            "one: {program: {behaviour: worker, target: \"@wbe",
            "workloads.one.program: there is no workload `wbe`",
        ),
        ("sink: [\"@sink:9000\"]", "sink: [\"@snik:9000\"]", "targets.sink: there is no workload `snik`"),
        (
            "sink: [\"@sink:9000\"], ",
            "",
            "phases[0].scatter.acts[2].act: exfiltration-bulk asks for `sink`, which the plan's targets do not have",
        ),
        ("peaks: {first: 2m, every: 4m", "peaks: {first: 2m, every: 0s", "peaks.every: must be longer than nothing"),
        ("workloads: [one, web]}", "workloads: [ones]}", "peaks.workloads: there is no workload `ones`"),
        ("    lasts: 15m\n", "", "phases[0].lasts: missing"),
        ("apart: 20s", "apart: 20s\n      odd: 1", "phases[0].scatter: unknown field `odd`"),
        (
            "act: mining-sha256,",
            "act: mining-sha255,",
            "phases[0].scatter.acts[0].act: unknown act `mining-sha255`; the catalogue has mining-sha256, ",
        ),
        ("times: [4, 6]", "times: [6, 4]", "phases[0].scatter.acts[0].times: the first end lies above the second"),
        ("placements: [new, inside, peak]", "placements: [new, under]", "phases[0].scatter.acts[1].placements"),
        ("in: [one, two]", "in: [one, too]", "phases[0].scatter.acts[2].in: there is no workload `too`"),
        ("at_once: {attacks: 2", "at_once: {attacks: 0", "phases[0].scatter.at_once: at least one"),
        ("cores: 2", "cores: 200m", "phases[0].scatter.acts[0].act: mining-sha256 takes 1000 thousandths of a core, the scatter has 200"),
    ];
    for (from, to, expected) in cases {
        let problem = wrong(from, to);

        assert!(problem.starts_with("plan plans/mine.yaml: ") && problem.contains(expected), "{to}: {problem}");
        assert!(!problem.contains('\n'), "{to}: {problem}");
    }
}

#[test]
fn a_wrong_episode_names_its_place() {
    let episode = |episode: &str| {
        let scatter = MIX.find("    scatter:").expect("scatter");
        let text = format!("{}    episodes:\n      - {{act: mining-sha256}}\n      - {episode}\n", &MIX[..scatter]);
        Plan::parse("mine", &text).expect_err(episode).to_string()
    };
    let cases = [
        (
            "{act: mining-sha256, intensity: {duty: 5}}",
            "phases[0].episodes[1].intensity.duty: mining-sha256 has no such intensity, it has threads, duty_pct",
        ),
        (
            "{act: mining-sha256, intensity: {duty_pct: lots}}",
            "phases[0].episodes[1].intensity: acts.mining-sha256.do: behaviour hash: invalid value 'lots'",
        ),
        ("{act: mining-sha256, placement: rollout}", "phases[0].episodes[1].in: missing; rollout needs a workload"),
        ("{act: mining-sha256, in: web, placement: new}", "phases[0].episodes[1].in: `web` is a workload already"),
        ("{act: mining-sha256, in: web, placement: rollout}", "phases[0].episodes[1].in: others send to `web`"),
        ("{act: mining-sha256, in: one, placement: replicas}", "phases[0].episodes[1].in: `one` has one replica"),
        ("{act: mining-sha256, at: 10m, lasts: [1m, 6m]}", "phases[0].episodes[1].lasts: the episode would end after its phase"),
        (
            "{act: flood-http, targets: {victims: '@web:8080'}}",
            "phases[0].episodes[1].targets.victims: flood-http asks for nobody of this name",
        ),
    ];
    for (text, expected) in cases {
        let problem = episode(text);

        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains('\n'), "{text}: {problem}");
    }
}

#[test]
fn episodes_that_meet_in_one_workload_are_refused() {
    let scatter = MIX.find("    scatter:").expect("scatter");
    let text = format!(
        "{}    episodes:\n      - {{act: mining-sha256, in: one}}\n      - {{act: scan-connect, in: one, at: 5s}}\n",
        &MIX[..scatter]
    );

    let problem = expand(&Plan::parse("mine", &text).expect("sound"), 1).expect_err("they meet").to_string();

    assert_eq!(problem, "plan mine: episodes mining-sha256 and scan-connect meet in one workload at the same time (seed 1)");
}

#[test]
fn a_seed_without_room_says_what_did_not_fit() {
    let text = MIX.replace("times: [4, 6]", "times: 90").replace("lasts: [30s, 2m]", "lasts: [2m, 2m]");

    let problem = expand(&Plan::parse("mine", &text).expect("sound"), 1).expect_err("no room").to_string();

    assert!(problem.starts_with("plan mine: phases[0]: scatter: ") && problem.ends_with("(seed 1)"), "{problem}");
    assert!(!problem.contains('\n'));
}

#[test]
fn an_unknown_plan_says_which_there_are() {
    let problem = Plan::load("demoo").expect_err("unknown").to_string();
    let missing = Plan::load("./nowhere.yaml").expect_err("missing").to_string();

    assert!(problem.starts_with("no plan named \"demoo\": there are "), "{problem}");
    assert!(["demo, ", "smoke, ", "canary, ", "seed-session, "].iter().all(|name| problem.contains(name)), "{problem}");
    assert!(missing.starts_with("cannot read the plan ./nowhere.yaml: "), "{missing}");
}

/// Kinds that are told by statistics; the others are facts.
const STATISTICAL: [Kind; 7] = [Kind::Mining, Kind::Scan, Kind::Flood, Kind::Exfiltration, Kind::Recon, Kind::MemoryLeak, Kind::DiskFill];
const FACTS: [Kind; 2] = [Kind::CrashLoop, Kind::ForkBomb];

#[test]
fn the_sessions_hold_what_is_promised_of_them() {
    let sessions = Sessions::shipped().expect("sound");
    let timelines: Vec<_> = sessions
        .sessions
        .iter()
        .map(|session| {
            let plan = session.plan().expect("shipped");
            let warm_up = plan.file.warm_up.0;
            (warm_up, expand(&plan, session.seed).unwrap_or_else(|error| panic!("{}: {error}", session.name)))
        })
        .collect();

    let all: Vec<_> = timelines.iter().flat_map(|(_, timeline)| &timeline.episodes).collect();
    let count = |role: Role, is: &dyn Fn(&Episode) -> bool| all.iter().filter(|episode| episode.role == role && is(episode)).count();
    for kind in STATISTICAL {
        let attacks = count(Role::Attack, &|episode| episode.kind == kind);
        assert!(attacks >= 30, "{attacks} attacks of kind {}", kind.word());
    }
    for kind in STATISTICAL.into_iter().chain(FACTS) {
        for placement in Placement::ALL {
            let placed = count(Role::Attack, &|episode| episode.kind == kind && episode.placement == placement);
            assert!(placed > 0, "no {} is placed {}", kind.word(), placement.word());
        }
    }
    let looks: Vec<_> = shipped().expect("sound").0.iter().filter(|(_, act)| act.role == Role::LookAlike).map(|(name, _)| name).collect();
    for act in looks {
        let episodes = count(Role::LookAlike, &|episode| episode.act == *act);
        assert!(episodes >= 30, "{episodes} episodes of {act}");
    }
    assert_eq!(count(Role::Attack, &|_| true), count(Role::Placebo, &|_| true));
    for (warm_up, timeline) in &timelines {
        let minutes = (timeline.total - *warm_up).as_secs_f64() / 60.0;
        assert!((15.0..=20.0).contains(&minutes), "{} lasts {minutes} minutes", timeline.plan);
        assert!(
            timeline.episodes.iter().all(|episode| episode.lasts >= Duration::from_secs(30) && episode.lasts <= Duration::from_secs(360))
        );
    }
}

#[test]
fn the_list_of_sessions_is_what_it_says() {
    let list = Sessions::shipped().expect("sound");
    let with = |is: &dyn Fn(&Session) -> bool| list.sessions.iter().filter(|session| is(session)).count();

    let mut names: Vec<_> = list.sessions.iter().map(|session| &session.name).collect();
    names.sort();
    names.dedup();
    let mut mixes: Vec<_> = list.sessions.iter().map(|session| &session.plan).collect();
    mixes.sort();
    mixes.dedup();
    assert_eq!(names.len(), list.sessions.len());
    assert!(mixes.len() >= 4, "{mixes:?}");
    assert!(with(&|session| session.backend == Backend::Vm) >= 3);
    assert!(with(&|session| session.backend == Backend::Containerd) >= 3 && with(&|session| session.backend == Backend::Local) >= 3);
    assert!(with(&|session| session.warm_up.is_some_and(|warm_up| warm_up.0 >= Duration::from_secs(3_600))) >= 2);
    assert_eq!(list.sessions.iter().map(|session| session.set).collect::<Vec<_>>(), list.chosen());
    assert_eq!(with(&|session| session.set == Set::Cal), list.sessions.len() / 4);
}

#[test]
fn every_behaviour_can_be_reached_from_a_shipped_plan() {
    let plans: Vec<_> = Plan::names().map(|name| Plan::load(name).expect("shipped")).collect();
    let mut used: Vec<&str> = Vec::new();
    for plan in &plans {
        for (_, workload) in &plan.file.workloads.0 {
            used.push(&workload.program.behaviour);
            used.extend(workload.clients.0.iter().map(|(_, program)| program.behaviour.as_str()));
        }
    }
    used.extend(shipped().expect("sound").0.iter().flat_map(|(_, act)| act.programs()).map(|program| program.behaviour.as_str()));

    let missing: Vec<_> = behaviours().filter(|name| !used.contains(name)).collect();

    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_plan_in_the_folder_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../plans");
    let files = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect(dir).map(|entry| entry.expect(dir).path());
        let plans = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        plans.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };

    let mut found: Vec<_> = [files(folder), files(&format!("{folder}/sessions"))].concat();
    found.retain(|name| !["catalogue", "sessions"].contains(&name.as_str()));
    found.sort();

    let mut shipped: Vec<_> = Plan::names().map(str::to_owned).collect();
    shipped.sort();
    assert_eq!(found, shipped);
    for name in shipped {
        assert_eq!(Plan::load(&name).expect("shipped").file.name, name);
    }
}
