//! One episode in a cluster: its pods, its program on the plan's clock, what is written down of it, and its labels.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use tokio::time::{Instant, sleep, sleep_until};
use vedette_range::labels;
use vedette_range::now_unix_ms;
use vedette_range::plan::act::{About, Doing, Life, Placement};
use vedette_range::plan::program::Program;
use vedette_range::plan::timeline::Episode;
use vedette_range::run::record::{self, Outcome, Subject, rhythm};
use vedette_range::schedule::{Burst, EpisodeRecord, Life as ContainerLife};

use super::Run;
use super::inside::{Container, NotRun};
use super::members::{Member, Start, book, seconds_to};
use super::objects::WORK;
use crate::demo::schedule::Said;
use crate::exit::Stop;

/// Between two looks whether a container runs again.
const AGAIN: Duration = Duration::from_millis(500);
/// From the end of a life to the status that says so.
const STATUS: Duration = Duration::from_secs(2);

impl Run {
    /// Plays one episode from its rollout, if it has one, to its label.
    pub async fn episode(self: Arc<Self>, episode: Episode, begin: Instant) -> anyhow::Result<()> {
        self.play_episode(&episode, begin).await.with_context(|| format!("episode {}", episode.name))
    }

    async fn play_episode(&self, episode: &Episode, begin: Instant) -> anyhow::Result<()> {
        if episode.placement == Placement::Rollout {
            self.members.roll_out(&episode.owner).await?;
            sleep_until(begin + episode.at).await;
        }
        let until = begin + episode.ends();
        let hosts = match episode.placement {
            Placement::New => vec![self.members.create_new(episode, until).await?],
            Placement::Replicas => self.members.of(&episode.owner)?,
            _ => self.members.of(&episode.owner)?.into_iter().take(1).collect(),
        };
        let mut about = self.about(episode, &hosts)?;
        let first = about.first().context("it is about nobody")?;
        self.say(Said::Start {
            episode: episode.name.clone(),
            kind: episode.kind.word().to_owned(),
            attack: episode.role == vedette_range::plan::act::Role::Attack,
            owner_name: first.owner_name.clone(),
        });
        let outcomes = try_join_all(hosts.iter().map(|host| self.act(episode, host, until))).await?;
        self.say(Said::Stop { episode: episode.name.clone() });
        if episode.about == About::Own {
            about = about.into_iter().zip(&outcomes).filter_map(|(subject, outcome)| outcome.is_some().then_some(subject)).collect();
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        if episode.doing == Doing::Rollout {
            // Those that came are as much part of it as those that went.
            about.extend(subjects(&self.members.of(&episode.owner)?));
        }
        if matches!(episode.doing, Doing::Lives(_)) {
            sleep(STATUS).await;
        }
        let record = self.watching.with(|schedule| record::of_episode(schedule, &self.site.names.namespace, episode, &about, &outcomes));
        if outcomes.is_empty() || record.spans.is_empty() {
            self.note(format!("nothing of {} ran: no container of {} did so long", episode.name, episode.owner));
            return Ok(());
        }
        if !record.ended_early.is_empty() {
            self.note(format!("{} ended before it was stopped: {}", episode.name, record.ended_early));
        }
        let affected = self.affected(&record, episode, &hosts);
        self.watching.with(|schedule| {
            schedule.episodes.push(record.clone());
            schedule.affected.extend(affected.iter().cloned());
        });
        self.label(labels::of_episode(&record, &affected)).await?;
        Ok(())
    }

    /// The pods that the label is about.
    fn about(&self, episode: &Episode, hosts: &[Arc<Member>]) -> anyhow::Result<Vec<Subject>> {
        let victim = episode.about_owner();
        if episode.about == About::Own || victim == episode.owner {
            return Ok(subjects(hosts));
        }
        let mut about: Vec<Subject> = Vec::new();
        for host in hosts {
            let facing = self.members.facing(host, victim).with_context(|| format!("no pod of {victim} is running"))?;
            if about.iter().all(|known| known.pod_uid != facing.subject.pod_uid) {
                about.push(facing.subject.clone());
            }
        }
        Ok(about)
    }

    /// Pods that an attack touches without being about them.
    fn affected(&self, record: &EpisodeRecord, episode: &Episode, hosts: &[Arc<Member>]) -> Vec<vedette_range::schedule::Affected> {
        let mut touched = Vec::new();
        for owner in &episode.touched {
            // A pod that was made for the episode is gone by now.
            let members = if *owner == episode.owner { hosts.to_vec() } else { self.members.of(owner).unwrap_or_default() };
            touched.extend(subjects(&members));
        }
        record::affected(record, &touched)
    }

    /// Runs the episode's program in one pod until its end. `None`: nothing of it ever ran.
    async fn act(&self, episode: &Episode, host: &Arc<Member>, until: Instant) -> anyhow::Result<Option<Outcome>> {
        match (&episode.doing, episode.placement) {
            (Doing::Rollout, _) => {
                let start_unix_ms = now_unix_ms();
                self.members.roll_out(&episode.owner).await?;
                sleep_until(until).await;
                Ok(Some(Outcome { start_unix_ms, stop_unix_ms: now_unix_ms(), bursts: Vec::new(), ended_early: None }))
            }
            (doing, Placement::New) => {
                let sends = doing.programs().chain(&episode.own).any(Program::sends);
                self.members.settle(host, sends, until).await?;
                sleep_until(until).await;
                let stop_unix_ms = now_unix_ms();
                self.members.remove(&episode.owner).await?;
                Ok(self.watching.with(|schedule| whole(&schedule.lives, &host.subject.pod_uid, stop_unix_ms)))
            }
            (Doing::Program(program), _) => self.beside(episode, program, host, until).await,
            (Doing::Lives(lives), _) => self.instead(episode, lives, host, until).await,
        }
    }

    /// A program beside the container's own, throughout or on and off.
    async fn beside(&self, episode: &Episode, program: &Program, host: &Member, until: Instant) -> anyhow::Result<Option<Outcome>> {
        let by_itself = episode.bursts.filter(|_| program.takes_bursts());
        let room = room(episode);
        let start = Start { program, work: &room, seconds: 0, bursts: by_itself };
        let Some(bursts) = episode.bursts.filter(|_| by_itself.is_none()) else {
            let mut outcome = self.once(start, host, until).await?;
            if let (Some(bursts), Some(outcome)) = (by_itself, &mut outcome) {
                outcome.bursts = rhythm(bursts, outcome.start_unix_ms, outcome.stop_unix_ms);
            }
            return Ok(outcome);
        };
        let mut all: Option<Outcome> = None;
        loop {
            let stop = until.min(Instant::now() + bursts.on);
            if let Some(one) = self.once(start, host, stop).await? {
                let burst = Burst { start_unix_ms: one.start_unix_ms, stop_unix_ms: one.stop_unix_ms };
                match &mut all {
                    Some(all) => {
                        all.bursts.push(burst);
                        all.stop_unix_ms = one.stop_unix_ms;
                        all.ended_early = all.ended_early.take().or(one.ended_early);
                    }
                    None => all = Some(Outcome { bursts: vec![burst], ..one }),
                }
            }
            let next = stop + bursts.off;
            sleep_until(until.min(next)).await;
            if next >= until {
                return Ok(all);
            }
        }
    }

    /// A program beside the container's own until an instant, or until it ends by itself. A container that is between two lives is
    /// waited for; `None`: in vain.
    async fn once(&self, start: Start<'_>, host: &Member, until: Instant) -> anyhow::Result<Option<Outcome>> {
        let pods = self.site.pods();
        let container = container(&pods, host);
        loop {
            let program = self.members.program(host, Start { seconds: seconds_to(until), ..start })?;
            let tried = container.hold(start.work, &program, until).await;
            match self.not_now(host, tried)? {
                Some(outcome) => {
                    // One that ended early leaves the rest of its time empty.
                    sleep_until(until).await;
                    return Ok(Some(outcome));
                }
                None if Instant::now() + AGAIN >= until => {
                    sleep_until(until).await;
                    return Ok(None);
                }
                None => sleep(AGAIN).await,
            }
        }
    }

    /// Programs in place of the container's own, throughout or on and off; its own again at the end, which the container sees to itself.
    async fn instead(&self, episode: &Episode, lives: &[Life], host: &Member, until: Instant) -> anyhow::Result<Option<Outcome>> {
        // Ending the present life is the first of several.
        let lives = if lives.len() > 1 { &lives[1..] } else { lives };
        let mut all: Option<Outcome> = None;
        loop {
            let stop = episode.bursts.map_or(until, |bursts| until.min(Instant::now() + bursts.on));
            let turned = self.turned(lives, &room(episode), host, stop).await?;
            sleep_until(stop).await;
            let stop_unix_ms = now_unix_ms();
            if let Some(start_unix_ms) = turned {
                let all = all.get_or_insert(Outcome { start_unix_ms, stop_unix_ms, bursts: Vec::new(), ended_early: None });
                all.stop_unix_ms = stop_unix_ms;
                if episode.bursts.is_some() {
                    all.bursts.push(Burst { start_unix_ms, stop_unix_ms });
                }
            }
            let Some(bursts) = episode.bursts else { return Ok(all) };
            let next = stop + bursts.off;
            sleep_until(until.min(next)).await;
            if next >= until {
                return Ok(all);
            }
        }
    }

    /// Gives programs their turn until an instant; when, or `None` where the container did not run in time.
    async fn turned(&self, lives: &[Life], room: &str, host: &Member, until: Instant) -> anyhow::Result<Option<i64>> {
        let pods = self.site.pods();
        let container = container(&pods, host);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let lives = self.members.lives(host, lives, room, seconds_to(until))?;
            match self.not_now(host, container.turn(&book(), &lives, left).await)? {
                Some(turned) => return Ok(Some(turned)),
                None if Instant::now() + AGAIN >= until => return Ok(None),
                None => sleep(AGAIN).await,
            }
        }
    }

