//! `POST /v1/alerts`: other tools' alerts, as Alertmanager's webhook sends them, become weak labels.
//!
//! A weak label has the source `alertmanager`, which every other source overrules, and teaches nothing: whoever agrees with one says so
//! with a label of their own. Our own alerts are never taken: they would prove us right. See `docs/decisions/063`.

mod weak;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use vedette_proto::v1::{Kind, Label, LabelSource};

use crate::{
    Shared,
    auth::Auth,
    clock,
    label::check,
    store::{LabelFilter, StoreError},
};
use weak::{Skipped, Webhook};

/// Largest body: a thousand alerts.
const MAX_BODY: usize = 1 << 20;
/// Most alerts of one call; the others are left out and counted.
const MAX_ALERTS: usize = 1_000;
/// Calls at once; one more is told to come again.
const CALLS: usize = 4;
/// Weak labels an hour; beyond it they are left out and counted. The list of labels has room for a million, and people need it.
const AN_HOUR: u32 = 1_000;
const HOUR_MS: i64 = 3_600_000;
/// The path, which also names what its caller must be.
pub const PATH: &str = "/v1/alerts";

/// Whether, from whom, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receive {
    /// Whether other tools' alerts are taken.
    pub enabled: bool,
    /// A token that may do this and nothing else, read anew for every call; empty: only an operator's or the admin's.
    pub token_file: PathBuf,
    /// What an alert of this name is a label of; what is not listed is `unknown`.
    pub kinds: BTreeMap<String, String>,
}

impl Default for Receive {
    fn default() -> Self {
        let kinds = [
            ("KubePodCrashLooping", Kind::CrashLoop),
            ("KubePersistentVolumeFillingUp", Kind::DiskFill),
            ("KubeContainerOOMKilled", Kind::MemoryLeak),
        ];
        Self {
            enabled: false,
            token_file: PathBuf::new(),
            kinds: kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind.word().to_owned())).collect(),
        }
    }
}

impl Receive {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, and what is wrong.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self.kinds.values().find(|kind| Kind::from_word(kind).is_none_or(|kind| kind == Kind::Normal)) {
            Some(kind) => Err(("receive.kinds", format!("{kind:?} is no kind that an alert can be"))),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What became of alerts, on `/metrics`.
#[derive(Debug, Default)]
pub struct Counts(Family<Outcome, Counter>);

impl Counts {
    /// Names it for `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in ["label", "known", "ours", "no_workload", "time", "limit"] {
            let _ = self.0.get_or_create(&Outcome { outcome });
        }
        registry.register("received_alerts", "Other tools' alerts received, by what became of them", self.0.clone());
    }

    fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Takes alerts.
pub struct Door {
    shared: Shared,
    auth: Arc<Auth>,
    config: Receive,
    /// What links to our own incidents begin with.
    own_link: String,
    calls: Semaphore,
    /// The hour, and how many labels were added in it.
    spent: Mutex<(i64, u32)>,
}

/// Why a call is not answered with 200.
type Refused = (StatusCode, String);

impl Door {
    /// Over the aggregator's state.
    #[must_use]
    pub fn new(shared: Shared, auth: Arc<Auth>, config: Receive, link: &str) -> Self {
        let own_link = link.split("{id}").next().unwrap_or("").to_owned();
        Self { shared, auth, config, own_link, calls: Semaphore::new(CALLS), spent: Mutex::new((0, 0)) }
    }

    /// One call, from the connection to the labels.
    pub async fn take(State(door): State<Arc<Self>>, request: Request) -> (StatusCode, String) {
        door.answer(request).await.unwrap_or_else(|refused| refused)
    }

