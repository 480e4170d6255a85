//! One episode: its pods, its program on the plan's clock, what is written down of it, and its labels.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep_until};
use tracing::warn;
use vedette_proto::v1::Kind;

use super::{Range, pods::Member};
use crate::{
    events::{Event, emit},
    now_unix_ms,
    plan::{
        act::{About, Doing, Life, Placement, Role},
        program::Program,
        timeline::{Bursts, Episode},
    },
    pod::NAMESPACE,
    schedule::{Affected, Burst, EpisodeRecord},
};

/// Longest a touched pod is still touched after the attack: connections time out, queues empty.
const AFTERMATH: Duration = Duration::from_secs(5);
/// A program's own bound lies so far behind ours, in case we are slow.
const SLACK_SECONDS: u64 = 2;
/// Process name of what is started inside somebody else's container.
const INSIDE: &str = "helper";

/// What became of an episode's program in one pod.
struct Outcome {
    start_unix_ms: i64,
    stop_unix_ms: i64,
    bursts: Vec<Burst>,
    ended_early: Option<String>,
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
        if episode.doing == Doing::Rollout {
            // Those that came are as much part of it as those that went.
            about.extend(self.pods.of(&episode.owner)?);
        }
        let record = self.record(episode, &about, &outcomes);
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

    /// Starts the episode's program in one pod, waits, and stops it.
    async fn act(&self, episode: &Episode, host: &Arc<Member>, until: Instant) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome { start_unix_ms: now_unix_ms(), stop_unix_ms: 0, bursts: Vec::new(), ended_early: None };
        match (&episode.doing, episode.placement) {
            (Doing::Rollout, _) => {
                self.pods.roll_out(&episode.owner).await?;
                sleep_until(until).await;
            }
            (doing, Placement::New) => {
                let lives = match doing {
                    Doing::Program(program) => vec![Life::Other(program.clone())],
                    Doing::Lives(lives) => lives.clone(),
                    Doing::Rollout => Vec::new(),
                };
                host.pod.start(self.pods.lives(host, &lives, episode.own.as_ref(), seconds_to(until))?).await?;
                sleep_until(until).await;
                outcome.stop_unix_ms = now_unix_ms();
                self.pods.remove(&episode.owner).await?;
            }
            (Doing::Program(program), _) => self.beside(episode, program, host, until, &mut outcome).await?,
            (Doing::Lives(lives), _) => self.instead(episode, lives, host, until, &mut outcome).await?,
        }
        if outcome.stop_unix_ms == 0 {
            outcome.stop_unix_ms = now_unix_ms();
        }
        Ok(outcome)
    }

    /// A program beside the container's own, throughout or on and off.
    async fn beside(
        &self,
        episode: &Episode,
        program: &Program,
        host: &Member,
        until: Instant,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        if let Some(bursts) = episode.bursts.filter(|_| program.takes_bursts()) {
            self.once(program, host, until, Some(bursts), outcome).await?;
            outcome.bursts = rhythm(bursts, outcome.start_unix_ms, outcome.stop_unix_ms);
            return Ok(());
        }
        let Some(bursts) = episode.bursts else { return self.once(program, host, until, None, outcome).await };
        loop {
            let stop = until.min(Instant::now() + bursts.on);
            let start_unix_ms = now_unix_ms();
            self.once(program, host, stop, None, outcome).await?;
            outcome.bursts.push(Burst { start_unix_ms, stop_unix_ms: outcome.stop_unix_ms });
            let next = stop + bursts.off;
            sleep_until(until.min(next)).await;
            if next >= until {
                outcome.stop_unix_ms = now_unix_ms();
                return Ok(());
            }
        }
    }

    /// A program beside the container's own until an instant, or until it ends by itself.
    async fn once(
        &self,
        program: &Program,
        host: &Member,
        until: Instant,
        bursts: Option<Bursts>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let mut child = host.pod.exec(&self.pods.program(host, program, INSIDE, seconds_to(until), bursts)?)?;
        let ended = tokio::select! {
            () = sleep_until(until) => None,
            status = child.wait() => Some(status?),
        };
        outcome.stop_unix_ms = now_unix_ms();
        match ended {
            None => child.kill().await.context("cannot stop a program inside a container")?,
            Some(status) => {
                warn!(behaviour = program.behaviour, %status, "a program ended before it was stopped");
                outcome.ended_early = Some(status.to_string());
            }
        }
        Ok(())
    }

    /// Programs in place of the container's own, throughout or on and off; its own again at the end.
    async fn instead(&self, episode: &Episode, lives: &[Life], host: &Member, until: Instant, outcome: &mut Outcome) -> anyhow::Result<()> {
        // Ending the present life is the first of several.
        let lives = if lives.len() > 1 { &lives[1..] } else { lives };
        let own = self.pods.lives(host, &[Life::Own], episode.own.as_ref(), 0)?;
        loop {
            let stop = episode.bursts.map_or(until, |bursts| until.min(Instant::now() + bursts.on));
            let start_unix_ms = now_unix_ms();
            host.pod.become_one(self.pods.lives(host, lives, episode.own.as_ref(), seconds_to(stop))?).await?;
            sleep_until(stop).await;
            let stop_unix_ms = now_unix_ms();
            if lives.last() != Some(&Life::Own) {
                host.pod.become_one(own.clone()).await?;
            }
            let Some(bursts) = episode.bursts else {
                outcome.stop_unix_ms = stop_unix_ms;
                return Ok(());
            };
            outcome.bursts.push(Burst { start_unix_ms, stop_unix_ms });
            let next = stop + bursts.off;
            if next >= until {
                sleep_until(until).await;
                return Ok(());
            }
            sleep_until(next).await;
        }
    }

    fn record(&self, episode: &Episode, about: &[Arc<Member>], outcomes: &[Outcome]) -> EpisodeRecord {
        let start_unix_ms = outcomes.iter().map(|outcome| outcome.start_unix_ms).min().unwrap_or(0);
        let stop_unix_ms = outcomes.iter().map(|outcome| outcome.stop_unix_ms).max().unwrap_or(0);
        let own_times = episode.about == About::Own && outcomes.len() == about.len();
        let mut spans = Vec::new();
        for (place, member) in about.iter().enumerate() {
            let outcome = outcomes.get(place).filter(|_| own_times);
            let (start, stop) = outcome.map_or((start_unix_ms, stop_unix_ms), |outcome| (outcome.start_unix_ms, outcome.stop_unix_ms));
            spans.extend(self.site.schedule().spans(&member.pod.uid, start, stop));
        }
        let failures: Vec<i64> = about.first().map(|member| member.pod.failures_since(start_unix_ms)).unwrap_or_default();
        let onset_unix_ms = if episode.kind == Kind::CrashLoop { failures.get(2).copied().unwrap_or(0) } else { start_unix_ms };
        let (pod_uid, owner_kind, owner_name) = about.first().map_or_else(Default::default, |member| {
            (member.pod.uid.clone(), member.pod.spec.owner_kind.to_owned(), member.pod.spec.owner_name.clone())
        });
        EpisodeRecord {
            episode: episode.name.clone(),
            act: episode.act.clone(),
            kind: episode.kind.word().to_owned(),
            role: episode.role.word(),
            attack: episode.role == Role::Attack,
            placebo_of: episode.placebo_of.clone().unwrap_or_default(),
            placement: episode.placement.word().to_owned(),
            round: episode.round,
            phase: episode.phase.clone(),
            intensity: episode.intensity.clone(),
            start_unix_ms,
            stop_unix_ms,
            onset_unix_ms,
            pod_uid,
            namespace: NAMESPACE.to_owned(),
            owner_kind,
            container: owner_name.clone(),
            owner_name,
            container_ids: spans.iter().map(|span| span.container_id.clone()).collect(),
            spans,
            bursts: outcomes.first().map(|outcome| outcome.bursts.clone()).unwrap_or_default(),
            ended_early: outcomes.iter().find_map(|outcome| outcome.ended_early.clone()).unwrap_or_default(),
        }
    }

    /// Pods that an attack touches without being about them.
    fn affected(&self, record: &EpisodeRecord, episode: &Episode, hosts: &[Arc<Member>]) -> Vec<Affected> {
        let mut touched: Vec<Arc<Member>> = Vec::new();
        for owner in &episode.touched {
            // A pod that was made for the episode is gone by now.
            let members = if *owner == episode.owner { hosts.to_vec() } else { self.pods.of(owner).unwrap_or_default() };
            touched.extend(members);
        }
        touched.retain(|member| !record.is_about(&member.pod.uid));
        let one = |member: &Arc<Member>| Affected {
            episode: record.episode.clone(),
            kind: record.kind.clone(),
            pod_uid: member.pod.uid.clone(),
            owner_name: member.pod.spec.owner_name.clone(),
            start_unix_ms: record.start_unix_ms,
            stop_unix_ms: record.stop_unix_ms + i64::try_from(AFTERMATH.as_millis()).unwrap_or(0),
        };
        touched.iter().map(one).collect()
    }
}

/// When a program was on that went on and off by itself.
fn rhythm(bursts: Bursts, start_unix_ms: i64, stop_unix_ms: i64) -> Vec<Burst> {
    let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let turn = usize::try_from(ms(bursts.on + bursts.off)).unwrap_or(1).max(1);
    let begins = (start_unix_ms..stop_unix_ms).step_by(turn);
    begins.map(|begin| Burst { start_unix_ms: begin, stop_unix_ms: (begin + ms(bursts.on)).min(stop_unix_ms) }).collect()
}

/// What a program is told to last.
fn seconds_to(until: Instant) -> u64 {
    until.saturating_duration_since(Instant::now()).as_secs() + SLACK_SECONDS
}
