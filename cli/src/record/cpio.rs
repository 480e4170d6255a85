//! Files for the virtual machine beside those of its image: an archive that the kernel unpacks after the image's own.
//!
//! The format is cpio's "newc": a header of 110 bytes of ASCII, the name and its NUL, the content, each padded to four bytes.

use std::io::{self, Write};

/// A file, readable by root alone.
const MODE_FILE: u32 = 0o100_600;
const MODE_FOLDER: u32 = 0o40_700;

/// Pads what was written so far to where an archive may begin.
pub fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    out.write_all(&[0; 4][..(written.wrapping_neg() % 4) as usize])
}

/// Writes an archive of one folder with these files.
pub fn write(out: &mut impl Write, folder: &str, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    entry(out, 1, folder, MODE_FOLDER, &[])?;
    for (inode, (name, content)) in (2..).zip(files) {
        entry(out, inode, &format!("{folder}/{name}"), MODE_FILE, content)?;
    }
    entry(out, 0, "TRAILER!!!", 0, &[])
}

fn entry(out: &mut impl Write, inode: u32, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too large for an archive"));
    let bytes = u32::try_from(content.len()).map_err(too_large)?;
    let name_bytes = u32::try_from(name.len() + 1).map_err(too_large)?;
    write!(out, "070701{inode:08x}{mode:08x}")?;
    // Owner, group, links, time, length, device of the file and of the entry, length of the name, checksum (none).
    for field in [0, 0, 1, 0, bytes, 0, 0, 0, 0, name_bytes, 0] {
        write!(out, "{field:08x}")?;
    }
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, 110 + u64::from(name_bytes))?;
    out.write_all(content)?;
    pad(out, u64::from(bytes))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        let mut archive = Vec::new();
        write(&mut archive, "etc/session", &[("token", b"secret\n".to_vec()), ("empty", Vec::new())]).unwrap();

        let starts: Vec<_> = archive.windows(6).enumerate().filter(|(_, window)| window == b"070701").map(|(at, _)| at).collect();

        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn cpio_unpacks_it_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Vec::new();
        write(&mut archive, "session", &[("token", b"secret\n".to_vec())]).unwrap();
        let unpack = Command::new("cpio").args(["--extract", "--quiet"]).current_dir(dir.path()).stdin(Stdio::piped()).spawn();
        let Ok(mut unpack) = unpack else {
            eprintln!("SKIPPED: cpio is not installed (make prepare)");
            return;
        };
        unpack.stdin.take().unwrap().write_all(&archive).unwrap();

        assert!(unpack.wait().unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("session/token")).unwrap(), b"secret\n");
    }
}
