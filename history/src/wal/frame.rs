//! Frames: length, checksum, payload.

/// First bytes of a segment file.
pub(crate) const MAGIC: &[u8; 8] = b"VDTWAL1\n";
/// Bytes before a payload.
pub(crate) const HEADER: usize = 8;
/// Longest payload: far above the largest batch, far below what a flipped bit could ask us to allocate. What is longer is
/// refused before it is written (`record::Draft`), because reading would take it for damage and cut the log there.
pub(crate) const MAX_PAYLOAD: usize = 256 << 20;

/// Appends a frame around what `fill` writes.
pub(crate) fn write(buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    fill(buffer);
    let payload = &buffer[start + HEADER..];
    let length = payload.len() as u32;
    let checksum = crc32fast::hash(payload);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..start + HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// The payload of the frame at the start of `bytes`; `None` where it is torn or damaged.
pub(crate) fn read(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(bytes.get(4..HEADER)?.try_into().ok()?);
    if length == 0 || length > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(HEADER..HEADER + length)?;
    (crc32fast::hash(payload) == checksum).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cut_or_flipped_anywhere_is_not_read() {
        let mut whole = Vec::new();
        write(&mut whole, |buffer| buffer.extend_from_slice(b"one tick of one node"));

        assert_eq!(read(&whole), Some(&b"one tick of one node"[..]));
        for place in 0..whole.len() {
            assert_eq!(read(&whole[..place]), None, "cut at {place}");
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            assert_eq!(read(&flipped), None, "flipped at {place}");
        }
    }
}
