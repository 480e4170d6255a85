//! The run's namespace: claimed, filled, removed, and what the API server refuses in one line each.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::objects::{self, Names};
use crate::cluster::Cluster;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};

/// How long a namespace may take to be gone: its pods have a second, their kubelets some more.
const REMOVAL: Duration = Duration::from_secs(180);
/// Between two looks at what goes by itself.
const LOOK: Duration = Duration::from_millis(250);
/// How long a new namespace may take to have its service account, without which it takes no pods.
const SETTLE: Duration = Duration::from_secs(30);

/// A namespace of the run's own.
pub struct Site {
    /// Whose names things have.
    pub names: Names,
    cluster: Cluster,
    client: Client,
}

impl Site {
    /// Not there yet.
    pub fn new(names: Names, cluster: Cluster, client: Client) -> Self {
        Self { names, cluster, client }
    }

    /// Makes the namespace, if nobody else has it.
    pub async fn claim(&self) -> Result<(), Stop> {
        let namespace = &self.names.namespace;
        match self.post("namespaces", self.names.namespace()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Err(match self.found().await? {
                Some(found) if run_of(&found).is_some() => {
                    let run = run_of(&found).unwrap_or_default();
                    let problem = format!("namespace {namespace} is that of run {}", escaped(&run));
                    let hint = "if that run is dead, `vedette simulate --clean --backend kube` removes it; or give another --namespace";
                    Stop::new(Exit::Failure, format!("{problem}: {hint}"))
                }
                _ => somebody_elses(namespace),
            }),
            Err(error) => Err(self.refused("create", "namespaces", &error)),
        }
    }

    /// Removes what a run left, and says of which; `None` where there is nothing.
    pub async fn clean(&self) -> Result<Option<String>, Stop> {
        let Some(found) = self.found().await? else { return Ok(None) };
        let Some(run) = run_of(&found) else { return Err(somebody_elses(&self.names.namespace)) };
        self.remove(found.metadata.uid.as_deref()).await?;
        Ok(Some(run))
    }

    /// Removes the namespace that this run made and all that is in it; one that is gone is as good.
    pub async fn leave(&self) -> Result<(), Stop> {
        match self.found().await? {
            Some(found) if run_of(&found).as_deref() == Some(self.names.run.as_str()) => self.remove(found.metadata.uid.as_deref()).await,
            _ => Ok(()),
        }
    }

    async fn found(&self) -> Result<Option<Namespace>, Stop> {
        let found = self.namespaces().get_opt(&self.names.namespace).await;
        found.map_err(|error| self.refused("get", "namespaces", &error))
    }

    /// By its uid: between the look and the deed it may have become somebody else's.
    async fn remove(&self, uid: Option<&str>) -> Result<(), Stop> {
        let namespace = &self.names.namespace;
        let preconditions = kube::api::Preconditions { uid: uid.map(str::to_owned), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        match self.namespaces().delete(namespace, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => {}
            Err(error) => return Err(self.refused("delete", "namespaces", &error)),
        }
        let until = Instant::now() + REMOVAL;
        while self.found().await?.is_some_and(|found| found.metadata.uid.as_deref() == uid) {
            if Instant::now() > until {
                let problem = format!("namespace {namespace} was told to go and is still there after {} s", REMOVAL.as_secs());
                return Err(Stop::new(Exit::Failure, format!("{problem}: see `kubectl get namespace {namespace} -o yaml`")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Makes an object; `plural` is its resource.
    pub async fn create(&self, plural: &str, object: Value) -> Result<DynamicObject, Stop> {
        let until = Instant::now() + SETTLE;
        loop {
            match self.post(plural, object.clone()).await {
                Ok(made) => return Ok(made),
                // The controller that makes it is on its way.
                Err(kube::Error::Api(status)) if status.message.contains("serviceaccount") && Instant::now() < until => sleep(LOOK).await,
                Err(error) => return Err(self.refused("create", plural, &error)),
            }
        }
    }

    async fn post(&self, plural: &str, object: Value) -> Result<DynamicObject, kube::Error> {
        let resource = resource(plural, &object);
        let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        let objects: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        objects.create(&PostParams::default(), &object).await
    }

    /// Tells a pod to go; one that is gone is as good.
    pub async fn delete_pod(&self, name: &str) -> Result<(), Stop> {
        match self.pods().delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(self.refused("delete", "pods", &error)),
        }
    }

    /// The pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.names.namespace)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// What the API server said, and what it takes where somebody may not.
    pub fn refused(&self, verb: &str, resource: &str, error: &kube::Error) -> Stop {
        let namespace = &self.names.namespace;
        match error {
            kube::Error::Api(status) if status.is_forbidden() && status.message.contains(" cannot ") => {
                let place = if resource == "namespaces" { "the cluster".to_owned() } else { format!("namespace {namespace}") };
                let problem = format!("you may not {verb} {resource} in {place}: {}", escaped(&status.message));
                Stop::new(Exit::Refused, format!("{problem}; docs/lab.md has the ClusterRole that a run takes"))
            }
            kube::Error::Api(status) if status.code != 401 => {
                Stop::new(Exit::Failure, format!("cannot {verb} {resource} in namespace {namespace}: {}", escaped(&status.message)))
            }
            other => self.cluster.failed(other),
        }
    }
}

fn somebody_elses(namespace: &str) -> Stop {
    let (label, ours) = objects::OURS;
    let problem = format!("namespace {namespace} exists and is not a run's: it has no label {label}={ours}");
    Stop::new(Exit::Failure, format!("{problem}; nothing in it is touched, give another --namespace"))
}

/// The run that made a namespace, if one did.
fn run_of(namespace: &Namespace) -> Option<String> {
    let labels = namespace.metadata.labels.as_ref()?;
    (labels.get(objects::OURS.0)? == objects::OURS.1).then(|| labels.get(objects::RUN).cloned())?
}

fn resource(plural: &str, object: &Value) -> ApiResource {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, text("kind")), plural)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_is_ours_by_its_label_alone() {
        let run =
            |labels: Value| run_of(&serde_json::from_value(json!({"metadata": {"name": "vedette-range", "labels": labels}})).unwrap());

        assert_eq!(run(json!({objects::OURS.0: objects::OURS.1, objects::RUN: "r7"})), Some("r7".to_owned()));
        assert_eq!(run(json!({objects::OURS.0: "helm", objects::RUN: "r7"})), None);
        assert_eq!(run(json!({"team": "shop"})), None);
    }

    #[test]
    fn a_resource_is_found_by_its_object() {
        let found = resource("networkpolicies", &json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}));

        assert_eq!((found.group.as_str(), found.version.as_str(), found.plural.as_str()), ("networking.k8s.io", "v1", "networkpolicies"));
        assert_eq!(resource("pods", &json!({"apiVersion": "v1", "kind": "Pod"})).group, "");
    }
}
