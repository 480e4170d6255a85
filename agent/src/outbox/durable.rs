//! Small files replaced as a whole: after a power cut there is the old content or the new, never an empty file.

use std::{fs::File, io::Write, path::Path};

/// Writes `<name>.new`, makes it durable, and puts it in the place of `name`.
///
/// # Errors
/// The file system's; the file is then as it was before.
pub fn replace(directory: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(name))?;
    // The name is durable once the directory is.
    File::open(directory)?.sync_all()
}
