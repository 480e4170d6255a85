//! A compression batch: deflates generated text, chunk by chunk, and now and then checks that it comes back. To the kernel it is a
//! program that uses a share of a core and no network, as a miner is.

use std::{hint::black_box, io::Write};

use flate2::{Compression, write::ZlibDecoder, write::ZlibEncoder};

use super::{BehaviourError, duty::DutyArgs, text::Language};

/// Compressed in one step.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most text held per thread, MiB.
const MAX_MIB: usize = 512;
/// Every so many chunks are decompressed and compared.
const CHECKED: usize = 16;

/// What to compress, how fast.
#[derive(clap::Args, Debug)]
pub struct CompressArgs {
    #[command(flatten)]
    duty: DutyArgs,
    /// Level, 1 to 9
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=9))]
    level: u32,
    /// Text held in memory per thread, MiB, at most 512
    #[arg(long, default_value_t = 8)]
    mib: usize,
}

/// Compresses until its time is over.
pub(super) fn run(args: &CompressArgs) -> Result<(), BehaviourError> {
    args.duty.spend(|thread| {
        let text = repeated(&mut Language::new(u64::from(thread) + 1), args.mib.clamp(1, MAX_MIB) * 1024 * 1024);
        let mut chunk = 0;
        let mut packed_bytes = 0u64;
        move || {
            let chunks = text.len() / CHUNK_BYTES;
            let start = chunk % chunks * CHUNK_BYTES;
            let plain = &text[start..start + CHUNK_BYTES];
            // Writing to a vector cannot fail.
            let packed = pack(plain, args.level).unwrap_or_default();
            if chunk.is_multiple_of(CHECKED) {
                assert_eq!(unpack(&packed).as_deref().ok(), Some(plain), "compressed text came back different");
            }
            packed_bytes += packed.len() as u64;
            black_box(packed_bytes);
            chunk += 1;
        }
    });
    Ok(())
}

/// Text of this many bytes: a paragraph of it generated, the rest a repetition with another number in front, so that filling is quick.
pub(super) fn repeated(language: &mut Language, bytes: usize) -> Vec<u8> {
    let paragraph = language.text(bytes.min(1024 * 1024));
    let mut text = Vec::with_capacity(bytes + paragraph.len() + 32);
    while text.len() < bytes {
        text.extend_from_slice(format!("part {}\n", text.len()).as_bytes());
        text.extend_from_slice(&paragraph);
    }
    text.truncate(bytes);
    text
}

/// The zlib stream of some bytes.
pub(super) fn pack(plain: &[u8], level: u32) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::new(level));
    encoder.write_all(plain)?;
    encoder.finish()
}

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = ZlibDecoder::new(Vec::new());
    decoder.write_all(packed)?;
    decoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_smaller_and_comes_back() {
        let text = repeated(&mut Language::new(3), 200_000);

        let packed = pack(&text, 6).unwrap();

        assert_eq!(text.len(), 200_000);
        assert!(packed.len() < text.len() / 2, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), text);
    }
}