    async fn answer(&self, request: Request) -> Result<(StatusCode, String), Refused> {
        // Who it is comes before what it says: strangers cost nothing but their header.
        self.admit(request.headers()).await?;
        let _call = self.calls.try_acquire().map_err(|_| (StatusCode::TOO_MANY_REQUESTS, "too many calls at once\n".to_owned()))?;
        let body = to_bytes(request.into_body(), MAX_BODY)
            .await
            .map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_BODY} bytes\n")))?;
        let webhook: Webhook = serde_json::from_slice(&body).map_err(|error| {
            let reason: String = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
            (StatusCode::BAD_REQUEST, format!("not the body of an Alertmanager webhook: {reason}\n"))
        })?;
        let counts = &self.shared.counters.received;
        let mut added = 0;
        for (place, alert) in webhook.alerts.iter().enumerate() {
            let outcome = if place < MAX_ALERTS { self.one(alert).await.map_err(|error| unavailable(&error))? } else { "limit" };
            counts.count(outcome);
            added += u32::from(outcome == "label");
        }
        if added > 0 {
            let detail = format!("added {added} weak labels");
            self.shared.store.audit("alertmanager", "label", &detail).await.map_err(|error| unavailable(&error))?;
        }
        Ok((StatusCode::OK, format!("{added} weak labels\n")))
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|shown| shown.strip_prefix("Bearer ").or_else(|| shown.strip_prefix("bearer ")));
        if let Some(token) = token.filter(|_| !self.config.token_file.as_os_str().is_empty()) {
            match std::fs::read_to_string(&self.config.token_file) {
                Ok(text) if text.trim().len() >= 16 && crate::token::same(token.as_bytes(), text.trim().as_bytes()) => return Ok(()),
                Ok(_) => {}
                Err(error) => tracing::warn!(path = %self.config.token_file.display(), %error, "receive.token_file"),
            }
        }
        self.auth.admit(PATH, token, None).await.map(drop).map_err(|refused| (StatusCode::UNAUTHORIZED, format!("{}\n", refused.problem)))
    }

    /// What becomes of one alert.
    async fn one(&self, alert: &weak::Alert) -> Result<&'static str, StoreError> {
        let now_ms = clock::unix_ms();
        let of_pod = |namespace: &str, pod: &str| self.shared.fleet.of_pod(namespace, pod);
        let label = match weak::label(alert, &self.config.kinds, &self.own_link, now_ms, of_pod) {
            Ok(label) => label,
            Err(Skipped::Ours) => return Ok("ours"),
            Err(Skipped::NoWorkload) => return Ok("no_workload"),
            Err(Skipped::Time) => return Ok("time"),
        };
        let Ok(mut labels) = check::labels(vec![label], &self.shared.cluster) else { return Ok("no_workload") };
        let Some(label) = labels.pop() else { return Ok("no_workload") };
        let before = self.standing(&label).await?;
        let resolved = |label: &Label| label.attributes.get("status").is_some_and(|status| status == "resolved");
        if before.as_ref().is_some_and(|before| resolved(before) || !resolved(&label)) {
            return Ok("known");
        }
        if !self.spend(now_ms) {
            return Ok("limit");
        }
        if let Some(before) = before {
            // What was said while it fired did not know its end.
            self.shared.store.retract_label(before.id, "alertmanager", "the alert resolved").await?;
        }
        let labels = [label];
        self.shared.store.add_labels(&labels).await?;
        self.shared.counters.labelled(&labels);
        Ok("label")
    }

    /// The label that this alert has already.
    async fn standing(&self, label: &Label) -> Result<Option<Label>, StoreError> {
        let range = label.range.unwrap_or_default();
        let filter = LabelFilter {
            cluster: Some(self.shared.cluster.to_string()),
            range: (range.start_unix_ms, range.end_unix_ms),
            source: LabelSource::Alertmanager,
            ..LabelFilter::default()
        };
        let key = label.attributes.get("alert");
        Ok(self.shared.store.labels(&filter).await?.into_iter().find(|other| other.attributes.get("alert") == key))
    }

    /// Whether this hour has room for one more.
    fn spend(&self, now_ms: i64) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = now_ms / HOUR_MS;
        if spent.0 != hour {
            *spent = (hour, 0);
        }
        spent.1 += 1;
        spent.1 <= AN_HOUR
    }
}

fn unavailable(error: &StoreError) -> Refused {
    tracing::warn!(%error, "alerts cannot become labels");
    // Alertmanager tries again.
    (StatusCode::SERVICE_UNAVAILABLE, "labels cannot be stored now\n".to_owned())
}
