//! What is expected of a namespace, as its operator says: how loudly an incident in it may speak.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vedette_proto::v1::Severity;

use crate::ConfigError;

/// Most patterns; more is a list that nobody reads.
const MAX_PATTERNS: usize = 256;
/// Longest pattern, in bytes: a namespace's name.
const MAX_BYTES: usize = 63;

/// How loudly incidents of a namespace may speak. Detection, verdicts and history are the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// As everywhere: what a wider pattern says is taken back.
    #[default]
    Normal,
    /// A rollout is no excuse: what pages, pages during its hold-off too.
    Strict,
    /// Tickets at most.
    Quiet,
    /// Notes at most: seen and kept, told to nobody.
    Ignore,
}

impl Profile {
    /// The highest severity of a report, where `most` is it otherwise and `held_off` says that a rollout just was.
    pub fn most(self, most: Severity, held_off: bool) -> Severity {
        match self {
            Self::Strict => most,
            Self::Normal if held_off => most.min(Severity::Ticket),
            Self::Normal => most,
            Self::Quiet => most.min(Severity::Ticket),
            Self::Ignore => most.min(Severity::Note),
        }
    }

    /// What is added to the reasoning, so that nobody wonders why an incident is not louder.
    pub const fn said(self) -> &'static str {
        match self {
            Self::Normal | Self::Strict => "",
            Self::Quiet => "; its namespace is quiet: a ticket at most",
            Self::Ignore => "; its namespace is ignored: a note at most",
        }
    }
}

/// Profiles by pattern: a namespace's name, in which `*` stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespaces(pub BTreeMap<String, Profile>);

impl Namespaces {
    /// The profile of a namespace: that of the pattern with the most characters besides `*`, of equal ones the first by name. Nodes, and
    /// containers whose namespace is not known, have none.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Profile {
        if namespace.is_empty() {
            return Profile::Normal;
        }
        let literal = |pattern: &str| pattern.bytes().filter(|byte| *byte != b'*').count();
        // An exact name has as many characters as there can be; `min_by_key` gives the first of equals.
        let matching = self.0.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), namespace.as_bytes()));
        let best = matching.min_by_key(|(pattern, _)| (std::cmp::Reverse(literal(pattern)), pattern.contains('*')));
        best.map_or(Profile::Normal, |(_, profile)| *profile)
    }

    /// Checks the patterns.
    ///
    /// # Errors
    /// [`ConfigError`] names the one that no namespace can match, or says that there are too many.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.0.len() > MAX_PATTERNS {
            return Err(ConfigError::ManyNamespaces(MAX_PATTERNS));
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'*';
        let good = |pattern: &&String| (1..=MAX_BYTES).contains(&pattern.len()) && pattern.bytes().all(allowed);
        match self.0.keys().find(|pattern| !good(pattern)) {
            Some(pattern) => Err(ConfigError::Namespace(pattern.clone())),
            None => Ok(()),
        }
    }
}

/// With a single place to go back to: at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut next, mut star) = (0, 0, None);
    while next < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(&byte) if byte == name[next] => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                next = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(all: &[(&str, Profile)]) -> Namespaces {
        Namespaces(all.iter().map(|(pattern, profile)| ((*pattern).to_owned(), *profile)).collect())
    }

    #[test]
    fn the_pattern_that_says_most_wins() {
        let all = namespaces(&[
            ("*", Profile::Quiet),
            ("dev-*", Profile::Ignore),
            ("dev-pay*", Profile::Strict),
            ("dev-pay", Profile::Normal),
            ("*-pay", Profile::Ignore),
        ]);

        let of = |name| all.of(name);

        assert_eq!(of("shop"), Profile::Quiet);
        assert_eq!(of("dev-"), Profile::Ignore);
        assert_eq!(of("dev-payments"), Profile::Strict);
        assert_eq!(of("dev-pay"), Profile::Normal, "a name wins over a pattern");
        assert_eq!(of("x-pay"), Profile::Ignore);
        assert_eq!(of(""), Profile::Normal, "a node has no namespace");
        assert_eq!(Namespaces::default().of("shop"), Profile::Normal);
    }

    #[test]
    fn a_pattern_that_no_namespace_can_match_is_an_error() {
        for pattern in ["", "Shop", "shop/web", "sh?p", &"a".repeat(64)] {
            let error = namespaces(&[(pattern, Profile::Quiet)]).check().unwrap_err();

            assert_eq!(error, ConfigError::Namespace(pattern.to_owned()));
        }
        assert_eq!(namespaces(&[("a-*-b1", Profile::Quiet)]).check(), Ok(()));
    }

    #[test]
    fn a_cap_lowers_and_never_raises() {
        for most in [Severity::Note, Severity::Ticket, Severity::Page] {
            for profile in [Profile::Normal, Profile::Strict, Profile::Quiet, Profile::Ignore] {
                assert!(profile.most(most, false) <= most && profile.most(most, true) <= profile.most(most, false));
            }
        }
        assert_eq!(Profile::Normal.most(Severity::Page, true), Severity::Ticket);
        assert_eq!(Profile::Strict.most(Severity::Page, true), Severity::Page);
    }
}
