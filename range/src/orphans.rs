//! What the first process of a container owes the others: to take away orphans that ended.
//!
//! Programs that are started inside a container leave their orphans to its first process, and each counts against the limit of
//! processes until it is taken away. Without a container, that is the host's first process's business.

use std::{fs, thread, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid, waitid, waitpid},
};

/// Between two looks while somebody ended who is not an orphan, or nobody is there.
const REST: Duration = Duration::from_millis(100);

/// Starts a thread that does it, if this is a container's first process.
pub fn take_away() {
    if getpid().as_raw_nonzero().get() != 1 {
        return;
    }
    let take_away = || {
        loop {
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) if take_orphans() > 0 => {}
                Ok(_) | Err(Errno::CHILD) => thread::sleep(REST),
                Err(_) => return,
            }
        }
    };
    // Without it the program works all the same.
    let _ = thread::Builder::new().name("orphans".to_owned()).spawn(take_away);
}

/// Takes the orphans away that have ended; how many.
fn take_orphans() -> usize {
    let own_session = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| session_of(&stat));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let orphans = pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_ended_orphan(&stat, own_session)));
    let taken = orphans.filter(|&pid| matches!(waitpid(Pid::from_raw(pid), WaitOptions::NOHANG), Ok(Some(_))));
    taken.count()
}

/// Whether it is a zombie child of the first process that came from elsewhere: a child of its own, which it waits for itself, is in
/// its session.
fn is_ended_orphan(stat: &str, own_session: Option<i32>) -> bool {
    let mut fields = after_name(stat);
    (fields.next(), fields.next()) == (Some("Z"), Some("1")) && session_of(stat) != own_session
}

fn session_of(stat: &str) -> Option<i32> {
    after_name(stat).nth(3)?.parse().ok()
}

/// State, parent, group, session and so on; the name before them may hold spaces and parentheses.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |parts| parts.1).split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_from_outside_and_ended_is_an_orphan_to_take() {
        let orphan = |stat: &str| is_ended_orphan(stat, Some(1));

        assert!(orphan("31 (a ) (b) Z 1 30 0 0 -1"));
        assert!(!orphan("31 (own child) Z 1 31 1 0 -1"));
        assert!(!orphan("31 (alive) S 1 30 0 0 -1"));
        assert!(!orphan("31 (of another) Z 7 30 0 0 -1"));
        assert!(!orphan("31"));
    }
}
