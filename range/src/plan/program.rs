//! A behaviour with its flags as a plan writes it, checked against the behaviour's own command line.

use std::{collections::HashMap, fmt, sync::LazyLock, time::Duration};

use clap::Subcommand;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};

use super::{
    timeline::Bursts,
    values::{OneOrMany, Scalar},
};
use crate::behave::Behaviour;

/// Flags that the runner gives to whatever sends: a plan never names them.
const BOUNDS: [&str; 2] = ["allow", "host-namespace"];
/// The flag for how long a behaviour lasts; the runner gives it where the plan does not.
const SECONDS: &str = "seconds";
/// The flags of behaviours that go on and off by themselves, milliseconds; only the runner gives them.
const BURSTS: [&str; 2] = ["on-ms", "off-ms"];
/// Names that are directories in a plan.
const DIRECTORIES: [&str; 2] = ["work", "shared"];
/// Most flags of one program.
const MAX_FLAGS: usize = 64;

/// `vedette-range behave`, to be asked what it knows.
static BEHAVE: LazyLock<clap::Command> = LazyLock::new(|| Behaviour::augment_subcommands(clap::Command::new("behave")));

/// A behaviour and its flags; some values are known only once the pods are there.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Its name, as `vedette-range behave` has it.
    pub behaviour: String,
    flags: Vec<(String, Flag)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Flag {
    /// Without a value.
    Bare,
    /// Once per value.
    Values(Vec<Word>),
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// As it stands.
    Literal(String),
    /// `@self`, `@self:PORT`: the pod's own address.
    Own(Option<u16>),
    /// `@work`, `@work/FILE`: the pod's own directory, or a file in it.
    Work(String),
    /// `@shared`, `@shared/FILE`: the directory that all pods of the run share.
    Shared(String),
    /// `@pods`: host numbers of the run's pods, one value each.
    Pods,
    /// `@WORKLOAD`, `@WORKLOAD:PORT`: the address of one of its pods.
    Address(String, Option<u16>),
    /// `$NAME`: an intensity, or one of the plan's targets of that name.
    Parameter(String),
    /// `$NAME...`: all of the plan's targets of that name.
    Every(String),
}

impl Word {
    fn read(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('$') {
            return match name.strip_suffix("...").unwrap_or(name) {
                "" => Err(format!("{text:?} names nothing")),
                every if name.ends_with("...") => Ok(Self::Every(every.to_owned())),
                _ => Ok(Self::Parameter(name.to_owned())),
            };
        }
        let Some(name) = text.strip_prefix('@') else { return Ok(Self::Literal(text.to_owned())) };
        if let Some((dir, below)) = name.split_once('/').or_else(|| DIRECTORIES.contains(&name).then_some((name, ""))) {
            let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
            if !below.is_empty() && !below.split('/').all(plain) {
                return Err(format!("{text:?} leaves its directory"));
            }
            return match dir {
                "work" => Ok(Self::Work(below.to_owned())),
                "shared" => Ok(Self::Shared(below.to_owned())),
                _ => Err(format!("{text:?}: only @work and @shared are directories")),
            };
        }
        let (name, port) = match name.split_once(':') {
            None => (name, None),
            Some((name, port)) => {
                (name, Some(port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(|| format!("{text:?}: {port:?} is not a port"))?))
            }
        };
        match (name, port) {
            ("", _) => Err(format!("{text:?} names no workload")),
            ("self", port) => Ok(Self::Own(port)),
            ("pods", None) => Ok(Self::Pods),
            ("work" | "shared" | "pods", Some(_)) => Err(format!("{text:?}: @{name} has no port")),
            (name, port) => Ok(Self::Address(name.to_owned(), port)),
        }
    }
}

/// What a pod knows of itself and its neighbours when its program starts.
pub struct Surroundings<'a> {
    /// The pod's own address.
    pub own: String,
    /// The pod's own directory, as its programs see it.
    pub work: String,
    /// The directory that all pods share, as its programs see it.
    pub shared: String,
    /// Host numbers that belong to pods of the run, now or soon.
    pub pods: Vec<u8>,
    /// The run's networks.
    pub allow: Vec<String>,
    /// Inode of the network namespace to stay out of.
    pub host_namespace: String,
    /// For how long the program is wanted, seconds.
    pub seconds: u64,
    /// On and off by itself, where the behaviour can.
    pub bursts: Option<Bursts>,
    /// Address of a pod of a workload.
    pub address: &'a dyn Fn(&str) -> Option<String>,
}

