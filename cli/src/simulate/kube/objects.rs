//! The objects of a run as the API server gets them: pure, so that they can be read and held to rules.

use serde_json::{Value, json};
use vedette_range::cgroups::Limits;
use vedette_range::plan::act::Placement;
use vedette_range::plan::timeline::Timeline;

/// On everything that a run makes, and on its namespace: whose it is.
pub const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "vedette-simulate");
/// Which run made it.
pub const RUN: &str = "vedette-range/run";
/// The kind of what owns pods.
pub const OWNER_KIND: &str = "Deployment";
/// What policies tell pods by; an attack's pod looks like any other.
const ROLE: &str = "vedette-range/role";
/// Of a pod: bad to its template, as a controller would write it, so that the aggregator sees a rollout.
const TEMPLATE: &str = "pod-template-hash";
/// What a pod's programs may write to, as they see it.
pub const WORK: &str = "/work";
/// Room there, and in `/tmp`; a pod that takes more is evicted.
const WORK_LIMIT: &str = "1Gi";
/// Limits of a container for which the plan has none: a cluster is shared.
const MILLICORES: u64 = 1_000;
const BYTES: u64 = 256 << 20;
/// What a container asks for, whatever its limits: thousandths of a core, bytes.
const ASKS: (u64, u64) = (50, 64 << 20);
/// Pods beside those of the plan at any time: the probe's, and one that is on its way out.
const SPARE_PODS: u64 = 6;

/// Which run, where, of which image.
#[derive(Clone, Debug)]
pub struct Names {
    /// Its namespace.
    pub namespace: String,
    /// Its own name.
    pub run: String,
    /// The image of its pods.
    pub image: String,
}

/// What policies make of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the run: it reaches the others, and nobody else.
    Pod,
    /// The probe's: whoever is in the namespace could reach it, if the others were allowed to.
    Outside,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Outside => "outside",
        }
    }
}

/// What owns the pods of a workload by reference.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// What the API server calls it.
    pub uid: String,
}

/// One pod.
#[derive(Clone, Debug)]
pub struct PodPlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its container's name.
    pub container: &'a str,
    /// Whose it is.
    pub owner: Option<&'a Owner>,
    /// What policies make of it.
    pub role: Role,
    /// Limits of its container; on processes there are the kubelet's alone.
    pub limits: Limits,
    /// Arguments of the range.
    pub args: Vec<String>,
    /// When it is ended whatever its programs do, seconds.
    pub seconds: u64,
    /// Whether its container is started again when it ends.
    pub restarts: bool,
}

impl Names {
    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": self.labels()})
    }

    fn labels(&self) -> Value {
        json!({OURS.0: OURS.1, RUN: self.run})
    }

    /// The namespace; what is in it needs no privilege.
    pub fn namespace(&self) -> Value {
        let mut labels = self.labels();
        for mode in ["enforce", "audit", "warn"] {
            labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        }
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
    }

    /// What all pods of a plan may take together: what it says, and the few that come before others go.
    pub fn quota(&self, timeline: &Timeline) -> Value {
        let workloads = timeline.workloads.iter().map(|workload| (u64::from(workload.replicas) + 1, limits(workload.limits)));
        let new = timeline.episodes.iter().filter(|episode| episode.placement == Placement::New).map(|one| (1, limits(one.limits)));
        let spare = std::iter::once((SPARE_PODS, limits(Limits::default())));
        let all: Vec<(u64, (u64, u64))> = workloads.chain(new).chain(spare).collect();
        let sum = |of: fn((u64, u64)) -> u64| all.iter().map(|(pods, limits)| pods * of(*limits)).sum::<u64>();
        let pods: u64 = all.iter().map(|(pods, _)| pods).sum();
        let hard = json!({
            "pods": pods.to_string(),
            "requests.cpu": format!("{}m", pods * ASKS.0),
            "requests.memory": (pods * ASKS.1).to_string(),
            "limits.cpu": format!("{}m", sum(|limits| limits.0)),
            "limits.memory": sum(|limits| limits.1).to_string(),
        });
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": self.metadata("range"), "spec": {"hard": hard}})
    }

    /// Nothing in or out; then pods of the run among each other; then the one that the probe must not reach: it would be let in, so that
    /// silence is the sender's policy and no other's.
    pub fn policies(&self) -> [Value; 3] {
        let one = |name: &str, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": self.metadata(name), "spec": spec});
        let role = |role: Role| json!({"matchLabels": {ROLE: role.word()}});
        let among = json!([{"podSelector": role(Role::Pod)}]);
        [
            one("default-deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
            one(
                "range",
                json!({
                    "podSelector": role(Role::Pod), "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": among}], "egress": [{"to": among}],
                }),
            ),
            one(
                "outside",
                json!({"podSelector": role(Role::Outside), "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}),
            ),
        ]
    }

    /// A Deployment that owns the pods of a workload by reference and starts none itself: the plan's clock does, and each pod has
    /// arguments of its own. So the aggregator knows the workload by its name. It stands for every kind of owner: the controllers of
    /// StatefulSets, DaemonSets and Jobs look after pods themselves and would release or delete these.
    pub fn owner(&self, name: &str) -> Value {
        let labels = json!({"vedette-range/of": name});
        json!({
            "apiVersion": "apps/v1", "kind": OWNER_KIND, "metadata": self.metadata(name),
            "spec": {
                "replicas": 0,
                "paused": true,
                // No pod of the run has this label.
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": self.pod_spec(name, Limits::default(), vec!["behave".to_owned(), "pause".to_owned()]),
                },
            },
        })
    }

    /// A pod.
    pub fn pod(&self, plan: PodPlan<'_>, template: &str) -> Value {
        let mut metadata = self.metadata(plan.name);
        metadata["labels"][ROLE] = json!(plan.role.word());
        if let Some(owner) = plan.owner {
            metadata["labels"][TEMPLATE] = json!(template);
            metadata["ownerReferences"] =
                json!([{"apiVersion": "apps/v1", "kind": OWNER_KIND, "name": owner.name, "uid": owner.uid, "controller": true}]);
        }
        let mut spec = self.pod_spec(plan.container, plan.limits, plan.args);
        spec["restartPolicy"] = json!(if plan.restarts { "Always" } else { "Never" });
        // Whatever becomes of whoever started the run, it is over then.
        spec["activeDeadlineSeconds"] = json!(plan.seconds);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    fn pod_spec(&self, container: &str, asked: Limits, args: Vec<String>) -> Value {
        let (millicores, bytes) = limits(asked);
        let quantities = |millicores: u64, bytes: u64| json!({"cpu": format!("{millicores}m"), "memory": bytes.to_string()});
        json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": container,
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "args": args,
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {
                    "requests": quantities(ASKS.0.min(millicores), ASKS.1.min(bytes)),
                    "limits": quantities(millicores, bytes),
                },
                // What a program said before it failed is in the pod's status.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "work", "mountPath": WORK}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [
                {"name": "work", "emptyDir": {"sizeLimit": WORK_LIMIT}},
                {"name": "tmp", "emptyDir": {"sizeLimit": WORK_LIMIT}},
            ],
        })
    }
}

