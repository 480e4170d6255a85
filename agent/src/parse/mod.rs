//! Parsers of the kernel's text files: over bytes, without allocation, and never failing otherwise than by `None`.

pub mod cgroup;
pub mod net;
pub mod node;
pub mod process;

/// The unsigned number that the bytes begin with; `None` without a digit or beyond 64 bits.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut digits = 0;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        digits += 1;
    }
    (digits > 0).then_some(value)
}

/// The hexadecimal number that the bytes are.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| Some(value << 4 | u64::from((byte as char).to_digit(16)?)))
}

/// The lines of a file; a last one without its line feed counts.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, after) = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = after;
        Some(line)
    })
}

/// The words of a line, between spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty())
}

/// Calls `each(key, value)` for every line that is a key and a number.
pub fn keyed(text: &[u8], mut each: impl FnMut(&[u8], u64)) {
    for line in lines(text) {
        if let Some(end) = line.iter().position(|&byte| byte == b' ')
            && let Some(value) = number(&line[end + 1..])
        {
            each(&line[..end], value);
        }
    }
}

/// The value of one key in a file of keys and numbers.
#[must_use]
pub fn key(text: &[u8], wanted: &[u8]) -> Option<u64> {
    lines(text).find_map(|line| number(line.strip_prefix(wanted)?.strip_prefix(b" ")?))
}

/// How many lines follow the heading of a table such as `net/raw`.
#[must_use]
pub fn rows(text: &[u8]) -> Option<u64> {
    let lines = lines(text).filter(|line| !line.is_empty()).count() as u64;
    lines.checked_sub(1)
}
