//! Whose tokens are good besides the two of `data_dir`: ServiceAccounts, by the API server's word.

use serde::{Deserialize, Serialize};

/// Tokens that the API server reviews. The two of `data_dir` are good in any case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Whether other tokens are shown to the API server of `[kubernetes]`.
    pub token_review: bool,
    /// The audience that a token must be for.
    pub audience: String,
    /// User name of the agents' ServiceAccount: their tokens deliver, for the node of their pod.
    pub agent: String,
    /// User name of the ServiceAccount that reads.
    pub viewer: String,
    /// User name of the ServiceAccount that reads, labels and answers.
    pub operator: String,
    /// User name of the ServiceAccount that may do everything else.
    pub admin: String,
    /// A token that was good is reviewed again after so long, in seconds, at most 60: what is revoked is refused by then.
    pub recheck_seconds: u32,
    /// A token that was refused is not asked about for so long, in seconds.
    pub refused_seconds: u32,
    /// While the API server cannot be asked, a token that was good stays so for this much longer, in seconds.
    pub grace_seconds: u32,
    /// Tokens remembered; beyond it the one reviewed longest ago is forgotten. As many refused ones are remembered apart.
    pub max_tokens: usize,
}

impl Default for Auth {
    fn default() -> Self {
        let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
        Self {
            token_review: false,
            audience: "vedette-aggregator".into(),
            agent: account("vedette-agent", "vedette-agent"),
            viewer: account("vedette", "vedette-viewer"),
            operator: account("vedette", "vedette-operator"),
            admin: account("vedette", "vedette-admin"),
            // An API server itself remembers a token for 10 s: 45 + 10 leaves 5 s of the 60 for asking.
            recheck_seconds: 45,
            refused_seconds: 10,
            grace_seconds: 300,
            max_tokens: 16_384,
        }
    }
}

impl Auth {
    /// Checks what types cannot; names the key and what is wrong with it.
    ///
    /// # Errors
    /// The dotted key and the problem.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let accounts =
            [("auth.agent", &self.agent), ("auth.viewer", &self.viewer), ("auth.operator", &self.operator), ("auth.admin", &self.admin)];
        for (place, (key, account)) in accounts.iter().enumerate() {
            if super::kubernetes::account(account).is_none() {
                return Err((key, "must be system:serviceaccount:NAMESPACE:NAME".into()));
            }
            if accounts[..place].iter().any(|(_, other)| other == account) {
                return Err((key, "stands for another role already".into()));
            }
        }
        if self.audience.is_empty() {
            return Err(("auth.audience", "must not be empty".into()));
        }
        if !(1..=60).contains(&self.recheck_seconds) {
            return Err(("auth.recheck_seconds", "must be 1 to 60".into()));
        }
        if !(1..=60).contains(&self.refused_seconds) {
            return Err(("auth.refused_seconds", "must be 1 to 60".into()));
        }
        if self.grace_seconds > 3_600 {
            return Err(("auth.grace_seconds", "must be at most 3600".into()));
        }
        if self.max_tokens == 0 {
            return Err(("auth.max_tokens", "must be at least 1".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_keep_a_revoked_token_good_is_refused() {
        let late = Auth { recheck_seconds: 61, ..Auth::default() };
        let twice = Auth { operator: Auth::default().viewer, ..Auth::default() };
        let nobody = Auth { agent: "vedette-agent".into(), ..Auth::default() };

        assert_eq!(Auth::default().check(), Ok(()));
        assert_eq!(late.check().unwrap_err().0, "auth.recheck_seconds");
        assert_eq!(twice.check().unwrap_err().0, "auth.operator");
        assert_eq!(nobody.check().unwrap_err().0, "auth.agent");
    }
}
