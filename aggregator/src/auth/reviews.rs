//! Tokens reviewed by the API server: one call for one token at a time, a bounded memory of the answers, bounded calls for unknown ones.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use super::{
    Caller, Config, Grant, Role,
    cache::{self, Cache, Found, Good, Key},
    claims,
    kubernetes::{PodNodes, Said, Unasked},
    sources::Sources,
};
use crate::{
    clock,
    counters::Refusal,
    ingest::Refused,
    problems::{Problems, Source},
};

/// Calls at once for tokens that were not seen before, and as many for those that were: a flood of the former delays none of the latter.
const AT_ONCE: usize = 16;
/// Reviews under way or waiting; one more unknown token is told to come back.
const MAX_FLIGHTS: usize = 4_096;
/// An API server answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a call that failed the next one waits so long: thousands of streams must not queue for a server that is down.
const PAUSE: Duration = Duration::from_secs(2);
/// A token that stays good because nobody can be asked is asked about again after so long.
const RETRY: Duration = Duration::from_secs(5);

/// Shows a token to the API server.
pub type Review = Box<dyn Fn(Arc<str>) -> BoxFuture<'static, Result<Said, Unasked>> + Send + Sync>;

/// A caller, and until when that is not asked again; or why not.
pub(super) type Outcome = Result<(Arc<Caller>, Instant), Refused>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// What decides, from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    audience: String,
    roles: Vec<(String, Role)>,
    recheck: Duration,
    refused: Duration,
    grace: Duration,
    max_tokens: usize,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let roles = [
            (&config.agent, Role::Agent),
            (&config.viewer, Role::Viewer),
            (&config.operator, Role::Operator),
            (&config.admin, Role::Admin),
        ];
        Self {
            audience: config.audience.clone(),
            roles: roles.map(|(account, role)| (account.clone(), role)).into(),
            recheck: seconds(config.recheck_seconds),
            refused: seconds(config.refused_seconds),
            grace: seconds(config.grace_seconds),
            max_tokens: config.max_tokens,
        }
    }
}

/// The reviews and what is remembered of them.
pub struct Reviews {
    settings: Settings,
    review: Review,
    pods: Arc<dyn PodNodes>,
    problems: Arc<Problems>,
    state: Mutex<State>,
    unknown: Semaphore,
    known: Semaphore,
}

struct State {
    cache: Cache,
    sources: Sources,
    flights: HashMap<Key, Flight>,
    /// The API server could not be asked, and is not asked before then.
    down: Option<(Instant, Unasked)>,
}

impl Reviews {
    /// Reviews by `review`; the node of an agent's pod by `pods`.
    #[must_use]
    pub fn new(settings: Settings, review: Review, pods: Arc<dyn PodNodes>, problems: Arc<Problems>) -> Arc<Self> {
        let (cache, sources) = (Cache::new(settings.max_tokens), Sources::default());
        let state = Mutex::new(State { cache, sources, flights: HashMap::new(), down: None });
        let (unknown, known) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        Arc::new(Self { settings, review, pods, problems, state, unknown, known })
    }

    /// Whose token it is, for a request from this address.
    ///
    /// # Errors
    /// Why it is not good, or why nobody can say.
    pub async fn check(self: &Arc<Self>, token: &str, source: Option<IpAddr>) -> Result<Grant, Refused> {
        let (key, now) = (cache::key(token), Instant::now());
        let mut took = false;
        let flight = {
            let mut state = self.lock();
            match state.cache.find(&key, now) {
                Found::Good(good) => return Ok(Grant::reviewed(good.caller, Arc::clone(self), token, good.until)),
                Found::Bad(refused) => return Err(refused),
                Found::Stale(good) => self.fly(&mut state, key, token, Some(good)),
                Found::Unknown => {
                    self.plausible(token)?;
                    if !state.flights.contains_key(&key) {
                        if !state.sources.take(source, now) {
                            return Err(Refused::new(Refusal::Limit, "too many unknown tokens from this address; come back later"));
                        }
                        took = true;
                        if state.flights.len() >= MAX_FLIGHTS {
                            return Err(Refused::new(Refusal::Limit, "too many tokens wait for the API server; come back later"));
                        }
                    }
                    self.fly(&mut state, key, token, None)
                }
            }
        };
        let outcome = flight.await;
        let blameless = match &outcome {
            Ok(_) => true,
            Err(refused) => refused.reason == Refusal::Unavailable,
        };
        if took && blameless {
            self.lock().sources.give_back(source, Instant::now());
        }
        outcome.map(|(caller, until)| Grant::reviewed(caller, Arc::clone(self), token, until))
    }

