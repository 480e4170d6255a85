//! The one image of a run, written here and pulled from nowhere: an almost empty root, and a program that waits for ever.
//!
//! An OCI image layout in a tar: `oci-layout`, `index.json` (name and digest of the manifest), and under `blobs/sha256/` the
//! manifest, the configuration and one layer, which is a tar itself. Everything else that containers need is mounted.

use serde_json::json;
use sha2::{Digest, Sha256};

/// Name of the image. The host does not exist and is never asked.
pub const NAME: &str = "range.vedette.invalid/root:1";

/// Where pages of the program are mapped: anywhere but the first ones.
const BASE: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
/// `mov eax, 34` (pause), `syscall`, `jmp` to the begin: a sandbox's process has nothing to do and nothing to link.
const WAIT_FOR_EVER: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// Directories of the root: those that programs expect to be able to write to.
const DIRECTORIES: [(&str, u32); 6] =
    [("run/", 0o755), ("tmp/", 0o1777), ("var/", 0o755), ("var/lib/", 0o755), ("var/run/", 0o755), ("var/tmp/", 0o1777)];

/// The tar that `ctr images import` takes.
#[must_use]
pub fn tar() -> Vec<u8> {
    let mut layer = Vec::new();
    for (name, mode) in DIRECTORIES {
        entry(&mut layer, name, mode, &[]);
    }
    entry(&mut layer, "pause", 0o755, &pause());
    end(&mut layer);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string()
    .into_bytes();
    let blob = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut named = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    named["annotations"] = json!({"io.containerd.image.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [named]}).to_string();

    let mut image = Vec::new();
    entry(&mut image, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    entry(&mut image, "index.json", 0o644, index.as_bytes());
    for bytes in [&manifest, &config, &layer] {
        entry(&mut image, &digest(bytes).replace("sha256:", "blobs/sha256/"), 0o644, bytes);
    }
    end(&mut image);
    image
}

/// A static x86-64 program of one segment.
fn pause() -> Vec<u8> {
    let begin = u64::from(ELF_HEADER_BYTES) + u64::from(PROGRAM_HEADER_BYTES);
    let length = begin + WAIT_FOR_EVER.len() as u64;
    let mut file = Vec::new();
    // 64 bits, little endian, version 1, System V.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // An executable (2) for x86-64 (62), version 1.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Entry, program headers, no section headers, no flags.
    for value in [BASE + begin, u64::from(ELF_HEADER_BYTES), 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    // One segment to load (1), readable and executable (5): offset, address twice, size twice, alignment.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for value in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    file.extend(WAIT_FOR_EVER);
    file
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Appends one entry in the `ustar` format, owned by root and of no time; a name that ends in `/` is a directory.
fn entry(tar: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = [0u8; 512];
    let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", bytes.len()).as_bytes());
    put(136, b"00000000000");
    // The checksum is taken over blanks in its own place.
    put(148, b"        ");
    put(156, if name.ends_with('/') { b"5" } else { b"0" });
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn end(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 1024, 0);
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_tar_of_ours_is_one_for_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), tar()).unwrap();

        let listed = Command::new("tar").arg("-tf").arg(file.path()).output().unwrap();

        let names = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert_eq!(names.lines().count(), 5);
        assert_eq!(names.lines().take(2).collect::<Vec<_>>(), ["oci-layout", "index.json"]);
        assert!(names.lines().skip(2).all(|name| name.starts_with("blobs/sha256/") && name.len() == 77));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_program_of_a_sandbox_runs_without_anything_and_waits() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, pause()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();

        let mut child = Command::new(&path).stdin(Stdio::null()).spawn().unwrap();

        let call = format!("/proc/{}/syscall", child.id());
        // Until the kernel says that it is in system call 34, or that it may not be looked at; it must not have ended.
        let waits = || std::fs::read_to_string(&call).map_or(true, |text| text.starts_with("34 "));
        while !waits() {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            std::thread::yield_now();
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
