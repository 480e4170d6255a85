//! Where things are: the checkout, the cache, the binaries under test.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The checkout's top folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout").to_path_buf()
}

/// Where `make prepare` puts what the tests need: `VEDETTE_CACHE`, else a folder in the user's cache.
#[must_use]
pub fn cache() -> PathBuf {
    if let Some(cache) = env::var_os("VEDETTE_CACHE") {
        return cache.into();
    }
    let base = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache")).join("vedette")
}

/// A binary of this workspace: in `VEDETTE_BINARIES`, else built beside the running test.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = env::var_os("VEDETTE_BINARIES") {
        return Path::new(&folder).join(name);
    }
    let test = env::current_exe().expect("a process knows its own file");
    // target/debug/deps/test-hash -> target/debug/name
    let folder = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    folder.join(name)
}
