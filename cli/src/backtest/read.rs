//! Records of a CSV file as RFC 4180 has them, one after the other, with the line that each begins on.

use std::io::{BufRead, Read};

use crate::exit::{Exit, Stop};

/// Longest record, bytes: a thousand columns of a thousand characters.
const MAX_RECORD: u64 = 1 << 20;
/// Most fields of a record.
const MAX_FIELDS: usize = 4_096;

/// The records of a file, the header among them.
pub struct Records<R> {
    reader: R,
    /// The file, for people.
    pub name: String,
    /// Lines read so far.
    lines: u64,
    bytes: u64,
    raw: Vec<u8>,
    fields: Vec<String>,
}

impl<R: BufRead> Records<R> {
    /// Of a file that people know by this name.
    pub fn new(reader: R, name: &str) -> Self {
        Self { reader, name: name.to_owned(), lines: 0, bytes: 0, raw: Vec::new(), fields: Vec::new() }
    }

    /// Reads the next record that is not empty; its first line, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<u64>, Stop> {
        loop {
            let line = self.lines + 1;
            if !self.read(line)? {
                return Ok(None);
            }
            let name = &self.name;
            let text = std::str::from_utf8(&self.raw).map_err(|_| failed(name, line, "not UTF-8"))?;
            let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            split(text, &mut self.fields).map_err(|problem| failed(name, line, problem))?;
            return Ok(Some(line));
        }
    }

    /// The fields of the record read last.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads lines until quotes are even; false at the end.
    fn read(&mut self, line: u64) -> Result<bool, Stop> {
        self.raw.clear();
        let mut open = false;
        loop {
            let from = self.raw.len();
            let room = MAX_RECORD - from as u64;
            let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.raw);
            let read = read.map_err(|error| failed(&self.name, line, &format!("cannot be read: {error}")))?;
            self.bytes += read as u64;
            if read == 0 {
                return if open { Err(failed(&self.name, line, "a quote is not closed")) } else { Ok(false) };
            }
            self.lines += 1;
            open ^= self.raw[from..].iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            if self.raw.len() as u64 >= MAX_RECORD {
                let problem = if open { "a quote is not closed within a mebibyte" } else { "longer than a mebibyte" };
                return Err(failed(&self.name, line, problem));
            }
            if !open {
                return Ok(true);
            }
        }
    }
}

/// An error at a line of a file.
pub fn failed(name: &str, line: u64, problem: &str) -> Stop {
    Stop::new(Exit::Failure, format!("{name}, line {line}: {problem}"))
}

/// Splits a record; the strings of `fields` are used again.
fn split(text: &str, fields: &mut Vec<String>) -> Result<(), &'static str> {
    let mut count = 0;
    let mut rest = text;
    loop {
        if count == MAX_FIELDS {
            return Err("more than 4,096 fields");
        }
        if fields.len() == count {
            fields.push(String::new());
        }
        let field = &mut fields[count];
        field.clear();
        count += 1;
        rest = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted, field)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                field.push_str(&rest[..end]);
                &rest[end..]
            }
        };
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => break,
            None => return Err("text after a closing quote"),
        }
    }
    fields.truncate(count);
    Ok(())
}

/// Reads to the closing quote; what follows it.
fn unquote<'a>(mut rest: &'a str, field: &mut String) -> Result<&'a str, &'static str> {
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, String> {
        let mut records = Records::new(text, "t.csv");
        let mut all = Vec::new();
        while let Some(line) = records.next().map_err(|stop| stop.message)? {
            all.push((line, records.fields().to_vec()));
        }
        Ok(all)
    }

    #[test]
    fn records_are_read_as_the_standard_says() {
        let read = all("\u{feff}a,b\r\n\r\n\"x, \"\"y\"\"\",\"two\nlines\"\nlast,\n".as_bytes()).unwrap();

        let texts = |line: u64, fields: [&str; 2]| (line, fields.map(str::to_owned).to_vec());
        assert_eq!(read, [texts(1, ["a", "b"]), texts(3, ["x, \"y\"", "two\nlines"]), texts(5, ["last", ""])]);
        assert_eq!(all(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_record_is_named_by_its_line() {
        assert_eq!(all(b"a\n\"b\nc\n").unwrap_err(), "t.csv, line 2: a quote is not closed");
        assert_eq!(all(b"a\n\"b\"c\n").unwrap_err(), "t.csv, line 2: text after a closing quote");
        assert_eq!(all(b"a\n\xff\n").unwrap_err(), "t.csv, line 2: not UTF-8");
        assert_eq!(all(&vec![b'x'; 2 << 20]).unwrap_err(), "t.csv, line 1: longer than a mebibyte");
        assert_eq!(all(&vec![b','; 5_000]).unwrap_err(), "t.csv, line 1: more than 4,096 fields");
    }
}
