//! What is kept of a pod: names, owner, containers; a few hundred bytes of several thousand.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{self as api, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use vedette_proto::v1;

use super::{names::Names, quantity};

/// Containers of a pod that are kept, all sorts together; what is beyond keeps its place as its name.
const MAX_CONTAINERS: usize = 256;
/// Bytes of a name, an image or a reason; longer ones are cut.
const MAX_TEXT: usize = 512;

/// What the API server says of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name in the pod.
    pub name: Arc<str>,
    /// Image as named.
    pub image: Arc<str>,
    /// Image as resolved, a digest; empty until it is known.
    pub image_digest: Arc<str>,
    /// Restarts as the kubelet counts them; `None` until it said so.
    pub restarts: Option<u32>,
    /// Exit code of the last end.
    pub last_exit_code: Option<i32>,
    /// Reason of the last end; empty where there was none.
    pub last_exit_reason: Arc<str>,
    /// `Guaranteed`, `Burstable` or `BestEffort`; empty until it is known.
    pub qos: Arc<str>,
    /// The pod has the node's network.
    pub host_network: bool,
    /// CPU request, millicores.
    pub cpu_request_millicores: Option<u64>,
    /// CPU limit, millicores.
    pub cpu_limit_millicores: Option<u64>,
    /// Memory request, bytes.
    pub memory_request_bytes: Option<u64>,
    /// Memory limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// When it started, Unix milliseconds.
    pub started_unix_ms: Option<i64>,
}

impl Facts {
    /// Shows them in a container's message.
    pub fn show(&self, message: &mut v1::Container) {
        message.image = self.image.to_string();
        message.image_digest = self.image_digest.to_string();
        message.api_restarts = self.restarts;
        message.last_exit_code = self.last_exit_code;
        message.last_exit_reason = self.last_exit_reason.to_string();
        message.qos = self.qos.to_string();
        message.host_network = Some(self.host_network);
        message.cpu_request_millicores = self.cpu_request_millicores;
        message.cpu_limit_millicores = self.cpu_limit_millicores;
        message.memory_request_bytes = self.memory_request_bytes;
        message.memory_limit_bytes = self.memory_limit_bytes;
        message.started_unix_ms = self.started_unix_ms;
        // The agent counts only what it saw, so that less is as it should be.
        message.restarts_differ = self.restarts.is_some_and(|told| message.restarts > told);
    }
}

/// One container of a pod: init, ordinary or ephemeral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, and that of the one before it in its place; without the runtime's prefix.
    ids: [Option<Box<str>>; 2],
    pub facts: Arc<Facts>,
}

impl Container {
    pub fn is(&self, id: &str) -> bool {
        self.ids.iter().flatten().any(|known| **known == *id)
    }
}

/// What owns something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Uid of the object; of a static pod it is not the one in the cgroup's name.
    pub object_uid: Box<str>,
    pub namespace: Arc<str>,
    pub name: Box<str>,
    /// `None` until it is scheduled.
    pub node: Option<Arc<str>>,
    /// Its controller's uid; `None` for a bare pod.
    pub controller_uid: Option<Box<str>>,
    /// What outlives it, as far as that is known.
    pub owner: Owner,
    /// Hash of the template that it was made from.
    pub template: Option<Arc<str>>,
    pub containers: Box<[Container]>,
}

/// The uid in the cgroup's name: a static pod's is what its mirror carries as an annotation.
pub fn cgroup_uid(meta: &ObjectMeta) -> Option<&str> {
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    match annotation("kubernetes.io/config.mirror") {
        Some(_) => annotation("kubernetes.io/config.hash"),
        None => meta.uid.as_deref(),
    }
    .filter(|uid| !uid.is_empty())
}

/// The controller among the owners.
pub fn controller(meta: &ObjectMeta) -> Option<(&str, &str, &str)> {
    let owner = meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))?;
    Some((&owner.kind, &owner.name, &owner.uid))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

