//! What a request was granted, and for how long: open streams are asked about again.

use std::sync::Arc;

use tokio::time::Instant;
use vedette_proto::v1::Origin;

use super::{Reviews, Role};
use crate::{counters::Refusal, ingest::Refused};

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it may do.
    pub role: Role,
    /// The user name, or the file that holds the token.
    pub name: String,
    /// The node of the agent's pod. `None`: the token does not say, and delivers for any.
    pub node: Option<String>,
}

impl Caller {
    /// Whether it may deliver what this node observed.
    ///
    /// # Errors
    /// Another node's token, or a role that does not fit the origin.
    pub fn may_deliver(&self, node: &str, origin: Origin) -> Result<(), Refused> {
        let no = |reason, problem: String| Err(Refused::new(reason, problem));
        match (self.role, origin, &self.node) {
            (Role::Admin, Origin::Replay, _) | (Role::Agent, _, None) => Ok(()),
            (Role::Agent, Origin::Replay, Some(_)) => {
                no(Refusal::PermissionDenied, "an agent's token may not replay: that needs the role admin".into())
            }
            (Role::Agent, _, Some(own)) if own == node => Ok(()),
            (Role::Agent, _, Some(own)) => no(Refusal::OtherNode, format!("the token is that of a pod on node {own}")),
            (role, ..) => no(
                Refusal::PermissionDenied,
                format!("delivering what happens now needs the role agent; this token has the role {}", role.word()),
            ),
        }
    }
}

/// The caller of a request that came through no gate.
const UNGATED: &str = "nobody";

/// A grant of one request, in its extensions.
#[derive(Clone)]
pub struct Grant {
    /// To whom.
    pub caller: Arc<Caller>,
    lasting: Option<Lasting>,
}

/// A token that is to be reviewed again.
#[derive(Clone)]
struct Lasting {
    reviews: Arc<Reviews>,
    token: Arc<str>,
    until: Instant,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Who calls, by the gate's word and not the request's: what the audit log names.
#[must_use]
pub fn caller<T>(request: &tonic::Request<T>) -> String {
    request.extensions().get::<Grant>().map_or_else(|| UNGATED.to_owned(), |grant| grant.caller.name.clone())
}

impl Grant {
    /// By a token of a file: good as long as the process runs.
    #[must_use]
    pub fn of_file(role: Role) -> Self {
        let name = format!("{}.token", role.word());
        Self { caller: Arc::new(Caller { role, name, node: None }), lasting: None }
    }

    /// As if the gate knew the caller.
    #[cfg(test)]
    pub(crate) const fn known(caller: Arc<Caller>) -> Self {
        Self { caller, lasting: None }
    }

    pub(super) fn reviewed(caller: Arc<Caller>, reviews: Arc<Reviews>, token: &str, until: Instant) -> Self {
        Self { caller, lasting: Some(Lasting { reviews, token: token.into(), until }) }
    }

    /// Whether it can end before its request.
    #[must_use]
    pub const fn ends(&self) -> bool {
        self.lasting.is_some()
    }

    /// Waits until the token is no longer good, asking whenever what is known of it is too old; says why. Never for tokens of files.
    pub async fn over(self) -> Refused {
        let Some(Lasting { reviews, token, mut until }) = self.lasting else { return std::future::pending().await };
        loop {
            tokio::time::sleep_until(until).await;
            match reviews.again(&token).await {
                Ok((caller, next)) if caller == self.caller => until = next,
                Ok(_) => return Refused::new(Refusal::Revoked, "the token no longer stands for the same caller"),
                Err(refused) => return refused,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, node: Option<&str>) -> Caller {
        Caller { role, name: "n".into(), node: node.map(Into::into) }
    }

    fn reason(caller: &Caller, origin: Origin) -> Option<Refusal> {
        caller.may_deliver("here", origin).err().map(|refused| refused.reason)
    }

    #[test]
    fn a_pods_token_delivers_for_its_own_node_only() {
        let (own, other) = (caller(Role::Agent, Some("here")), caller(Role::Agent, Some("there")));

        assert_eq!(reason(&own, Origin::Live), None);
        assert_eq!(reason(&own, Origin::Late), None);
        assert_eq!(reason(&own, Origin::Replay), Some(Refusal::PermissionDenied));
        assert_eq!(reason(&other, Origin::Live), Some(Refusal::OtherNode));
        assert!(other.may_deliver("here", Origin::Live).unwrap_err().problem.contains("there"));
    }

    #[test]
    fn an_admin_replays_and_does_not_speak_for_a_node() {
        let admin = caller(Role::Admin, None);

        assert_eq!(reason(&admin, Origin::Replay), None);
        assert_eq!(reason(&admin, Origin::Live), Some(Refusal::PermissionDenied));
    }

    #[test]
    fn the_agents_file_token_delivers_whatever_it_is() {
        let agent = caller(Role::Agent, None);

        assert_eq!((reason(&agent, Origin::Live), reason(&agent, Origin::Replay)), (None, None));
    }
}
