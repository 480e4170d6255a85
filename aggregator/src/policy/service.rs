//! The RPCs of the policy service.

use std::{collections::BTreeMap, sync::Arc};

use tonic::{Request, Response, Status};
use vedette_detect::policy::LOOK_BACK_MS;
use vedette_proto::v1::{
    self, AddExceptionRequest, AddExceptionResponse, AlertState, Answer, AppliedException, ApplyChange, ApplyExceptionsRequest,
    ApplyExceptionsResponse, Exception, ExceptionSource, GetAlertsRequest, GetAlertsResponse, GetBudgetRequest, GetBudgetResponse,
    Incident, IncidentChange, JudgeQuietRequest, JudgeQuietResponse, JudgedQuiet, Kind, ListExceptionsRequest, ListExceptionsResponse,
    PreviewExceptionRequest, PreviewExceptionResponse, RemoveExceptionRequest, RemoveExceptionResponse, RotaBudget, SampleQuietRequest,
    SampleQuietResponse, SetAlertsRequest, SetAlertsResponse, Severity, UndoAnswerRequest, UndoAnswerResponse, WatchIncidentsResponse,
    Withheld,
};

use super::{check, desk, judge, preview, rate, report};
use crate::{
    Shared,
    auth::Grant,
    label::check as fields,
    query::Questions,
    store::{DAY_MS, IncidentFilter, Judgement, Replacing, StoredException, now_unix_ms},
};

/// Draws of quiet windows at a time: each reads history.
const DRAWS: usize = 1;
/// Most exceptions of one file.
const MAX_APPLIED: usize = 1_000;
/// Days that applying a file looks back.
const APPLY_DAYS: i64 = 30;

/// Answers the policy service's calls.
#[derive(Clone)]
pub struct PolicyService {
    shared: Shared,
    questions: Arc<Questions>,
}

impl PolicyService {
    /// Over the aggregator's shared state, with a thread of its own for reading history.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(shared: Shared) -> std::io::Result<Self> {
        Ok(Self { shared, questions: Arc::new(Questions::new("judge", DRAWS)?) })
    }

    /// Writes who did what to the audit log.
    async fn audit(&self, who: &str, what: &str, detail: &str) -> Result<(), Status> {
        self.shared.store.audit(who, what, detail).await.map_err(Status::from)
    }

    /// The digests of the images that the containers that an exception selects run now.
    fn images_now(&self, exception: &Exception) -> Result<Vec<String>, Status> {
        let own = v1::Selector { cluster: self.shared.cluster.to_string(), ..v1::Selector::default() };
        let (containers, _) = self.shared.fleet.containers(&own, false, usize::MAX);
        let any_or = |glob: &str, is: &str| glob.is_empty() || vedette_detect::policy::matches(glob, is);
        let selected = containers.iter().filter(|container| {
            container.workload.as_ref().is_some_and(|workload| {
                any_or(&exception.namespace, &workload.namespace)
                    && any_or(&exception.owner_kind, &workload.owner_kind)
                    && any_or(&exception.owner_name, &workload.owner_name)
                    && any_or(&exception.container_name, &workload.container_name)
            })
        });
        let digests: std::collections::BTreeSet<String> =
            selected.map(|container| container.image_digest.clone()).filter(|digest| !digest.is_empty()).collect();
        if digests.is_empty() || digests.len() > check::MAX_IMAGES {
            let problem = format!(
                "the containers that it selects run {} images of known digest, 1 to {} are needed; only an API server tells digests",
                digests.len(),
                check::MAX_IMAGES
            );
            return Err(Status::failed_precondition(problem));
        }
        Ok(digests.into_iter().collect())
    }
}

/// Whose token the request shows.
fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Grant>().map_or_else(|| "unknown".to_owned(), |grant| grant.caller.name.clone())
}

