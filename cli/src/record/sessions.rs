//! The list of sessions to record, as `plans/sessions.yaml` has it: plan, seed, backend, machine and set of each.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::session::{Backend, Machine, Session};
use crate::exit::Stop;
use crate::recording::{Set, is_session_name};

/// Larger is no list of sessions.
const MAX_BYTES: u64 = 1 << 20;

/// The file, as far as recording needs it; how sets were chosen is the range's own.
#[derive(Deserialize)]
struct File {
    sessions: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    plan: String,
    seed: u64,
    #[serde(default)]
    backend: Backend,
    #[serde(default)]
    machine: Machine,
    warm_up: Option<String>,
    set: Set,
}

/// Reads a list. A recording is named for its plan and seed, which therefore come once.
pub fn read(path: &Path) -> anyhow::Result<Vec<Session>> {
    let wrong = |problem: String| Stop::usage(format!("{}: {problem}", path.display()));
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.len() > MAX_BYTES {
        return Err(wrong(format!("has {} bytes, more than the limit of {MAX_BYTES}", meta.len())).into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok(parse(&text).map_err(wrong)?)
}

fn parse(text: &str) -> Result<Vec<Session>, String> {
    let file: File = serde_norway::from_str(text).map_err(|error| error.to_string().replace('\n', " "))?;
    let mut names = HashSet::new();
    let mut sessions = Vec::new();
    for line in file.sessions {
        let Line { plan, seed, backend, machine, warm_up, set } = line;
        let name = format!("{plan}-{seed}");
        if !is_session_name(&name) {
            return Err(format!("plan {plan:?}: must be a shipped plan's name"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("plan {plan} with seed {seed} is there twice"));
        }
        sessions.push(Session { name, plan, seed: Some(seed), backend, machine, warm_up, set });
    }
    if sessions.is_empty() {
        return Err("holds no sessions".to_owned());
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_session_named_for_its_plan_and_seed() {
        let text = "cal_seed: 1\nsessions:\n  - {plan: shop, seed: 7, set: DEV}\n  \
                    - {plan: bank, seed: 3, backend: containerd, machine: vm, warm_up: 1h, set: CAL}\n";

        let sessions = parse(text).unwrap();

        let plain = Session {
            name: "shop-7".to_owned(),
            plan: "shop".to_owned(),
            seed: Some(7),
            backend: Backend::Local,
            machine: Machine::Host,
            warm_up: None,
            set: Set::Dev,
        };
        assert_eq!(sessions[0], plain);
        assert_eq!((sessions[1].machine, sessions[1].warm_up.as_deref(), sessions[1].set), (Machine::Vm, Some("1h"), Set::Cal));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_one_clear_line() {
        let wrong = [
            ("sessions: []", "holds no sessions"),
            ("sessions: [{plan: a, seed: 1, set: DEV}, {plan: a, seed: 1, set: CAL}]", "twice"),
            ("sessions: [{plan: ../a, seed: 1, set: DEV}]", "../a"),
            ("sessions: [{plan: a, set: DEV}]", "seed"),
            ("sessions: [{plan: a, seed: 1, set: SEALED}]", "SEALED"),
            ("sessions: [{plan: a, seed: 1, set: DEV, colour: red}]", "colour"),
        ];
        for (text, expected) in wrong {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains('\n'), "{text}: {problem}");
        }
    }
}
