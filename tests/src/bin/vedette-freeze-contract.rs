//! Freezes today's contract as the one that the next version must still speak: run at each release, commit what it writes.

use std::{fmt::Write, fs};

use prost::Message;
use vedette_proto::{Column, FILE_DESCRIPTOR_SET};
use vedette_tests::checkout;

fn main() -> anyhow::Result<()> {
    let mut descriptors = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    for file in &mut descriptors.file {
        // Comments are not part of the wire.
        file.source_code_info = None;
    }
    let mut columns = String::new();
    for column in Column::ALL {
        writeln!(columns, "{} {}", column.id(), column.name())?;
    }
    let folder = checkout::root().join("tests/frozen");
    fs::write(folder.join("vedette.v1.N-1.bin"), descriptors.encode_to_vec())?;
    fs::write(folder.join("columns.N-1.txt"), columns)?;
    println!("froze {} files and {} columns in {}", descriptors.file.len(), Column::COUNT, folder.display());
    Ok(())
}
