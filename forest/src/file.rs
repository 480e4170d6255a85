//! The file of a model: `VDTM`, a version of two bytes, the length of what follows, description and trees in postcard, its SHA-256, and an
//! Ed25519 signature over everything before it. Numbers are little endian.
//!
//! The hash is the model's name and tells a broken file; the signature tells whose it is.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Model, Node, Tree,
    model::{Description, ModelError},
};

const MAGIC: [u8; 4] = *b"VDTM";
const VERSION: u16 = 1;
/// Magic, version and length.
const HEAD: usize = 10;
const HASH: usize = 32;
const SIGNATURE: usize = 64;
/// Largest file: a thousand of the largest trees would be larger, and nobody trains that.
pub const MAX_BYTES: usize = 64 << 20;
/// Most trees of a file.
const MAX_TREES: usize = 1_000;

/// Why a file is not a model that may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not one of ours.
    #[error("it is no model file: it does not begin with VDTM")]
    Magic,
    /// Of another time.
    #[error("it is of version {0}, this program reads version {VERSION}")]
    Version(u16),
    /// Cut off, or with something behind it.
    #[error("it has {found} bytes, its head says {said}")]
    Length {
        /// Its bytes.
        found: usize,
        /// What it says.
        said: usize,
    },
    /// Too large.
    #[error("it has {0} bytes, {MAX_BYTES} are possible")]
    TooLarge(usize),
    /// Changed since it was written.
    #[error("its content does not have its SHA-256: it is damaged")]
    Damaged,
    /// Signed by nobody who is trusted.
    #[error("its signature is of none of the {0} keys that are trusted")]
    Untrusted(usize),
    /// Not what a model holds.
    #[error("its content cannot be read: {0}")]
    Content(String),
    /// A model that makes no sense.
    #[error(transparent)]
    Model(#[from] ModelError),
}

#[derive(Deserialize, Serialize)]
struct Content {
    description: Description,
    trees: Vec<Vec<Written>>,
}

/// A node as it is written.
#[derive(Deserialize, Serialize)]
enum Written {
    Split { column: u8, threshold: f32, missing_right: bool, left: u32 },
    Leaf(Vec<f32>),
}

impl From<Node> for Written {
    fn from(node: Node) -> Self {
        match node {
            Node::Split { column, threshold, missing_right, left } => Self::Split { column, threshold, missing_right, left },
            Node::Leaf(shares) => Self::Leaf(shares),
        }
    }
}

impl From<Written> for Node {
    fn from(written: Written) -> Self {
        match written {
            Written::Split { column, threshold, missing_right, left } => Self::Split { column, threshold, missing_right, left },
            Written::Leaf(shares) => Self::Leaf(shares),
        }
    }
}

impl Model {
    /// The bytes of its file; equal models signed by one key have equal bytes.
    #[must_use]
    pub fn to_bytes(&self, key: &Ed25519KeyPair) -> Vec<u8> {
        let trees = self.forest().trees().into_iter().map(|tree| tree.nodes.into_iter().map(Written::from).collect()).collect();
        let content = Content { description: self.description().clone(), trees };
        let content = postcard::to_allocvec(&content).expect("a model has nothing that cannot be written");
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &(content.len() as u32).to_le_bytes(), &content].concat();
        bytes.extend_from_slice(&Sha256::digest(&content));
        let signature = key.sign(&bytes);
        bytes.extend_from_slice(signature.as_ref());
        bytes
    }

    /// Reads a file signed by one of these public keys (32 bytes each); also gives its name, the first 16 hexadecimal digits of its hash.
    ///
    /// # Errors
    /// [`FileError`]. Nothing of the content is read before hash and signature are found good.
    pub fn from_bytes(bytes: &[u8], trusted: &[[u8; 32]]) -> Result<(Self, String), FileError> {
        if bytes.len() > MAX_BYTES {
            return Err(FileError::TooLarge(bytes.len()));
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD>().filter(|(head, _)| head.starts_with(&MAGIC)).ok_or(FileError::Magic)?;
        let version = u16::from_le_bytes([head[4], head[5]]);
        if version != VERSION {
            return Err(FileError::Version(version));
        }
        let length = u32::from_le_bytes([head[6], head[7], head[8], head[9]]) as usize;
        let said = HEAD + length + HASH + SIGNATURE;
        if bytes.len() != said {
            return Err(FileError::Length { found: bytes.len(), said });
        }
        let (content, rest) = rest.split_at(length);
        let (hash, signature) = rest.split_at(HASH);
        if Sha256::digest(content)[..] != *hash {
            return Err(FileError::Damaged);
        }
        let signed = &bytes[..said - SIGNATURE];
        if !trusted.iter().any(|key| UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok()) {
            return Err(FileError::Untrusted(trusted.len()));
        }
        let Content { description, trees } = postcard::from_bytes(content).map_err(|error| FileError::Content(error.to_string()))?;
        if trees.len() > MAX_TREES {
            return Err(FileError::Content(format!("{} trees, {MAX_TREES} are possible", trees.len())));
        }
        let trees: Vec<_> = trees.into_iter().map(|nodes| Tree { nodes: nodes.into_iter().map(Node::from).collect() }).collect();
        let name = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self::of_trees(description, &trees)?, name))
    }
}
