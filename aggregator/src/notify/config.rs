//! Who is notified of what.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vedette_proto::v1;

/// Most receivers.
const MAX_RECEIVERS: usize = 32;
/// Most addresses of one receiver: replicas of an Alertmanager.
const MAX_URLS: usize = 16;
/// Most routes.
const MAX_ROUTES: usize = 256;

/// Notifications. Without receivers nobody is notified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Where a person reads more, with `{id}` for the incident. Empty: nowhere.
    pub link: String,
    /// What fires is sent to Alertmanagers again after so many seconds.
    pub resend_seconds: u32,
    /// What resolved is sent to them for so many seconds more.
    pub resolved_seconds: u32,
    /// Webhooks are told so often that we live, in seconds; Alertmanagers with every re-send.
    pub alive_seconds: u32,
    /// Who can be notified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<Receiver>,
    /// What goes to whom; the first that fits decides. Without routes tickets and pages go to every receiver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            link: String::new(),
            resend_seconds: 60,
            resolved_seconds: 300,
            alive_seconds: 60,
            receivers: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Alertmanager's API, version 2.
    Alertmanager,
    /// A signed POST for each event.
    Webhook,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// What routes and metrics call it.
    pub name: String,
    /// How it is spoken to.
    pub kind: Kind,
    /// Alertmanager: every replica, `http://host:9093` with its path prefix. Webhook: one address, in full.
    pub urls: Vec<String>,
    /// Certificates that its certificate must chain to, PEM; empty means the system's.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// Bearer token, read anew for every call; empty means none.
    #[serde(default)]
    pub token_file: PathBuf,
    /// User of basic authentication; empty means none.
    #[serde(default)]
    pub username: String,
    /// Its password, read anew for every call.
    #[serde(default)]
    pub password_file: PathBuf,
    /// What a webhook's calls are signed with, at least 16 bytes; read anew for every call.
    #[serde(default)]
    pub secret_file: PathBuf,
    /// Whether it is told that we live.
    #[serde(default = "yes")]
    pub alive: bool,
}

fn yes() -> bool {
    true
}

/// What goes to whom. Every part that is set must fit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Namespaces, `*` for any run of characters; empty: any, and nodes, which have none.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Kinds; empty: any.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// `note`, `ticket` or `page`: less is not told.
    #[serde(default = "ticket")]
    pub minimum_severity: String,
    /// Names of receivers; empty: nobody, which silences what fits.
    pub receivers: Vec<String>,
}

fn ticket() -> String {
    "ticket".to_owned()
}

impl Receiver {
    /// Whether whoever is on the way reads the token or the password.
    #[must_use]
    pub fn sends_secrets_in_the_clear(&self) -> bool {
        let secret = !self.username.is_empty() || !self.token_file.as_os_str().is_empty();
        secret && self.urls.iter().any(|url| url.starts_with("http://"))
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!("name {name:?} must be 1 to 63 characters of a-z A-Z 0-9 - _"));
        }
        if self.urls.is_empty() || self.urls.len() > MAX_URLS {
            return Err(format!("{name}: urls has {}, must have 1 to {MAX_URLS}", self.urls.len()));
        }
        for url in &self.urls {
            let parsed = reqwest::Url::parse(url).map_err(|error| format!("{name}: url {url:?}: {error}"))?;
            if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                return Err(format!("{name}: url {url:?} must begin with http:// or https://"));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(format!("{name}: a url holds no password; use username and password_file"));
            }
        }
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        if self.username.is_empty() != empty(&self.password_file) {
            return Err(format!("{name}: username and password_file go together"));
        }
        if !self.username.is_empty() && !empty(&self.token_file) {
            return Err(format!("{name}: either username or token_file"));
        }
        match self.kind {
            Kind::Webhook if self.urls.len() != 1 => Err(format!("{name}: a webhook has one url")),
            Kind::Webhook if empty(&self.secret_file) => Err(format!("{name}: a webhook needs secret_file")),
            Kind::Alertmanager if !empty(&self.secret_file) => Err(format!("{name}: Alertmanager knows no signatures, so no secret_file")),
            _ => Ok(()),
        }
    }
}

