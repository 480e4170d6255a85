//! Flags that say which workloads, pods or containers.

use clap::Args;
use vedette_proto::v1::Selector;

/// Flags of a selector. All that are given must match.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which")]
pub struct SelectorArgs {
    /// Kubernetes namespace
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    pub namespace: Option<String>,
    /// Owner as KIND/NAME, such as Deployment/web
    #[arg(long, value_name = "KIND/NAME", value_parser = Owner::parse)]
    pub owner: Option<Owner>,
    /// Container name
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub container: Option<String>,
    /// Pod uid
    #[arg(long, value_name = "UID", value_parser = name)]
    pub pod: Option<String>,
    /// Container id, or a prefix of at least 12 characters
    #[arg(long, value_name = "ID", value_parser = name)]
    pub container_id: Option<String>,
    /// Node name
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub node: Option<String>,
    /// Cluster or replay name, where it is not the aggregator's own
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub cluster: Option<String>,
}

impl SelectorArgs {
    /// The selector, or `None` where no flag was given.
    pub fn selector(&self) -> Option<Selector> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (owner_kind, owner_name) = self.owner.clone().map_or_else(Default::default, |owner| (owner.kind, owner.name));
        let selector = Selector {
            cluster: text(&self.cluster),
            node: text(&self.node),
            namespace: text(&self.namespace),
            owner_kind,
            owner_name,
            container_name: text(&self.container),
            pod_uid: text(&self.pod),
            container_id: text(&self.container_id),
        };
        (selector != Selector::default()).then_some(selector)
    }

    /// Whether anything besides the cluster was given.
    pub fn names_something(&self) -> bool {
        self.selector().is_some_and(|selector| selector != Selector { cluster: selector.cluster.clone(), ..Selector::default() })
    }
}

/// What a selector is about, for people: `namespace=shop owner=Deployment/web`.
pub fn describe(selector: &Selector) -> String {
    let owner = match (selector.owner_kind.as_str(), selector.owner_name.as_str()) {
        ("", "") => String::new(),
        (kind, name) => format!("{kind}/{name}"),
    };
    let parts = [
        ("cluster", &selector.cluster),
        ("node", &selector.node),
        ("namespace", &selector.namespace),
        ("owner", &owner),
        ("container", &selector.container_name),
        ("pod", &selector.pod_uid),
        ("container-id", &selector.container_id),
    ];
    let given = parts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value}"));
    given.collect::<Vec<_>>().join(" ")
}

/// Kind and name of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    kind: String,
    name: String,
}

impl Owner {
    /// Reads `Deployment/web`; also kubectl's short words for the kinds.
    fn parse(text: &str) -> Result<Self, String> {
        // The path of a watched cgroup holds slashes of its own.
        let (kind, name) = text
            .split_once('/')
            .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
            .ok_or("not an owner; write KIND/NAME, such as Deployment/web, StatefulSet/db or Node/worker-1")?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "deployment" | "deploy" => "Deployment",
            "statefulset" | "sts" => "StatefulSet",
            "daemonset" | "ds" => "DaemonSet",
            "replicaset" | "rs" => "ReplicaSet",
            "job" => "Job",
            "cronjob" | "cj" => "CronJob",
            "pod" | "po" => "Pod",
            "node" | "no" => "Node",
            "cgroup" => "Cgroup",
            _ => kind,
        };
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// An empty value would silently mean "any".
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        selector: SelectorArgs,
    }

    fn parse(line: &str) -> SelectorArgs {
        Flags::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).unwrap().selector
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let line = "--namespace shop --owner Deployment/web --container nginx --pod u-1 --container-id abc --node n1 --cluster lab";

        let selector = parse(line).selector().unwrap();

        assert_eq!(
            selector,
            Selector {
                cluster: "lab".into(),
                node: "n1".into(),
                namespace: "shop".into(),
                owner_kind: "Deployment".into(),
                owner_name: "web".into(),
                container_name: "nginx".into(),
                pod_uid: "u-1".into(),
                container_id: "abc".into(),
            }
        );
        assert_eq!(describe(&selector), "cluster=lab node=n1 namespace=shop owner=Deployment/web container=nginx pod=u-1 container-id=abc");
    }

    #[test]
    fn no_flag_is_no_selector() {
        assert_eq!(parse("").selector(), None);
        assert!(!parse("--cluster lab").names_something());
        assert!(parse("--cluster lab --node n1").names_something());
    }

    #[test]
    fn owners_know_short_words_and_paths() {
        assert_eq!(Owner::parse("deploy/web").unwrap(), Owner { kind: "Deployment".into(), name: "web".into() });
        assert_eq!(Owner::parse("Cgroup//system.slice/x").unwrap().name, "/system.slice/x");
        assert_eq!(Owner::parse("Rollout/web").unwrap().kind, "Rollout");
        assert!(Owner::parse("web").is_err() && Owner::parse("/web").is_err() && Owner::parse("Job/").is_err());
    }

    #[test]
    fn an_empty_value_is_refused() {
        assert!(Flags::try_parse_from(["x", "--namespace", ""]).is_err());
    }
}