/// The exception that an answer makes, if it makes one: bound to the workload and the kind, and to what is like the incident.
pub(crate) fn from_answer(
    shared: &Shared,
    incident: &Incident,
    answer: Answer,
    author: &str,
    note: &str,
    now_unix_ms: i64,
) -> Option<Exception> {
    let said = match answer {
        Answer::Expected => "expected",
        Answer::NothingThere => "nothing there",
        _ => return None,
    };
    let workload = incident.workload.clone()?;
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    Some(Exception {
        namespace: workload.namespace,
        owner_kind: workload.owner_kind,
        owner_name: workload.owner_name,
        container_name: workload.container_name,
        kind: incident.kind,
        reason: format!("incident {} was answered {said}{note}", incident.id),
        expires_unix_ms: now_unix_ms + i64::from(shared.policy.config().answer_days) * DAY_MS,
        at_most: Severity::Ticket.into(),
        source: ExceptionSource::Answer.into(),
        author: author.to_owned(),
        created_unix_ms: now_unix_ms,
        incident_id: incident.id,
        ..Exception::default()
    })
}

#[tonic::async_trait]
impl v1::policy_service_server::PolicyService for PolicyService {
    async fn get_budget(&self, request: Request<GetBudgetRequest>) -> Result<Response<GetBudgetResponse>, Status> {
        let request = request.into_inner();
        let (shared, now) = (&self.shared, now_unix_ms());
        fields::instant("since_unix_ms", request.since_unix_ms)?;
        let limit = fields::limit("digest_limit", request.digest_limit, 20, 1_000)? as usize;
        let installed = shared.store.alerts(now).await?.installed_unix_ms;
        let since = if request.since_unix_ms == 0 { installed } else { request.since_unix_ms };
        // Late data of the first minute may be from before the start.
        let entries = shared.store.decisions(if request.since_unix_ms == 0 { 0 } else { since }).await?;
        let watched = shared.store.watched(since).await?.iter().map(|(_, ms)| ms).sum();
        let report = report::report(&entries, watched);
        let filter = IncidentFilter {
            cluster: Some(shared.cluster.to_string()),
            range: (request.since_unix_ms, i64::MAX),
            ..IncidentFilter::default()
        };
        let withheld = |incident: &Incident| incident.withheld() != Withheld::Unspecified;
        let listed = shared.store.incidents(&filter, limit, withheld).await?.into_iter().map(|stored| stored.incident).collect();
        let rotas = shared.policy.config().all_rotas().into_iter().map(|rota| {
            let (pages_spent, tickets_spent) = shared.policy.spent(&rota.name, now);
            RotaBudget {
                name: rota.name,
                namespaces: rota.namespaces,
                pages_per_week: rota.pages_per_week,
                tickets_per_day: rota.tickets_per_day,
                pages_spent,
                tickets_spent,
            }
        });
        let judged = shared.store.judged(request.since_unix_ms).await?;
        let (misses, of) = (judged.attacks, judged.attacks + judged.normal);
        let bounds = rate::share(misses, of);
        Ok(Response::new(GetBudgetResponse {
            since_unix_ms: since,
            pages: Some(report.pages),
            would_have_paged: Some(report.would_have_paged),
            tickets: Some(report.tickets),
            digest: Some(report.digest),
            namespaces: report.namespaces,
            withheld: report.withheld,
            listed,
            rotas: rotas.collect(),
            judged: Some(JudgedQuiet {
                judged: of,
                misses,
                low: bounds.map(|bounds| bounds.0),
                high: bounds.map(|bounds| bounds.1),
                unsure: judged.unsure,
            }),
        }))
    }

    async fn get_alerts(&self, _: Request<GetAlertsRequest>) -> Result<Response<GetAlertsResponse>, Status> {
        let (shared, now) = (&self.shared, now_unix_ms());
        let alerts = shared.store.alerts(now).await?;
        let entries = shared.store.decisions(now - LOOK_BACK_MS).await?;
        let watched = shared.store.watched(now - LOOK_BACK_MS).await?;
        let report = report::report(&entries, watched.iter().map(|(_, ms)| ms).sum());
        let expected = rate::rate(report.pages.count + report.would_have_paged.count, report.pages.days);
        Ok(Response::new(GetAlertsResponse {
            state: shared.policy.state(&alerts).into(),
            installed_unix_ms: alerts.installed_unix_ms,
            observes_until_unix_ms: shared.policy.observes_until(&alerts),
            changed_by: alerts.changed_by,
            changed_unix_ms: alerts.changed_unix_ms,
            expected: Some(expected),
            days: report::days(&entries, &watched, now),
        }))
    }