impl Notify {
    /// For how long what resolved is told, milliseconds.
    #[must_use]
    pub fn resolved_ms(&self) -> i64 {
        i64::from(self.resolved_seconds) * 1_000
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, and what is wrong.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, seconds) in [
            ("notify.resend_seconds", self.resend_seconds),
            ("notify.resolved_seconds", self.resolved_seconds),
            ("notify.alive_seconds", self.alive_seconds),
        ] {
            if !(1..=86_400).contains(&seconds) {
                return Err((key, "must be 1 to 86400".to_owned()));
            }
        }
        if !self.link.is_empty() && reqwest::Url::parse(&self.link.replace("{id}", "1")).is_err() {
            return Err(("notify.link", format!("{:?} is no URL", self.link)));
        }
        if self.receivers.len() > MAX_RECEIVERS {
            return Err(("notify.receivers", format!("{} are given, at most {MAX_RECEIVERS} are allowed", self.receivers.len())));
        }
        for (place, receiver) in self.receivers.iter().enumerate() {
            receiver.check().map_err(|problem| ("notify.receivers", problem))?;
            if self.receivers[..place].iter().any(|other| other.name == receiver.name) {
                return Err(("notify.receivers", format!("two are called {}", receiver.name)));
            }
        }
        self.check_routes().map_err(|problem| ("notify.routes", problem))
    }

    fn check_routes(&self) -> Result<(), String> {
        if self.routes.len() > MAX_ROUTES {
            return Err(format!("{} are given, at most {MAX_ROUTES} are allowed", self.routes.len()));
        }
        for route in &self.routes {
            if let Some(unknown) = route.receivers.iter().find(|name| self.receivers.iter().all(|receiver| receiver.name != **name)) {
                return Err(format!("there is no receiver {unknown}"));
            }
            if v1::Severity::from_word(&route.minimum_severity).is_none() {
                return Err(format!("minimum_severity {:?} must be note, ticket or page", route.minimum_severity));
            }
            if let Some(unknown) = route.kinds.iter().find(|kind| v1::Kind::from_word(kind).is_none()) {
                return Err(format!("there is no kind {unknown:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let config: Notify = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|(key, problem)| format!("{key}: {problem}"))
    }

    const GOOD: &str = "[[receivers]]\nname = \"a\"\nkind = \"alertmanager\"\nurls = [\"http://a:9093\", \"http://b:9093\"]\n";

    #[test]
    fn an_alertmanager_may_have_replicas_and_a_webhook_must_have_a_secret() {
        assert_eq!(check(GOOD), Ok(()));
        assert_eq!(
            check("[[receivers]]\nname = \"w\"\nkind = \"webhook\"\nurls = [\"https://w/in\"]\n"),
            Err("notify.receivers: w: a webhook needs secret_file".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_names_the_receiver_or_route() {
        for (more, said) in [
            ("[[routes]]\nreceivers = [\"b\"]\n", "notify.routes: there is no receiver b"),
            ("[[routes]]\nreceivers = []\nkinds = [\"burglary\"]\n", "there is no kind \"burglary\""),
            ("[[routes]]\nreceivers = []\nminimum_severity = \"loud\"\n", "must be note, ticket or page"),
            ("[[receivers]]\nname = \"a\"\nkind = \"alertmanager\"\nurls = [\"http://x\"]\n", "two are called a"),
            ("[[receivers]]\nname = \"p\"\nkind = \"alertmanager\"\nurls = [\"http://u:p@x\"]\n", "a url holds no password"),
            ("[[receivers]]\nname = \"f\"\nkind = \"alertmanager\"\nurls = [\"file:///etc\"]\n", "must begin with http"),
        ] {
            let error = check(&format!("{GOOD}{more}")).unwrap_err();

            assert!(error.contains(said), "{error}");
        }
    }
}
