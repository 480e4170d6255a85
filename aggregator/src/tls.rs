//! Certificates: a CA of our own with a server certificate that is made anew at every start and every month, or the operator's files.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config;

const DAY: Duration = Duration::from_secs(86_400);
/// The CA's life. Clients pin it, so it is long; a new one needs `data_dir/tls` removed.
const CA_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// A server certificate's life; it is made anew after a third of it.
const SERVER_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be made or read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it must be.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate for tls.names and tls.ips: {0}")]
    Make(#[from] rcgen::Error),
}

/// The certificate in service, exchangeable while serving.
#[derive(Debug)]
pub struct Certificates {
    source: Source,
    current: RwLock<(Arc<CertifiedKey>, SystemTime)>,
}

#[derive(Debug)]
enum Source {
    Own { dir: PathBuf, config: config::Tls },
    Files { cert: PathBuf, key: PathBuf },
}

impl Certificates {
    /// Opens or makes what the configuration asks for.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(config: &config::Tls, data_dir: &Path) -> Result<Arc<Self>, TlsError> {
        let source = match (&config.cert_file, &config.key_file) {
            (Some(cert), Some(key)) => Source::Files { cert: cert.clone(), key: key.clone() },
            _ => Source::Own { dir: data_dir.join("tls"), config: config.clone() },
        };
        let current = source.load()?;
        Ok(Arc::new(Self { source, current: RwLock::new((current, SystemTime::now())) }))
    }

    /// Puts a new certificate in service when the present one is a third through its life, or when the operator's file changed.
    ///
    /// # Errors
    /// Why it cannot; the present one stays in service.
    pub fn renew(&self, now: SystemTime) -> Result<bool, TlsError> {
        let since = self.current.read().unwrap_or_else(PoisonError::into_inner).1;
        let due = match &self.source {
            Source::Own { .. } => now.duration_since(since).is_ok_and(|age| age >= SERVER_LIFE / 3),
            Source::Files { cert, .. } => cert.metadata().and_then(|file| file.modified()).is_ok_and(|changed| changed > since),
        };
        if due {
            let fresh = self.source.load()?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = (fresh, now);
        }
        Ok(due)
    }

    /// The server's side of TLS: 1.2 and 1.3, HTTP/2 only.
    ///
    /// # Errors
    /// None in practice: the provider has the default versions.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

impl Source {
    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let (chain, key, path) = match self {
            Self::Own { dir, config } => {
                let (certificate, key) = issue(dir, config)?;
                (vec![certificate], key, dir.join("ca.pem"))
            }
            Self::Files { cert, key } => {
                let content = |path: &PathBuf, error: rustls::pki_types::pem::Error| TlsError::Content {
                    path: path.clone(),
                    problem: error.to_string(),
                };
                let chain: Vec<_> =
                    CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|error| content(cert, error))?;
                if chain.is_empty() {
                    return Err(TlsError::Content { path: cert.clone(), problem: "holds no certificate".into() });
                }
                (chain, PrivateKeyDer::from_pem_file(key).map_err(|error| content(key, error))?, key.clone())
            }
        };
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
            .map_err(|error| TlsError::Content { path, problem: error.to_string() })?;
        Ok(Arc::new(certified))
    }
}

/// A server certificate signed by the CA in `dir`, which is made if it is not there. The server's key stays in memory.
fn issue(dir: &Path, config: &config::Tls) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    std::fs::create_dir_all(dir).map_err(|error| TlsError::File { path: dir.into(), error })?;
    let (key_path, pem_path) = (dir.join("ca.key"), dir.join("ca.pem"));
    let ca_key = match std::fs::read_to_string(&key_path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| TlsError::Content { path: key_path.clone(), problem: error.to_string() })?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            write(&key_path, &key.serialize_pem(), 0o600)?;
            // A certificate of a key that is gone would mislead clients.
            let _ = std::fs::remove_file(&pem_path);
            key
        }
        Err(error) => return Err(TlsError::File { path: key_path, error }),
    };
    if !pem_path.exists() {
        write(&pem_path, &ca_params().self_signed(&ca_key)?.pem(), 0o644)?;
    }
    let issuer = Issuer::new(ca_params(), ca_key);
    let mut params = CertificateParams::new(config.names.clone())?;
    params.subject_alt_names.extend(config.ips.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = named("vedette-aggregator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, SERVER_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|problem| TlsError::Content { path: key_path, problem: problem.into() })?;
    Ok((certificate.der().clone(), key))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("vedette CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, CA_LIFE);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From a day ago, for clients whose clocks are behind.
fn lasting(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + life);
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| TlsError::File { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_ca_outlives_restarts_and_its_key_is_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("tls/ca.pem");

        Certificates::open(&config::Tls::default(), dir.path()).unwrap();
        let first = std::fs::read(&pem).unwrap();
        Certificates::open(&config::Tls::default(), dir.path()).unwrap();

        assert_eq!(std::fs::read(&pem).unwrap(), first);
        assert_eq!(std::fs::metadata(dir.path().join("tls/ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_server_certificate_is_renewed_long_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(&config::Tls::default(), dir.path()).unwrap();
        let serving = || certificates.current.read().unwrap().0.cert[0].clone();
        let first = serving();

        let soon = certificates.renew(SystemTime::now() + 10 * DAY).unwrap();
        let unchanged = serving() == first;
        let later = certificates.renew(SystemTime::now() + 31 * DAY).unwrap();

        assert_eq!((soon, unchanged, later), (false, true, true));
        assert_ne!(serving(), first);
    }

    #[test]
    fn an_unreadable_certificate_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cert = dir.path().join("mine.pem");
        std::fs::write(&cert, "not a certificate").unwrap();
        let config = config::Tls { cert_file: Some(cert.clone()), key_file: Some(cert), ..config::Tls::default() };

        let error = Certificates::open(&config, dir.path()).unwrap_err().to_string();

        assert!(error.contains("mine.pem") && !error.contains('\n'), "{error}");
    }
}
