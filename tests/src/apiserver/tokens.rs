//! Tokens of ServiceAccounts: issued, asked for, reviewed, revoked.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::post,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{ApiServer, Shared, answer};

/// A token as a test wants it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Namespace of the ServiceAccount.
    pub namespace: &'a str,
    /// Its name.
    pub account: &'a str,
    /// The one audience.
    pub audience: &'a str,
    /// Seconds until it ends; negative where it did.
    pub seconds: i64,
    /// Name and uid of the pod that it is bound to.
    pub pod: Option<(&'a str, &'a str)>,
}

/// What was issued.
#[derive(Debug, Default)]
pub(crate) struct Issued {
    tokens: HashMap<String, Token>,
    made: u64,
    /// ServiceAccounts whose tokens the caller may not ask for.
    forbidden: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Token {
    user: String,
    audience: String,
    expires_unix_s: i64,
    pod: Option<(String, String)>,
}

fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Issued {
    fn issue(&mut self, wanted: &Wanted<'_>) -> String {
        self.made += 1;
        let user = format!("system:serviceaccount:{}:{}", wanted.namespace, wanted.account);
        let expires_unix_s = unix_s() + wanted.seconds;
        let mut of = json!({"namespace": wanted.namespace, "serviceaccount": {"name": wanted.account}});
        if let Some((name, uid)) = wanted.pod {
            of["pod"] = json!({"name": name, "uid": uid});
        }
        let claims = json!({"aud": [wanted.audience], "exp": expires_unix_s, "iss": "stand-in", "kubernetes.io": of, "sub": user});
        let parts = [json!({"alg": "RS256", "kid": "stand-in"}).to_string(), claims.to_string(), format!("signature {}", self.made)];
        let token = parts.map(|part| base64url(part.as_bytes())).join(".");
        let pod = wanted.pod.map(|(name, uid)| (name.to_owned(), uid.to_owned()));
        self.tokens.insert(token.clone(), Token { user, audience: wanted.audience.to_owned(), expires_unix_s, pod });
        token
    }

    /// The status of a TokenReview.
    fn review(&self, token: &str, audiences: &[String]) -> Value {
        let Some(known) = self.tokens.get(token) else {
            return json!({"user": {}, "error": "[invalid bearer token, Token has been invalidated]"});
        };
        if known.expires_unix_s <= unix_s() {
            return json!({"user": {}, "error": "[invalid bearer token, token has expired]"});
        }
        if !audiences.contains(&known.audience) {
            let error = format!("token audiences [{:?}] is invalid for the target audiences {audiences:?}", known.audience);
            return json!({"user": {}, "error": error});
        }
        let mut user = json!({"username": known.user, "uid": "stand-in", "groups": ["system:serviceaccounts", "system:authenticated"]});
        if let Some((name, uid)) = &known.pod {
            user["extra"] = json!({
                "authentication.kubernetes.io/pod-name": [name],
                "authentication.kubernetes.io/pod-uid": [uid],
            });
        }
        json!({"authenticated": true, "user": user, "audiences": [known.audience]})
    }
}

/// Without padding, as RFC 7515 writes it.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|place| char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63])));
    }
    text
}

/// The paths of this group.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/apis/authentication.k8s.io/{version}/tokenreviews", post(review))
        .route("/api/{version}/namespaces/{namespace}/serviceaccounts/{account}/token", post(request))
}

async fn review(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Some(mut review) = answer::object(&body) else { return answer::no_object() };
    let audiences: Vec<String> = serde_json::from_value(review["spec"]["audiences"].clone()).unwrap_or_default();
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    review["status"] = shared.issued.lock().unwrap_or_else(PoisonError::into_inner).review(&token, &audiences);
    review["kind"] = json!("TokenReview");
    review["apiVersion"] = json!("authentication.k8s.io/v1");
    answer::json(StatusCode::CREATED, &review)
}

async fn request(
    State(shared): State<Arc<Shared>>,
    Path((_, namespace, account)): Path<(String, String, String)>,
    body: Bytes,
) -> Response {
    let Some(mut request) = answer::object(&body) else { return answer::no_object() };
    let mut issued = shared.issued.lock().unwrap_or_else(PoisonError::into_inner);
    if issued.forbidden.contains(&account) {
        let message = format!(
            "serviceaccounts {account:?} is forbidden: User \"test\" cannot create resource \"serviceaccounts/token\" in API group \"\" in \
             the namespace {namespace:?}"
        );
        return answer::status(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3_600);
    if seconds < 600 {
        return answer::status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "spec.expirationSeconds: may not be less than 10 minutes");
    }
    let audience = request["spec"]["audiences"][0].as_str().unwrap_or_default().to_owned();
    let token = issued.issue(&Wanted { namespace: &namespace, account: &account, audience: &audience, seconds, pod: None });
    // The standard library writes no dates; nobody reads this one for more than its presence.
    request["status"] = json!({"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"});
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    answer::json(StatusCode::CREATED, &request)
}

impl ApiServer {
    /// Issues a token that reviews accept.
    #[must_use]
    pub fn issue(&self, wanted: &Wanted<'_>) -> String {
        self.shared.issued.lock().unwrap_or_else(PoisonError::into_inner).issue(wanted)
    }

    /// Reviews refuse it from now on.
    pub fn invalidate(&self, token: &str) {
        self.shared.issued.lock().unwrap_or_else(PoisonError::into_inner).tokens.remove(token);
    }

    /// Nobody may ask for tokens of this ServiceAccount.
    pub fn forbid_tokens_of(&self, account: &str) {
        self.shared.issued.lock().unwrap_or_else(PoisonError::into_inner).forbidden.insert(account.to_owned());
    }

    /// How many tokens were reviewed.
    #[must_use]
    pub fn reviewed(&self) -> usize {
        self.asked().iter().filter(|asked| asked.path.ends_with("/tokenreviews")).count()
    }
}
