//! A backup: every file of a directory as one tar stream, in chunks that a store acknowledges, again and again. Always an upload, as an
//! exfiltration is.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{BehaviourError, Bounds, scratch::Scratch, store::Depositor, tree};
use crate::guard::Guard;

/// Most bytes per second, whatever is asked for.
pub(super) const MAX_RATE: u64 = 20_000_000;
/// A tar stream is made of these.
const BLOCK: usize = 512;

/// What is backed up, how fast, how often.
#[derive(clap::Args, Debug)]
pub struct BackupArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The store
    #[arg(long)]
    target: SocketAddrV4,
    /// The workload's directory; what is backed up is made in `backup` below it
    #[arg(long)]
    dir: PathBuf,
    /// Size of what is backed up, MiB, at most 512
    #[arg(long, default_value_t = 16)]
    tree_mib: usize,
    /// Bytes per second, at most 20 MB
    #[arg(long, default_value_t = 4_000_000)]
    rate: u64,
    /// Bytes per chunk, KiB, at most 4096
    #[arg(long, default_value_t = 512)]
    chunk_kib: usize,
    /// Seconds from the start of one backup to the next
    #[arg(long, default_value_t = 60)]
    every_seconds: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Backs up until its time is over.
pub(super) async fn run(args: BackupArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let scratch = Scratch::empty(&args.dir, "backup")?;
    let failed = |error| BehaviourError::File("fill", scratch.path().to_owned(), error);
    let files = tree::plant(scratch.path(), args.tree_mib, 11).map_err(failed)?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    while Instant::now() < until {
        let began = Instant::now();
        // A store that fails costs this backup, not the next.
        if let Err(error) = back_up(&guard, &args, scratch.path(), &files, until).await {
            eprintln!("{}: backup failed: {error}", args.target);
        }
        tree::edit(&files, files.len() / 20 + 1).map_err(failed)?;
        let rest = Duration::from_secs(args.every_seconds.max(1)).saturating_sub(began.elapsed());
        tokio::time::sleep(rest.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(())
}

async fn back_up(guard: &Guard, args: &BackupArgs, top: &Path, files: &[PathBuf], until: Instant) -> std::io::Result<()> {
    let mut store = Depositor::connect(guard, args.target).await?;
    let chunk_bytes = args.chunk_kib.clamp(16, 4_096) * 1024;
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let (began, mut sent) = (Instant::now(), 0usize);
    for (number, path) in files.iter().enumerate() {
        let contents = fs::read(path)?;
        chunk.extend_from_slice(&header(&path.strip_prefix(top).unwrap_or(path).to_string_lossy(), contents.len()));
        chunk.extend_from_slice(&contents);
        chunk.resize(chunk.len().next_multiple_of(BLOCK), 0);
        if number + 1 == files.len() {
            chunk.extend_from_slice(&[0; 2 * BLOCK]);
        }
        while chunk.len() >= chunk_bytes || (number + 1 == files.len() && !chunk.is_empty()) {
            if Instant::now() >= until {
                return Ok(());
            }
            let part: Vec<u8> = chunk.drain(..chunk_bytes.min(chunk.len())).collect();
            store.put(&format!("backup/{sent}"), &part).await?;
            sent += part.len();
            let due = Duration::from_secs_f64(sent as f64 / args.rate.clamp(1, MAX_RATE) as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    Ok(())
}

/// The header block of a file in a tar stream (POSIX ustar).
fn header(name: &str, length: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |place: usize, text: &str| block[place..place + text.len()].copy_from_slice(text.as_bytes());
    put(0, &name[..name.len().min(99)]);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{length:011o}\0"));
    put(136, "00000000000\0");
    // The checksum counts itself as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_that_tar_reads() {
        let mut archive = header("d00/f00001.txt", 5).to_vec();
        archive.extend_from_slice(b"hello");
        archive.resize(BLOCK * 4, 0);
        let path = std::env::temp_dir().join(format!("vedette-header-{}.tar", std::process::id()));
        fs::write(&path, archive).unwrap();

        let listed = std::process::Command::new("tar").arg("-tvf").arg(&path).output();

        fs::remove_file(&path).unwrap();
        let Ok(listed) = listed else {
            eprintln!("SKIPPED: tar is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert!(text.contains(" 5 ") && text.contains("d00/f00001.txt"), "{text}");
    }
}