    async fn set_alerts(&self, request: Request<SetAlertsRequest>) -> Result<Response<SetAlertsResponse>, Status> {
        let who = caller(&request);
        let SetAlertsRequest { enabled, early } = request.into_inner();
        let (shared, now) = (&self.shared, now_unix_ms());
        let before = shared.store.alerts(now).await?;
        if enabled && !early && shared.policy.state(&before) == AlertState::Observing && now < shared.policy.observes_until(&before) {
            let days = (shared.policy.observes_until(&before) - now) as f64 / DAY_MS as f64;
            let problem = format!("it observes for {days:.1} more days, so that the rate of pages is known; early = true does not wait");
            return Err(Status::failed_precondition(problem));
        }
        shared.store.set_alerts(enabled, &who, now).await?;
        shared.policy.reload(now).await?;
        let detail = format!("{}{}", if enabled { "enabled" } else { "disabled" }, if enabled && early { ", early" } else { "" });
        self.audit(&who, "alerts", &detail).await?;
        let state = shared.policy.state(&shared.store.alerts(now).await?);
        Ok(Response::new(SetAlertsResponse { state: state.into() }))
    }

    async fn list_exceptions(&self, request: Request<ListExceptionsRequest>) -> Result<Response<ListExceptionsResponse>, Status> {
        let stored = self.shared.store.exceptions(now_unix_ms(), request.into_inner().include_over).await?;
        let mut exceptions = Vec::with_capacity(stored.len());
        for StoredException { mut exception, .. } in stored {
            exception.lowered = self.shared.store.withheld_by(&exception.name, exception.created_unix_ms).await?;
            exceptions.push(exception);
        }
        Ok(Response::new(ListExceptionsResponse { exceptions }))
    }

    async fn add_exception(&self, request: Request<AddExceptionRequest>) -> Result<Response<AddExceptionResponse>, Status> {
        let who = caller(&request);
        let AddExceptionRequest { exception, bind_images } = request.into_inner();
        let (asked, now) = (exception.ok_or_else(|| fields::invalid("exception", "required"))?, now_unix_ms());
        let mut exception = check::exception(asked, ExceptionSource::Operator, &who, now)?;
        if bind_images {
            exception.image_digests = self.images_now(&exception)?;
        }
        self.shared.store.add_exception(&exception, now).await?;
        self.shared.policy.reload(now).await?;
        self.audit(&who, "exception add", &described(&exception)).await?;
        Ok(Response::new(AddExceptionResponse { exception: Some(exception) }))
    }

    async fn remove_exception(&self, request: Request<RemoveExceptionRequest>) -> Result<Response<RemoveExceptionResponse>, Status> {
        let (who, now) = (caller(&request), now_unix_ms());
        let name = request.into_inner().name;
        self.shared.store.end_exception(&name, now).await?;
        self.shared.policy.reload(now).await?;
        self.audit(&who, "exception remove", &name).await?;
        Ok(Response::new(RemoveExceptionResponse {}))
    }

