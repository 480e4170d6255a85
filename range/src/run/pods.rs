//! The pods of a run by their workloads: started in the order in which they need each other, replaced in rollouts, stopped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tracing::warn;

use crate::{
    cgroups::Limits,
    disk,
    plan::{
        act::Life,
        file::OwnerKind,
        program::{Program, Surroundings},
        timeline::{Bursts, Episode, Workload, in_order},
    },
    pod::{self, Pod, PodSpec, Site, random_hex},
};

/// What an ordinary program is told to last, seconds: until it is killed.
const FOREVER_SECONDS: u64 = 86_400;
/// From the start of a new template's pod until the old one is stopped: its readiness, as a kubelet would probe it.
const READY: Duration = Duration::from_secs(2);
/// Attempts to remove a directory in which something may still be written, and the pause between two.
const REMOVALS: u32 = 40;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);
/// Host numbers below this belong to pods at once; a sweep leaves so many out behind the highest given.
const POD_HOSTS_AHEAD: u8 = 16;
/// The lowest host number of a pod, and the least that a sweep leaves out.
const POD_HOSTS: (u8, u8) = (10, 60);

/// A program to start, and how.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// The program.
    pub program: &'a Program,
    /// Name of its process.
    pub comm: &'a str,
    /// The directory that is its `@work`.
    pub work: &'a str,
    /// What it is told to last, seconds.
    pub seconds: u64,
    /// On and off by itself, if it can.
    pub bursts: Option<Bursts>,
}

/// One pod of a workload.
pub(super) struct Member {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its number among its workload's.
    index: usize,
    /// Its own directory.
    pub work: String,
    /// The directory is a disk of its own.
    is_disk: bool,
}

/// All pods of a run that are not removed yet.
pub(super) struct Pods {
    site: Arc<Site>,
    workloads: Vec<Workload>,
    host_namespace: u64,
    members: Mutex<HashMap<String, Vec<Arc<Member>>>>,
}

impl Pods {
    /// None yet.
    pub fn new(site: Arc<Site>, workloads: Vec<Workload>, host_namespace: u64) -> Self {
        Self { site, workloads, host_namespace, members: Mutex::default() }
    }

    /// Creates every workload's pods, then starts them, those first that others send to.
    pub async fn start_all(&self) -> anyhow::Result<()> {
        for workload in &self.workloads {
            for index in 0..workload.replicas as usize {
                let member = self.create(&workload.name, workload.kind, workload.limits, workload.disk_bytes, index).await?;
                self.lock().entry(workload.name.clone()).or_default().push(member);
            }
        }
        for workload in in_order(&self.workloads) {
            for member in self.of(&workload.name)? {
                member.pod.start(vec![self.ordinary(&member, &workload.program)?]).await?;
            }
        }
        Ok(())
    }

    /// Stops every pod; what cannot be stopped is removed with the run.
    pub async fn stop_all(&self) {
        let members: Vec<_> = self.lock().drain().flat_map(|(_, members)| members).collect();
        for member in members {
            if let Err(error) = Self::stop(&member).await {
                warn!(%error, "cannot stop a pod");
            }
        }
    }

    /// A pod of its own for one episode; its container is not started.
    pub async fn create_new(&self, episode: &Episode) -> anyhow::Result<Arc<Member>> {
        let member = self.create(&episode.owner, OwnerKind::Deployment, episode.limits, episode.disk_bytes, 0).await?;
        self.lock().insert(episode.owner.clone(), vec![Arc::clone(&member)]);
        Ok(member)
    }

    /// Stops and forgets the pods of one owner.
    pub async fn remove(&self, owner: &str) -> anyhow::Result<()> {
        let members = self.lock().remove(owner).unwrap_or_default();
        for member in members {
            Self::stop(&member).await?;
        }
        Ok(())
    }

    /// Replaces a workload's pods one by one, as a rolling update would: the new one is ready before the old one goes.
    pub async fn roll_out(&self, name: &str) -> anyhow::Result<()> {
        let workload = self.workload(name)?;
        for old in self.of(name)? {
            let new = self.create(name, workload.kind, workload.limits, workload.disk_bytes, old.index).await?;
            // Before it starts, so that it is stopped with the others whatever happens.
            self.lock().entry(name.to_owned()).or_default().push(Arc::clone(&new));
            new.pod.start(vec![self.ordinary(&new, &workload.program)?]).await?;
            tokio::time::sleep(READY).await;
            Self::stop(&old).await?;
            self.lock().entry(name.to_owned()).or_default().retain(|member| !Arc::ptr_eq(member, &old));
        }
        Ok(())
    }

    /// The pods of an owner, in the order of their numbers.
    pub fn of(&self, owner: &str) -> anyhow::Result<Vec<Arc<Member>>> {
        let members = self.lock().get(owner).cloned().unwrap_or_default();
        anyhow::ensure!(!members.is_empty(), "no pod of {owner} is running");
        Ok(members)
    }

