//! What goes to whom. Namespaces are matched by name: their annotations are not watched, so they cannot say it.

use vedette_proto::v1::{Incident, Kind, Severity};

use super::Config;

/// The routes, ready to be asked.
#[derive(Clone, Debug)]
pub struct Routes(Vec<Ready>);

#[derive(Clone, Debug)]
struct Ready {
    namespaces: Vec<String>,
    kinds: Vec<Kind>,
    minimum_severity: Severity,
    receivers: Vec<usize>,
}

impl Routes {
    /// Those of a checked configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        if config.routes.is_empty() {
            let receivers = (0..config.receivers.len()).collect();
            return Self(vec![Ready { namespaces: Vec::new(), kinds: Vec::new(), minimum_severity: Severity::Ticket, receivers }]);
        }
        let index = |name: &String| config.receivers.iter().position(|receiver| receiver.name == *name);
        let ready = |route: &super::Route| Ready {
            namespaces: route.namespaces.clone(),
            kinds: route.kinds.iter().filter_map(|kind| Kind::from_word(kind)).collect(),
            minimum_severity: Severity::from_word(&route.minimum_severity).unwrap_or(Severity::Ticket),
            receivers: route.receivers.iter().filter_map(index).collect(),
        };
        Self(config.routes.iter().map(ready).collect())
    }

    /// Who is told of an incident, by place in the configuration. The first route whose namespaces and kinds fit decides, and tells
    /// nobody of what is less severe than it wants.
    #[must_use]
    pub fn receivers(&self, incident: &Incident) -> &[usize] {
        let namespace = incident.workload.as_ref().map_or("", |workload| workload.namespace.as_str());
        let fits = |route: &&Ready| {
            (route.namespaces.is_empty() || route.namespaces.iter().any(|pattern| matches(pattern, namespace)))
                && (route.kinds.is_empty() || route.kinds.contains(&incident.kind()))
        };
        match self.0.iter().find(fits) {
            Some(route) if incident.severity() >= route.minimum_severity => &route.receivers,
            _ => &[],
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::Workload;

    use super::*;

    fn routed(text: &str, namespace: &str, kind: Kind, severity: Severity) -> Vec<usize> {
        let receivers =
            ["all", "team"].map(|name| format!("[[receivers]]\nname = \"{name}\"\nkind = \"alertmanager\"\nurls = [\"http://a\"]\n"));
        let config: Config = toml::from_str(&(receivers.concat() + text)).unwrap();
        let workload = Some(Workload { namespace: namespace.into(), ..Workload::default() });
        let incident = Incident { workload, kind: kind.into(), severity: severity.into(), ..Incident::default() };
        Routes::new(&config).receivers(&incident).to_vec()
    }

    #[test]
    fn without_routes_tickets_and_pages_go_to_everybody() {
        assert_eq!(routed("", "shop", Kind::Scan, Severity::Ticket), [0, 1]);
        assert!(routed("", "shop", Kind::Scan, Severity::Note).is_empty());
    }

    #[test]
    fn the_first_route_that_fits_decides() {
        let routes = "[[routes]]\nnamespaces = [\"team-*\", \"pay\"]\nminimum_severity = \"page\"\nreceivers = [\"team\"]\n[[routes]]\nkinds = \
                      [\"crash_loop\"]\nreceivers = []\n[[routes]]\nreceivers = [\"all\"]\n";

        assert_eq!(routed(routes, "team-a", Kind::Scan, Severity::Page), [1]);
        assert!(routed(routes, "team-a", Kind::Scan, Severity::Ticket).is_empty());
        assert!(routed(routes, "shop", Kind::CrashLoop, Severity::Page).is_empty());
        assert_eq!(routed(routes, "", Kind::Unknown, Severity::Ticket), [0]);
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("shop", "shop", true),
            ("shop", "shop-2", false),
            ("shop*", "shop-2", true),
            ("*-prod", "pay-prod", true),
            ("*-prod", "pay-prod-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
