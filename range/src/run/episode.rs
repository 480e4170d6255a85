//! One episode: its pods, its program on the plan's clock, what is written down of it, and its labels.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{
    Range,
    pods::{Member, Start, make_room, remove_room},
    record::{self, Outcome, Subject, rhythm},
};
use crate::{
    events::{Event, emit},
    now_unix_ms,
    plan::{
        act::{About, Doing, Life, Placement, Role},
        program::Program,
        timeline::Episode,
    },
    pod::{NAMESPACE, PodError},
    runtime::RuntimeError,
    schedule::{Affected, Burst, EpisodeRecord},
};

/// A program's own bound lies so far behind ours, in case we are slow.
const SLACK_SECONDS: u64 = 2;
/// Between two looks whether a container runs again.
const AGAIN: Duration = Duration::from_millis(100);
/// Process name of what is started inside somebody else's container.
const INSIDE: &str = "helper";

/// Where an episode's program is started.
#[derive(Clone, Copy)]
struct Place<'a> {
    host: &'a Member,
    /// Its own directory there.
    room: &'a str,
}

impl Range {
    /// Plays one episode from its rollout, if it has one, to its label.
    pub(super) async fn episode(self: Arc<Self>, episode: Episode, begin: Instant) -> anyhow::Result<()> {
        self.play_episode(&episode, begin).await.with_context(|| format!("episode {}", episode.name))
    }

