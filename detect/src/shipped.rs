//! The model that comes with the program: trained by `make model` on the recordings of this repository, with its figures on its card.

use vedette_forest::{FileError, Model};

use crate::{Classifier, ClassifierError};

/// The model's file.
static FILE: &[u8] = include_bytes!("../model/kind.vdtm");
/// The public key of the one who made it, 64 hexadecimal digits.
static KEY: &str = include_str!("../model/kind.pub");

/// Why a file is no classifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model in it.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
}

/// The public key of the shipped model, trusted always.
#[must_use]
pub fn trusted() -> Vec<[u8; 32]> {
    key(KEY.trim()).into_iter().collect()
}

/// A public key of 64 hexadecimal digits; `None` of any other text.
#[must_use]
pub fn key(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

/// A classifier with the file that it was read from.
#[derive(Debug)]
pub struct Signed {
    /// What can be asked.
    pub classifier: Classifier,
    /// The bytes of its file.
    pub file: Vec<u8>,
    /// Whose signature it has: the public half of the key.
    pub public_key: [u8; 32],
}

impl Signed {
    /// The one in a file that one of these keys signed.
    ///
    /// # Errors
    /// [`LoadError`], as [`Classifier::from_bytes`].
    pub fn read(file: Vec<u8>, trusted: &[[u8; 32]]) -> Result<Self, LoadError> {
        for &public_key in trusted {
            match Classifier::from_bytes(&file, &[public_key]) {
                Ok(classifier) => return Ok(Self { classifier, file, public_key }),
                Err(LoadError::File(FileError::Untrusted(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Err(FileError::Untrusted(trusted.len()).into())
    }

    /// The one that comes with the program.
    ///
    /// # Errors
    /// Never, where `make model` made it: a test holds that.
    pub fn shipped() -> Result<Self, LoadError> {
        Self::read(FILE.to_vec(), &trusted())
    }
}

impl Classifier {
    /// The one in a file, named by its hash.
    ///
    /// # Errors
    /// [`LoadError`]: damaged, signed by nobody of `trusted`, or not about windows.
    pub fn from_bytes(bytes: &[u8], trusted: &[[u8; 32]]) -> Result<Self, LoadError> {
        let (model, name) = Model::from_bytes(bytes, trusted)?;
        Ok(Self::new(model)?.named(name))
    }

    /// The one that comes with the program.
    ///
    /// # Errors
    /// Never, where `make model` made it: a test holds that.
    pub fn shipped() -> Result<Self, LoadError> {
        Self::from_bytes(FILE, &trusted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_is_whole_signed_and_of_this_version() {
        let classifier = Classifier::shipped().unwrap();

        let card = &classifier.model().description().card;
        assert!(card.contains_key("held_out_macro_f1") && card.contains_key("sessions_learnt"), "{card:?}");
    }

    #[test]
    fn a_file_is_told_whose_signature_it_has() {
        let (own, other) = (trusted()[0], [7; 32]);

        let signed = Signed::read(FILE.to_vec(), &[other, own]).unwrap();

        assert_eq!((signed.public_key, signed.classifier.name()), (own, Classifier::shipped().unwrap().name()));
        assert_eq!(Signed::read(FILE.to_vec(), &[other]).unwrap_err(), LoadError::File(FileError::Untrusted(1)));
        assert!(matches!(Signed::read(FILE[1..].to_vec(), &[own]), Err(LoadError::File(FileError::Magic))));
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert_eq!(key(&"0f".repeat(32)), Some([15; 32]));
        assert!([String::new(), "0f".repeat(31), "0g".repeat(32), "0f".repeat(33), "0".repeat(65)].iter().all(|text| key(text).is_none()));
    }

    #[test]
    fn a_model_that_somebody_else_signed_is_refused() {
        let refused = Classifier::from_bytes(FILE, &[[7; 32]]).unwrap_err();

        assert_eq!(refused, LoadError::File(FileError::Untrusted(1)));
    }
}
