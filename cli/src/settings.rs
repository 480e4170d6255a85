//! The configuration file: where the aggregator is and how to prove who asks.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::Stop;

/// What `config.toml` may say. A flag or an environment variable wins over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the aggregator, `https://HOST:PORT`.
    pub endpoint: Option<String>,
    /// PEM file with the certificate of the aggregator's CA.
    pub ca: Option<PathBuf>,
    /// File that holds the token.
    pub token_file: Option<PathBuf>,
    /// Data directory of an aggregator on this machine, instead of `ca` and `token_file`.
    pub data_dir: Option<PathBuf>,
    /// Name that the certificate must carry, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl Settings {
    /// Reads `explicit`, or else the default file if there is one.
    pub fn load(explicit: Option<&Path>) -> Result<Self, Stop> {
        let (path, required) = match explicit {
            Some(path) => (path.to_owned(), true),
            None => match default_path() {
                Some(path) => (path, false),
                None => return Ok(Self::default()),
            },
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(Self::default()),
            Err(error) => return Err(Stop::usage(format!("cannot read {}: {error}", path.display()))),
        };
        Self::parse(&text).map_err(|problem| Stop::usage(format!("{}: {problem}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // The error's own text spans several lines with a picture of the place.
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            format!("line {line}: {}", error.message())
        })
    }
}

/// `$XDG_CONFIG_HOME/vedette/config.toml`, by default below `~/.config`.
fn default_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("vedette/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_read() {
        let settings = Settings::parse("endpoint = \"https://vedette:7443\"\nca = \"/etc/ca.pem\"\n").unwrap();

        assert_eq!(settings.endpoint.as_deref(), Some("https://vedette:7443"));
        assert_eq!(settings.ca, Some(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn an_unknown_key_is_one_clear_line() {
        let problem = Settings::parse("endpoint = \"x\"\ntoken = \"secret\"\n").unwrap_err();

        assert!(problem.starts_with("line 2: unknown field `token`"), "{problem}");
        assert!(!problem.contains('\n'));
    }
}
