//! What an episode can be: attacks and their look-alikes as data, each with its twin, its placebo, whom its label is about, and how
//! its intensity becomes flags.

use std::{collections::HashMap, fmt, sync::LazyLock};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use vedette_proto::v1::Kind;

use super::{
    program::{Program, read_entries},
    values::{Cores, Draw, Names, Ordered, Scalar, Size, parsed},
};

/// The acts that come with the range.
const SHIPPED: &str = include_str!("../../../plans/catalogue.yaml");

/// A kind by its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindWord(pub Kind);

impl std::str::FromStr for KindWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Kind::from_word(word).filter(|kind| !matches!(kind, Kind::Normal | Kind::Unknown));
        known.map(Self).ok_or_else(|| format!("unknown kind `{word}`"))
    }
}

impl<'de> Deserialize<'de> for KindWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// What an episode is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The real thing.
    Attack,
    /// Ordinary work that looks like one.
    LookAlike,
    /// An attack's program, started and stopped the same way, with ordinary work or none.
    Placebo,
}

impl Role {
    /// Its word in labels, schedules and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attack => "attack",
            Self::LookAlike => "look-alike",
            Self::Placebo => "placebo",
        }
    }
}

/// Whom the label of an episode is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The workload that it runs in; those that it sends to are touched.
    #[default]
    #[serde(rename = "self")]
    Own,
    /// The workload that it sends to: the victim. Where it runs, and the victim's clients, are touched.
    Target,
}

/// Where, when and how an episode's program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In a pod made for it: bad from its first second.
    New,
    /// In a container that had been doing ordinary work.
    Inside,
    /// In a container whose pod was just replaced by one of a new template.
    Rollout,
    /// In a warmed container, while the load is at the top of its day.
    Peak,
    /// In all replicas of a workload at once.
    Replicas,
    /// In a warmed container, on for a moment and off for longer.
    OnOff,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::New, Self::Inside, Self::Rollout, Self::Peak, Self::Replicas, Self::OnOff];

    /// Its word in labels, schedules and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Inside => "inside",
            Self::Rollout => "rollout",
            Self::Peak => "peak",
            Self::Replicas => "replicas",
            Self::OnOff => "on_off",
        }
    }
}

/// One life of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    /// The workload's ordinary program.
    Own,
    /// Another one.
    Other(Program),
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LifeVisitor;
        impl<'de> Visitor<'de> for LifeVisitor {
            type Value = Life;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("own, or a mapping with a behaviour and its flags")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Life, E> {
                if word == "own" { Ok(Life::Own) } else { Err(E::custom(format!("unknown life `{word}`, expected own or a program"))) }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Life, A::Error> {
                read_entries(map).map(Life::Other)
            }
        }
        deserializer.deserialize_any(LifeVisitor)
    }
}

/// What is done in an episode; exactly one of the three.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// A program beside the container's own.
    Program(Program),
    /// Programs in place of the container's own: one per life, the last one for ever. Inside a running container the first of
    /// several is the present life, which ends badly.
    Lives(Vec<Life>),
    /// The pods are replaced by those of a new template, and nothing else.
    Rollout,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DoingFile {
    program: Option<Program>,
    lives: Option<Vec<Life>>,
    rollout: Option<bool>,
}

impl<'de> Deserialize<'de> for Doing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoingVisitor;
        impl<'de> Visitor<'de> for DoingVisitor {
            type Value = Doing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with program, lives or rollout")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Doing, A::Error> {
                let file = DoingFile::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (file.program, file.lives, file.rollout) {
                    (Some(program), None, None) => Ok(Doing::Program(program)),
                    (None, Some(lives), None) if !lives.is_empty() => Ok(Doing::Lives(lives)),
                    (None, None, Some(true)) => Ok(Doing::Rollout),
                    _ => Err(de::Error::custom("expected one of program, lives (at least one) and rollout (true)")),
                }
            }
        }
        deserializer.deserialize_map(DoingVisitor)
    }
}

impl Doing {
    /// Every program in it.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        let (one, lives) = match self {
            Self::Program(program) => (Some(program), &[][..]),
            Self::Lives(lives) => (None, &lives[..]),
            Self::Rollout => (None, &[][..]),
        };
        one.into_iter().chain(lives.iter().filter_map(|life| match life {
            Life::Own => None,
            Life::Other(program) => Some(program),
        }))
    }

    /// The same with values for its parameters.
    ///
    /// # Errors
    /// One clear line, when a value is missing or a behaviour does not take it.
    pub fn with(&self, parameters: &HashMap<String, Vec<Scalar>>) -> Result<Self, String> {
        let life = |life: &Life| match life {
            Life::Own => Ok(Life::Own),
            Life::Other(program) => program.with(parameters).map(Life::Other),
        };
        Ok(match self {
            Self::Program(program) => Self::Program(program.with(parameters)?),
            Self::Lives(lives) => Self::Lives(lives.iter().map(life).collect::<Result<_, _>>()?),
            Self::Rollout => Self::Rollout,
        })
    }
}

