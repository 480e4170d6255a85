//! A CA and a server certificate for loopback, made anew for each test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// PEM texts of one throw-away authority and a server certificate by it.
pub struct Certificates {
    /// The authority's certificate: what a client trusts.
    pub ca: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// Makes both.
///
/// # Errors
/// Where the crypto library refuses.
pub fn make() -> Result<Certificates, rcgen::Error> {
    make_for(&["localhost", "127.0.0.1"])
}

/// Makes both, the server's for these names and addresses.
///
/// # Errors
/// Where the crypto library refuses.
pub fn make_for(names: &[&str]) -> Result<Certificates, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "throw-away authority of a test");
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let server = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok(Certificates { ca: issuer.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}
