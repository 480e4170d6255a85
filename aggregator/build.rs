//! Embeds `console/dist`, which is committed: a machine without npm has a console too. Without the folder the table is empty.

use std::{env, fmt::Write, fs, io, path::Path};

fn main() -> io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../console/dist");
    println!("cargo:rerun-if-changed={}", dist.display());
    let mut names = Vec::new();
    if dist.is_dir() {
        list(&dist, "", &mut names)?;
    }
    names.sort();
    let mut table = String::from("&[\n");
    for name in names {
        let file = dist.join(&name);
        println!("cargo:rerun-if-changed={}", file.display());
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", file.display().to_string()).map_err(io::Error::other)?;
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(Path::new(&out).join("console_files.rs"), table)
}

/// The files below a folder, by their paths in it.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}