/// What a container must offer so that an act makes sense in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Memory limit of at least this, or none.
    pub memory: Option<Size>,
    /// A memory limit, and of at most this: it is there to be reached.
    pub memory_at_most: Option<Size>,
    /// A disk of its own of at least this.
    pub disk: Option<Size>,
    /// CPU limit of at least this, or none.
    pub cpu: Option<Cores>,
}

/// One variant of an attack, or one look-alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// What it is, or looks like.
    pub kind: KindWord,
    /// Attack or look-alike.
    pub role: Role,
    /// Of a look-alike: the attacks that it is the ordinary twin of.
    #[serde(default)]
    pub twin_of: Option<Names>,
    /// Whom the label is about.
    #[serde(default)]
    pub about: About,
    /// Whether those that it sends to are touched by it.
    #[serde(default = "yes")]
    pub touches: bool,
    /// The intensity in words; `{name}` stands for what was drawn.
    pub says: String,
    /// What is drawn for each episode, by name.
    #[serde(default)]
    pub intensity: Ordered<Draw>,
    /// What is done.
    #[serde(rename = "do")]
    pub doing: Doing,
    /// Of an attack: what its placebo does instead.
    #[serde(default)]
    pub placebo: Option<Doing>,
    /// What a container must offer.
    #[serde(default)]
    pub needs: Needs,
    /// About how much of the machine it takes at most.
    #[serde(default)]
    pub cores: Cores,
    /// Where it makes sense; everywhere unless said.
    #[serde(default)]
    pub placements: Option<Vec<Placement>>,
}

const fn yes() -> bool {
    true
}

impl Act {
    /// Whether it may be placed there.
    #[must_use]
    pub fn suits(&self, placement: Placement) -> bool {
        // A rollout in an act that is one would be two.
        let twice = matches!(self.doing, Doing::Rollout) && placement != Placement::Inside;
        !twice && self.placements.as_ref().is_none_or(|placements| placements.contains(&placement))
    }

