//! The files of one process: `stat`, `status`, `cgroup`.

use super::{hexadecimal, lines, number, words};

/// What `/proc/PID/stat` says of a process and of its children that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Minor faults of children that were waited for.
    pub child_minor_faults: u64,
    /// User and system time of the same, in ticks of 10 ms.
    pub child_ticks: u64,
    /// Start after boot in ticks of 10 ms: orders the processes of a pod.
    pub start_ticks: u64,
}

/// `/proc/PID/stat`. The comm may hold spaces and parentheses: everything counts from the last `)`.
#[must_use]
pub fn stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let mut numbers = words(&text[end + 1..]).skip(8);
    let child_minor_faults = number(numbers.next()?)?;
    let mut numbers = numbers.skip(4);
    let user = number(numbers.next()?)?;
    let system = number(numbers.next()?)?;
    let start_ticks = number(numbers.nth(4)?)?;
    Some(Stat { child_minor_faults, child_ticks: user.checked_add(system)?, start_ticks })
}

/// The kernel's name of a process, at most 15 bytes, as the process chose it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm {
    bytes: [u8; 15],
    length: u8,
}

impl Comm {
    /// Takes at most 15 bytes.
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        let mut comm = Self::default();
        for &byte in name.iter().take(15) {
            comm.bytes[usize::from(comm.length)] = byte;
            comm.length += 1;
        }
        comm
    }

    /// As the kernel keeps it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// As UTF-8 of at most 15 bytes: each byte that is no valid text becomes a question mark.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for chunk in self.bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        text
    }

    /// The runtime's own process on its way to becoming the container's: says nothing about the container.
    ///
    /// runc begins as `exe` (of `/proc/self/exe`), then runs a sealed copy of itself by its descriptor, which the kernel calls by that number,
    /// and only then gives itself names.
    #[must_use]
    pub fn is_runtime_init(&self) -> bool {
        let bytes = self.bytes();
        bytes.starts_with(b"runc:[") || [&b""[..], b"exe", b"runc", b"crun"].contains(&bytes) || bytes.iter().all(u8::is_ascii_digit)
    }
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// What is taken of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Name.
    pub comm: Comm,
    /// Effective uid.
    pub uid: u32,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Seccomp mode, if the kernel says.
    pub seccomp: Option<u32>,
}

/// `/proc/PID/status`; `None` without name, uid and capabilities.
#[must_use]
pub fn status(text: &[u8]) -> Option<Status> {
    let (mut comm, mut uid, mut cap_effective, mut seccomp) = (None, None, None, None);
    for line in lines(text) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let value = &line[colon + 1..];
        match &line[..colon] {
            b"Name" if comm.is_none() => comm = Some(unescaped(value.strip_prefix(b"\t").unwrap_or(value))),
            b"Uid" => uid = words(value).nth(1).and_then(number).and_then(|uid| u32::try_from(uid).ok()),
            b"CapEff" => cap_effective = words(value).next().and_then(hexadecimal),
            b"Seccomp" => seccomp = words(value).next().and_then(number).and_then(|mode| u32::try_from(mode).ok()),
            _ => {}
        }
    }
    Some(Status { comm: comm?, uid: uid?, cap_effective: cap_effective?, seccomp })
}

/// `status` escapes a line feed and a backslash in the name, and nothing else.
fn unescaped(name: &[u8]) -> Comm {
    let mut bytes = [0u8; 15];
    let mut length = 0;
    let mut rest = name.iter();
    while let (true, Some(&byte)) = (length < bytes.len(), rest.next()) {
        bytes[length] = match (byte, rest.as_slice().first()) {
            (b'\\', Some(b'n')) => {
                rest.next();
                b'\n'
            }
            (b'\\', Some(b'\\')) => {
                rest.next();
                b'\\'
            }
            _ => byte,
        };
        length += 1;
    }
    Comm::new(&bytes[..length])
}

/// The path of a process in `/proc/PID/cgroup`: that of the controller (v1), or of the unified hierarchy when `controller` is empty.
#[must_use]
pub fn cgroup_path<'a>(text: &'a [u8], controller: &str) -> Option<&'a [u8]> {
    lines(text).find_map(|line| {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = if controller.is_empty() {
            controllers.is_empty()
        } else {
            controllers.split(|&byte| byte == b',').any(|name| name.strip_prefix(b"name=").unwrap_or(name) == controller.as_bytes())
        };
        found.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &[u8] = b"31458 (a) b (c) S 31437 31458 31458 0 -1 4194560 1019 77 0 0 0 1 5 6 20 0 1 0 266710 1011712 136";

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(stat(STAT), Some(Stat { child_minor_faults: 77, child_ticks: 5 + 6, start_ticks: 266_710 }));
    }

    #[test]
    fn a_runtime_on_its_way_has_no_name_of_the_containers() {
        let on_its_way = |name: &[u8]| Comm::new(name).is_runtime_init();

        assert!([&b""[..], b"exe", b"6", b"12", b"runc", b"runc:[1:CHILD]", b"runc:[2:INIT]", b"crun"].into_iter().all(on_its_way));
        assert!(![&b"nginx"[..], b"exec", b"7zip", b"runcible", b"v8"].into_iter().any(on_its_way));
    }

    #[test]
    fn a_name_is_unescaped_and_never_longer_than_fifteen_bytes() {
        let read = status(b"Name:\ta\\nb\\\\c:d\nUid:\t0\t1000\t0\t0\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n").unwrap();

        assert_eq!(read.comm.bytes(), b"a\nb\\c:d");
        assert_eq!((read.uid, read.cap_effective, read.seccomp), (1_000, 0xa804_25fb, Some(2)));
        assert_eq!(Comm::new(b"\xff\xfe0123456789abcdef").text(), "??0123456789abc");
    }

    #[test]
    fn the_path_of_a_controller_is_found_whatever_stands_beside_it() {
        let text = b"11:cpu,cpuacct:/a\n3:memory:/b\n1:name=systemd:/c\n0::/d\n";

        assert_eq!(cgroup_path(text, "cpuacct"), Some(&b"/a"[..]));
        assert_eq!(cgroup_path(text, "memory"), Some(&b"/b"[..]));
        assert_eq!(cgroup_path(text, "systemd"), Some(&b"/c"[..]));
        assert_eq!(cgroup_path(text, ""), Some(&b"/d"[..]));
        assert_eq!(cgroup_path(text, "pids"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(text in prop::collection::vec(any::<u8>(), 0..300), cut in 0..STAT.len()) {
            let _ = stat(&text);
            let _ = stat(&STAT[..cut]);
            let _ = status(&text);
            let _ = cgroup_path(&text, "cpu");
            prop_assert!(Comm::new(&text).text().len() <= 15);
        }
    }
}