    /// `None` where it is worth another try.
    fn not_now<T>(&self, host: &Member, tried: Result<T, NotRun>) -> Result<Option<T>, Stop> {
        match tried {
            Ok(done) => Ok(Some(done)),
            Err(NotRun::NotNow(why)) => {
                // A container that runs and takes no program is worth a word; one between two lives is not.
                if self.watching.runs(&host.name) {
                    self.note(format!("no program can be started in pod {} yet: {}", host.name, crate::escape::escaped(&why)));
                }
                Ok(None)
            }
            Err(NotRun::Refused(error)) => Err(self.site.refused("create", "pods/exec", &error)),
        }
    }
}

fn container<'a>(pods: &'a kube::Api<k8s_openapi::api::core::v1::Pod>, host: &'a Member) -> Container<'a> {
    Container { pods, pod: &host.name, container: &host.subject.owner_name }
}

/// A directory of the episode's own below the pod's; no behaviour names its own files so.
fn room(episode: &Episode) -> String {
    format!("{WORK}/of-{}", episode.name)
}

fn subjects(members: &[Arc<Member>]) -> Vec<Subject> {
    members.iter().map(|member| member.subject.clone()).collect()
}

/// The whole of a pod that was made for an episode, from its first container to its last by the kubelet's times. Between two lives its
/// episode goes on, until the pod was told to go.
fn whole(lives: &[ContainerLife], pod_uid: &str, stop_unix_ms: i64) -> Option<Outcome> {
    let own = || lives.iter().filter(|life| life.pod_uid == pod_uid);
    let start_unix_ms = own().map(|life| life.born_unix_ms).min()?;
    let last = own().map(|life| life.gone_unix_ms).max()?;
    Some(Outcome { start_unix_ms, stop_unix_ms: last.max(stop_unix_ms), bursts: Vec::new(), ended_early: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_an_episode_is_its_own_from_its_first_container_on() {
        let life = |id: &str, born_unix_ms, gone_unix_ms| ContainerLife {
            pod_uid: "p".into(),
            container: "c".into(),
            container_id: id.into(),
            sandbox: false,
            born_unix_ms,
            ended_unix_ms: gone_unix_ms,
            gone_unix_ms,
            failed: true,
        };

        let outcome = |stop| whole(&[life("a", 10, 20), life("b", 40, 70)], "p", stop).map(|one| (one.start_unix_ms, one.stop_unix_ms));

        assert_eq!(outcome(60), Some((10, 70)), "it lasts until it is killed");
        assert_eq!(outcome(90), Some((10, 90)), "a crash loop goes on between two lives");
        assert_eq!(whole(&[life("a", 10, 20)], "another", 90).map(|one| one.start_unix_ms), None);
    }
}
