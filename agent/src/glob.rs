//! Globs over cgroup paths: `*` and `?` within an element, `**` over any number of elements.

/// Whether the path matches.
#[must_use]
pub fn matches(glob: &str, path: &str) -> bool {
    let glob: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    elements(&glob, &path)
}

fn elements(glob: &[&str], path: &[&str]) -> bool {
    match (glob, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skip| elements(rest, &path[skip..])),
        ([first, glob @ ..], [name, path @ ..]) => element(first.as_bytes(), name.as_bytes()) && elements(glob, path),
        _ => false,
    }
}

/// One element, with a single point to go back to: linear in practice, never exponential.
fn element(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut next, mut star) = (0, 0, None);
    while next < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[next] => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                next = from + 1;
            }
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_element() {
        assert!(matches("lab/*", "lab/web"));
        assert!(!matches("lab/*", "lab/web/inner"));
        assert!(matches("lab/**", "lab/web/inner"));
        assert!(matches("/system.slice/ssh*.service", "system.slice/sshd.service"));
        assert!(matches("a/**/z?", "a/b/c/z1"));
        assert!(!matches("a/**/z?", "a/b/c/z"));
        assert!(!matches("lab/*", "lab"));
    }
}
