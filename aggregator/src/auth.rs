//! Who calls, and what they may do: tokens of files, or tokens that the API server reviews; checked before any service sees a request.

mod cache;
mod claims;
mod config;
mod gate;
mod grant;
mod held;
pub mod kubernetes;
mod reviews;
mod role;
mod sources;

use std::{net::IpAddr, sync::Arc};

pub use config::Auth as Config;
pub use gate::Gate;
pub use grant::{Caller, Grant, caller};
pub use reviews::{Reviews, Settings};
pub use role::{Need, Role, need};

use crate::{
    counters::{Counters, Refusal},
    ingest::Refused,
    token::Tokens,
};

/// Decides about every request.
pub struct Auth {
    tokens: Tokens,
    /// `None` outside of Kubernetes: only the tokens of files are good.
    reviews: Option<Arc<Reviews>>,
    counters: Arc<Counters>,
}

impl Auth {
    /// Over the tokens of files and, in Kubernetes, the reviews of the others.
    #[must_use]
    pub fn new(tokens: Tokens, reviews: Option<Arc<Reviews>>, counters: Arc<Counters>) -> Self {
        Self { tokens, reviews, counters }
    }

    /// Whether who shows `token` may call the method at `path`. A refusal is counted here, and only here.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub async fn admit(&self, path: &str, token: Option<&str>, source: Option<IpAddr>) -> Result<Grant, Refused> {
        let decided = self.decide(path, token, source).await;
        if let Err(refused) = &decided {
            self.counters.refuse(refused.reason);
        }
        decided
    }

    async fn decide(&self, path: &str, token: Option<&str>, source: Option<IpAddr>) -> Result<Grant, Refused> {
        let unknown = || Refused::new(Refusal::Unauthenticated, "authorization must be `Bearer` and a token of this aggregator");
        let token = token.ok_or_else(unknown)?;
        let grant = match (self.tokens.role(token.as_bytes()), &self.reviews) {
            (Some(role), _) => Grant::of_file(role),
            (None, Some(reviews)) => reviews.check(token, source).await?,
            (None, None) => return Err(unknown()),
        };
        let (need, role) = (need(path), grant.caller.role);
        if need.met_by(role) {
            return Ok(grant);
        }
        let method = path.trim_start_matches("/vedette.v1.");
        let problem = format!("{method} needs the role {}; this token has the role {}", need.word(), role.word());
        Err(Refused::new(Refusal::PermissionDenied, problem))
    }
}
