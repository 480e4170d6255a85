//! From when to when a certificate is good, read from its DER: the clock that rotation goes by is in the certificate itself.

/// Unix seconds, both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Not before.
    pub from_unix_s: i64,
    /// Not after.
    pub to_unix_s: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The validity of an X.509 certificate; `None` if it is none.
///
/// `Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version OPTIONAL, serial, signature, issuer, validity SEQUENCE { Time, Time }, .. }, .. }`
#[must_use]
pub fn life(certificate: &[u8]) -> Option<Life> {
    let (tbs, _) = content(certificate, SEQUENCE)?;
    let (mut rest, _) = content(tbs, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (times, _) = content(rest, SEQUENCE)?;
    let (tag, from, rest) = element(times)?;
    let from_unix_s = time(tag, from)?;
    let (tag, to, _) = element(rest)?;
    Some(Life { from_unix_s, to_unix_s: time(tag, to)? })
}

/// The content of the first element, which must have this tag, and what follows it.
fn content(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`; two digits of a year mean 1950 to 2049.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = text[..2].parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |place: usize| rest[place * 2..place * 2 + 2].parse::<i8>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
    let at = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a-name".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let life = life(&made((2026, 11, 26), (2060, 1, 1))).unwrap();

        assert_eq!(life, Life { from_unix_s: 1_795_651_200, to_unix_s: 2_840_140_800 });
    }

    #[test]
    fn what_is_no_certificate_is_none_and_no_length_leads_astray() {
        let whole = made((2026, 11, 26), (2060, 1, 1));

        for length in 0..100 {
            assert_eq!(life(&whole[..length]), None, "{length}");
        }
        assert_eq!(life(b"-----BEGIN CERTIFICATE-----"), None);
        assert_eq!(life(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }
}