    /// Programs of the act and of its placebo.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.doing.programs().chain(self.placebo.iter().flat_map(Doing::programs))
    }

    /// Names of the plan's targets that its programs ask for: parameters that are no intensity.
    pub fn targets(&self) -> impl Iterator<Item = (&str, bool)> {
        self.programs().flat_map(Program::parameters).filter(|(name, _)| self.intensity.get(name).is_none())
    }

    /// Whether the act makes sense in itself; `name` is its own.
    ///
    /// # Errors
    /// One clear line that names the field.
    pub fn check(&self, name: &str, others: &[&Ordered<Self>]) -> Result<(), String> {
        let field = |field: &str, problem: String| format!("acts.{name}.{field}: {problem}");
        match (self.role, &self.placebo, &self.twin_of) {
            (Role::Placebo, ..) => {
                return Err(field("role", "an act is an attack or a look-alike; a placebo is part of its attack".to_owned()));
            }
            (Role::Attack, None, _) => return Err(field("placebo", "every attack has one".to_owned())),
            (Role::Attack, _, Some(_)) => return Err(field("twin_of", "is for look-alikes".to_owned())),
            (Role::LookAlike, Some(_), _) => return Err(field("placebo", "is for attacks".to_owned())),
            _ => {}
        }
        for twin in self.twin_of.iter().flat_map(|names| &names.0) {
            let act = others.iter().find_map(|acts| acts.get(twin));
            if act.is_none_or(|act| act.role != Role::Attack) {
                return Err(field("twin_of", format!("there is no attack `{twin}`")));
            }
        }
        if self.about == About::Target
            && self.doing.programs().all(|program| program.workloads().next().is_none() && self.targets().next().is_none())
        {
            return Err(field("about", "target, but its program sends to nobody".to_owned()));
        }
        let mut said = self.says.as_str();
        while let Some((_, after)) = said.split_once('{') {
            let (word, rest) = after.split_once('}').ok_or_else(|| field("says", "a { without its }".to_owned()))?;
            if self.intensity.get(word).is_none() {
                return Err(field("says", format!("{{{word}}} is none of its intensities ({})", self.intensity.keys())));
            }
            said = rest;
        }
        for (intensity, _) in &self.intensity.0 {
            let used = self.programs().flat_map(Program::parameters).any(|(parameter, _)| parameter == intensity);
            if !used {
                return Err(field("intensity", format!("`{intensity}` is used by no flag (as ${intensity})")));
            }
        }
        self.check_programs(name)
    }

    /// Tries the extremes of every intensity, one at a time, the others at their first.
    pub(super) fn check_programs(&self, name: &str) -> Result<(), String> {
        let mut given: HashMap<String, Vec<Scalar>> =
            self.intensity.0.iter().filter_map(|(name, draw)| Some((name.clone(), vec![draw.samples().first()?.clone()]))).collect();
        let targets: Vec<_> = self.targets().map(|(name, _)| name.to_owned()).collect();
        given.extend(targets.into_iter().map(|name| (name, vec![Scalar::Text("@anybody:80".to_owned())])));
        let try_it = |given: &HashMap<String, Vec<Scalar>>| {
            let fail = |problem| format!("acts.{name}.do: {problem}");
            self.doing.with(given).map_err(fail)?;
            self.placebo
                .as_ref()
                .map_or(Ok(()), |placebo| placebo.with(given).map(|_| ()))
                .map_err(|problem| format!("acts.{name}.placebo: {problem}"))
        };
        try_it(&given)?;
        for (intensity, draw) in &self.intensity.0 {
            for sample in draw.samples() {
                let before = given.insert(intensity.clone(), vec![sample]);
                try_it(&given)?;
                given.extend(before.map(|before| (intensity.clone(), before)));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    acts: Ordered<Act>,
}

/// The acts that come with the range.
///
/// # Errors
/// Never in a release: a test reads it.
pub fn shipped() -> Result<&'static Ordered<Act>, String> {
    static CATALOGUE: LazyLock<Result<Ordered<Act>, String>> = LazyLock::new(|| {
        let file: File = serde_norway::from_str(SHIPPED).map_err(|error| format!("catalogue.yaml: {error}"))?;
        for (name, act) in &file.acts.0 {
            act.check(name, &[&file.acts]).map_err(|problem| format!("catalogue.yaml: {problem}"))?;
        }
        Ok(file.acts)
    });
    CATALOGUE.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let file: File = serde_norway::from_str(text).map_err(|error| error.to_string())?;
        file.acts.0.iter().try_for_each(|(name, act)| act.check(name, &[&file.acts]))
    }

    #[test]
    fn the_shipped_catalogue_is_sound() {
        let acts = shipped().unwrap();

        let attacks: Vec<_> = acts.0.iter().filter(|(_, act)| act.role == Role::Attack).collect();
        for kind in [Kind::Mining, Kind::Scan, Kind::Flood, Kind::CrashLoop, Kind::Exfiltration] {
            assert!(attacks.iter().any(|(_, act)| act.kind.0 == kind), "no attack of kind {}", kind.word());
        }
        assert!(acts.0.iter().all(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')));
    }

    #[test]
    fn an_act_that_makes_no_sense_is_one_clear_line() {
        let attack = "kind: mining, role: attack, says: hashes";
        let hash = "do: {program: {behaviour: hash}}";
        let wrong = [
            (format!("{{acts: {{a: {{{attack}, {hash}}}}}}}"), "acts.a.placebo: every attack has one"),
            (
                format!("{{acts: {{a: {{{attack}, {hash}, placebo: {{program: {{behaviour: hash, duty_pct: $duty}}}}}}}}}}"),
                "acts.a.placebo: behaviour hash: invalid value",
            ),
            (
                "{acts: {a: {kind: mining, role: look-alike, says: '{x}', do: {program: {behaviour: hash}}}}}".to_owned(),
                "acts.a.says: {x} is none",
            ),
            ("{acts: {a: {kind: burglary}}}".to_owned(), "acts.a.kind: unknown kind `burglary`"),
            ("{acts: {a: {kind: mining, role: look-alike, says: x, do: {}}}}".to_owned(), "acts.a.do"),
            (
                "{acts: {a: {kind: mining, role: look-alike, says: x, twin_of: b, do: {program: {behaviour: hash}}}}}".to_owned(),
                "acts.a.twin_of: there is no attack `b`",
            ),
            (
                "{acts: {a: {kind: mining, role: look-alike, says: x, intensity: {d: [5, x]}, do: {program: {behaviour: hash}}}}}"
                    .to_owned(),
                "acts.a.intensity.d: a list here is",
            ),
            (
                "{acts: {a: {kind: mining, role: look-alike, says: x, intensity: {d: [5, 9]}, do: {program: {behaviour: hash}}}}}"
                    .to_owned(),
                "acts.a.intensity: `d` is used by no flag",
            ),
        ];
        for (text, expected) in wrong {
            let problem = check(&text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains('\n'), "{text}: {problem}");
        }
    }
}
