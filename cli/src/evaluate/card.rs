//! What a model's card says of how models like it did, each asked about the session that it did not know: as words that pictures are made of.
//!
//! Entries have parts with `; ` between them. Recall: `mining 20/22 0.708 0.989`, told of attacks, with the interval of Clopper and Pearson.
//! Confusion: `mining>scan 2`, what it was, what it was called (or `missed`), how often. Reliability: `0.052 0.011 1200`, for each tenth of
//! the scores their mean, the share of rows that were of attacks, and the rows.

use std::collections::BTreeMap;

use vedette_proto::v1::Kind;

use super::{
    events::Outcome,
    figures::{recalls, tenths},
    play::Played,
};

/// Where a card has the recall of each kind.
const RECALL: &str = "held_out_recall";
/// Where it has what attacks were called.
const CONFUSION: &str = "held_out_confusion";
/// Where it has how often a score was right.
const RELIABILITY: &str = "held_out_reliability";

/// The entries of what came of each session.
pub fn entries(outcomes: &[Outcome], played: &[Played]) -> BTreeMap<String, String> {
    let attacks = || outcomes.iter().flat_map(|outcome| &outcome.attacks);
    let recall = recalls(attacks(), |attack| attack.episode.kind.word().to_owned()).into_iter().map(|kind| {
        let (low, high) = kind.told.bounds();
        format!("{} {}/{} {low:.3} {high:.3}", kind.name, kind.told.hits, kind.told.of)
    });
    let mut counts: BTreeMap<(Kind, Option<Kind>), usize> = BTreeMap::new();
    attacks().for_each(|attack| *counts.entry((attack.episode.kind, attack.called)).or_default() += 1);
    let confusion =
        counts.into_iter().map(|((was, called), count)| format!("{}>{} {count}", was.word(), called.map_or("missed", Kind::word)));
    let rows = played.iter().flat_map(|played| &played.rows);
    let reliability = tenths(rows).into_iter().map(|(score, share, rows)| format!("{score:.3} {share:.3} {rows}"));
    [(RECALL, joined(recall)), (CONFUSION, joined(confusion)), (RELIABILITY, joined(reliability))]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::{
        events::Attack,
        play::Row,
        truth::{Episode, Role, Was},
    };
    use super::*;

    fn attack(kind: Kind, called: Option<Kind>) -> Attack {
        let episode = Episode {
            name: String::new(),
            role: Role::Attack,
            kind,
            act: String::new(),
            intensity: String::new(),
            placement: String::new(),
            onset_unix_ms: 0,
            stop_unix_ms: 1,
            workloads: Default::default(),
            affected: Default::default(),
        };
        Attack { episode, delay_s: called.map(|_| 1.0), page_delay_s: None, called }
    }

    #[test]
    fn a_card_has_what_pictures_are_made_of() {
        let attacks = vec![
            attack(Kind::Mining, Some(Kind::Mining)),
            attack(Kind::Mining, Some(Kind::Mining)),
            attack(Kind::Mining, None),
            attack(Kind::Scan, Some(Kind::Unknown)),
        ];
        let row = |score, was| Row { unix_ms: 0, place: 0, was, score, abnormal: false, z: 0.0 };
        let rows = vec![
            row(0.01, Was::Normal),
            row(0.03, Was::Normal),
            row(0.95, Was::Attack(Kind::Mining)),
            // Nobody said what these were: they are neither right nor wrong.
            row(0.95, Was::Nothing),
            row(0.95, Was::Affected),
        ];

        let entries = entries(&[Outcome { attacks, ..Outcome::default() }], &[Played { rows, ..Played::default() }]);

        let entry = |key: &str| entries[key].as_str();
        assert_eq!(entry(RECALL), "mining 2/3 0.094 0.992; scan 1/1 0.025 1.000");
        assert_eq!(entry(CONFUSION), "mining>missed 1; mining>mining 2; scan>unknown 1");
        assert_eq!(entry(RELIABILITY), "0.020 0.000 2; 0.950 1.000 1");
    }
}
