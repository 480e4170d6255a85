//! Where recipes find their programs, run them, and whom they run them as.

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::thread::UnshareFlags;

use super::{BehaviourError, offspring::start, scratch::Scratch};

/// Where Debian puts programs; postgres's servers are elsewhere, by version.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const POSTGRES: &str = "/usr/lib/postgresql";

/// Programs by name, found.
pub(super) type Programs = HashMap<&'static str, PathBuf>;

/// Finds every program, or says which Debian package brings the first that is missing.
pub(super) fn find(wanted: &[(&'static str, &'static str)]) -> Result<Programs, BehaviourError> {
    wanted
        .iter()
        .map(|&(program, package)| {
            let dirs = postgres_dirs().into_iter().chain(PATH.split(':').map(PathBuf::from));
            let path = dirs.map(|dir| dir.join(program)).find(|path| path.is_file());
            Ok((program, path.ok_or(BehaviourError::Missing { program, package })?))
        })
        .collect()
}

/// The newest version first. Before the others, because what is in them is a wrapper in Perl.
fn postgres_dirs() -> Vec<PathBuf> {
    let entries = fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let mut versions: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().map(|version| Path::new(POSTGRES).join(version.to_string()).join("bin")).collect()
}

/// Somebody to run a program as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// A user of this system by name. `None` where there is no such user.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::find(&fs::read_to_string("/etc/passwd").ok()?, name)
    }

    fn find(table: &str, name: &str) -> Option<Self> {
        let mut fields =
            table.lines().map(|line| line.split(':')).find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        Some(Self { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}

/// The directory and the programs.
pub(super) struct Kitchen {
    scratch: Scratch,
    programs: Programs,
}

impl Kitchen {
    /// An empty directory `program` below `dir`.
    pub(super) fn open(dir: &Path, programs: Programs) -> Result<Self, BehaviourError> {
        // Postgres keeps a small System V segment that outlives a kill: it goes with the namespace. In a container there is one already,
        // and no right to make another.
        #[expect(deprecated)]
        let _ = rustix::thread::unshare(UnshareFlags::NEWIPC);
        Ok(Self { scratch: Scratch::empty(dir, "program")?, programs })
    }

    pub(super) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Makes a directory that belongs to this user.
    pub(super) fn room(&self, name: &str, user: Option<User>) -> Result<PathBuf, BehaviourError> {
        let path = self.scratch.join(name);
        let made = fs::create_dir_all(&path).and_then(|()| match user {
            Some(user) => chown(&path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        });
        made.map_err(|error| BehaviourError::File("create", path.clone(), error))?;
        Ok(path)
    }

    /// A program of the recipe, with an environment of its own, in the directory.
    pub(super) fn command(&self, program: &'static str, user: Option<User>) -> Command {
        let mut command = Command::new(self.programs.get(program).map_or(Path::new(program), PathBuf::as_path));
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("HOME", self.path()).env("TMPDIR", self.path());
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Runs to the end; what it complained of last is the error.
    pub(super) fn run(&self, command: &mut Command) -> Result<(), BehaviourError> {
        let name = name(command);
        let ended = start(command.stderr(Stdio::piped())).and_then(Child::wait_with_output);
        let ended = ended.map_err(|error| BehaviourError::Program(name.clone(), error.to_string()))?;
        if ended.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&ended.stderr);
        let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Err(BehaviourError::Program(name, format!("{}: {last}", ended.status)))
    }

    /// Starts, and goes on.
    pub(super) fn begin(&self, command: &mut Command) -> Result<Child, BehaviourError> {
        let name = name(command);
        start(command).map_err(|error| BehaviourError::Program(name, error.to_string()))
    }
}

fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_names_its_package() {
        let error = find(&[("sh", "dash"), ("no-such-program", "its-package")]).unwrap_err();

        assert_eq!(error.to_string(), "no-such-program is not installed here: Debian's package its-package brings it");
    }

    #[test]
    fn a_user_is_found_by_name() {
        let table = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:PostgreSQL:/var:/bin/bash\n";

        assert_eq!(User::find(table, "postgres"), Some(User { uid: 101, gid: 104 }));
        assert_eq!(User::find(table, "post"), None);
    }
}
