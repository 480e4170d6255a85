//! What a plan asks for that pods of a cluster cannot give: said before anything starts, with the phase and the behaviour.

use vedette_range::plan::{
    act::{Doing, Life, Placement},
    program::Program,
    timeline::{Episode, Timeline},
};

/// Everything that cannot be had, a line each; empty where the plan can be played.
pub fn problems(timeline: &Timeline) -> Vec<String> {
    let mut problems = Vec::new();
    for workload in &timeline.workloads {
        let at = |behaviour: &str| format!("workload {} (behaviour {behaviour})", workload.name);
        if workload.disk_bytes.is_some() {
            problems.push(format!("workload {}: {NO_DISK}", workload.name));
        }
        problems.extend(unable(&workload.program).map(|why| format!("{}: {why}", at(&workload.program.behaviour))));
    }
    for episode in &timeline.episodes {
        let at = |rest: &str| format!("phase {}, episode {}{rest}", episode.phase, episode.name);
        if episode.placement == Placement::New && episode.disk_bytes.is_some() {
            problems.push(at(&format!(": {NO_DISK}")));
        }
        for program in programs(episode) {
            problems.extend(unable(program).map(|why| at(&format!(" (behaviour {}): {why}", program.behaviour))));
        }
    }
    problems
}

/// Whether anything of the plan sends.
pub fn sends(timeline: &Timeline) -> bool {
    let workloads = timeline.workloads.iter().map(|workload| &workload.program);
    workloads.chain(timeline.episodes.iter().flat_map(programs)).any(Program::sends)
}

/// What an episode may run, its own workload's ordinary program left out.
fn programs(episode: &Episode) -> impl Iterator<Item = &Program> {
    let own = match &episode.doing {
        Doing::Lives(lives) if episode.placement == Placement::New && lives.contains(&Life::Own) => episode.own.as_ref(),
        _ => None,
    };
    episode.doing.programs().chain(own)
}

const NO_DISK: &str = "it wants a disk of its own (`disk`), which is mounted by root";
const RAW: &str = "raw sockets take CAP_NET_RAW, and pods are `restricted`";

fn unable(program: &Program) -> Option<&'static str> {
    let says = |flag: &str, word: &str| program.said(flag).iter().any(|said| said == word);
    match program.behaviour.as_str() {
        "scan" if says("method", "syn") => Some(RAW),
        "scan" if program.said("into").iter().any(|into| into != "pods") => {
            Some("the ranges that refuse, are silent or forbid are behind the range's own bridge; `into: pods` is possible")
        }
        "syn-flood" => Some(RAW),
        "upload" if says("v6", "true") => Some("pods of a cluster have no address in the range's IPv6 network"),
        "program" => Some("Debian's programs are not in the range's image"),
        "fork-bomb" => Some("the limit on processes is the pod's, out of its container's sight, and without one it does not run"),
        _ if program.shares() => Some("pods of a cluster share no directory (@shared)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use vedette_range::plan::{Plan, expand};

    use super::*;

    fn timeline(workloads: &str, phases: &str) -> Timeline {
        let text = format!(
            "name: x\ndescription: y\nworkloads: {workloads}\ntargets: {{victim: ['@web:8080'], sink: ['@web:8080'], services: \
             ['@web:8080'], service: ['@web:8080']}}\nphases:\n- {{name: p, lasts: 20s, episodes: {phases}}}\n"
        );
        expand(&Plan::parse("x", &text).unwrap(), 1).unwrap()
    }

    const WEB: &str = "{web: {program: {behaviour: web, address: '@self'}}}";

    #[test]
    fn the_original_session_and_the_demonstration_can_be_played() {
        for name in ["seed-session", "seed-session-short", "smoke", "demo"] {
            let timeline = expand(&Plan::load(name).unwrap(), 1).unwrap();

            assert_eq!(problems(&timeline), Vec::<String>::new(), "{name}");
            assert!(sends(&timeline), "{name}");
        }
    }

    #[test]
    fn what_takes_a_privilege_is_named_with_its_phase_and_behaviour() {
        let cases = [
            ("[{act: scan-syn, intensity: {into: pods}}]", "phase p, episode scan-syn (behaviour scan): raw sockets"),
            ("[{act: scan-connect, intensity: {into: silent}}]", "phase p, episode scan-connect (behaviour scan): the ranges"),
            ("[{act: flood-syn}]", "phase p, episode flood-syn (behaviour syn-flood): raw sockets"),
            ("[{act: exfiltration-v6}]", "phase p, episode exfiltration-v6 (behaviour upload): pods of a cluster"),
            ("[{act: xz}]", "phase p, episode xz (behaviour program): Debian's programs"),
            ("[{act: fork-bomb}]", "phase p, episode fork-bomb (behaviour fork-bomb): the limit on processes"),
            ("[{act: disk-fill}]", "phase p, episode disk-fill: it wants a disk of its own"),
        ];
        for (phases, expected) in cases {
            let problems = problems(&timeline(WEB, phases));
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{phases}: {problems:?}");
        }
    }

    #[test]
    fn workloads_with_disks_or_a_shared_directory_are_named() {
        let workloads = "{web: {disk: 64MiB, program: {behaviour: web, address: '@self'}}, \
                         logs: {program: {behaviour: log-writer, file: '@shared/a.log'}}}";

        let problems = problems(&timeline(workloads, "[]"));

        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("workload web: it wants a disk"), "{problems:?}");
        assert!(problems[1].starts_with("workload logs (behaviour log-writer): pods of a cluster share"), "{problems:?}");
    }

    #[test]
    fn a_plan_without_traffic_is_known() {
        assert!(!sends(&timeline(WEB, "[{act: mining-sha256}]")));
        assert!(sends(&timeline(WEB, "[{act: flood-http}]")));
    }
}
