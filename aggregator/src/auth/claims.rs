//! What a token says of itself, unverified: enough to refuse it without asking the API server, never to accept it.

use serde::Deserialize;

/// A ServiceAccount's token is about 1 kB; nothing longer than this is looked at.
const MAX_BYTES: usize = 8 << 10;

/// The claims that refuse.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Claims {
    /// Whom it is for.
    #[serde(rename = "aud")]
    pub audiences: Audiences,
    /// Until when, Unix seconds.
    #[serde(rename = "exp")]
    pub expires_unix_s: Option<i64>,
    /// Whose it is.
    #[serde(rename = "sub")]
    pub subject: String,
}

/// One or several: both are in use.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Audiences {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Audiences {
    /// Whether this one is among them.
    pub fn contain(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// Reads the middle part of `HEADER.CLAIMS.SIGNATURE`; `None` for anything else.
pub(super) fn read(token: &str) -> Option<Claims> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&base64url(claims)?).ok()
}

/// Decodes base64url without padding, as RFC 7515 writes it.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0u32);
    for letter in text.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_with_one_audience_or_several() {
        // {"aud":["a","b"],"exp":12,"sub":"s"} and {"aud":"a","sub":"s"}
        let several = read("e30.eyJhdWQiOlsiYSIsImIiXSwiZXhwIjoxMiwic3ViIjoicyJ9.c2ln").unwrap();
        let one = read("e30.eyJhdWQiOiJhIiwic3ViIjoicyJ9.c2ln").unwrap();

        assert!(several.audiences.contain("b") && !several.audiences.contain("c"));
        assert_eq!((several.expires_unix_s, several.subject.as_str()), (Some(12), "s"));
        assert!(one.audiences.contain("a"));
        assert_eq!(one.expires_unix_s, None);
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "a", "a.b", "a.b.c", "a.e30.c.d", "e30.e30.e30", "e30.###.e30", &"a".repeat(100_000)] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_length_decodes() {
        let decoded = ["", "Zg", "Zm8", "Zm9v", "-_-_"].map(|text| base64url(text).unwrap());

        assert_eq!(decoded, [b"".to_vec(), b"f".to_vec(), b"fo".to_vec(), b"foo".to_vec(), vec![0xfb, 0xff, 0xbf]]);
    }
}
