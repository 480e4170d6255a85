//! Names to addresses, in this process: a statically linked C library cannot resolve them, and an image holds nothing but the program.
//! And the other end of a connection: [`listen`] says at which addresses a program is reached.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod listen;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use hickory_resolver::{Resolver, config::LookupIpStrategy, net::runtime::TokioRuntimeProvider, system_conf::parse_resolv_conf};

/// Where a system says which name servers are asked.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most addresses of one name that are tried: a service has one, or one of each family.
const MAX_ADDRESSES: usize = 8;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// What says where the name servers are cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says nothing that can be used.
    #[error("{path}: {reason}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No name server knows it, or none answers.
    #[error("cannot resolve {name}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The addresses of a host, IPv4 first, at most [`MAX_ADDRESSES`]; an address is its own. `/etc/hosts` goes before name servers, and
/// `resolv_conf` says these, the search domains and `ndots`. It is read, and the name asked for, anew at every call: calls are as rare as connections.
///
/// # Errors
/// [`ResolveError`] names the file or the name.
pub async fn addresses(host: &str, resolv_conf: &Path) -> Result<Vec<IpAddr>, ResolveError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        // No server is ever asked for it.
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let settings =
        |error: hickory_resolver::net::NetError| ResolveError::Settings { path: resolv_conf.to_owned(), reason: error.to_string() };
    let text = std::fs::read(resolv_conf).map_err(|source| ResolveError::File { path: resolv_conf.to_owned(), source })?;
    let (config, mut options) = parse_resolv_conf(text).map_err(settings)?;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver =
        Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build().map_err(settings)?;
    let unknown = |reason: String| ResolveError::Name { name: host.to_owned(), reason };
    let found = resolver.lookup_ip(host).await.map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<_> = found.iter().take(MAX_ADDRESSES).collect();
    if addresses.is_empty() { Err(unknown("no address".to_owned())) } else { Ok(addresses) }
}

/// [`addresses`] for HTTP clients.
pub struct Names {
    /// What says which name servers are asked.
    pub resolv_conf: PathBuf,
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolv_conf = self.resolv_conf.clone();
        Box::pin(async move {
            let found = addresses(name.as_str(), &resolv_conf).await?;
            // The URL has the port.
            let found: reqwest::dns::Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_name_server() {
        let nowhere = Path::new("/nowhere/resolv.conf");

        let mut found = Vec::new();
        for host in ["192.0.2.7", "::1", "localhost"] {
            found.extend(addresses(host, nowhere).await.unwrap());
        }

        let expected = ["192.0.2.7", "::1", "127.0.0.1", "::1"];
        assert_eq!(found, expected.map(|address| address.parse::<IpAddr>().unwrap()));
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_settings_names_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("resolv.conf");
        std::fs::write(&empty, "search cluster.local\n").unwrap();

        let missing = addresses("aggregator", Path::new("/nowhere/resolv.conf")).await.unwrap_err().to_string();
        let serverless = addresses("aggregator", &empty).await.unwrap_err().to_string();

        assert!(missing.starts_with("cannot read /nowhere/resolv.conf: "), "{missing}");
        assert!(serverless.starts_with(&format!("{}: ", empty.display())), "{serverless}");
    }
}
