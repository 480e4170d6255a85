//! Makes text that somebody else wrote safe to print on a terminal.
//!
//! Process names, pod names, notes and SQL results may be chosen by an attacker: control characters
//! would move the cursor or retitle the window, bidirectional and invisible ones would make a line
//! read differently from what it says.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything that is not plainly visible written as an escape, like Rust's: `\n`, `\u{1b}`.
pub fn escaped(text: &str) -> String {
    escape(text).into_owned()
}

/// As [`escaped`], without a copy where nothing has to change.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Characters that a terminal obeys, that reorder the line, or that cannot be seen.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            // Zero width, marks, line and paragraph separators, embeddings, overrides, isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Private use and tags: no font agrees on them, or nobody sees them.
            | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(escape("nginx: größer ≥ 3 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_terminal_sees_no_commands() {
        assert_eq!(escaped("\u{1b}]0;pwned\u{7}"), "\\u{1b}]0;pwned\\u{7}");
        assert_eq!(escaped("a\r\nb\tc\u{9b}31m\u{7f}"), "a\\r\\nb\\tc\\u{9b}31m\\u{7f}");
    }

    #[test]
    fn a_line_reads_as_it_says() {
        assert_eq!(escaped("user\u{202e}txt.exe"), "user\\u{202e}txt.exe");
        assert_eq!(escaped("a\u{2066}b\u{200b}c\u{feff}\u{e0041}"), "a\\u{2066}b\\u{200b}c\\u{feff}\\u{e0041}");
    }
}