    /// Whose token it is now, for a stream that is open.
    pub(super) async fn again(self: &Arc<Self>, token: &str) -> Outcome {
        let key = cache::key(token);
        let flight = {
            let mut state = self.lock();
            match state.cache.find(&key, Instant::now()) {
                Found::Good(good) => return Ok((good.caller, good.until)),
                Found::Bad(refused) => return Err(refused),
                Found::Stale(good) => self.fly(&mut state, key, token, Some(good)),
                Found::Unknown => self.fly(&mut state, key, token, None),
            }
        };
        flight.await
    }

    /// What the token says of itself can refuse it at once.
    fn plausible(&self, token: &str) -> Result<(), Refused> {
        let no = |reason, problem: &str| Err(Refused::new(reason, problem));
        let Some(claims) = claims::read(token) else {
            return no(Refusal::Unauthenticated, "neither a token of this aggregator nor one of a ServiceAccount");
        };
        if claims.expires_unix_s.is_some_and(|end| end.saturating_mul(1_000) <= clock::unix_ms()) {
            return Err(expired());
        }
        if !claims.audiences.contain(&self.settings.audience) {
            return no(Refusal::Audience, &format!("the token is for another audience, not for {}", self.settings.audience));
        }
        if self.role(&claims.subject).is_none() {
            return no(Refusal::PermissionDenied, "the token's ServiceAccount has no role here");
        }
        Ok(())
    }

    fn role(&self, user: &str) -> Option<Role> {
        self.settings.roles.iter().find(|(account, _)| account == user).map(|(_, role)| *role)
    }

    /// Joins the review of this token, or begins it. It ends by itself, whoever still waits for it.
    fn fly(self: &Arc<Self>, state: &mut State, key: Key, token: &str, known: Option<Good>) -> Flight {
        if let Some(flight) = state.flights.get(&key) {
            return flight.clone();
        }
        let (tell, told) = oneshot::channel::<Outcome>();
        let (reviews, token): (_, Arc<str>) = (Arc::clone(self), token.into());
        tokio::spawn(async move {
            let outcome = reviews.ask(key, &token, known).await;
            reviews.lock().flights.remove(&key);
            let _ = tell.send(outcome);
        });
        let given_up = || Err(Refused::new(Refusal::Unavailable, "the aggregator is stopping"));
        let flight = told.map(move |outcome| outcome.unwrap_or_else(|_| given_up())).boxed().shared();
        state.flights.insert(key, flight.clone());
        flight
    }