impl Program {
    /// Names of the workloads that it sends to, in the order of its flags.
    pub fn workloads(&self) -> impl Iterator<Item = &str> {
        self.words().filter_map(|word| match word {
            Word::Address(workload, _) => Some(workload.as_str()),
            _ => None,
        })
    }

    /// Names that must be given a value before it can run, each with whether all of that name are meant.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, bool)> {
        self.words().filter_map(|word| match word {
            Word::Parameter(name) => Some((name.as_str(), false)),
            Word::Every(name) => Some((name.as_str(), true)),
            _ => None,
        })
    }

    /// The same with values for its parameters.
    ///
    /// # Errors
    /// One clear line, when a value is missing or the behaviour does not take it.
    pub fn with(&self, parameters: &HashMap<String, Vec<Scalar>>) -> Result<Self, String> {
        let mut flags = Vec::with_capacity(self.flags.len());
        for (name, flag) in &self.flags {
            let Flag::Values(words) = flag else {
                flags.push((name.clone(), flag.clone()));
                continue;
            };
            let mut values = Vec::new();
            for word in words {
                match word {
                    Word::Parameter(parameter) | Word::Every(parameter) => {
                        let given = parameters.get(parameter).filter(|given| !given.is_empty());
                        values.extend(given.ok_or_else(|| format!("{name}: ${parameter} has no value"))?.iter().cloned());
                    }
                    word => values.push(Scalar::Text(word.to_string())),
                }
            }
            if let Some(flag) = read_flag(values).map_err(|problem| format!("{name}: {problem}"))? {
                flags.push((name.clone(), flag));
            }
        }
        let program = Self { behaviour: self.behaviour.clone(), flags };
        program.check()?;
        Ok(program)
    }

    /// Arguments after `behave`.
    ///
    /// # Errors
    /// When a workload has no pod at the moment.
    pub fn arguments(&self, around: &Surroundings<'_>) -> Result<Vec<String>, String> {
        let mut arguments = vec![self.behaviour.clone()];
        for (name, flag) in &self.flags {
            let flag_name = format!("--{}", dashed(name));
            let Flag::Values(words) = flag else {
                arguments.push(flag_name);
                continue;
            };
            for value in words.iter().map(|word| resolve(word, around)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
                // Of one piece, so that a negative number is no flag.
                arguments.push(format!("{flag_name}={value}"));
            }
        }
        let given = |name: &str| self.flags.iter().any(|(given, _)| dashed(given) == name);
        let networks = around.allow.iter().map(|network| (BOUNDS[0], network.clone()));
        let others = [(BOUNDS[1], around.host_namespace.clone()), (SECONDS, around.seconds.to_string())];
        let ms = |length: Duration| length.as_millis().to_string();
        let bursts = around.bursts.iter().flat_map(|bursts| [(BURSTS[0], ms(bursts.on)), (BURSTS[1], ms(bursts.off))]);
        for (name, value) in networks.chain(others).chain(bursts) {
            if self.takes(name) && !given(name) {
                arguments.push(format!("--{name}={value}"));
            }
        }
        Ok(arguments)
    }

    /// What the plan says for a flag, word by word; a switch that is on says `true`.
    #[must_use]
    pub fn said(&self, flag: &str) -> Vec<String> {
        let of = |given: &Flag| match given {
            Flag::Bare => vec!["true".to_owned()],
            Flag::Values(words) => words.iter().map(ToString::to_string).collect(),
        };
        self.flags.iter().filter(|(name, _)| name == flag).flat_map(|(_, given)| of(given)).collect()
    }

    /// Whether it uses the directory that all pods of a run share.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.words().any(|word| matches!(word, Word::Shared(_)))
    }

    /// Whether it sends anything: its behaviour always does, or it is told to whom.
    #[must_use]
    pub fn sends(&self) -> bool {
        let bounds = BEHAVE.find_subcommand(&self.behaviour).and_then(|behaviour| {
            behaviour.get_arguments().find(|argument| argument.get_long() == Some(BOUNDS[0])).map(clap::Arg::is_required_set)
        });
        bounds.is_some_and(|always| always || self.workloads().next().is_some())
    }

    /// Whether its behaviour goes on and off by itself when it is told so.
    #[must_use]
    pub fn takes_bursts(&self) -> bool {
        BURSTS.iter().all(|flag| self.takes(flag))
    }

    fn words(&self) -> impl Iterator<Item = &Word> {
        self.flags.iter().flat_map(|(_, flag)| match flag {
            Flag::Bare => &[][..],
            Flag::Values(words) => words,
        })
    }

    fn takes(&self, flag: &str) -> bool {
        let behaviour = BEHAVE.find_subcommand(&self.behaviour);
        behaviour.is_some_and(|behaviour| behaviour.get_arguments().any(|argument| argument.get_long() == Some(flag)))
    }

    fn read(entries: Vec<(String, OneOrMany)>) -> Result<Self, String> {
        let mut behaviour = None;
        let mut flags: Vec<(String, Flag)> = Vec::new();
        for (name, value) in entries {
            if name == "behaviour" {
                let OneOrMany::One(Scalar::Text(word)) = value else { return Err("behaviour: a name is expected".to_owned()) };
                behaviour = Some(word);
                continue;
            }
            if flags.iter().any(|(other, _)| *other == name) {
                return Err(format!("`{name}` is there twice"));
            }
            let values = match value {
                OneOrMany::One(value) => vec![value],
                OneOrMany::Many(values) => values,
            };
            if let Some(flag) = read_flag(values).map_err(|problem| format!("{name}: {problem}"))? {
                flags.push((name, flag));
            }
        }
        let program = Self { behaviour: behaviour.ok_or("missing field `behaviour`")?, flags };
        program.check_names()?;
        if program.parameters().next().is_none() {
            program.check()?;
        }
        Ok(program)
    }

    fn check_names(&self) -> Result<(), String> {
        let known = |command: &clap::Command| {
            let longs = command
                .get_arguments()
                .filter_map(clap::Arg::get_long)
                .filter(|long| *long != "help" && !BOUNDS.contains(long) && !BURSTS.contains(long));
            longs.map(|long| long.replace('-', "_")).collect::<Vec<_>>()
        };
        let Some(behaviour) = BEHAVE.find_subcommand(&self.behaviour) else {
            let names: Vec<_> = behaviours().collect();
            return Err(format!("unknown behaviour `{}`, there are {}", self.behaviour, names.join(", ")));
        };
        let fields = known(behaviour);
        for (name, _) in &self.flags {
            if BOUNDS.iter().chain(&BURSTS).any(|flag| *flag == dashed(name)) {
                return Err(format!("`{name}` is given by the runner, leave it out"));
            }
            if !fields.contains(name) {
                return Err(format!("unknown field `{name}` of behaviour {}, it has {}", self.behaviour, fields.join(", ")));
            }
        }
        Ok(())
    }

    /// Asks the behaviour's own command line, with addresses that stand for those to come.
    fn check(&self) -> Result<(), String> {
        let around = Surroundings {
            own: "10.213.0.10".to_owned(),
            work: "/tmp".to_owned(),
            shared: "/tmp".to_owned(),
            pods: vec![10],
            allow: vec!["10.213.0.0/24".to_owned()],
            host_namespace: "0".to_owned(),
            seconds: 60,
            bursts: None,
            address: &|_| Some("10.213.0.11".to_owned()),
        };
        let Some(behaviour) = BEHAVE.find_subcommand(&self.behaviour) else {
            return Err(format!("unknown behaviour `{}`", self.behaviour));
        };
        let line = behaviour.clone().no_binary_name(true).disable_help_flag(true);
        line.try_get_matches_from(self.arguments(&around)?.split_off(1)).map(|_| ()).map_err(|error| {
            // The first paragraph says what is wrong; a tip and the usage follow.
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            format!("behaviour {}: {}", self.behaviour, first.split_whitespace().collect::<Vec<_>>().join(" "))
        })
    }
}

