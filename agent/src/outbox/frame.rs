//! The spool's file format, version 1.
//!
//! A segment `<first sequence, 20 digits>.seg` is a row of frames: length (u32 LE), CRC-32 of the payload (u32 LE), payload. The first payload is a
//! [`Header`], each other one a `Batch`. A frame that is cut short or does not match its sum ends the segment: that is where a kill struck.

use prost::Message;
use vedette_proto::v1::{ContainerAdded, Dropped};

/// Written into the file `version` of the directory.
pub const VERSION: &str = "vedette-spool 1\n";
/// Largest payload: 2,000 containers with every column are below 2 MiB.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Bytes before a payload.
pub const FRAME_HEAD: usize = 8;

/// Begins a segment: everything needed to understand what follows without the segments before.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// Sequence of the first batch.
    #[prost(uint64, tag = "1")]
    pub first_sequence: u64,
    /// Above every container reference used before.
    #[prost(uint32, tag = "2")]
    pub next_reference: u32,
    /// The containers announced and not removed before this segment.
    #[prost(message, repeated, tag = "3")]
    pub containers: Vec<ContainerAdded>,
}

/// What the segments do not say; the file `state`, replaced as a whole.
#[derive(Clone, PartialEq, Message)]
pub struct State {
    /// The boot in which the spool was last opened.
    #[prost(string, tag = "1")]
    pub boot_id: String,
    /// Holes, by the sequence that follows them.
    #[prost(message, repeated, tag = "2")]
    pub gaps: Vec<Gap>,
    /// Batches held that are never to be sent: damaged, or refused too often.
    #[prost(uint64, repeated, tag = "3")]
    pub skipped: Vec<u64>,
}

/// A hole before a batch.
#[derive(Clone, PartialEq, Message)]
pub struct Gap {
    /// The sequence that follows.
    #[prost(uint64, tag = "1")]
    pub before: u64,
    /// What is missing.
    #[prost(message, optional, tag = "2")]
    pub dropped: Option<Dropped>,
}

/// Appends a frame to a buffer.
pub fn write(payload: &impl Message, frame: &mut Vec<u8>) {
    let start = frame.len();
    frame.extend_from_slice(&[0; FRAME_HEAD]);
    payload.encode_raw(frame);
    let body = &frame[start + FRAME_HEAD..];
    let (length, sum) = (body.len() as u32, crc32fast::hash(body));
    frame[start..start + 4].copy_from_slice(&length.to_le_bytes());
    frame[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The payload of the frame that the bytes begin with; `None` where it is cut short or damaged.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let payload = rest.get(..length).filter(|_| length <= MAX_PAYLOAD)?;
    (crc32fast::hash(payload) == sum).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_and_a_cut_or_changed_one_does_not(first in 1..u64::MAX, cut in 1..12usize, flip in 0..200usize) {
            let header = Header { first_sequence: first, next_reference: 7, containers: vec![ContainerAdded { container_id: "c".repeat(64), ..Default::default() }] };
            let mut frame = Vec::new();
            write(&header, &mut frame);

            prop_assert_eq!(Header::decode(read(&frame).unwrap()).unwrap(), header);
            prop_assert_eq!(read(&frame[..frame.len() - cut]), None);
            let place = flip % frame.len();
            frame[place] ^= 0x10;
            prop_assert_eq!(read(&frame), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }
}
