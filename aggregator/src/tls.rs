//! Certificates: a CA of our own with a server certificate that is made anew at every start and every month, or the operator's files.

mod authority;
mod rotation;
mod validity;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{config, stamp::Stamp};
pub use authority::ask_for_rotation;
use authority::{Authority, Pace};

const DAY: Duration = Duration::from_secs(86_400);
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
    Own { authority: Box<Mutex<Authority>>, config: config::Tls },
    Files { cert: PathBuf, key: PathBuf, served: Mutex<Stamps> },
}

/// Which versions of the two files; `None` of one that cannot be looked at.
type Stamps = [Option<Stamp>; 2];

fn stamps(cert: &Path, key: &Path) -> Stamps {
    [cert, key].map(|path| path.metadata().ok().map(|file| Stamp::of(&file)))
}

impl Certificates {
    /// Opens or makes what the configuration asks for.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(config: &config::Tls, data_dir: &Path, now: SystemTime) -> Result<Arc<Self>, TlsError> {
        let source = match (&config.cert_file, &config.key_file) {
            (Some(cert), Some(key)) => Source::Files { cert: cert.clone(), key: key.clone(), served: Mutex::new(stamps(cert, key)) },
            _ => {
                let days = |days: u32| DAY * days;
                let pace = Pace { life: days(config.ca_days), overlap: days(config.ca_overlap_days) };
                let mut authority = Authority::open(&data_dir.join("tls"), pace, now)?;
                authority.tend(now)?;
                Source::Own { authority: Box::new(Mutex::new(authority)), config: config.clone() }
            }
        };
        let current = source.load(now)?;
        Ok(Arc::new(Self { source, current: RwLock::new((current, now)) }))
    }

    /// Does what is due: a step of the CA's rotation; a new certificate in service when another CA signs, when the present one is a third
    /// through its life, or when one of the operator's files changed. Whether there is a new one.
    ///
    /// # Errors
    /// Why it cannot; the present one stays in service.
    pub fn renew(&self, now: SystemTime) -> Result<bool, TlsError> {
        let since = self.current.read().unwrap_or_else(PoisonError::into_inner).1;
        let (due, seen) = match &self.source {
            Source::Own { authority, .. } => {
                let switched = authority.lock().unwrap_or_else(PoisonError::into_inner).tend(now)?;
                (switched || now.duration_since(since).is_ok_and(|age| age >= SERVER_LIFE / 3), None)
            }
            Source::Files { cert, key, served } => {
                // Looked at before they are read: what changes meanwhile is read again next time.
                let found = stamps(cert, key);
                (found != *served.lock().unwrap_or_else(PoisonError::into_inner), Some((served, found)))
            }
        };
        if due {
            let fresh = self.source.load(now)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = (fresh, now);
            if let Some((served, found)) = seen {
                *served.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
        }
        Ok(due)
    }

    /// The CA certificates that clients are to trust, PEM. `None` with the operator's files: their CA is not known here.
    #[must_use]
    pub fn trusted(&self) -> Option<String> {
        match &self.source {
            Source::Own { authority, .. } => Some(authority.lock().unwrap_or_else(PoisonError::into_inner).bundle()),
            Source::Files { .. } => None,
        }
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
    fn load(&self, now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
        let (chain, key, path) = match self {
            Self::Own { authority, config } => {
                let (certificate, key) = issue(&authority.lock().unwrap_or_else(PoisonError::into_inner), config, now)?;
                (vec![certificate], key, "the server certificate".into())
            }
            Self::Files { cert, key, .. } => {
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

/// A server certificate signed by the present CA. The server's key stays in memory.
fn issue(
    authority: &Authority,
    config: &config::Tls,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    let mut params = CertificateParams::new(config.names.clone())?;
    params.subject_alt_names.extend(config.ips.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = named("vedette-aggregator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, now, SERVER_LIFE);
    let key = KeyPair::generate()?;
    let certificate = authority.sign(&params, &key)?;
    let path = || PathBuf::from("the server's key");
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|problem| TlsError::Content { path: path(), problem: problem.into() })?;
    Ok((certificate, key))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From a day ago, for clients whose clocks are behind.
fn lasting(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + life);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_ca_outlives_restarts_and_its_key_is_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("tls/ca.pem");

        Certificates::open(&config::Tls::default(), dir.path(), SystemTime::now()).unwrap();
        let first = std::fs::read(&pem).unwrap();
        Certificates::open(&config::Tls::default(), dir.path(), SystemTime::now()).unwrap();

        assert_eq!(std::fs::read(&pem).unwrap(), first);
        assert_eq!(std::fs::metadata(dir.path().join("tls/ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_server_certificate_is_renewed_long_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(&config::Tls::default(), dir.path(), SystemTime::now()).unwrap();
        let serving = || certificates.current.read().unwrap().0.cert[0].clone();
        let first = serving();

        let soon = certificates.renew(SystemTime::now() + 10 * DAY).unwrap();
        let unchanged = serving() == first;
        let later = certificates.renew(SystemTime::now() + 31 * DAY).unwrap();

        assert_eq!((soon, unchanged, later), (false, true, true));
        assert_ne!(serving(), first);
    }

    /// Whether a client that trusts these CAs accepts what is served, at an instant.
    fn accepted(trusted: &str, certificates: &Certificates, now: SystemTime) -> bool {
        use rustls::client::danger::ServerCertVerifier;
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(trusted.as_bytes()).map(Result::unwrap));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let serving = certificates.current.read().unwrap().0.cert[0].clone();
        let now = rustls::pki_types::UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&serving, &[], &"localhost".try_into().unwrap(), &[], now).is_ok()
    }

    /// Every day of twenty years, with restarts: a client that read the published CAs a day before is never locked out.
    #[test]
    fn the_ca_rotates_and_no_client_is_locked_out() {
        let dir = tempfile::tempdir().unwrap();
        let config = config::Tls { ca_days: 1_095, ..config::Tls::default() };
        let begin = SystemTime::now();
        let mut certificates = Certificates::open(&config, dir.path(), begin).unwrap();
        let published = |certificates: &Certificates| certificates.trusted().unwrap();
        let first = published(&certificates);
        let mut yesterday = first.clone();
        let mut together = 0;

        for day in 1..7_300 {
            let now = begin + DAY * day;
            if day % 50 == 0 {
                certificates = Certificates::open(&config, dir.path(), now).unwrap();
            } else {
                certificates.renew(now).unwrap();
            }
            if yesterday != published(&certificates) || day % 100 == 0 {
                assert!(accepted(&yesterday, &certificates, now), "day {day}");
            }
            yesterday = published(&certificates);
            together += u32::from(yesterday.matches("BEGIN").count() == 2);
            assert_eq!(std::fs::read_to_string(dir.path().join("tls/ca.pem")).unwrap(), yesterday);
        }

        // Nine rotations, each with two CAs for twice the overlap.
        assert!((9 * 55..=10 * 65).contains(&together), "{together}");
        assert!(!accepted(&first, &certificates, begin + DAY * 7_300), "the first CA is long gone");
        assert!(!dir.path().join("tls/ca.next.key").exists());
    }

    #[test]
    fn who_asks_for_a_rotation_gets_the_next_ca_at_once_and_the_switch_after_the_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let certificates = Certificates::open(&config::Tls::default(), dir.path(), now).unwrap();
        let first = certificates.trusted().unwrap();

        ask_for_rotation(dir.path()).unwrap();
        let at_once = certificates.renew(now + DAY).unwrap();
        let both = certificates.trusted().unwrap();
        let again = certificates.renew(now + DAY * 2).unwrap();
        let switched = certificates.renew(now + DAY * 31).unwrap();

        assert_eq!((at_once, again, switched), (false, false, true));
        assert!(both.starts_with(&first) && both.matches("BEGIN").count() == 2, "{both}");
        assert!(!accepted(&first, &certificates, now + DAY * 31) && accepted(&both, &certificates, now + DAY * 31));
    }

    #[test]
    fn a_crash_between_the_next_key_and_its_certificate_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Certificates::open(&config::Tls::default(), dir.path(), now).unwrap();
        std::fs::write(dir.path().join("tls/ca.next.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();

        let certificates = Certificates::open(&config::Tls::default(), dir.path(), now).unwrap();

        assert_eq!(certificates.trusted().unwrap().matches("BEGIN").count(), 2);
        assert!(accepted(&certificates.trusted().unwrap(), &certificates, now));
    }

    #[test]
    fn the_operators_certificate_is_exchanged_however_old_the_new_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = ["mine.pem", "mine.key"].map(|name| dir.path().join(name));
        let now = SystemTime::now();
        let old = |path: &Path, age: Duration| std::fs::File::options().write(true).open(path).unwrap().set_modified(now - age).unwrap();
        let write = |age: Duration| {
            let pair = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
            std::fs::write(&cert, certificate.pem()).unwrap();
            old(&cert, age);
            (certificate.der().clone(), pair.serialize_pem())
        };
        let (_, first_key) = write(DAY);
        std::fs::write(&key, first_key).unwrap();
        old(&key, DAY);
        let config = config::Tls { cert_file: Some(cert.clone()), key_file: Some(key.clone()), ..config::Tls::default() };
        let certificates = Certificates::open(&config, dir.path(), now).unwrap();
        let serving = || certificates.current.read().unwrap().0.cert[0].clone();
        let first = serving();
        assert!(!certificates.renew(now + DAY).unwrap());

        // One that was made last week takes its place; its key comes a moment later.
        let (second, second_key) = write(DAY * 7);
        let between = certificates.renew(now + DAY);
        let unchanged = serving() == first;
        std::fs::write(&key, second_key).unwrap();
        let renewed = certificates.renew(now + DAY).unwrap();

        assert!(between.is_err() && unchanged, "a certificate without its key is told, and the one before stays: {between:?}");
        assert!(renewed && serving() == second);
        assert!(!certificates.renew(now + DAY).unwrap());
        std::fs::remove_file(&cert).unwrap();
        assert!(certificates.renew(now + DAY).is_err() && serving() == second, "what is gone is told");
    }

    #[test]
    fn an_unreadable_certificate_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cert = dir.path().join("mine.pem");
        std::fs::write(&cert, "not a certificate").unwrap();
        let config = config::Tls { cert_file: Some(cert.clone()), key_file: Some(cert), ..config::Tls::default() };

        let error = Certificates::open(&config, dir.path(), SystemTime::now()).unwrap_err().to_string();

        assert!(error.contains("mine.pem") && !error.contains('\n'), "{error}");
    }
}
