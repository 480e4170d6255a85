//! Two tokens of files, made at the first start, readable by the owner only, compared in constant time.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::auth::Role;

/// The tokens of this installation.
pub struct Tokens {
    admin: String,
    agent: String,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be made or read.
    #[error("token file {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something that is no token.
    #[error("token file {path}: must hold one line of 32 to 256 visible characters")]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl Tokens {
    /// Reads `admin.token` and `agent.token`, making what is not there.
    ///
    /// # Errors
    /// [`TokenError`] names the file.
    pub fn open(data_dir: &Path) -> Result<Self, TokenError> {
        Ok(Self { admin: open(data_dir.join("admin.token"))?, agent: open(data_dir.join("agent.token"))? })
    }

    /// The role of a shown token.
    #[must_use]
    pub fn role(&self, shown: &[u8]) -> Option<Role> {
        // Both are always compared: time does not tell which one was close.
        match (same(shown, self.admin.as_bytes()), same(shown, self.agent.as_bytes())) {
            (true, _) => Some(Role::Admin),
            (_, true) => Some(Role::Agent),
            _ => None,
        }
    }
}

fn open(path: PathBuf) -> Result<String, TokenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(|error| TokenError::File { path, error })?;
            Ok(token)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(&path).map_err(|error| TokenError::File { path: path.clone(), error })?;
            let token = text.trim();
            let fits = (32..=256).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
            if fits { Ok(token.to_owned()) } else { Err(TokenError::Content { path }) }
        }
        Err(error) => Err(TokenError::File { path, error }),
    }
}

/// Whether two secrets are the same, in a time that does not tell how close they were.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn tokens_are_made_once_and_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();

        let first = Tokens::open(dir.path()).unwrap();
        let second = Tokens::open(dir.path()).unwrap();

        assert_eq!((&first.admin, &first.agent), (&second.admin, &second.agent));
        assert_ne!(first.admin, first.agent);
        let mode = std::fs::metadata(dir.path().join("admin.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_has_the_role_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();

        assert_eq!(tokens.role(tokens.admin.as_bytes()), Some(Role::Admin));
        assert_eq!(tokens.role(tokens.agent.as_bytes()), Some(Role::Agent));
        assert_eq!(tokens.role(format!("{}x", tokens.agent).as_bytes()), None);
        assert_eq!(tokens.role(b""), None);
    }

    #[test]
    fn an_empty_token_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("admin.token"), "\n").unwrap();

        let error = Tokens::open(dir.path()).err().unwrap().to_string();

        assert!(error.contains("admin.token"), "{error}");
    }
}
