//! Records of a write-ahead log: key and value with a checksum, so that a torn end is seen.
//!
//! A record is the key's length (u16), the value's length (u32), a CRC-32 of both lengths, key and value (u32), all little-endian, then
//! the key and the value.

const HEAD: usize = 10;

/// Appends a record.
pub(super) fn append(log: &mut Vec<u8>, key: &str, value: &[u8]) {
    let key = &key.as_bytes()[..key.len().min(usize::from(u16::MAX))];
    let start = log.len();
    log.extend_from_slice(&(key.len() as u16).to_le_bytes());
    log.extend_from_slice(&(value.len() as u32).to_le_bytes());
    let mut sum = crc32fast::Hasher::new();
    sum.update(&log[start..]);
    sum.update(key);
    sum.update(value);
    log.extend_from_slice(&sum.finalize().to_le_bytes());
    log.extend_from_slice(key);
    log.extend_from_slice(value);
}

/// The records of a log, up to the first that is torn or damaged.
pub(super) fn records(mut log: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = log.split_at_checked(HEAD)?;
        let key_bytes = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let value_bytes = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let sum = u32::from_le_bytes([head[6], head[7], head[8], head[9]]);
        let (key, rest) = rest.split_at_checked(key_bytes)?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        let mut actual = crc32fast::Hasher::new();
        actual.update(&head[..6]);
        actual.update(key);
        actual.update(value);
        if actual.finalize() != sum {
            return None;
        }
        log = rest;
        Some((std::str::from_utf8(key).ok()?, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_until_the_torn_one() {
        let mut log = Vec::new();
        append(&mut log, "a", b"1");
        append(&mut log, "", b"");
        append(&mut log, "long", &[7; 300]);

        let whole: Vec<_> = records(&log).collect();
        let torn: Vec<_> = records(&log[..log.len() - 1]).collect();

        assert_eq!(whole, [("a", &b"1"[..]), ("", b""), ("long", &[7; 300])]);
        assert_eq!(torn, whole[..2]);
    }

    #[test]
    fn a_damaged_record_ends_the_log() {
        let mut log = Vec::new();
        append(&mut log, "a", b"1");
        append(&mut log, "b", b"2");
        log[HEAD] ^= 1;

        assert_eq!(records(&log).count(), 0);
    }
}
