//! The CA's certificates into one ConfigMap, where agents and people read them. The key stays on the volume.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::PostParams};
use tokio::sync::watch;

use crate::{
    auth::kubernetes::{Unasked, unasked},
    problems::{Problems, Source},
    tls::Certificates,
};

/// The key in the ConfigMap.
const KEY: &str = "ca.crt";
/// How often the ConfigMap is looked at: somebody may have changed it.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// An API server answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Namespace and name of `NAMESPACE/NAME`.
pub(crate) fn place(at: &str) -> Option<(&str, &str)> {
    let (namespace, name) = at.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    (plain(namespace) && plain(name)).then_some((namespace, name))
}

/// Publishes what clients are to trust until told to stop.
pub async fn ca(client: Client, at: String, certificates: Arc<Certificates>, problems: Arc<Problems>, mut stop: watch::Receiver<bool>) {
    let Some((namespace, name)) = place(&at) else { return };
    let api = Api::<ConfigMap>::namespaced(client, namespace);
    loop {
        let late = |_| Err(Unasked(format!("no answer within {} s", PATIENCE.as_secs())));
        let wait = match certificates.trusted() {
            None => AGAIN,
            Some(pem) => match tokio::time::timeout(PATIENCE, write(&api, name, &pem)).await.unwrap_or_else(late) {
                Ok(changed) => {
                    if changed {
                        tracing::info!(config_map = %at, "published the CA certificates");
                    }
                    problems.clear(Source::Publishing);
                    AGAIN
                }
                Err(error) => {
                    tracing::warn!(config_map = %at, %error, "cannot publish the CA certificates");
                    problems.state(Source::Publishing, format!("ConfigMap {at}: the CA certificates cannot be published: {error}"));
                    RETRY
                }
            },
        };
        tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Whether it had to be changed.
async fn write(api: &Api<ConfigMap>, name: &str, pem: &str) -> Result<bool, Unasked> {
    let mut map = api.get(name).await.map_err(|error| unasked("configmaps", &error))?;
    let data = map.data.get_or_insert_default();
    if data.get(KEY).is_some_and(|known| known == pem) {
        return Ok(false);
    }
    data.insert(KEY.to_owned(), pem.to_owned());
    api.replace(name, &PostParams::default(), &map).await.map_err(|error| unasked("configmaps", &error))?;
    Ok(true)
}