impl Pod {
    /// What is kept of an object; its owner is the direct one. `None` for one without uid or name.
    pub fn of(pod: &api::Pod, names: &mut Names) -> Option<Self> {
        let meta = &pod.metadata;
        let (uid, name) = (meta.uid.as_deref()?, meta.name.as_deref()?);
        let label = |label: &str| meta.labels.as_ref()?.get(label);
        let template = label("pod-template-hash").or_else(|| label("controller-revision-hash"));
        let (kind, owner, controller_uid) = match controller(meta) {
            Some((kind, name, uid)) => (kind, name, Some(uid.into())),
            None => ("Pod", name, None),
        };
        Some(Self {
            object_uid: uid.into(),
            namespace: names.get(cut(meta.namespace.as_deref().unwrap_or_default())),
            name: cut(name).into(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()).map(|node| names.get(node)),
            controller_uid,
            owner: Owner { kind: names.get(cut(kind)), name: names.get(cut(owner)) },
            template: template.map(|hash| names.get(cut(hash))),
            containers: containers(pod, names),
        })
    }
}

fn containers(pod: &api::Pod, names: &mut Names) -> Box<[Container]> {
    let Some(spec) = &pod.spec else { return Box::default() };
    let status = pod.status.as_ref();
    let qos = names.get(cut(status.and_then(|status| status.qos_class.as_deref()).unwrap_or_default()));
    let host_network = spec.host_network.unwrap_or(false);
    let statuses =
        |pick: fn(&api::PodStatus) -> &Option<Vec<ContainerStatus>>| status.and_then(|status| pick(status).as_deref()).unwrap_or(&[]);
    let of_init = statuses(|status| &status.init_container_statuses);
    let ordinary = statuses(|status| &status.container_statuses);
    let ephemeral = statuses(|status| &status.ephemeral_container_statuses);
    let init = spec.init_containers.iter().flatten().map(|one| (&one.name, &one.image, one.resources.as_ref(), of_init));
    let main = spec.containers.iter().map(|one| (&one.name, &one.image, one.resources.as_ref(), ordinary));
    let debug = spec.ephemeral_containers.iter().flatten().map(|one| (&one.name, &one.image, one.resources.as_ref(), ephemeral));
    init.chain(main)
        .chain(debug)
        .take(MAX_CONTAINERS)
        .map(|(name, image, resources, statuses)| {
            let status = statuses.iter().find(|status| status.name == *name);
            let state = status.and_then(|status| status.state.as_ref());
            let last = status.and_then(|status| status.last_state.as_ref()).and_then(|state| state.terminated.as_ref());
            let ended = state.and_then(|state| state.terminated.as_ref());
            let exit = ended.or(last);
            let started = state.and_then(|state| match &state.running {
                Some(running) => running.started_at.as_ref(),
                None => state.terminated.as_ref()?.started_at.as_ref(),
            });
            let amount = |of: fn(&api::ResourceRequirements) -> &Option<std::collections::BTreeMap<String, _>>, what: &str| {
                resources
                    .and_then(|all| of(all).as_ref()?.get(what))
                    .map(|amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| &amount.0)
            };
            let id = |id: Option<&String>| {
                id.map(|id| id.rsplit_once("://").map_or(&**id, |(_, id)| id)).filter(|id| !id.is_empty()).map(Box::from)
            };
            let image = status.map(|status| &status.image).filter(|image| !image.is_empty()).or(image.as_ref());
            let facts = Facts {
                name: names.get(cut(name)),
                image: names.get(cut(image.map_or("", String::as_str))),
                image_digest: names.get(cut(status.map_or("", |status| &status.image_id))),
                restarts: status.map(|status| u32::try_from(status.restart_count).unwrap_or(0)),
                last_exit_code: exit.map(|exit| exit.exit_code),
                last_exit_reason: names.get(cut(exit.and_then(|exit| exit.reason.as_deref()).unwrap_or_default())),
                qos: Arc::clone(&qos),
                host_network,
                cpu_request_millicores: amount(|all| &all.requests, "cpu").and_then(|text| quantity::millicores(text)),
                cpu_limit_millicores: amount(|all| &all.limits, "cpu").and_then(|text| quantity::millicores(text)),
                memory_request_bytes: amount(|all| &all.requests, "memory").and_then(|text| quantity::bytes(text)),
                memory_limit_bytes: amount(|all| &all.limits, "memory").and_then(|text| quantity::bytes(text)),
                started_unix_ms: started.map(|time| time.0.as_millisecond()),
            };
            Container {
                ids: [id(status.and_then(|status| status.container_id.as_ref())), id(last.and_then(|last| last.container_id.as_ref()))],
                facts: Arc::new(facts),
            }
        })
        .collect()
}
