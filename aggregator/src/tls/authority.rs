//! The CA on disk: `ca.key` signs, `ca.next.key` will; `ca.pem` holds the certificates of both, and of those that signed before, for clients.
//!
//! A certificate belongs to the key whose public part it holds. Every step is one rename, so that a crash leaves what was or what comes.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    TlsError, lasting, named,
    rotation::{Published, Step, step},
    validity::{Life, life},
};

const END: &str = "-----END CERTIFICATE-----";

/// How long a CA lives, and how long two are published together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub life: Duration,
    pub overlap: Duration,
}

/// A CA with its key.
struct Ca {
    key: KeyPair,
    certificate: Certificate,
}

struct Certificate {
    pem: String,
    life: Life,
}

/// The CAs of a directory.
pub(super) struct Authority {
    dir: PathBuf,
    pace: Pace,
    current: Ca,
    next: Option<Ca>,
    previous: Vec<Certificate>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Asks whoever runs on this directory for a new CA.
///
/// # Errors
/// The directory cannot be written.
pub fn ask_for_rotation(data_dir: &Path) -> Result<(), TlsError> {
    let path = data_dir.join("tls/rotate");
    std::fs::write(&path, "").map_err(|error| TlsError::File { path, error })
}

impl Authority {
    /// Reads the directory, making what is not there.
    pub fn open(dir: &Path, pace: Pace, now: SystemTime) -> Result<Self, TlsError> {
        std::fs::create_dir_all(dir).map_err(|error| TlsError::File { path: dir.into(), error })?;
        let (pem_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        let key = match read_key(&key_path)? {
            Some(key) => key,
            None => {
                let key = KeyPair::generate()?;
                // A certificate of a key that is gone would mislead clients.
                let _ = std::fs::remove_file(&pem_path);
                replace(&key_path, &key.serialize_pem(), 0o600)?;
                key
            }
        };
        let mut known = read_certificates(&pem_path)?;
        let before = known.len();
        let current = Ca::of(key, &mut known, pace, now)?;
        let next = match read_key(&dir.join("ca.next.key"))? {
            // A rename that did not happen before the crash: the same key twice.
            Some(key) if key.public_key_raw() == current.key.public_key_raw() => None,
            Some(key) => Some(Ca::of(key, &mut known, pace, now)?),
            None => None,
        };
        let previous = known.into_iter().map(|(certificate, _)| certificate).collect();
        let authority = Self { dir: dir.into(), pace, current, next, previous };
        if authority.certificates().count() != before {
            authority.publish()?;
        }
        Ok(authority)
    }

    /// Does what is due at an instant; whether another CA signs now.
    pub fn tend(&mut self, now: SystemTime) -> Result<bool, TlsError> {
        let now_unix_s = unix_s(now);
        let rotate = self.dir.join("rotate");
        let mut switched = false;
        // A CA that ended while nothing ran takes three steps.
        for _ in 0..4 {
            let published = Published {
                current: self.current.certificate.life,
                next: self.next.as_ref().map(|next| next.certificate.life),
                previous: !self.previous.is_empty(),
            };
            let overlap_s = i64::try_from(self.pace.overlap.as_secs()).unwrap_or(i64::MAX / 4);
            match step(now_unix_s, overlap_s, rotate.exists(), &published) {
                Step::Nothing => break,
                Step::MakeNext => {
                    let key = KeyPair::generate()?;
                    replace(&self.dir.join("ca.next.key"), &key.serialize_pem(), 0o600)?;
                    self.next = Some(Ca::of(key, &mut Vec::new(), self.pace, now)?);
                    self.publish()?;
                    // Where it stays, the one after this is made too early; that does no harm.
                    let _ = std::fs::remove_file(&rotate);
                    tracing::info!("made the next CA; it signs once it was published for tls.ca_overlap_days");
                }
                Step::Switch => {
                    let Some(next) = self.next.take() else { break };
                    let (from, to) = (self.dir.join("ca.next.key"), self.dir.join("ca.key"));
                    std::fs::rename(&from, &to).map_err(|error| TlsError::File { path: from, error })?;
                    let before = std::mem::replace(&mut self.current, next);
                    self.previous.push(before.certificate);
                    self.publish()?;
                    switched = true;
                    tracing::info!("the next CA signs from now on; the previous one stays published");
                }
                Step::DropPrevious => {
                    self.previous.clear();
                    self.publish()?;
                    tracing::info!("the previous CA is published no longer");
                }
            }
        }
        Ok(switched)
    }

    /// The certificates that clients are to trust, PEM.
    pub fn bundle(&self) -> String {
        self.certificates().map(|certificate| certificate.pem.as_str()).collect()
    }

    /// Signs by the present CA.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<CertificateDer<'static>, TlsError> {
        let ca = params_of_a_ca();
        let issuer = Issuer::from_params(&ca, &self.current.key);
        Ok(params.signed_by(key, &issuer)?.der().clone())
    }

    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        let next = self.next.iter().map(|next| &next.certificate);
        std::iter::once(&self.current.certificate).chain(next).chain(&self.previous)
    }

    fn publish(&self) -> Result<(), TlsError> {
        replace(&self.dir.join("ca.pem"), &self.bundle(), 0o644)
    }
}

impl Ca {
    /// With the certificate of this key among the known ones, or a new one.
    fn of(key: KeyPair, known: &mut Vec<(Certificate, CertificateDer<'static>)>, pace: Pace, now: SystemTime) -> Result<Self, TlsError> {
        let public = key.subject_public_key_info();
        let place = known.iter().position(|(_, der)| der.windows(public.len()).any(|window| window == public));
        let certificate = match place {
            Some(place) => known.remove(place).0,
            None => {
                let mut params = params_of_a_ca();
                lasting(&mut params, now, pace.life);
                let made = params.self_signed(&key)?;
                let life = life(made.der()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
                Certificate { pem: made.pem(), life }
            }
        };
        Ok(Self { key, certificate })
    }
}

fn params_of_a_ca() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("vedette CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn unix_s(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TlsError::File { path: path.into(), error }),
    }
}

fn read_key(path: &Path) -> Result<Option<KeyPair>, TlsError> {
    let Some(pem) = read(path)? else { return Ok(None) };
    KeyPair::from_pem(&pem).map(Some).map_err(|error| TlsError::Content { path: path.into(), problem: error.to_string() })
}

fn read_certificates(path: &Path) -> Result<Vec<(Certificate, CertificateDer<'static>)>, TlsError> {
    let text = read(path)?.unwrap_or_default();
    let content = |problem: String| TlsError::Content { path: path.into(), problem };
    let parts = text.split_inclusive(END).filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let der = CertificateDer::from_pem_slice(part.as_bytes()).map_err(|error| content(error.to_string()))?;
            let life = life(&der).ok_or_else(|| content("holds a certificate without a validity".into()))?;
            Ok((Certificate { pem: format!("{}\n", part.trim()), life }, der))
        })
        .collect()
}

/// Puts a file in the place of another, whole.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| TlsError::File { path: path.into(), error })
}