/// Thousandths of a core and bytes.
fn limits(asked: Limits) -> (u64, u64) {
    (asked.cpu_millicores.unwrap_or(MILLICORES), asked.memory_bytes.unwrap_or(BYTES))
}

#[cfg(test)]
mod tests {
    use vedette_range::plan::{Plan, expand};

    use super::*;

    fn names() -> Names {
        Names { namespace: "vedette-range".into(), run: "r1".into(), image: "vedette-range:0.1.0".into() }
    }

    fn pod(limits: Limits) -> Value {
        let owner = Owner { name: "web".into(), uid: "u".into() };
        let args = vec!["behave".into(), "web".into()];
        let plan =
            PodPlan { name: "web-0-a", container: "web", owner: Some(&owner), role: Role::Pod, limits, args, seconds: 60, restarts: true };
        names().pod(plan, "7")
    }

    #[test]
    fn a_pod_is_restricted_ends_by_itself_and_says_whose_it_is() {
        let pod = pod(Limits { cpu_millicores: Some(20), memory_bytes: Some(32 << 20), pids: Some(512) });

        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], 60);
        assert_eq!(container["resources"]["limits"], json!({"cpu": "20m", "memory": "33554432"}));
        // Never more than the limit, or the API server refuses it.
        assert_eq!(container["resources"]["requests"], container["resources"]["limits"]);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "web");
        assert_eq!(pod["metadata"]["labels"][OURS.0], OURS.1);
    }

    #[test]
    fn an_owner_starts_nothing_itself_and_selects_no_pod_of_the_run() {
        let spec = &names().owner("web")["spec"];

        assert_eq!((&spec["replicas"], &spec["paused"]), (&json!(0), &json!(true)));
        let pod = pod(Limits::default());
        let selected = spec["selector"]["matchLabels"].as_object().unwrap().keys().any(|key| !pod["metadata"]["labels"][key].is_null());
        assert!(!selected);
    }

    #[test]
    fn the_probes_silence_can_only_be_the_senders_policy() {
        let [deny, range, outside] = names().policies();

        assert_eq!(deny["spec"], json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        let own = json!([{"podSelector": {"matchLabels": {ROLE: "pod"}}}]);
        assert_eq!((&range["spec"]["egress"][0]["to"], &range["spec"]["ingress"][0]["from"]), (&own, &own));
        assert_eq!(outside["spec"]["ingress"], json!([{"from": [{"podSelector": {}}]}]));
    }

    #[test]
    fn the_quota_has_room_for_the_plan_and_for_little_more() {
        let timeline = expand(&Plan::load("seed-session-short").unwrap(), 1).unwrap();

        let quota = names().quota(&timeline);

        // Five workloads and one more of each, five new pods, and the spare ones.
        assert_eq!(quota["spec"]["hard"]["pods"], (5 * 2 + 5 + SPARE_PODS).to_string());
    }
}