/// `None` for a switch that is off.
fn read_flag(values: Vec<Scalar>) -> Result<Option<Flag>, String> {
    match &values[..] {
        [] => Err("an empty list".to_owned()),
        [Scalar::Switch(true)] => Ok(Some(Flag::Bare)),
        [Scalar::Switch(false)] => Ok(None),
        values => {
            values.iter().map(|value| Word::read(&value.to_string())).collect::<Result<_, _>>().map(|words| Some(Flag::Values(words)))
        }
    }
}

fn resolve(word: &Word, around: &Surroundings<'_>) -> Result<Vec<String>, String> {
    let at = |address: &str, port: &Option<u16>| port.map_or_else(|| address.to_owned(), |port| format!("{address}:{port}"));
    Ok(match word {
        Word::Literal(text) => vec![text.clone()],
        Word::Own(port) => vec![at(&around.own, port)],
        Word::Work(below) => vec![inside(&around.work, below)],
        Word::Shared(below) => vec![inside(&around.shared, below)],
        Word::Pods => around.pods.iter().map(ToString::to_string).collect(),
        Word::Address(workload, port) => {
            let address = (around.address)(workload).ok_or_else(|| format!("no pod of {workload} is running"))?;
            vec![at(&address, port)]
        }
        Word::Parameter(name) | Word::Every(name) => return Err(format!("${name} has no value")),
    })
}

