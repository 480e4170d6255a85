//! A model's file, and the key beside it that says whose it is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use vedette_detect::Classifier;
use vedette_proto::v1::GetModelRequest;

use crate::client::Client;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::progress::waiting;

/// A file of a model with the key that signed it.
pub struct ModelFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The key's public half.
    pub public_key: [u8; 32],
}

impl ModelFile {
    /// Reads a file and its key: the one given, else `FILE.pub`, or where that is missing the file's name with `.pub` in place of its ending, as
    /// `vedette train` writes it.
    pub fn read(path: &Path, key: Option<&Path>) -> Result<Self, Stop> {
        let read = |path: &Path| fs::read(path).map_err(|error| Stop::usage(format!("cannot read {}: {error}", path.display())));
        let bytes = read(path)?;
        let key = key.map_or_else(|| key_beside(path), Path::to_owned);
        let public_key = String::from_utf8(read(&key)?).ok().and_then(|text| vedette_detect::key(text.trim()));
        let public_key = public_key.ok_or_else(|| Stop::usage(format!("{} does not hold 64 hexadecimal digits", key.display())))?;
        Ok(Self { path: path.to_owned(), bytes, public_key })
    }

    /// The model in it, named by its hash.
    pub fn classifier(&self) -> Result<Classifier, Stop> {
        Classifier::from_bytes(&self.bytes, &[self.public_key]).map_err(|error| Stop::usage(format!("{}: {error}", self.path.display())))
    }

    /// Writes both, the key as `FILE.pub`.
    pub fn write(&self) -> Result<(), Stop> {
        let write = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes).map_err(|error| Stop::usage(format!("cannot write {}: {error}", path.display())))
        };
        write(&self.path, &self.bytes)?;
        let hex: String = self.public_key.iter().map(|byte| format!("{byte:02x}")).collect();
        write(&with_pub(&self.path), format!("{hex}\n").as_bytes())
    }
}

/// The model of a file, or the one that comes with the program where it is called `shipped`.
pub fn classifier(name: &Path) -> Result<Classifier, Stop> {
    if name.as_os_str() == "shipped" {
        return Classifier::shipped().map_err(|error| Stop::usage(format!("the shipped model: {error}")));
    }
    ModelFile::read(name, None)?.classifier()
}

/// A model that an aggregator has: by its id, a beginning of it, or what it does (`serving`, `shadow`, `shipped`).
pub async fn of_aggregator(client: &mut Client, name: &str) -> Result<Classifier, Stop> {
    let request = GetModelRequest { id: name.to_owned(), with_file: true };
    let answer = waiting("asking for the model", client.model.get_model(request)).await.map_err(Stop::from)?.into_inner();
    let id = answer.model.map_or_else(|| name.to_owned(), |model| model.id);
    let broken = |why: String| Stop::new(Exit::Failure, format!("the model {} that the aggregator sent: {why}", escaped(&id)));
    let public_key = <[u8; 32]>::try_from(answer.public_key).map_err(|key| broken(format!("its key has {} bytes, not 32", key.len())))?;
    let classifier = Classifier::from_bytes(&answer.file, &[public_key]).map_err(|error| broken(error.to_string()))?;
    match classifier.name() == id {
        true => Ok(classifier),
        false => Err(broken(format!("its file is of {}", classifier.name()))),
    }
}

fn with_pub(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".pub");
    name.into()
}

fn key_beside(file: &Path) -> PathBuf {
    let (whole, replaced) = (with_pub(file), file.with_extension("pub"));
    if !whole.exists() && replaced.exists() { replaced } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_beside_the_file_by_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = ModelFile { path: folder.path().join("kind.vdtm"), bytes: vec![1], public_key: [15; 32] };
        file.write().unwrap();
        let written = ModelFile::read(&file.path, None).unwrap().public_key;
        fs::rename(folder.path().join("kind.vdtm.pub"), folder.path().join("kind.pub")).unwrap();

        let trained = ModelFile::read(&file.path, None).unwrap().public_key;
        fs::remove_file(folder.path().join("kind.pub")).unwrap();
        let missing = ModelFile::read(&file.path, None).map(|_| ()).unwrap_err().to_string();

        assert_eq!((written, trained), ([15; 32], [15; 32]));
        assert!(missing.contains("kind.vdtm.pub"), "{missing}");
    }
}
