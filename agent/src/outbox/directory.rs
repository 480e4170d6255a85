//! The spool's directory: whose it is, which version and identity it has, and the one small file that the segments do not replace.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use prost::Message;

use super::{
    OutboxError, durable,
    frame::{self, State},
};

/// An open spool directory; nobody else has it open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    spool_id: [u8; 16],
    _lock: File,
}

/// What was found in the directory.
pub struct Contents {
    /// Segments, the oldest first.
    pub segments: Vec<PathBuf>,
    /// The file `state`; `None` where it is missing or damaged.
    pub state: Option<State>,
    /// The spool was made just now.
    pub is_new: bool,
}

impl Directory {
    /// Opens a directory, or makes one.
    ///
    /// # Errors
    /// [`OutboxError`] names the directory or the file.
    pub fn open(path: &Path) -> Result<(Self, Contents), OutboxError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OutboxError::Io { path, source }
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OutboxError::InUse { path: path.to_owned() })?;
        let mut segments: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io(path))? {
            let path = entry.map_err(io(path))?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                segments.push(path);
            }
        }
        segments.sort();
        check_version(path, !segments.is_empty())?;
        let (spool_id, is_new) = spool_id(path, !segments.is_empty())?;
        let state_path = path.join("state");
        let state = match std::fs::read(&state_path) {
            Ok(bytes) => frame::read(&bytes).and_then(|payload| State::decode(payload).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(OutboxError::Io { path: state_path, source }),
        };
        Ok((Self { path: path.to_owned(), spool_id, _lock: lock }, Contents { segments, state, is_new }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Random identity of the spool, made with it.
    #[must_use]
    pub fn spool_id(&self) -> [u8; 16] {
        self.spool_id
    }

    /// Replaces the file `state`.
    ///
    /// # Errors
    /// The file system's; the file is then as it was before.
    pub fn save_state(&self, state: &State) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        frame::write(state, &mut bytes);
        durable::replace(&self.path, "state", &bytes)
    }

    /// Removes the file `state`, which needs no room: without it the next run skips ahead.
    pub fn forget_state(&self) {
        let path = self.path.join("state");
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the spool's state: a kill now may cost batches that nobody misses");
        }
    }
}

fn check_version(directory: &Path, has_segments: bool) -> Result<(), OutboxError> {
    let path = directory.join("version");
    match std::fs::read_to_string(&path) {
        Ok(found) if found == frame::VERSION => Ok(()),
        // Begun and cut off by a power cut: nothing was in the spool.
        Ok(found) if found.is_empty() && !has_segments => write_version(directory),
        Ok(found) => Err(OutboxError::Version { path: directory.to_owned(), found: found.trim_end().chars().take(60).collect() }),
        Err(error) if error.kind() == ErrorKind::NotFound && !has_segments => write_version(directory),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(OutboxError::Version { path: directory.to_owned(), found: "segments without a version".to_owned() })
        }
        Err(source) => Err(OutboxError::Io { path, source }),
    }
}

fn write_version(directory: &Path) -> Result<(), OutboxError> {
    durable::replace(directory, "version", frame::VERSION.as_bytes())
        .map_err(|source| OutboxError::Io { path: directory.join("version"), source })
}

/// The spool's identity, and whether it was made just now.
fn spool_id(directory: &Path, has_segments: bool) -> Result<([u8; 16], bool), OutboxError> {
    let path = directory.join("spool-id");
    let io = |source| OutboxError::Io { path: path.clone(), source };
    let new = || {
        let id = uuid::Uuid::new_v4();
        durable::replace(directory, "spool-id", format!("{id}\n").as_bytes()).map_err(io)?;
        Ok((id.into_bytes(), true))
    };
    match std::fs::read_to_string(&path) {
        // Without a batch the identity names nothing yet.
        Ok(text) if text.trim().is_empty() && !has_segments => new(),
        Ok(text) => match uuid::Uuid::parse_str(text.trim()) {
            Ok(id) => Ok((id.into_bytes(), false)),
            Err(error) => Err(io(std::io::Error::new(ErrorKind::InvalidData, error))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => new(),
        Err(error) => Err(io(error)),
    }
}
