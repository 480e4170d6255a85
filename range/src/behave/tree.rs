//! A directory of generated files, for what archives, copies or compiles them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::text::Language;

/// Largest tree, MiB, whatever is asked for.
pub(super) const MAX_MIB: usize = 512;
/// Files per directory.
const PER_DIRECTORY: usize = 50;

/// Writes text files of 4 to 200 kB, `mib` in all, below `top`; their paths, in order.
pub(super) fn plant(top: &Path, mib: usize, seed: u64) -> std::io::Result<Vec<PathBuf>> {
    let total = mib.clamp(1, MAX_MIB) * 1024 * 1024;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut language = Language::new(seed);
    let text = language.text(1024 * 1024);
    let (mut files, mut bytes) = (Vec::new(), 0);
    while bytes < total {
        let directory = top.join(format!("d{:02}", files.len() / PER_DIRECTORY));
        fs::create_dir_all(&directory)?;
        let length = rng.random_range(4_096..200_000usize).min(total - bytes);
        let start = rng.random_range(0..text.len() - length);
        let path = directory.join(format!("f{:05}.txt", files.len()));
        fs::write(&path, &text[start..start + length])?;
        files.push(path);
        bytes += length;
    }
    Ok(files)
}

/// Writes other text into so many of the files, at the length they have.
pub(super) fn edit(files: &[PathBuf], count: usize) -> std::io::Result<()> {
    for _ in 0..count.min(files.len()) {
        let path = &files[rand::random_range(0..files.len())];
        let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or(0);
        let mut text = Language::new(rand::random()).text(length);
        text.truncate(length);
        fs::write(path, text)?;
    }
    Ok(())
}

/// C sources of so many functions each that need no headers.
pub(super) fn sources(top: &Path, units: usize, functions: usize) -> std::io::Result<Vec<PathBuf>> {
    fs::create_dir_all(top)?;
    let mut rng = StdRng::seed_from_u64(units as u64);
    let mut unit = |number: usize| {
        let mut text = String::new();
        for function in 0..functions {
            let (a, b, c) = (rng.random_range(3..97u32), rng.random_range(3..97u32), rng.random_range(1..31u32));
            text.push_str(&format!(
                "static unsigned t{number}_{function}[64];\nunsigned f{number}_{function}(unsigned x, const unsigned *p, int n) {{\n  \
                 unsigned s = x;\n  for (int i = 0; i < n; i++) {{\n    s = s * {a}u + (p[i] ^ (s >> {c}));\n    \
                 switch (s % 7u) {{ case 0: s += {b}u; break; case 3: s ^= p[(i + {a}) % n]; break; default: t{number}_{function}[s & 63] += s; }}\n  \
                 }}\n  for (int i = 0; i < 64; i++) s ^= t{number}_{function}[i] * {b}u;\n  return s;\n}}\n"
            ));
        }
        text
    };
    let paths: Vec<_> = (0..units).map(|number| top.join(format!("u{number:03}.c"))).collect();
    for (number, path) in paths.iter().enumerate() {
        fs::write(path, unit(number))?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_size_asked_for_and_changes_where_edited() {
        let top = std::env::temp_dir().join(format!("vedette-tree-{}", std::process::id()));
        let files = plant(&top, 1, 5).unwrap();
        let read = || files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
        let before = read();

        edit(&files, 1).unwrap();

        let changed = before.iter().zip(read()).filter(|(old, new)| *old != new).count();
        assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 1024 * 1024);
        assert_eq!(changed, 1);
        fs::remove_dir_all(&top).unwrap();
    }
}