    async fn ask(&self, key: Key, token: &Arc<str>, known: Option<Good>) -> Outcome {
        let places = if known.is_some() { &self.known } else { &self.unknown };
        let place = places.acquire().await;
        let answer = self.answer(token).await;
        drop(place);
        let now = Instant::now();
        let mut state = self.lock();
        match answer {
            Ok(Ok(caller)) => {
                state.down = None;
                self.problems.clear(Source::ApiServer);
                // By the clock as it was at first: one that is set back lengthens no token's life.
                let first = || claims::read(token).and_then(|claims| claims.expires_unix_s).map(|end| instant_of(end, now));
                let expires = known.map_or_else(first, |good| good.expires);
                // Spread, so that streams that opened together do not ask together.
                let recheck = self.settings.recheck.mul_f64(1.0 - rand::random::<f64>() / 4.0);
                let until = expires.map_or(now + recheck, |end| end.min(now + recheck));
                let caller = Arc::new(caller);
                state.cache.accept(key, Good { caller: Arc::clone(&caller), reviewed: now, until, expires });
                Ok((caller, until))
            }
            Ok(Err(refused)) => {
                state.down = None;
                self.problems.clear(Source::ApiServer);
                let revoked = known.is_some() && refused.reason == Refusal::Unauthenticated;
                let refused = if revoked { Refused { reason: Refusal::Revoked, ..refused } } else { refused };
                state.cache.refuse(key, refused.clone(), now + self.settings.refused);
                Err(refused)
            }
            Err(unasked) => {
                if state.down.is_none() {
                    tracing::warn!(error = %unasked, "the API server cannot be asked about tokens");
                }
                let problem = format!("the API server cannot be asked about tokens: {unasked}");
                self.problems.state(Source::ApiServer, problem.clone());
                if state.down.as_ref().is_none_or(|(until, _)| *until <= now) {
                    state.down = Some((now + PAUSE, unasked));
                }
                let unavailable = Err(Refused::new(Refusal::Unavailable, problem));
                let Some(good) = known else { return unavailable };
                let end = good.reviewed + self.settings.recheck + self.settings.grace;
                let end = good.expires.map_or(end, |expires| expires.min(end));
                if end <= now {
                    return unavailable;
                }
                let (caller, until) = (Arc::clone(&good.caller), end.min(now + RETRY));
                state.cache.accept(key, Good { until, ..good });
                Ok((caller, until))
            }
        }
    }

    /// Asks the API server, unless it could not be asked a moment ago.
    async fn answer(&self, token: &Arc<str>) -> Result<Result<Caller, Refused>, Unasked> {
        if let Some((until, unasked)) = &self.lock().down
            && Instant::now() < *until
        {
            return Err(unasked.clone());
        }
        let late = || Unasked(format!("no answer within {} s", PATIENCE.as_secs()));
        let no = |reason, problem: String| Ok(Err(Refused::new(reason, problem)));
        let said = tokio::time::timeout(PATIENCE, (self.review)(Arc::clone(token))).await.unwrap_or_else(|_| Err(late()))?;
        let user = match said {
            Said::User(user) => user,
            Said::Nobody(why) => {
                return no(Refusal::Unauthenticated, format!("the API server does not accept the token: {}", cleaned(&why)));
            }
        };
        let Some(role) = self.role(&user.name) else {
            return no(Refusal::PermissionDenied, format!("{} has no role here", cleaned(&user.name)));
        };
        let caller = |node| Ok(Ok(Caller { role, name: user.name.clone(), node }));
        if role != Role::Agent {
            return caller(None);
        }
        let Some(pod) = &user.pod else {
            return no(Refusal::UnknownPod, "an agent's token must be bound to its pod".into());
        };
        let node = tokio::time::timeout(PATIENCE, self.pods.node_of(pod)).await.unwrap_or_else(|_| Err(late()))?;
        match node {
            Some(node) => caller(Some(node)),
            None => no(Refusal::UnknownPod, format!("no node has a pod with uid {}, the one of the token", cleaned(&pod.uid))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal of a token that ended.
pub(super) fn expired() -> Refused {
    Refused::new(Refusal::Expired, "the token expired; come again with a fresh one")
}

fn instant_of(unix_s: i64, now: Instant) -> Instant {
    let left_ms = unix_s.saturating_mul(1_000).saturating_sub(clock::unix_ms());
    // A token for longer than a day is asked about often enough.
    now + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0).min(86_400_000))
}

/// Text from outside, for one line of a log and of an answer.
fn cleaned(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests;
