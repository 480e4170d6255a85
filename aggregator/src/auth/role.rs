//! The roles, and which call needs which.

/// What a token makes its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads everything that questions can read.
    Viewer,
    /// A viewer who also labels, answers, makes exceptions and says whether to page.
    Operator,
    /// Everything but delivering what an agent observed.
    Admin,
    /// Delivers observations, and nothing else.
    Agent,
}

impl Role {
    /// As people and configuration call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Agent => "agent",
        }
    }
}

/// What a call asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Viewer, operator or admin.
    Viewer,
    /// Operator or admin.
    Operator,
    /// Admin.
    Admin,
    /// Agent; or admin, for replays. Which of them [`super::Caller::may_deliver`] says once Hello is read.
    Delivery,
}

impl Need {
    /// Whether this role suffices.
    #[must_use]
    pub const fn met_by(self, role: Role) -> bool {
        match self {
            Self::Viewer => matches!(role, Role::Viewer | Role::Operator | Role::Admin),
            Self::Operator => matches!(role, Role::Operator | Role::Admin),
            Self::Admin => matches!(role, Role::Admin),
            Self::Delivery => matches!(role, Role::Agent | Role::Admin),
        }
    }

    /// The least role, for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Delivery => "agent",
        }
    }
}

/// Beginnings of paths and what they need; the first that fits decides.
const NEEDS: &[(&str, Need)] = &[
    ("/vedette.v1.QueryService/", Need::Viewer),
    ("/vedette.v1.LabelService/ListLabels", Need::Viewer),
    ("/vedette.v1.LabelService/", Need::Operator),
    ("/vedette.v1.PolicyService/Get", Need::Viewer),
    ("/vedette.v1.PolicyService/ListExceptions", Need::Viewer),
    ("/vedette.v1.PolicyService/PreviewException", Need::Viewer),
    ("/vedette.v1.PolicyService/", Need::Operator),
    ("/vedette.v1.ModelService/ListModel", Need::Viewer),
    ("/vedette.v1.ModelService/GetModel", Need::Viewer),
    ("/vedette.v1.ModelService/ShadowModel", Need::Operator),
    ("/vedette.v1.IngestService/", Need::Delivery),
    ("/vedette.v1.ConsoleService/", Need::Viewer),
    // The files that a browser runs: no secret either.
    ("/console/", Need::Viewer),
    // Other tools' alerts become labels.
    (crate::receive::PATH, Need::Operator),
    // The contract is no secret, but strangers need not be answered.
    ("/grpc.reflection.", Need::Viewer),
];

/// What the method at a path needs. What is not listed is the admin's: a new service is closed until somebody decides.
#[must_use]
pub fn need(path: &str) -> Need {
    NEEDS.iter().find(|(beginning, _)| path.starts_with(beginning)).map_or(Need::Admin, |(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_may_do_what_it_is_for() {
        let rights = |role: Role| {
            ["QueryService/Query", "LabelService/ListLabels", "LabelService/HandleIncident", "ExportService/Export", "IngestService/Stream"]
                .map(|method| need(&format!("/vedette.v1.{method}")).met_by(role))
        };

        assert_eq!(rights(Role::Viewer), [true, true, false, false, false]);
        assert_eq!(rights(Role::Operator), [true, true, true, false, false]);
        assert_eq!(rights(Role::Admin), [true, true, true, true, true]);
        assert_eq!(rights(Role::Agent), [false, false, false, false, true]);
    }

    #[test]
    fn a_viewer_sees_what_policy_goes_by_and_an_operator_changes_it() {
        let viewer = ["GetBudget", "GetAlerts", "ListExceptions", "PreviewException"];
        let operator = ["SetAlerts", "AddException", "RemoveException", "ApplyExceptions", "UndoAnswer", "SampleQuiet", "JudgeQuiet"];
        let need = |method: &&str| need(&format!("/vedette.v1.PolicyService/{method}"));

        assert!(viewer.iter().all(|method| need(method) == Need::Viewer));
        assert!(operator.iter().all(|method| need(method) == Need::Operator));
    }

    #[test]
    fn what_nobody_decided_about_is_the_admins() {
        assert_eq!(need("/vedette.v1.ModelService/PromoteModel"), Need::Admin);
        assert_eq!(need("/vedette.v1.QueryServiceButOther/Get"), Need::Admin);
        assert_eq!(need(""), Need::Admin);
    }
}
