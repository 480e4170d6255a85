//! What a recording says of the machine and the checkout that it was made on.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// 2 where the unified hierarchy is the only one, else 1.
pub fn cgroup_version() -> u32 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").is_file() { 2 } else { 1 }
}

/// Release of the running kernel; empty where it does not say.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Commit of the checkout in the working directory, `-dirty` if something differs from it. `None` where there is none.
pub async fn checkout_commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = git.output().await.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|commit| !commit.is_empty())
}
