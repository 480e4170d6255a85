//! One cell of a CSV file, safe to open in a spreadsheet.

/// Appends a text cell by RFC 4180.
///
/// Names and process names are chosen by whoever runs in a pod. A spreadsheet runs a cell that begins with one of `= + - @`, tab or
/// carriage return as a formula; an apostrophe before it makes it text.
pub fn push_text(line: &mut String, text: &str) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !text.contains([',', '"', '\n', '\r']) {
        line.push_str(text);
        return;
    }
    line.push('"');
    if formula {
        line.push('\'');
    }
    for c in text.chars() {
        if c == '"' {
            line.push('"');
        }
        line.push(c);
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(text: &str) -> String {
        let mut line = String::new();
        push_text(&mut line, text);
        line
    }

    #[test]
    fn quotes_commas_and_line_breaks_are_quoted() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell(""), "");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"hi\""), "\"say \"\"hi\"\"\"");
        assert_eq!(cell("a\r\nb"), "\"a\r\nb\"");
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_made_text() {
        for (text, safe) in [
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("=\"x\"", "\"'=\"\"x\"\"\""),
        ] {
            assert_eq!(cell(text), safe);
        }
    }

    proptest! {
        #[test]
        fn a_cell_reads_back_as_its_text(text in "[-=+@\t\r\n,\"a-c']{0,12}") {
            let cell = cell(&text);
            let read = match cell.strip_prefix('"') {
                Some(rest) => rest.strip_suffix('"').unwrap().replace("\"\"", "\""),
                None => cell.clone(),
            };
            let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);

            prop_assert_eq!(read.strip_prefix('\'').filter(|_| formula).unwrap_or(&read), text);
            prop_assert!(cell.starts_with('"') || !cell.contains([',', '\n', '\r', '"']));
        }
    }
}
