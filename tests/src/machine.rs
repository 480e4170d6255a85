//! The cgroup v2 virtual machine: boots the image of `make vm-image`, gives back what it said.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{checkout, prerequisite};

/// What the machine printed: lines that begin with "VM ", without that.
pub struct Console {
    /// The lines in order.
    pub lines: Vec<String>,
}

/// What is booted.
pub struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
    memory_mib: u32,
}

/// The files to boot, or `None` where they are missing; the calling test has then been skipped and must return.
#[must_use]
pub fn image() -> Option<Image> {
    named("initramfs.cpio.gz", 1024)
}

/// The same with a container runtime and the agent's image in the machine.
#[must_use]
pub fn image_with_containerd() -> Option<Image> {
    named("initramfs-containerd.cpio.gz", 2048)
}

fn named(initramfs: &str, memory_mib: u32) -> Option<Image> {
    let folder = checkout::cache().join("vm");
    let (kernel, initramfs) = (folder.join("vmlinuz"), folder.join(initramfs));
    let hint = "make prepare vm-image";
    if !prerequisite::file(&kernel, hint) || !prerequisite::file(&initramfs, hint) {
        return None;
    }
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        prerequisite::skip("qemu-system-x86_64 is not installed (make prepare)");
        return None;
    }
    Some(Image { kernel, initramfs, memory_mib })
}

/// Boots the machine with a scenario (a word that its init knows) and waits until it is done.
///
/// # Errors
/// Where qemu cannot be started, or the scenario does not end within the limit; the error holds the last lines.
pub fn boot(image: Image, scenario: &str, limit: Duration) -> anyhow::Result<Console> {
    // KVM is not available where tests run; emulation boots in seconds. Two processors, so that "busy" is not "full".
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m"])
        .arg(image.memory_mib.to_string())
        .args(["-display", "none", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel"])
        .arg(image.kernel)
        .arg("-initrd")
        .arg(image.initramfs)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet loglevel=1 panic=-1 psi=1 cgroup_no_v1=all mitigations=off scenario={scenario}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let output = machine.stdout.take().context("qemu has no output")?;
    let reader = thread::spawn(move || {
        let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
        lines.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned()).collect::<Vec<_>>()
    });
    let started = Instant::now();
    let ended = loop {
        match machine.try_wait()? {
            Some(status) => break Some(status),
            None if started.elapsed() > limit => break None,
            // A process of another program: there is no event to wait for without a signal handler.
            None => thread::sleep(Duration::from_millis(100)),
        }
    };
    if ended.is_none() {
        machine.kill()?;
        machine.wait()?;
    }
    let all = reader.join().map_err(|_| anyhow::anyhow!("the reader of the console panicked"))?;
    let last = || all[all.len().saturating_sub(30)..].join("\n");
    let Some(_) = ended else { bail!("the machine was not done within {limit:?}; it said last:\n{}", last()) };
    // The firmware leaves escape codes before the first line.
    let lines: Vec<_> = all.iter().filter_map(|line| Some(line[line.find("VM ")? + 3..].to_owned())).collect();
    if !lines.iter().any(|line| line == "DONE") {
        bail!("the machine stopped before it was done; it said last:\n{}", last());
    }
    Ok(Console { lines })
}

impl Console {
    /// The rest of every line that begins with a word.
    pub fn after<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// The number that the scenario printed as `TRUTH name number`.
    ///
    /// # Errors
    /// Where there is no such line, or it holds no number.
    pub fn truth(&self, name: &str) -> anyhow::Result<u64> {
        let line = self.after("TRUTH").find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let text = line.with_context(|| format!("the machine did not say TRUTH {name}"))?;
        text.trim().parse().with_context(|| format!("TRUTH {name} is not a number: {text:?}"))
    }
}
