//! Walks the cgroup tree for containers: by name anywhere in it, and by the configured globs.

use std::{collections::VecDeque, os::unix::fs::MetadataExt, path::Path};

use crate::{
    config::WatchConfig,
    glob,
    metrics::Metrics,
    name::{self, Element, Identity},
    watcher::Watcher,
};

/// Most directories looked at in one walk, those near the root first; what lies beyond is counted and left out.
const MAX_DIRECTORIES: usize = 16_384;
/// Most entries taken of one directory, and most of them that are looked into: one that has more must not use up what there is for all.
const MAX_ENTRIES: usize = 16_384;
const MAX_CHILDREN: usize = 2_048;
/// Most entries of a container's own cgroup that are looked at, to count what it nests: the files of a cgroup are some 80.
const MAX_NESTED: usize = 256;
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
    /// From here on names count: what is before it was chosen by whoever configured the subtree.
    names_from: usize,
    watch: Vec<WatchConfig>,
}

/// Where names begin to count in a path below the subtree: behind the last container on the way to it, or behind `user.slice`.
fn names_from(subtree: &str) -> usize {
    let mut from = 0;
    let mut end = 0;
    for name in subtree.split('/') {
        end += name.len();
        if name == "user.slice" && end == name.len() || matches!(name::element(name), Element::Container { .. }) {
            from = end;
        }
        end += 1;
    }
    from
}

impl Tree {
    /// The tree below `mount`, restricted to `subtree`.
    #[must_use]
    pub fn new(mount: &str, subtree: &str, watch: &[WatchConfig]) -> Self {
        let subtree = subtree.trim_matches('/').to_owned();
        Self { mount: mount.to_owned(), names_from: names_from(&subtree), subtree, watch: watch.to_vec() }
    }

