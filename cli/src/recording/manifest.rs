//! What a recording is: where it came from, how much it holds, and the digest of each of its files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::exit::{Exit, Stop};

/// The version of the format that this program writes, and the only one it reads. Further fields and columns do not change it.
pub const FORMAT: u32 = 1;

/// What a session may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Set {
    /// Detectors are made with it.
    Dev,
    /// Thresholds and calibration only; chosen before any detector saw it.
    Cal,
    /// The demonstration's own run: shown, never trained on.
    Demo,
}

/// The file beside the others; `docs/recordings.md` explains each field.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the recording, also the replay's cluster unless another is given: 1 to 63 characters of `a-z 0-9 - .`.
    pub name: String,
    /// Name of the plan.
    pub plan: String,
    /// What order, onset, length and dose came from.
    pub seed: u64,
    /// `local`, `containerd` or `vm`: what ran the containers.
    pub backend: String,
    /// What it may be used for.
    pub set: Set,
    /// First pod created, Unix milliseconds.
    pub started_unix_ms: i64,
    /// Last pod gone, Unix milliseconds.
    pub ended_unix_ms: i64,
    /// The nodes.
    pub nodes: Vec<String>,
    /// 1 or 2.
    pub cgroup_version: u32,
    /// Release of the kernel that was observed.
    pub kernel: String,
    /// Version of the programs.
    pub vedette: String,
    /// Commit of the checkout that they were built from. Absent means: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Rows of the file of observations, the nodes' own included.
    pub rows: u64,
    /// Rows of containers.
    pub container_rows: u64,
    /// Containers, sandboxes left out.
    pub containers: u64,
    /// Labels.
    pub labels: u64,
    /// Containers alive times ticks, as the injector knew it.
    pub expected: u64,
    /// Why there are fewer rows of containers than expected.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Processor time that others than the session used meanwhile, as a share of all there was; 0 to 1. Absent means: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_cpu_share: Option<f64>,
    /// Load average over a minute just before. Absent means: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_before: Option<f64>,
    /// The other files, by name.
    pub files: BTreeMap<String, Fingerprint>,
}

/// Observations that were expected and are not there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Missing {
    /// Why.
    pub reason: String,
    /// How many.
    pub observations: u64,
    /// Of how many containers.
    pub containers: u64,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fingerprint {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
}

impl From<(&'static str, u64, u64)> for Missing {
    fn from((reason, observations, containers): (&'static str, u64, u64)) -> Self {
        Self { reason: reason.to_owned(), observations, containers }
    }
}

impl Manifest {
    /// Reads a manifest; one of another format is refused before anything else of it is looked at.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        /// The one field that every format has.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = fs::read_to_string(path).map_err(|error| Stop::usage(format!("cannot read {}: {error}", path.display())))?;
        let reading = || format!("{} is not the manifest of a recording", path.display());
        let Format { format } = serde_json::from_str(&text).with_context(reading)?;
        if format != FORMAT {
            let told = format!("{} has format {format}, this program reads format {FORMAT}", path.display());
            return Err(Stop::new(Exit::Failure, told).into());
        }
        let manifest: Self = serde_json::from_str(&text).with_context(reading)?;
        if !is_session_name(&manifest.name) {
            bail!("{}: name must be 1 to 63 characters of a-z 0-9 - .", path.display());
        }
        Ok(manifest)
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Every file is there and unchanged.
    pub fn check_files(&self, dir: &Path) -> anyhow::Result<()> {
        for (name, expected) in &self.files {
            let path = dir.join(name);
            if !is_file_name(name) {
                bail!("{}: {name:?} is no name of a file in a recording", dir.display());
            }
            let found = Fingerprint::of(&path)?;
            if found.bytes != expected.bytes {
                bail!("{} has {} bytes, the manifest says {}", path.display(), found.bytes, expected.bytes);
            }
            if found.sha256 != expected.sha256 {
                bail!("{} is not what the manifest says: its SHA-256 is {}", path.display(), found.sha256);
            }
        }
        for name in [super::OBSERVATIONS, super::CONTAINERS, super::LABELS] {
            if !self.files.contains_key(name) {
                bail!("the manifest in {} does not name {name}", dir.display());
            }
        }
        Ok(())
    }

    /// Digest of the observations: what tells one recording from another.
    pub fn digest(&self) -> &str {
        self.files.get(super::OBSERVATIONS).map_or("", |file| &file.sha256)
    }
}

impl Fingerprint {
    /// Of a file.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let reading = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(reading)?;
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut file, &mut hasher).with_context(reading)?;
        Ok(Self { bytes, sha256: hexadecimal(&hasher.finalize()) })
    }
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text can be the name of a replay session.
pub fn is_session_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

/// A plain name: nothing that leads out of the folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