    async fn play_episode(&self, episode: &Episode, begin: Instant) -> anyhow::Result<()> {
        if episode.placement == Placement::Rollout {
            self.pods.roll_out(&episode.owner).await?;
            sleep_until(begin + episode.at).await;
        }
        let hosts = match episode.placement {
            Placement::New => vec![self.pods.create_new(episode).await?],
            Placement::Replicas => self.pods.of(&episode.owner)?,
            _ => self.pods.of(&episode.owner)?.into_iter().take(1).collect(),
        };
        let mut about = self.about(episode, &hosts)?;
        let first = about.first().context("it is about nobody")?;
        emit(&Event::Start {
            episode: &episode.name,
            kind: episode.kind.word(),
            role: episode.role.word(),
            attack: episode.role == Role::Attack,
            placement: episode.placement.word(),
            owner_name: &first.pod.spec.owner_name,
            pod_uid: &first.pod.uid,
            seconds: episode.lasts.as_secs_f64(),
        });
        let until = begin + episode.ends();
        let outcomes = futures::future::try_join_all(hosts.iter().map(|host| self.act(episode, host, until))).await?;
        emit(&Event::Stop { episode: &episode.name });
        if episode.about == About::Own {
            about = about.into_iter().zip(&outcomes).filter_map(|(member, outcome)| outcome.is_some().then_some(member)).collect();
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        if outcomes.is_empty() {
            warn!(episode = episode.name, owner = episode.owner, "nothing of it ran: its container did not run all the time");
            return Ok(());
        }
        if episode.doing == Doing::Rollout {
            // Those that came are as much part of it as those that went.
            about.extend(self.pods.of(&episode.owner)?);
        }
        let record = self.record(episode, &about, &outcomes);
        if record.spans.is_empty() {
            warn!(episode = episode.name, owner = episode.owner, "nothing of it ran: the container was about to end");
            return Ok(());
        }
        let affected = self.affected(&record, episode, &hosts);
        {
            let mut schedule = self.site.schedule();
            schedule.episodes.push(record.clone());
            schedule.affected.extend(affected.iter().cloned());
        }
        self.labels.episode(&record, &affected).await?;
        Ok(())
    }

    /// The pods that the label is about.
    fn about(&self, episode: &Episode, hosts: &[Arc<Member>]) -> anyhow::Result<Vec<Arc<Member>>> {
        let victim = episode.about_owner();
        if episode.about == About::Own || victim == episode.owner {
            return Ok(hosts.to_vec());
        }
        let mut about: Vec<Arc<Member>> = Vec::new();
        for host in hosts {
            let facing = self.pods.facing(host, victim).with_context(|| format!("no pod of {victim} is running"))?;
            if about.iter().all(|known| !Arc::ptr_eq(known, &facing)) {
                about.push(facing);
            }
        }
        Ok(about)
    }

    /// Starts the episode's program in one pod, waits, and stops it. `None`: nothing of it ever ran.
    async fn act(&self, episode: &Episode, host: &Arc<Member>, until: Instant) -> anyhow::Result<Option<Outcome>> {
        let start_unix_ms = now_unix_ms();
        let outcome = |stop_unix_ms| Outcome { start_unix_ms, stop_unix_ms, bursts: Vec::new(), ended_early: None };
        match (&episode.doing, episode.placement) {
            (Doing::Rollout, _) => {
                self.pods.roll_out(&episode.owner).await?;
                sleep_until(until).await;
                Ok(Some(outcome(now_unix_ms())))
            }
            (doing, Placement::New) => {
                let lives = match doing {
                    Doing::Program(program) => vec![Life::Other(program.clone())],
                    Doing::Lives(lives) => lives.clone(),
                    Doing::Rollout => Vec::new(),
                };
                host.pod.start(self.pods.lives(host, &lives, episode.own.as_ref(), &host.work, seconds_to(until))?).await?;
                sleep_until(until).await;
                let stop_unix_ms = now_unix_ms();
                self.pods.remove(&episode.owner).await?;
                Ok(Some(outcome(stop_unix_ms)))
            }
            (doing, _) => {
                let room = make_room(host, &episode.name)?;
                let place = Place { host, room: &room };
                let acted = match doing {
                    Doing::Program(program) => self.beside(episode, program, place, until).await,
                    Doing::Lives(lives) => self.instead(episode, lives, place, until).await.map(Some),
                    Doing::Rollout => Ok(None),
                };
                remove_room(&room).await;
                acted
            }
        }
    }

    /// A program beside the container's own, throughout or on and off.
    async fn beside(&self, episode: &Episode, program: &Program, place: Place<'_>, until: Instant) -> anyhow::Result<Option<Outcome>> {
        let by_itself = episode.bursts.filter(|_| program.takes_bursts());
        let start = Start { program, comm: INSIDE, work: place.room, seconds: 0, bursts: by_itself };
        let Some(bursts) = episode.bursts.filter(|_| by_itself.is_none()) else {
            let mut outcome = self.once(start, place.host, until).await?;
            if let (Some(bursts), Some(outcome)) = (by_itself, &mut outcome) {
                outcome.bursts = rhythm(bursts, outcome.start_unix_ms, outcome.stop_unix_ms);
            }
            return Ok(outcome);
        };
        let mut all: Option<Outcome> = None;
        loop {
            let stop = until.min(Instant::now() + bursts.on);
            if let Some(one) = self.once(start, place.host, stop).await? {
                let burst = Burst { start_unix_ms: one.start_unix_ms, stop_unix_ms: one.stop_unix_ms };
                match &mut all {
                    Some(all) => {
                        all.bursts.push(burst);
                        all.ended_early = all.ended_early.take().or(one.ended_early);
                    }
                    None => all = Some(Outcome { bursts: vec![burst], ..one }),
                }
            }
            let next = stop + bursts.off;
            sleep_until(until.min(next)).await;
            if next >= until {
                return Ok(all.map(|all| Outcome { stop_unix_ms: now_unix_ms(), ..all }));
            }
        }
    }

    /// A program beside the container's own until an instant, or until it ends by itself. A container that is between two lives is
    /// waited for; `None`: in vain.
    async fn once(&self, start: Start<'_>, host: &Member, until: Instant) -> anyhow::Result<Option<Outcome>> {
        let (mut child, start_unix_ms) = loop {
            let program = self.pods.program(host, Start { seconds: seconds_to(until), ..start })?;
            let start_unix_ms = now_unix_ms();
            match host.pod.exec(&program) {
                Ok(child) => break (child, start_unix_ms),
                Err(PodError::NotRunning(_) | PodError::Runtime(_, RuntimeError::Gone(_))) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() + AGAIN >= until {
                sleep_until(until).await;
                return Ok(None);
            }
            tokio::time::sleep(AGAIN).await;
        };
        let ended = tokio::select! {
            () = sleep_until(until) => None,
            status = child.wait() => Some(status?),
        };
        let stop_unix_ms = now_unix_ms();
        match ended {
            None => child.kill().await.context("cannot stop a program inside a container")?,
            Some(status) => {
                let (behaviour, owner) = (&start.program.behaviour, &host.pod.spec.owner_name);
                warn!(behaviour, owner, %status, "a program ended before it was stopped");
            }
        }
        let ended_early = ended.map(|status| status.to_string());
        Ok(Some(Outcome { start_unix_ms, stop_unix_ms, bursts: Vec::new(), ended_early }))
    }

    /// Programs in place of the container's own, throughout or on and off; its own again at the end.
    async fn instead(&self, episode: &Episode, lives: &[Life], place: Place<'_>, until: Instant) -> anyhow::Result<Outcome> {
        let Place { host, room } = place;
        // Ending the present life is the first of several.
        let lives = if lives.len() > 1 { &lives[1..] } else { lives };
        let own = self.pods.lives(host, &[Life::Own], episode.own.as_ref(), room, 0)?;
        let mut outcome = Outcome { start_unix_ms: now_unix_ms(), stop_unix_ms: 0, bursts: Vec::new(), ended_early: None };
        loop {
            let stop = episode.bursts.map_or(until, |bursts| until.min(Instant::now() + bursts.on));
            let start_unix_ms = now_unix_ms();
            host.pod.become_one(self.pods.lives(host, lives, episode.own.as_ref(), room, seconds_to(stop))?).await?;
            sleep_until(stop).await;
            let stop_unix_ms = now_unix_ms();
            if lives.last() != Some(&Life::Own) {
                host.pod.become_one(own.clone()).await?;
            }
            let Some(bursts) = episode.bursts else {
                return Ok(Outcome { stop_unix_ms, ..outcome });
            };
            outcome.bursts.push(Burst { start_unix_ms, stop_unix_ms });
            let next = stop + bursts.off;
            sleep_until(until.min(next)).await;
            if next >= until {
                return Ok(Outcome { stop_unix_ms: now_unix_ms(), ..outcome });
            }
        }
    }

    fn record(&self, episode: &Episode, about: &[Arc<Member>], outcomes: &[Outcome]) -> EpisodeRecord {
        let about: Vec<_> = about.iter().map(subject).collect();
        record::of_episode(&self.site.schedule(), NAMESPACE, episode, &about, outcomes)
    }

    /// Pods that an attack touches without being about them.
    fn affected(&self, record: &EpisodeRecord, episode: &Episode, hosts: &[Arc<Member>]) -> Vec<Affected> {
        let mut touched: Vec<Arc<Member>> = Vec::new();
        for owner in &episode.touched {
            // A pod that was made for the episode is gone by now.
            let members = if *owner == episode.owner { hosts.to_vec() } else { self.pods.of(owner).unwrap_or_default() };
            touched.extend(members);
        }
        record::affected(record, &touched.iter().map(subject).collect::<Vec<_>>())
    }
}

fn subject(member: &Arc<Member>) -> Subject {
    let spec = &member.pod.spec;
    Subject { pod_uid: member.pod.uid.clone(), owner_kind: spec.owner_kind.to_owned(), owner_name: spec.owner_name.clone() }
}

/// What a program is told to last.
fn seconds_to(until: Instant) -> u64 {
    until.saturating_duration_since(Instant::now()).as_secs() + SLACK_SECONDS
}
