//! CSV as RFC 4180 has it, and such that no spreadsheet takes a text for a formula.

use crate::cell::Cell;

/// One record, with its line end.
pub fn record<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> String {
    let fields = cells.into_iter().map(|cell| {
        let (text, number) = cell.csv();
        field(&text, number)
    });
    fields.collect::<Vec<_>>().join(",") + "\r\n"
}

/// The header, with its line end.
pub fn header<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| field(name, false)).collect::<Vec<_>>().join(",") + "\r\n"
}

fn field(text: &str, number: bool) -> String {
    // A spreadsheet runs what begins so; the apostrophe makes it text.
    let formula = !number && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if formula { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{guard}{}\"", text.replace('"', "\"\"")) } else { format!("{guard}{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let text = |text: &str| Cell::Text(text.to_owned());

        let line = record(&[text("a"), text("b,c"), text("say \"hi\""), text("two\nlines"), Cell::Absent, Cell::Integer(-3)]);

        assert_eq!(line, "a,\"b,c\",\"say \"\"hi\"\"\",\"two\nlines\",,-3\r\n");
    }

    #[test]
    fn no_text_is_a_formula() {
        let text = |text: &str| record(&[Cell::Text(text.to_owned())]);

        assert_eq!(text("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0\r\n");
        assert_eq!(text("@x"), "'@x\r\n");
        assert_eq!(text("+1,2"), "\"'+1,2\"\r\n");
        assert_eq!(header(["-a", "b"]), "'-a,b\r\n");
    }
}