fn inside(dir: &str, below: &str) -> String {
    if below.is_empty() { dir.to_owned() } else { format!("{dir}/{below}") }
}

/// A flag as the command line has it.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |f: &mut fmt::Formatter<'_>, name: &str, port: &Option<u16>| match port {
            Some(port) => write!(f, "@{name}:{port}"),
            None => write!(f, "@{name}"),
        };
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Own(port) => at(f, "self", port),
            Self::Work(below) => f.write_str(&inside("@work", below)),
            Self::Shared(below) => f.write_str(&inside("@shared", below)),
            Self::Pods => f.write_str("@pods"),
            Self::Address(workload, port) => at(f, workload, port),
            Self::Parameter(name) => write!(f, "${name}"),
            Self::Every(name) => write!(f, "${name}..."),
        }
    }
}

/// Names of all behaviours that a plan may use.
pub fn behaviours() -> impl Iterator<Item = &'static str> {
    BEHAVE.get_subcommands().filter(|behaviour| !behaviour.is_hide_set()).map(clap::Command::get_name).filter(|name| *name != "pause")
}

/// Reads the entries of a program's mapping.
pub(super) fn read_entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<Program, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = map.next_entry::<String, OneOrMany>()? {
        if entries.len() >= MAX_FLAGS {
            return Err(de::Error::custom(format!("more than {MAX_FLAGS} flags")));
        }
        entries.push(entry);
    }
    Program::read(entries).map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProgramVisitor;
        impl<'de> Visitor<'de> for ProgramVisitor {
            type Value = Program;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with a behaviour and its flags")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Program, A::Error> {
                read_entries(map)
            }
        }
        deserializer.deserialize_map(ProgramVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Program, String> {
        serde_norway::from_str(text).map_err(|error| error.to_string())
    }

    fn arguments(program: &Program) -> Vec<String> {
        let address = |workload: &str| (workload == "web").then(|| "10.213.5.12".to_owned());
        let around = Surroundings {
            own: "10.213.5.20".to_owned(),
            work: "/srv/one".to_owned(),
            shared: "/srv/all".to_owned(),
            pods: vec![10, 11],
            allow: vec!["10.213.5.0/24".to_owned()],
            host_namespace: "77".to_owned(),
            seconds: 30,
            bursts: None,
            address: &address,
        };
        program.arguments(&around).unwrap()
    }

    #[test]
    fn keys_become_flags_and_names_become_addresses() {
        let program = read("{behaviour: connect, target: ['@web:8080', '@self:9'], sweep: true, except: '@pods', rate: 5}").unwrap();

        assert_eq!(program.workloads().collect::<Vec<_>>(), ["web"]);
        assert_eq!(
            arguments(&program),
            [
                "connect",
                "--target=10.213.5.12:8080",
                "--target=10.213.5.20:9",
                "--sweep",
                "--except=10",
                "--except=11",
                "--rate=5",
                "--allow=10.213.5.0/24",
                "--host-namespace=77",
                "--seconds=30"
            ]
        );
    }

    #[test]
    fn what_the_plan_gives_the_runner_does_not() {
        let program = read("{behaviour: idle, seconds: 7, threads: 2}").unwrap();

        assert_eq!(arguments(&program), ["idle", "--seconds=7", "--threads=2"]);
        assert_eq!(arguments(&read("{behaviour: batch, dir: '@work'}").unwrap()), ["batch", "--dir=/srv/one"]);
        assert_eq!(arguments(&read("{behaviour: batch, dir: '@shared/a/b'}").unwrap()), ["batch", "--dir=/srv/all/a/b"]);
        assert_eq!(arguments(&read("{behaviour: connect, sweep: false}").unwrap())[1], "--allow=10.213.5.0/24");
    }

    #[test]
    fn parameters_are_given_before_it_runs() {
        let program = read("{behaviour: connect, target: $services..., rate: $rate}").unwrap();
        let services = vec![Scalar::Text("@web:80".to_owned()), Scalar::Text("@web:81".to_owned())];
        let given = HashMap::from([("services".to_owned(), services), ("rate".to_owned(), vec![Scalar::Integer(9)])]);

        assert_eq!(program.parameters().collect::<Vec<_>>(), [("services", true), ("rate", false)]);
        assert_eq!(arguments(&program.with(&given).unwrap())[1..4], ["--target=10.213.5.12:80", "--target=10.213.5.12:81", "--rate=9"]);
        assert_eq!(program.with(&HashMap::new()).unwrap_err(), "target: $services has no value");
    }

    #[test]
    fn who_sends_is_known_before_anything_runs() {
        let sends = |text: &str| read(text).unwrap().sends();

        assert!(sends("{behaviour: load, target: '@web:8080'}"));
        assert!(sends("{behaviour: hash, pool: '@pool:3333'}"));
        assert!(!sends("{behaviour: hash, threads: 1}"));
        assert!(!sends("{behaviour: web, address: '@self'}"));
    }

    #[test]
    fn what_a_plan_says_for_a_flag_can_be_asked() {
        let program = read("{behaviour: scan, method: syn, into: [pods, silent]}").unwrap();

        assert_eq!((program.said("method"), program.said("into")), (vec!["syn".to_owned()], vec!["pods".to_owned(), "silent".to_owned()]));
        assert!(program.said("ports").is_empty() && !program.shares());
        assert!(read("{behaviour: batch, dir: '@shared/a'}").unwrap().shares());
    }

    #[test]
    fn what_a_behaviour_does_not_take_is_one_clear_line() {
        let wrong = [
            ("{behaviour: dig}", "unknown behaviour `dig`, there are web, "),
            ("{behaviour: sidecar, prt: 5}", "unknown field `prt` of behaviour sidecar, it has address, port"),
            ("{behaviour: idle, on_ms: 5}", "`on_ms` is given by the runner, leave it out"),
            ("{behaviour: hash, duty_pct: lots}", "behaviour hash: invalid value 'lots' for '--duty-pct <DUTY_PCT>'"),
            ("{behaviour: load}", "behaviour load: the following required arguments were not provided: --target <TARGET>"),
            ("{behaviour: load, target: '@web:http'}", "target: \"@web:http\": \"http\" is not a port"),
            ("{behaviour: load, target: '@web:80', allow: 10.0.0.0/8}", "`allow` is given by the runner, leave it out"),
            ("{behaviour: batch, dir: '@work/../..'}", "dir: \"@work/../..\" leaves its directory"),
            ("{behaviour: batch, dir: '@home/x'}", "dir: \"@home/x\": only @work and @shared are directories"),
            ("{duty_pct: 5}", "missing field `behaviour`"),
            ("{behaviour: hash, threads: 1, threads: 2}", "`threads` is there twice"),
        ];
        for (text, expected) in wrong {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains('\n'), "{text}: {problem}");
        }
    }
}
