//! The write-ahead log: self-contained segments of checked frames.
//!
//! A segment file is 8 bytes of magic, then frames: length (u32), CRC-32 of the payload (u32), payload; little endian.
//! A payload is one [`record::Record`]: a batch with the subjects that the segment had not seen before. A batch is therefore
//! whole or absent, and a torn tail is cut at the first frame that does not check.

pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod writer;
