//! What an attacker may have written, made harmless for whoever shows a notification: mail, chat, a terminal.

/// Longest text of one annotation, in characters.
pub const MOST: usize = 2_000;

/// The same text without what a terminal obeys, what turns lines around, and what chats and mails take for markup: tags, links, and calls
/// to everybody. Cut after [`MOST`] characters. Line breaks stay.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = '\0';
    for (place, c) in text.chars().enumerate() {
        if place == MOST {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push(c),
            '<' => out.push('‹'),
            '>' => out.push('›'),
            '@' => out.push('＠'),
            // A link in Markdown is `[text](address)`.
            '(' if before == ']' => out.push_str(" ("),
            '`' => out.push('\''),
            c if c.is_control() || is_format(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// The same on one line.
#[must_use]
pub fn line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

/// Characters that nobody sees, or that change how others are seen.
fn is_format(c: char) -> bool {
    matches!(c as u32, 0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE0000..=0xE0FFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_obeyed_by_a_terminal_or_taken_for_markup() {
        let text = "pod <script>alert(1)</script> \u{1b}[2J \u{202e}nimda [click](http://evil) <!channel> @everyone `x`";

        assert_eq!(
            harmless(text),
            "pod ‹script›alert(1)‹/script› \\u{1b}[2J \\u{202e}nimda [click] (http://evil) ‹!channel› ＠everyone 'x'"
        );
        assert_eq!(line("a\nb"), "a b");
    }

    #[test]
    fn a_text_is_cut() {
        assert_eq!(harmless(&"ä".repeat(MOST + 5)).chars().count(), MOST + 1);
    }
}