    async fn preview_exception(&self, request: Request<PreviewExceptionRequest>) -> Result<Response<PreviewExceptionResponse>, Status> {
        let request = request.into_inner();
        let asked = request.exception.ok_or_else(|| fields::invalid("exception", "required"))?;
        check::selector(&asked)?;
        let days = fields::limit("days", request.days, APPLY_DAYS as u32, 365)?;
        let limit = fields::limit("limit", request.limit, 100, 1_000)? as usize;
        let pure = desk::pure(StoredException { exception: asked, answered: None });
        let since = now_unix_ms() - i64::from(days) * DAY_MS;
        let (counts, incidents) = preview::hidden(&self.shared, &[pure], since, limit).await?;
        let count = counts.into_iter().next().unwrap_or_default();
        Ok(Response::new(PreviewExceptionResponse {
            incidents,
            total: count.total.into_inner(),
            pages: count.pages.into_inner(),
            images_unknown: count.images_unknown.into_inner(),
        }))
    }

    async fn apply_exceptions(&self, request: Request<ApplyExceptionsRequest>) -> Result<Response<ApplyExceptionsResponse>, Status> {
        let who = caller(&request);
        let ApplyExceptionsRequest { exceptions, dry_run } = request.into_inner();
        let now = now_unix_ms();
        if exceptions.len() > MAX_APPLIED {
            return Err(fields::invalid("exceptions", format!("{} given, at most {MAX_APPLIED} are allowed", exceptions.len())));
        }
        let mut wanted = BTreeMap::new();
        for (place, asked) in exceptions.into_iter().enumerate() {
            let at = |status: Status| Status::new(status.code(), format!("exceptions[{place}]: {}", status.message()));
            let exception = check::exception(asked, ExceptionSource::File, &who, now).map_err(at)?;
            if let Some(twice) = wanted.insert(exception.name.clone(), exception) {
                return Err(at(fields::invalid("exception.name", format!("{:?} is given twice", twice.name))));
            }
        }
        let stored = self.shared.store.exceptions(now, false).await?;
        let mut standing = BTreeMap::new();
        for StoredException { exception, .. } in stored {
            if exception.source() == ExceptionSource::File {
                standing.insert(exception.name.clone(), exception);
            } else if wanted.contains_key(&exception.name) {
                let problem = format!("exception {:?} stands already and is not from a file: remove it first", exception.name);
                return Err(Status::already_exists(problem));
            }
        }
        let changes = changes(wanted, standing);
        let pures: Vec<_> =
            changes.iter().map(|(exception, _)| desk::pure(StoredException { exception: exception.clone(), answered: None })).collect();
        let (counts, _) = preview::hidden(&self.shared, &pures, now - APPLY_DAYS * DAY_MS, 0).await?;
        if !dry_run {
            let mut replacing = Replacing::default();
            for (exception, change) in &changes {
                if matches!(change, ApplyChange::Changed | ApplyChange::Removed) {
                    replacing.end.push(exception.name.clone());
                }
                if matches!(change, ApplyChange::Changed | ApplyChange::Added) {
                    replacing.begin.push(exception.clone());
                }
            }
            self.shared.store.replace_exceptions(&replacing, now).await?;
            self.shared.policy.reload(now).await?;
            let names = |wanted: ApplyChange| {
                let of = changes.iter().filter(|(_, change)| *change == wanted).map(|(exception, _)| &exception.name[..]);
                format!("{} {}", wanted.word(), of.collect::<Vec<_>>().join(","))
            };
            let detail = [ApplyChange::Added, ApplyChange::Changed, ApplyChange::Removed].map(names).join("; ");
            self.audit(&who, "exception apply", &detail).await?;
        }
        let applied = changes.into_iter().zip(counts).map(|((exception, change), count)| AppliedException {
            exception: Some(exception),
            change: change.into(),
            would_have_hidden: count.total.into_inner(),
            pages: count.pages.into_inner(),
        });
        Ok(Response::new(ApplyExceptionsResponse { applied: applied.collect() }))
    }

