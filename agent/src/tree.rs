//! Walks the cgroup tree for containers: by name anywhere in it, and by the configured globs.

use std::path::Path;

use crate::{
    config::WatchConfig,
    glob,
    metrics::Metrics,
    name::{self, Element, Identity},
    watcher::Watcher,
};

/// Most directories looked at in one walk; what lies beyond is counted and left out.
const MAX_DIRECTORIES: usize = 16_384;
/// Deepest path that is walked.
const MAX_DEPTH: usize = 24;

/// Longest name of a watched cgroup that is sent; longer ones are cut, and still told apart by their path.
const MAX_NAME: usize = 128;

/// A container or a watched cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path below the cgroup root.
    pub path: String,
    /// What the path says.
    pub identity: Identity,
    /// Name given by the glob; empty for a container found by its name alone.
    pub watch_name: String,
    /// It lies within another container (a node in a container), whose counters include it.
    pub nested: bool,
}

/// What a directory is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// To observe.
    Container(Box<Found>),
    /// May hold containers.
    Parent,
    /// Neither.
    Ignored,
}

/// The part of the tree that is looked at.
#[derive(Clone, Debug)]
pub struct Tree {
    mount: String,
    subtree: String,
    watch: Vec<WatchConfig>,
}

impl Tree {
    /// The tree below `mount`, restricted to `subtree`.
    #[must_use]
    pub fn new(mount: &str, subtree: &str, watch: &[WatchConfig]) -> Self {
        Self { mount: mount.to_owned(), subtree: subtree.trim_matches('/').to_owned(), watch: watch.to_vec() }
    }

    /// What a directory is, by its path alone.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        let mut elements = path.split('/').rev();
        let Some(last) = elements.next() else { return Place::Ignored };
        let nested = elements.any(|element| matches!(name::element(element), Element::Container { .. }));
        if nested && !name::may_nest(last) || name::element(last) == Element::Helper {
            return Place::Ignored;
        }
        let watch = self.watch.iter().find(|watch| glob::matches(&watch.glob, path));
        let identity = name::identify(path).or_else(|| {
            watch.map(|_| Identity {
                container_id: last[..last.floor_char_boundary(MAX_NAME)].to_owned(),
                runtime: "cgroup",
                pod_uid: String::new(),
                pod_path: String::new(),
            })
        });
        match identity {
            Some(identity) => {
                let watch_name = watch.map(|watch| watch.name.clone()).unwrap_or_default();
                Place::Container(Box::new(Found { path: path.to_owned(), identity, watch_name, nested }))
            }
            None => Place::Parent,
        }
    }

    /// Whether a path is in the part that is looked at, or on the way to it.
    fn within(&self, path: &str) -> bool {
        let (short, long) = if path.len() < self.subtree.len() { (path, self.subtree.as_str()) } else { (self.subtree.as_str(), path) };
        short.is_empty() || long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether a path is in the part that is looked at, and not only on the way to it.
    fn inside(&self, path: &str) -> bool {
        self.subtree.is_empty() || path.strip_prefix(self.subtree.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Finds everything at and below `from` (empty for the root), watching each directory that may hold containers before it is read, so that
    /// nothing can appear in between.
    pub fn walk(&self, from: &str, mut watcher: Option<&mut Watcher>, metrics: &Metrics, found: &mut Vec<Found>) {
        let mut stack = vec![from.to_owned()];
        let mut looked_at = 0;
        while let Some(path) = stack.pop() {
            if !self.within(&path) {
                continue;
            }
            let mut inside_container = false;
            if !path.is_empty() && self.inside(&path) {
                match self.place(&path) {
                    Place::Container(container) => {
                        inside_container = container.identity.runtime != "cgroup";
                        found.push(*container);
                    }
                    Place::Parent => {}
                    Place::Ignored => continue,
                }
            }
            looked_at += 1;
            if looked_at > MAX_DIRECTORIES || path.bytes().filter(|&byte| byte == b'/').count() > MAX_DEPTH {
                metrics.limited("cgroup_directories");
                continue;
            }
            if !inside_container
                && let Some(watcher) = watcher.as_deref_mut()
                && !watcher.watch(&path)
            {
                metrics.limited("inotify_watches");
            }
            // A cgroup that ended meanwhile is normal churn.
            let Ok(entries) = std::fs::read_dir(Path::new(&self.mount).join(&path)) else { continue };
            for entry in entries.filter_map(Result::ok) {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if inside_container && !name::may_nest(name) {
                    continue;
                }
                stack.push(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
            }
        }
    }

    /// Whether the directory exists.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        Path::new(&self.mount).join(path).is_dir()
    }

    /// Whether the root of the tree can be read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn readable(&self) -> std::io::Result<()> {
        std::fs::read_dir(&self.mount).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const POD: &str = "poda1fbc318-347b-4575-a8b3-010c05abc66b";

    fn check(directories: &[String], subtree: &str, watch: &[(&str, &str)]) -> Vec<(String, String)> {
        let mount = tempfile::tempdir().unwrap();
        for directory in directories {
            std::fs::create_dir_all(mount.path().join(directory)).unwrap();
        }
        let watch: Vec<_> = watch.iter().map(|(name, glob)| WatchConfig { name: (*name).into(), glob: (*glob).into() }).collect();
        let tree = Tree::new(mount.path().to_str().unwrap(), subtree, &watch);
        let mut found = Vec::new();

        tree.walk("", None, &Metrics::default(), &mut found);

        let mut found: Vec<_> = found.into_iter().map(|found| (found.path, found.watch_name)).collect();
        found.sort();
        found
    }

    #[test]
    fn what_a_container_does_with_its_own_cgroup_is_not_walked() {
        let container = format!("kubepods/{POD}/{A}");
        let directories = [format!("{container}/mine/{B}"), format!("{container}/init.scope")];

        assert_eq!(check(&directories, "", &[]), [(container, String::new())]);
    }

    #[test]
    fn a_node_in_a_container_is_found_with_its_containers() {
        let node = format!("docker/{A}");
        let inner = format!("{node}/kubelet/kubepods/besteffort/{POD}/{B}");

        assert_eq!(check(std::slice::from_ref(&inner), "", &[]), [(node, String::new()), (inner, String::new())]);
    }

    #[test]
    fn only_the_subtree_is_looked_at() {
        let inside = format!("lab/kubepods/{POD}/{A}");
        let directories = [inside.clone(), format!("kubepods/{POD}/{B}"), format!("laboratory/{POD}/{B}")];

        assert_eq!(check(&directories, "/lab/", &[]), [(inside, String::new())]);
    }

    #[test]
    fn globs_watch_any_cgroup() {
        let directories = ["system.slice/ssh.service".to_owned(), "system.slice/cron.service".to_owned(), "user.slice".to_owned()];

        assert_eq!(check(&directories, "", &[("ssh", "system.slice/ssh*")]), [("system.slice/ssh.service".to_owned(), "ssh".to_owned())]);
    }
}