    /// The pod of an owner that this one sends to.
    pub fn facing(&self, member: &Member, owner: &str) -> Option<Arc<Member>> {
        let members = self.of(owner).ok()?;
        members.get(member.index % members.len()).cloned()
    }

    /// What is to be started in this pod.
    pub fn program(&self, member: &Member, start: Start<'_>) -> anyhow::Result<pod::Program> {
        let address = |owner: &str| self.facing(member, owner).map(|other| other.pod.network.address.to_string());
        let around = Surroundings {
            own: member.pod.network.address.to_string(),
            work: start.work.to_owned(),
            shared: self.site.home.shared().to_string_lossy().into_owned(),
            pods: self.hosts(),
            allow: vec![self.site.network.subnet.to_string()],
            host_namespace: self.host_namespace.to_string(),
            seconds: start.seconds,
            bursts: start.bursts,
            address: &address,
        };
        let args = start.program.arguments(&around).map_err(anyhow::Error::msg)?;
        Ok(pod::Program { comm: start.comm.to_owned(), args })
    }

    /// Lives of an episode for this pod, with their `@work`; the workload's ordinary program, or else `own`, keeps the pod's.
    pub fn lives(
        &self,
        member: &Member,
        lives: &[Life],
        own: Option<&Program>,
        work: &str,
        seconds: u64,
    ) -> anyhow::Result<Vec<pod::Program>> {
        let owner = &member.pod.spec.owner_name;
        let ordinary = self.workload(owner).ok().map(|workload| &workload.program).or(own);
        let one = |life: &Life| match life {
            Life::Own => self.ordinary(member, ordinary.with_context(|| format!("{owner} has no ordinary program (new_pods.program)"))?),
            Life::Other(program) => self.program(member, Start { program, comm: owner, work, seconds, bursts: None }),
        };
        lives.iter().map(one).collect()
    }

    fn ordinary(&self, member: &Member, program: &Program) -> anyhow::Result<pod::Program> {
        let comm = &member.pod.spec.owner_name;
        self.program(member, Start { program, comm, work: &member.work, seconds: FOREVER_SECONDS, bursts: None })
    }

    fn workload(&self, name: &str) -> anyhow::Result<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name).with_context(|| format!("no workload {name}"))
    }

    async fn create(
        &self,
        owner: &str,
        kind: OwnerKind,
        limits: Limits,
        disk_bytes: Option<u64>,
        index: usize,
    ) -> anyhow::Result<Arc<Member>> {
        let name = format!("{owner}-{index}-{}", random_hex(5));
        let home = &self.site.home;
        let work = home.work_of(&name);
        match disk_bytes {
            Some(bytes) => disk::make(&home.disk(&name), &work, bytes).await?,
            None => std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?,
        }
        let dirs = vec![work.clone(), home.shared()];
        let spec = PodSpec { owner_kind: kind.word(), owner_name: owner.to_owned(), limits, dirs };
        let pod = Pod::create(&self.site, spec).await?;
        Ok(Arc::new(Member { pod, index, work: work.to_string_lossy().into_owned(), is_disk: disk_bytes.is_some() }))
    }

    async fn stop(member: &Member) -> anyhow::Result<()> {
        member.pod.stop().await?;
        if member.is_disk {
            disk::unmount(member.work.as_ref()).await?;
        }
        Ok(())
    }

    /// Host numbers that are or will soon be pods'.
    fn hosts(&self) -> Vec<u8> {
        let schedule = self.site.schedule();
        let last = |address: &str| address.rsplit('.').next().and_then(|host| host.parse::<u8>().ok());
        let highest = schedule.pods.iter().filter_map(|pod| last(&pod.address)).max().unwrap_or(0);
        (POD_HOSTS.0..=POD_HOSTS.1.max(highest.saturating_add(POD_HOSTS_AHEAD))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Member>>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory of its own for an episode below a pod's, so on the same disk, and removed after it: what a killed program leaves on a
/// disk would fail the pod's own program from then on, and two programs in one directory would find each other's files.
pub(super) fn make_room(member: &Member, episode: &str) -> anyhow::Result<String> {
    // No behaviour names its own files so.
    let room = format!("{}/of-{episode}", member.work);
    std::fs::create_dir_all(&room).with_context(|| format!("cannot create {room}"))?;
    Ok(room)
}

/// Removes it while its last programs may still be dying; what cannot be removed goes with the run.
///
/// Not on another thread: the run's mounts may be in a mount namespace of this one.
pub(super) async fn remove_room(room: &str) {
    for _ in 0..REMOVALS {
        match std::fs::remove_dir_all(room) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => tokio::time::sleep(REMOVAL_PAUSE).await,
            _ => return,
        }
    }
    warn!(room, "cannot remove what an episode left");
}
