//! Names with `*` (any characters, none too) and `?` (any one).

/// Longest pattern, in bytes: longer than any name of Kubernetes.
pub const MAX_GLOB: usize = 253;

/// Whether a pattern fits the whole of a text. Takes at most pattern times text steps.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stood, and how much of the text it covers so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, covers)) = star else { return false };
                star = Some((at, covers + 1));
                p = at + 1;
                t = covers + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_marks_stand_for_characters() {
        for (pattern, text) in
            [("*", ""), ("shop", "shop"), ("sh?p", "shop"), ("shop-*", "shop-a-b"), ("*-x-*y", "a-x-b-x-cy"), ("**", "a")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("shop", "shops"), ("?", ""), ("shop-*", "shop"), ("*a", "ab"), ("", "a"), ("a*b*c", "acb")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        assert!(!matches(&"*a".repeat(100), &"a".repeat(4_000).replace("aaaa", "aaab").replace('a', "c")));
    }
}
