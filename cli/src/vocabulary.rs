//! The contract's words as values of flags.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command};
use vedette_proto::v1::{Answer, CrossCheckOutcome, Kind, LabelSource, Severity};

macro_rules! vocabulary {
    ($( $function:ident $type:ident; )*) => { $(
        #[doc = concat!("Reads a word of [`", stringify!($type), "`].")]
        pub fn $function() -> impl TypedValueParser<Value = $type> {
            words($type::WORDS.iter().map(|value| value.word()).collect(), $type::from_word)
        }
    )* };
}

vocabulary! {
    kind Kind;
    severity Severity;
    source LabelSource;
    answer Answer;
    outcome CrossCheckOutcome;
}

fn words<T>(words: Vec<&'static str>, from_word: fn(&str) -> Option<T>) -> Words<T> {
    Words { words, from_word }
}

/// Reads one of `words`; those with `_` may be written with `-` and the other way round.
#[derive(Clone)]
struct Words<T> {
    words: Vec<&'static str>,
    from_word: fn(&str) -> Option<T>,
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Words<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let swap = |c| match c {
            '_' => '-',
            '-' => '_',
            c => c,
        };
        let text = value.to_string_lossy();
        let swapped: String = text.chars().map(swap).collect();
        let read = (self.from_word)(&text).or_else(|| (self.from_word)(&swapped));
        // Its error lists the words and guesses which one was meant.
        read.map_or_else(
            || {
                let listed = PossibleValuesParser::new(self.words.clone()).parse_ref(command, arg, value);
                Err(listed.err().unwrap_or_else(|| clap::Error::new(ErrorKind::InvalidValue)))
            },
            Ok,
        )
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().map(PossibleValue::new)))
    }
}