    async fn undo_answer(&self, request: Request<UndoAnswerRequest>) -> Result<Response<UndoAnswerResponse>, Status> {
        let who = caller(&request);
        let UndoAnswerRequest { incident_id, author } = request.into_inner();
        fields::author(&author)?;
        let undone = self.shared.store.undo_answer(incident_id, &author).await?;
        self.shared.policy.reload(now_unix_ms()).await?;
        self.audit(&who, "answer undo", &format!("incident {incident_id}: {} by {author}", undone.undone.word())).await?;
        if let Some(stored) = self.shared.store.incident(incident_id).await? {
            // Without a receiver nobody is watching, which is no failure.
            let change = WatchIncidentsResponse { change: IncidentChange::Updated.into(), incident: Some(stored.incident) };
            let _ = self.shared.changes.send(change);
        }
        Ok(Response::new(UndoAnswerResponse {
            undone: undone.undone.into(),
            answer: undone.answer.into(),
            labels_retracted: undone.labels_retracted,
            exception: undone.exception.unwrap_or_default(),
        }))
    }

    async fn sample_quiet(&self, request: Request<SampleQuietRequest>) -> Result<Response<SampleQuietResponse>, Status> {
        let request = request.into_inner();
        let count = fields::limit("count", request.count, 5, 50)?;
        let days = fields::limit("days", request.days, 7, 90)?;
        let seed = if request.seed == 0 { uuid::Uuid::new_v4().as_u128() as u64 } else { request.seed };
        let (shared, now) = (self.shared.clone(), now_unix_ms());
        let slot = self.questions.room().await?;
        let drawn = self.questions.spawn(async move {
            let _slot = slot;
            judge::sample(&shared, count, now - i64::from(days) * DAY_MS, now, judge::Chance(seed)).await
        });
        let windows = drawn.await.map_err(|_| Status::internal("the windows could not be drawn"))??;
        Ok(Response::new(SampleQuietResponse { windows }))
    }

    async fn judge_quiet(&self, request: Request<JudgeQuietRequest>) -> Result<Response<JudgeQuietResponse>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        if !matches!(request.answer(), Answer::Attack | Answer::NothingThere | Answer::Unsure) {
            return Err(fields::invalid("answer", "attack, nothing there or unsure"));
        }
        fields::known_or_any("kind", Kind::WORDS, request.kind)?;
        if request.kind() == Kind::Normal || (request.kind() != Kind::Unspecified && request.answer() != Answer::Attack) {
            return Err(fields::invalid("kind", "only with the answer attack, and then not normal"));
        }
        fields::author(&request.author)?;
        fields::note(&request.note)?;
        let window = self.shared.store.quiet_window(request.id).await?;
        let label = judge::label(&window, &request);
        let judgement = Judgement { answer: request.answer(), author: &request.author, note: &request.note, label: label.as_ref() };
        let label_id = self.shared.store.judge_quiet(request.id, &judgement).await?;
        self.audit(&who, "judge", &format!("quiet window {}: {} by {}", request.id, request.answer().word(), request.author)).await?;
        Ok(Response::new(JudgeQuietResponse { label_id }))
    }
}

/// What applying wanted exceptions to those of files that stand changes, by name.
fn changes(wanted: BTreeMap<String, Exception>, mut standing: BTreeMap<String, Exception>) -> Vec<(Exception, ApplyChange)> {
    let mut changes = Vec::new();
    for (name, exception) in wanted {
        let change = match standing.remove(&name) {
            None => ApplyChange::Added,
            // Who applies it again, and when, is no change.
            Some(old) if (Exception { author: old.author.clone(), created_unix_ms: old.created_unix_ms, ..exception.clone() }) == old => {
                ApplyChange::Unchanged
            }
            Some(_) => ApplyChange::Changed,
        };
        changes.push((exception, change));
    }
    changes.extend(standing.into_values().map(|exception| (exception, ApplyChange::Removed)));
    changes
}

/// An exception in one line, for the audit log.
fn described(exception: &Exception) -> String {
    let Exception { name, namespace, owner_kind, owner_name, container_name, reason, .. } = exception;
    let images = exception.image_digests.join(",");
    let (kind, until) = (exception.kind().word(), exception.expires_unix_ms);
    format!("{name}: {namespace}/{owner_kind}/{owner_name}/{container_name} kind {kind:?} images {images:?} until {until}: {reason}")
}
