//! Generated text that compresses, searches and parses as logs, pages and sources do: words of a small language by Zipf's law.

use std::sync::LazyLock;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Words of the language.
const WORDS: usize = 2_000;
const SYLLABLES: [&str; 16] = ["ka", "ren", "to", "mi", "sul", "ver", "a", "lon", "de", "pri", "sta", "nor", "gi", "hal", "bo", "cu"];

/// The same in every process, so that clients search for what services have.
static VOCABULARY: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(42);
    let word = |rng: &mut StdRng| (0..rng.random_range(1..5)).map(|_| SYLLABLES[rng.random_range(0..SYLLABLES.len())]).collect();
    (0..WORDS).map(|_| word(&mut rng)).collect()
});

/// A source of words.
pub(super) struct Language {
    rng: StdRng,
}

impl Language {
    /// The same seed gives the same words in the same order.
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    /// The next word: the first of the vocabulary often, the last seldom.
    pub(super) fn word(&mut self) -> &'static str {
        let uniform: f64 = self.rng.random();
        // The inverse of a logarithmic distribution function, which is Zipf's law with exponent 1.
        let rank = (WORDS as f64).powf(uniform) - 1.0;
        &VOCABULARY[(rank as usize).min(WORDS - 1)]
    }

    /// A line as of a log, ended by a newline, some `bytes` long.
    pub(super) fn line(&mut self, bytes: usize) -> String {
        let number: u32 = self.rng.random();
        let mut line =
            format!("{:08} level={} id={number:08x}", number % 86_400_000, if number.is_multiple_of(50) { "warn" } else { "info" });
        while line.len() + 1 < bytes {
            line.push(' ');
            line.push_str(self.word());
        }
        line.push('\n');
        line
    }

    /// At least `bytes` of lines.
    pub(super) fn text(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes + 256);
        while text.len() < bytes {
            let length = self.rng.random_range(60..200);
            text.extend_from_slice(self.line(length).as_bytes());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_common_and_a_seed_repeats() {
        let mut language = Language::new(7);

        let frequent = (0..10_000).filter(|_| language.word() == VOCABULARY[0]).count();

        assert!((700..2_500).contains(&frequent), "{frequent}");
        assert_eq!(Language::new(7).text(1_000), Language::new(7).text(1_000));
        assert_ne!(Language::new(7).text(1_000), Language::new(8).text(1_000));
    }

    #[test]
    fn a_line_is_about_as_long_as_asked() {
        let line = Language::new(1).line(160);

        assert!((160..180).contains(&line.len()), "{}", line.len());
        assert_eq!(line.matches('\n').count(), 1);
    }
}
