//! The same rule as [`super::label_at`] for millions of rows: labels found by their most telling field, resolved once per container
//! into a timeline that is searched by instant.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use vedette_proto::v1::{Kind, Label, LabelSource};

use super::standing::{ID_PREFIX, Identity, Said, rank};

/// A text seen before, by number: a million labels share few names.
type Word = u32;
/// The empty text: any.
const ANY: Word = 0;

/// A label without its texts: 56 bytes, so that the most labels a store may hold are 56 MB.
#[derive(Clone, Copy, Debug)]
struct Entry {
    fields: [Word; 7],
    container_id: Word,
    start: i64,
    end: i64,
    said: Said,
}

/// One stretch of a timeline: half open, none touches another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Unix milliseconds.
    pub start: i64,
    /// Unix milliseconds.
    pub end: i64,
    /// What stands in it.
    pub said: Said,
}

/// What stands for one container, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(Vec<Stretch>);

impl Timeline {
    /// What stands at an instant, Unix milliseconds.
    #[must_use]
    pub fn at(&self, unix_ms: i64) -> Option<Said> {
        let after = self.0.partition_point(|stretch| stretch.start <= unix_ms);
        self.0[..after].last().filter(|stretch| unix_ms < stretch.end).map(|stretch| stretch.said)
    }

    /// The stretches, in order.
    #[must_use]
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }
}

/// Labels that stand, ready to be asked.
#[derive(Debug, Default)]
pub struct LabelIndex {
    words: HashMap<Arc<str>, Word>,
    texts: Vec<Arc<str>>,
    entries: Vec<Entry>,
    /// By the field that tells most: (which field, its word; for container ids that of the first twelve characters).
    by_field: HashMap<(u8, Word), Vec<u32>>,
}

/// The fields from the most telling to the least; the place of each in [`Entry::fields`], and the container id as 7.
const TELLING: [u8; 8] = [7, 6, 4, 1, 5, 2, 3, 0];

fn fields<'a>(identity: &Identity<'a>) -> [&'a str; 7] {
    [
        identity.cluster,
        identity.node,
        identity.namespace,
        identity.owner_kind,
        identity.owner_name,
        identity.container_name,
        identity.pod_uid,
    ]
}

/// What a container id is found by: its first twelve characters.
fn head(container_id: &str) -> &str {
    container_id.get(..ID_PREFIX).unwrap_or(container_id)
}

