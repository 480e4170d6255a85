//! The list of sessions to record, as `plans/sessions.yaml` has it: name, plan, seed, backend and set of each.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::session::{Backend, Session};
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
    name: String,
    plan: String,
    seed: u64,
    #[serde(default)]
    backend: Backend,
    warm_up: Option<String>,
    set: Set,
}

/// Reads a list.
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
    for Line { name, plan, seed, backend, warm_up, set } in file.sessions {
        if !is_session_name(&name) {
            return Err(format!("session {name:?}: a name must be 1 to 63 characters of a-z 0-9 - ."));
        }
        if !names.insert(name.clone()) {
            return Err(format!("session {name} is there twice"));
        }
        sessions.push(Session { name, plan, seed: Some(seed), backend, warm_up, set });
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
    fn a_line_is_a_session() {
        let text = "cal_seed: 1\nsessions:\n  - {name: shop-01, plan: shop, seed: 7, set: DEV}\n  \
                    - {name: b, plan: bank, seed: 3, backend: vm, warm_up: 1h, set: CAL}\n";

        let sessions = parse(text).unwrap();

        let plain = Session {
            name: "shop-01".to_owned(),
            plan: "shop".to_owned(),
            seed: Some(7),
            backend: Backend::Local,
            warm_up: None,
            set: Set::Dev,
        };
        assert_eq!(sessions[0], plain);
        assert_eq!((sessions[1].backend, sessions[1].warm_up.as_deref(), sessions[1].set), (Backend::Vm, Some("1h"), Set::Cal));
    }

    #[test]
    fn the_shipped_list_can_be_read() {
        let sessions = parse(include_str!("../../../plans/sessions.yaml")).unwrap();

        assert!(sessions.len() >= 12, "{} sessions", sessions.len());
        assert!(sessions.iter().filter(|session| session.backend == Backend::Vm).count() >= 3);
    }

    #[test]
    fn a_list_that_makes_no_sense_is_one_clear_line() {
        let wrong = [
            ("sessions: []", "holds no sessions"),
            ("sessions: [{name: a, plan: a, seed: 1, set: DEV}, {name: a, plan: b, seed: 1, set: CAL}]", "twice"),
            ("sessions: [{name: ../a, plan: a, seed: 1, set: DEV}]", "../a"),
            ("sessions: [{name: a, plan: a, set: DEV}]", "seed"),
            ("sessions: [{name: a, plan: a, seed: 1, set: SEALED}]", "SEALED"),
            ("sessions: [{name: a, plan: a, seed: 1, set: DEV, colour: red}]", "colour"),
        ];
        for (text, expected) in wrong {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains('\n'), "{text}: {problem}");
        }
    }
}
