//! What a statement may be before anybody plans it: short, and not nested so deep that planning it would overflow the stack.

use datafusion::{
    prelude::SessionContext,
    sql::sqlparser::{
        dialect::GenericDialect,
        tokenizer::{Token, Tokenizer, Word},
    },
};

use crate::HistoryError;

/// Longest statement, in bytes.
const BYTES: usize = 64 << 10;
/// Most operators. `1+1+1+...` becomes a tree as deep as it is long, and walking it costs stack: an overflow would end the process.
const OPERATORS: usize = 256;
/// Functions whose result is as large as a number says: one call would allocate past any limit of memory, which counts rows only.
const BOUNDLESS: [&str; 7] = ["repeat", "lpad", "rpad", "array_repeat", "array_resize", "range", "generate_series"];

/// Refuses a statement that is too long or too deep, before anything parses it. [`crate::History::query`] does so itself; whoever
/// plans in a session of their own calls it first, and plans on a stack of some 64 MiB.
///
/// # Errors
/// What there is too much of.
pub fn check_statement(sql: &str) -> Result<(), HistoryError> {
    if sql.len() > BYTES {
        return Err(HistoryError::Query(format!("the statement has {} bytes, more than the limit of {BYTES}", sql.len())));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|error| HistoryError::Query(error.to_string()))?;
    let operators = tokens.iter().filter(|token| nests(token)).count();
    if operators > OPERATORS {
        return Err(HistoryError::Query(format!(
            "the statement has {operators} operators, more than the limit of {OPERATORS}; use IN or a join"
        )));
    }
    Ok(())
}

/// Takes away what would need memory that nobody counts.
pub(crate) fn limit_functions(session: &SessionContext) {
    for name in BOUNDLESS {
        session.deregister_udf(name);
    }
}

/// Whether a token may add a level to the tree. Lists, names, literals and what compares two of them do not.
fn nests(token: &Token) -> bool {
    let plain = |word: &Word| {
        let words = ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT", "JOIN", "SELECT", "CASE", "IS", "LIKE", "ILIKE", "COLLATE", "AT"];
        word.quote_style.is_some() || !words.iter().any(|operator| word.value.eq_ignore_ascii_case(operator))
    };
    match token {
        Token::Word(word) => !plain(word),
        Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Comma | Token::Period | Token::SemiColon => false,
        Token::RParen | Token::RBracket | Token::RBrace | Token::EOF => false,
        Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_statement_is_refused_and_a_long_list_is_not() {
        let sum = format!("SELECT 1{}", "+1".repeat(OPERATORS));
        let ids: Vec<_> = (0..700).map(|id| format!("'container-{id:054}'")).collect();
        let list = format!("SELECT * FROM observations WHERE container_id IN ({}) AND time > '2026-01-01'", ids.join(", "));

        assert!(check_statement(&sum).is_err());
        assert!(check_statement(&format!("SELECT {}true", "NOT ".repeat(300))).is_err());
        assert!(check_statement(&list).is_ok());
        assert!(check_statement(&format!("SELECT '{}'", "x".repeat(BYTES))).is_err());
    }

    #[test]
    fn ranges_as_labels_write_them_fit() {
        let range = "(container_id = 'a' AND time >= '2026-01-01T00:00:00Z' AND time < '2026-01-01T00:01:00Z')";
        let ranges = vec![range; 60].join(" OR ");

        assert!(check_statement(&format!("SELECT kind, count(*) FROM observations WHERE {ranges} GROUP BY kind")).is_ok());
    }
}
