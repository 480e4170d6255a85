//! Compiles `proto/` with protox, so that a fresh clone needs no protoc.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 8] = ["types", "ingest", "label", "query", "export", "policy", "console", "model"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/vedette");
    let files = FILES.map(|name| format!("vedette/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("vedette.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