    /// What a directory is, by its path alone. What lies within a container is ignored: the container itself is looked at, as a whole.
    ///
    /// Where the subtree is a container with a whole node in it, or in one, the containers of that node are found.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        if path.is_empty() || !self.inside(path) {
            return if self.within(path) { Place::Parent } else { Place::Ignored };
        }
        let below = path[self.names_from..].trim_start_matches('/');
        let last = below.rsplit('/').next().unwrap_or(below);
        if name::is_nested(below) || name::element(last) == Element::Helper {
            return Place::Ignored;
        }
        let watch = self.watch.iter().find(|watch| glob::matches(&watch.glob, path));
        let identity = name::identify(below).map(|identity| from_root(path, below, identity)).or_else(|| {
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
                Place::Container(Box::new(Found { path: path.to_owned(), identity, watch_name }))
            }
            None if name::is_in_pod(below) => Place::Ignored,
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

    /// Finds everything below `from` (empty for the root), watching each directory that may hold containers before it is read, so that
    /// nothing can appear in between.
    pub fn walk(&self, from: &str, mut watcher: Option<&mut Watcher>, metrics: &Metrics, found: &mut Vec<Found>) {
        let mut queue = VecDeque::from([from.to_owned()]);
        let mut looked_at = 0;
        while let Some(path) = queue.pop_front() {
            looked_at += 1;
            if looked_at > MAX_DIRECTORIES || path.bytes().filter(|&byte| byte == b'/').count() > MAX_DEPTH {
                metrics.limited("cgroup_directories");
                continue;
            }
            if let Some(watcher) = watcher.as_deref_mut()
                && !watcher.watch(&path)
            {
                metrics.limited("inotify_watches");
            }
            // A cgroup that ended meanwhile is normal churn.
            let Ok(entries) = std::fs::read_dir(Path::new(&self.mount).join(&path)) else { continue };
            let mut children = 0;
            for (place, entry) in entries.filter_map(Result::ok).enumerate() {
                if place >= MAX_ENTRIES {
                    metrics.limited("cgroup_directories");
                    break;
                }
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let child = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                match self.place(&child) {
                    Place::Ignored => continue,
                    Place::Parent => {}
                    Place::Container(container) => {
                        let is_watched_only = container.identity.runtime == "cgroup";
                        found.push(*container);
                        if !is_watched_only {
                            self.count_nested(&child, metrics);
                            continue;
                        }
                    }
                }
                if children >= MAX_CHILDREN {
                    metrics.limited("cgroup_directories");
                    continue;
                }
                children += 1;
                queue.push_back(child);
            }
        }
    }

    /// Counts what a container has in its own cgroup that looks like containers or pods.
    fn count_nested(&self, path: &str, metrics: &Metrics) {
        let path = Path::new(&self.mount).join(path);
        // A directory has a link from each one in it: two without any, so that the usual case costs no listing.
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.nlink() == 2) {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&path) else { return };
        let directories = entries.filter_map(Result::ok).take(MAX_NESTED).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for _ in directories.filter(|entry| entry.file_name().to_str().is_some_and(name::claims)) {
            metrics.limited("nested_in_container");
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

/// With the pod's path from the cgroup root on.
fn from_root(path: &str, below: &str, identity: Identity) -> Identity {
    if identity.pod_path.is_empty() {
        return identity;
    }
    let end = path.len() - below.len() + identity.pod_path.len();
    Identity { pod_path: path[..end].to_owned(), ..identity }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Reason;

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
        let beside = format!("kubepods/{POD}/mine");
        let directories = [format!("{container}/mine/{B}"), format!("{container}/init.scope"), format!("{beside}/{B}")];

        assert_eq!(check(&directories, "", &[]), [(container.clone(), String::new())]);
        let all = "all".to_owned();
        let watched = [(container, all.clone()), (beside.clone(), all.clone()), (format!("{beside}/{B}"), all)];
        assert_eq!(check(&directories, "", &[("all", "kubepods/*/*/**")]), watched, "a glob watches what no container made");
    }

    #[test]
    fn a_pod_claimed_within_a_container_is_counted_and_never_found() {
        let mount = tempfile::tempdir().unwrap();
        let container = format!("kubepods/{POD}/{A}");
        let other = POD.replace("a1fb", "b2fb");
        for below in [format!("kubepods/{other}/{B}"), format!("docker/{B}"), B.to_owned(), format!("{other}/{B}"), "init.scope".to_owned()]
        {
            std::fs::create_dir_all(mount.path().join(&container).join(below)).unwrap();
        }
        let (tree, metrics, mut found) = (Tree::new(mount.path().to_str().unwrap(), "", &[]), Metrics::default(), Vec::new());

        tree.walk("", None, &metrics, &mut found);

        assert_eq!(found.iter().map(|found| found.path.as_str()).collect::<Vec<_>>(), [&container]);
        assert_eq!(tree.place(&format!("{container}/kubepods/{other}/{B}")), Place::Ignored);
        assert_eq!(metrics.limited.get_or_create(&Reason { reason: "nested_in_container" }).get(), 4);
    }

    #[test]
    fn a_node_in_a_container_is_found_where_the_subtree_is_that_container() {
        let node = format!("docker/{A}");
        let inner = format!("{node}/kubelet/kubepods/besteffort/{POD}/{B}");

        assert_eq!(check(std::slice::from_ref(&inner), "", &[]), [(node.clone(), String::new())]);
        assert_eq!(check(std::slice::from_ref(&inner), &node, &[]), [(inner.clone(), String::new())]);
        let tree = Tree::new("", &node, &[]);
        let Place::Container(found) = tree.place(&inner) else { panic!("{inner}") };
        assert_eq!(
            (found.identity.pod_uid.as_str(), found.identity.pod_path.as_str()),
            (&POD[3..], inner.strip_suffix(&format!("/{B}")).unwrap())
        );
    }

    #[test]
    fn a_pod_is_one_also_where_the_subtree_is_below_the_root_of_pods() {
        for (above, subtree) in [
            ("lab/kubepods", "lab/kubepods"),
            ("kubepods/burstable", "kubepods/burstable"),
            ("user.slice/user-1000.slice/kubepods", "user.slice/user-1000.slice"),
        ] {
            let container = format!("{above}/{POD}/{A}");
            let Place::Container(found) = Tree::new("", subtree, &[]).place(&container) else { panic!("{container}") };

            assert_eq!((found.identity.pod_uid.as_str(), found.identity.pod_path), (&POD[3..], format!("{above}/{POD}")), "{subtree}");
        }
        let Place::Container(found) = Tree::new("", "", &[]).place(&format!("user.slice/kubepods/{POD}/{A}")) else { panic!() };
        assert_eq!(found.identity.pod_uid, "", "unless a user says so");
    }

    #[test]
    fn ten_thousand_cgroups_of_one_hide_no_container_of_another() {
        let crowd = (0..10_000).map(|number| format!("a.slice/a.service/{number}"));
        let container = format!("kubepods/burstable/{POD}/{A}");
        let directories: Vec<_> = crowd.chain([container.clone()]).collect();

        assert_eq!(check(&directories, "", &[]), [(container, String::new())]);
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