impl LabelIndex {
    /// Adds a label; one that was taken back is left out.
    pub fn add(&mut self, label: &Label) {
        let (Some(selector), Some(range), 0) = (&label.selector, label.range, label.retracted_by) else { return };
        if self.texts.is_empty() {
            self.word("");
        }
        let identity = Identity::from(selector);
        let fields = fields(&identity).map(|text| self.word(text));
        let container_id = self.word(identity.container_id);
        let said = Said { kind: label.kind(), affected: label.affected, source: label.source(), id: label.id };
        let place = self.entries.len() as u32;
        self.entries.push(Entry { fields, container_id, start: range.start_unix_ms, end: range.end_unix_ms, said });
        let head = self.word(head(identity.container_id));
        let word_of = |field: u8| if field == 7 { head } else { fields[field as usize] };
        let telling = TELLING.into_iter().find(|&field| word_of(field) != ANY).unwrap_or(0);
        self.by_field.entry((telling, word_of(telling))).or_default().push(place);
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What stands for a container, over time.
    #[must_use]
    pub fn timeline(&self, container: &Identity<'_>) -> Timeline {
        let entries: Vec<&Entry> = self.candidates(container).collect();
        resolve(&entries)
    }

    /// Stretches of an attack kind that stand for anything within `wanted`, merged and in order: whether or not anything was observed.
    ///
    /// A label is asked as if its selector were a container, so one of an earlier source that covers at least as much overrules it.
    #[must_use]
    pub fn attack_stretches(&self, wanted: &Identity<'_>) -> Vec<(i64, i64)> {
        let mut selectors: Vec<([Word; 7], Word)> = self
            .entries
            .iter()
            .filter(|entry| is_attack(&entry.said) && self.overlaps(entry, wanted))
            .map(|entry| (entry.fields, entry.container_id))
            .collect();
        selectors.sort_unstable();
        selectors.dedup();
        let mut stretches: Vec<(i64, i64)> = Vec::new();
        for (fields, container_id) in selectors {
            let text = |word: Word| &*self.texts[word as usize];
            let identity = Identity {
                cluster: text(fields[0]),
                node: text(fields[1]),
                namespace: text(fields[2]),
                owner_kind: text(fields[3]),
                owner_name: text(fields[4]),
                container_name: text(fields[5]),
                pod_uid: text(fields[6]),
                container_id: text(container_id),
            };
            let timeline = self.timeline(&identity);
            stretches.extend(timeline.0.iter().filter(|stretch| is_attack(&stretch.said)).map(|stretch| (stretch.start, stretch.end)));
        }
        merge(stretches)
    }

    /// The ranges of labels of these kinds, in no order, whether or not another label overrules them.
    #[must_use]
    pub fn ranges_of(&self, kinds: &[Kind]) -> Vec<(i64, i64)> {
        let wanted = self.entries.iter().filter(|entry| kinds.contains(&entry.said.kind));
        wanted.map(|entry| (entry.start, entry.end)).collect()
    }

    fn candidates<'a>(&'a self, container: &Identity<'_>) -> impl Iterator<Item = &'a Entry> {
        let texts = fields(container);
        let container_id = container.container_id.to_owned();
        // A text that no label has matches nothing but "any".
        let words = texts.map(|text| self.words.get(text).copied().unwrap_or(Word::MAX));
        let head = self.words.get(head(container.container_id)).copied().unwrap_or(Word::MAX);
        let places = TELLING.into_iter().filter_map(move |field| {
            let word = if field == 7 { head } else { words[field as usize] };
            self.by_field.get(&(field, word))
        });
        places.flatten().map(|&place| &self.entries[place as usize]).filter(move |entry| {
            entry.fields[0] == words[0]
                && entry.fields[1..].iter().zip(&words[1..]).all(|(wanted, is)| *wanted == ANY || wanted == is)
                && super::standing::selects_id(&self.texts[entry.container_id as usize], &container_id)
        })
    }

    /// Whether some container may be meant by both; unset fields of either agree with anything.
    fn overlaps(&self, entry: &Entry, wanted: &Identity<'_>) -> bool {
        let either = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        let texts = entry.fields.map(|word| &*self.texts[word as usize]);
        let id = &*self.texts[entry.container_id as usize];
        texts.iter().zip(fields(wanted)).all(|(a, b)| either(a, b))
            && (id.is_empty()
                || super::standing::selects_id(wanted.container_id, id)
                || super::standing::selects_id(id, wanted.container_id))
    }

    fn word(&mut self, text: &str) -> Word {
        if let Some(&word) = self.words.get(text) {
            return word;
        }
        let word = self.texts.len() as Word;
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.words.insert(text, word);
        word
    }
}

/// Whether a label says that something was wrong there: any kind but normal, on the target itself.
#[must_use]
pub fn is_attack(said: &Said) -> bool {
    !said.affected && !matches!(said.kind, Kind::Unspecified | Kind::Normal)
}

/// Sorts stretches and joins those that touch.
#[must_use]
pub fn merge(mut stretches: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    stretches.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (start, end) in stretches {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// Sweeps over the ends of all ranges, with those that hold at each point in the order of precedence.
fn resolve(entries: &[&Entry]) -> Timeline {
    let mut points: Vec<(i64, bool, usize)> = Vec::with_capacity(entries.len() * 2);
    for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.start < entry.end) {
        points.push((entry.start, true, place));
        points.push((entry.end, false, place));
    }
    points.sort_unstable();
    let mut holding: BTreeMap<(u8, Reverse<u64>), Said> = BTreeMap::new();
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut points = points.into_iter().peekable();
    while let Some((at, starts, place)) = points.next() {
        let said = entries[place].said;
        let key = (rank(said.source), Reverse(said.id));
        if starts {
            holding.insert(key, said);
        } else {
            holding.remove(&key);
        }
        let Some(&(next, ..)) = points.peek() else { break };
        if next == at {
            continue;
        }
        if let Some((_, &said)) = holding.first_key_value() {
            match stretches.last_mut() {
                Some(last) if last.end == at && last.said == said => last.end = next,
                _ => stretches.push(Stretch { start: at, end: next, said }),
            }
        }
    }
    Timeline(stretches)
}

/// The word for the source of a label, for exports.
#[must_use]
pub const fn source_word(said: &Said) -> &'static str {
    match said.source {
        LabelSource::Unspecified => "",
        source => source.word(),
    }
}

#[cfg(test)]
mod tests;
