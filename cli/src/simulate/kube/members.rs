//! The pods of a run by their workloads: started in the order in which they need each other, replaced in rollouts, stopped.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use tokio::time::Instant;
use vedette_range::cgroups::Limits;
use vedette_range::guard::{MAX_NETS, Net};
use vedette_range::now_unix_ms;
use vedette_range::plan::act::{Doing, Life, Placement};
use vedette_range::plan::program::{Program, Surroundings};
use vedette_range::plan::timeline::{Bursts, Episode, Timeline, Workload, in_order};
use vedette_range::pod::random_hex;
use vedette_range::run::record::Subject;
use vedette_range::schedule::PodRecord;
use vedette_range::turns::OWN as OWN_LIFE;

use super::able;
use super::lives;
use super::objects::{OWNER_KIND, Owner, PodPlan, Role, WORK};
use super::probe::{START, in_block};
use super::site::Site;
use super::watching::{Watching, address};
use crate::exit::{Exit, Stop};

/// From the start of a new template's pod until the old one is stopped: its readiness, as a kubelet would probe it.
const READY: Duration = Duration::from_secs(2);
/// How long a pod may take to go: a second of grace, and its kubelet.
const GOING: Duration = Duration::from_secs(60);
/// What an ordinary program is told to last, seconds: until it is killed.
const FOREVER_SECONDS: u64 = 86_400;
/// A pod ends by itself so long after the plan: whoever started it may be gone.
const DEADLINE_SLACK: Duration = Duration::from_secs(600);
/// Digits of a pod's own name.
const DIGITS: usize = 5;
/// Its own address, before anybody knows it: the kubelet fills it in.
const OWN: &str = "$(POD_IP)";

/// One pod of a workload.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whom labels are about.
    pub subject: Subject,
    /// Its address; `None` until it runs.
    pub address: Option<Ipv4Addr>,
    /// Its number among its workload's.
    index: usize,
}

/// A program to start in a pod that runs, or in one to come.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The program.
    pub program: &'a Program,
    /// The directory that is its `@work`.
    pub work: &'a str,
    /// What it is told to last, seconds.
    pub seconds: u64,
    /// On and off by itself, if it can.
    pub bursts: Option<Bursts>,
}

/// All pods of a run that are not removed yet.
pub struct Members {
    site: Arc<Site>,
    watching: Arc<Watching>,
    workloads: Vec<Workload>,
    /// Workloads whose programs are changed while they run.
    changing: Vec<String>,
    /// Whether anything of the plan sends, so that addresses matter.
    sends: bool,
    until: Instant,
    members: Mutex<HashMap<String, Vec<Arc<Member>>>>,
    owners: tokio::sync::Mutex<BTreeMap<String, Owner>>,
}

/// Where a pod's lives are written down, in its own directory.
pub fn book() -> String {
    format!("{WORK}/.lives")
}

impl Members {
    /// None yet.
    pub fn new(site: Arc<Site>, watching: Arc<Watching>, timeline: &Timeline) -> Self {
        let changes = |episode: &&Episode| matches!(episode.doing, Doing::Lives(_)) && episode.placement != Placement::New;
        Self {
            site,
            watching,
            workloads: timeline.workloads.clone(),
            changing: timeline.episodes.iter().filter(changes).map(|episode| episode.owner.clone()).collect(),
            sends: able::sends(timeline),
            until: Instant::now() + timeline.total + DEADLINE_SLACK,
            members: Mutex::default(),
            owners: tokio::sync::Mutex::default(),
        }
    }

    /// Starts every workload's pods, those first that others send to, and waits until they run.
    pub async fn start_all(&self) -> anyhow::Result<()> {
        for workload in in_order(&self.workloads) {
            let template = random_hex(DIGITS);
            let replicas = (0..workload.replicas as usize).map(|index| self.ordinary(workload, index, &template));
            let members = try_join_all(replicas).await?;
            self.lock().insert(workload.name.clone(), members);
        }
        Ok(())
    }

    /// Tells every pod to go, and waits until they are gone: their last times are in the statuses.
    pub async fn stop_all(&self) -> Result<(), Stop> {
        let members: Vec<_> = self.lock().drain().flat_map(|(_, members)| members).collect();
        try_join_all(members.iter().map(|member| self.stop(member))).await.map(drop)
    }

    /// A pod of its own for one episode, whose programs begin at once.
    pub async fn create_new(&self, episode: &Episode, until: Instant) -> anyhow::Result<Arc<Member>> {
        let lives = match &episode.doing {
            Doing::Program(program) => vec![Life::Other(program.clone())],
            Doing::Lives(lives) => lives.clone(),
            Doing::Rollout => Vec::new(),
        };
        // By itself on and off where it can, as inside a container.
        let bursts = episode.bursts;
        let seconds = seconds_to(until) + START.as_secs();
        let mut arguments = Vec::new();
        for life in &lives {
            let program = match life {
                Life::Other(program) => program,
                Life::Own => episode.own.as_ref().context("its new pod has no ordinary program (new_pods.program)")?,
            };
            let bursts = bursts.filter(|_| program.takes_bursts());
            arguments.push(self.arguments(None, 0, Start { program, work: WORK, seconds, bursts })?);
        }
        let args = if arguments.len() > 1 { kept(&arguments) } else { arguments.pop().context("it has no program")? };
        let owner = self.owner(&episode.owner).await?;
        let deadline = until.saturating_duration_since(Instant::now()) + DEADLINE_SLACK;
        let member = Arc::new(self.create(&owner, 0, episode.limits, args, deadline, &random_hex(DIGITS)).await?);
        self.lock().insert(episode.owner.clone(), vec![Arc::clone(&member)]);
        Ok(member)
    }

    /// Waits until a new pod has an address, before an instant, and whether that may be sent from.
    pub async fn settle(&self, member: &Member, sends: bool, until: Instant) -> Result<(), Stop> {
        let left = until.saturating_duration_since(Instant::now());
        let Some(address) = self.watching.addressed(&member.name, left).await? else { return Ok(()) };
        self.note_address(&member.subject.pod_uid, &address);
        if sends {
            in_block(&member.name, &address)?;
        }
        Ok(())
    }

    /// Stops and forgets the pods of one owner.
    pub async fn remove(&self, owner: &str) -> Result<(), Stop> {
        let members = self.lock().remove(owner).unwrap_or_default();
        for member in members {
            self.stop(&member).await?;
        }
        Ok(())
    }

    /// Replaces a workload's pods one by one, as a rolling update would: the new one is ready before the old one goes.
    pub async fn roll_out(&self, name: &str) -> anyhow::Result<()> {
        let workload = self.workload(name)?.clone();
        let template = random_hex(DIGITS);
        for old in self.of(name)? {
            let new = self.ordinary(&workload, old.index, &template).await?;
            // Before the other goes, so that it is stopped with the others whatever happens.
            self.lock().entry(name.to_owned()).or_default().push(Arc::clone(&new));
            tokio::time::sleep(READY).await;
            self.stop(&old).await?;
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
        self.facing_index(member.index, owner)
    }

    fn facing_index(&self, index: usize, owner: &str) -> Option<Arc<Member>> {
        let members = self.of(owner).ok()?;
        members.get(index % members.len()).cloned()
    }

    /// What has its turn in a pod that runs, life after life, as `vedette-range turn` takes it.
    pub fn lives(&self, member: &Member, lives: &[Life], room: &str, seconds: u64) -> anyhow::Result<Vec<String>> {
        let one = |life: &Life| match life {
            Life::Own => Ok(OWN_LIFE.to_owned()),
            Life::Other(program) => {
                let program = self.program(member, Start { program, work: room, seconds, bursts: None })?;
                anyhow::Ok(serde_json::to_string(&program)?)
            }
        };
        lives.iter().map(one).collect()
    }

    /// Arguments of the range for a program in a pod that runs.
    pub fn program(&self, member: &Member, start: Start<'_>) -> anyhow::Result<Vec<String>> {
        self.arguments(member.address, member.index, start)
    }

    fn arguments(&self, own: Option<Ipv4Addr>, index: usize, start: Start<'_>) -> anyhow::Result<Vec<String>> {
        let own_text = own.map_or_else(|| OWN.to_owned(), |own| own.to_string());
        let facing = |owner: &str| self.facing_index(index, owner).and_then(|other| other.address);
        let targets: Vec<Ipv4Addr> = start.program.workloads().filter_map(facing).collect();
        let around = Surroundings {
            own: own_text.clone(),
            work: start.work.to_owned(),
            // Plans that need it are refused before.
            shared: WORK.to_owned(),
            pods: self.hosts(),
            allow: networks(&own_text, own, &targets)?,
            // Pods have a network namespace of their own, and nobody here knows the inode of the host's.
            host_namespace: "0".to_owned(),
            seconds: start.seconds,
            bursts: start.bursts,
            address: &|owner: &str| facing(owner).map(|address| address.to_string()),
        };
        let mut arguments = vec!["behave".to_owned()];
        arguments.extend(start.program.arguments(&around).map_err(anyhow::Error::msg)?);
        Ok(arguments)
    }

    /// A pod of a workload, once it runs.
    async fn ordinary(&self, workload: &Workload, index: usize, template: &str) -> anyhow::Result<Arc<Member>> {
        let start = Start { program: &workload.program, work: WORK, seconds: FOREVER_SECONDS, bursts: None };
        let arguments = self.arguments(None, index, start)?;
        let args = if self.changing.contains(&workload.name) { kept(&[arguments]) } else { arguments };
        let owner = self.owner(&workload.name).await?;
        let deadline = self.until.saturating_duration_since(Instant::now());
        let mut member = self.create(&owner, index, workload.limits, args, deadline, template).await?;
        let pod = self.watching.running(&member.name, START).await?;
        let said = address(&pod).unwrap_or_default();
        self.note_address(&member.subject.pod_uid, said);
        // Of a plan without traffic nobody asks for the address.
        member.address = if self.sends { Some(in_block(&member.name, said)?) } else { said.parse().ok() };
        Ok(Arc::new(member))
    }

    async fn create(
        &self,
        owner: &Owner,
        index: usize,
        limits: Limits,
        args: Vec<String>,
        deadline: Duration,
        template: &str,
    ) -> Result<Member, Stop> {
        let name = format!("{}-{index}-{}", owner.name, random_hex(DIGITS));
        let plan = PodPlan {
            name: &name,
            container: &owner.name,
            owner: Some(owner),
            role: Role::Pod,
            limits,
            args,
            seconds: deadline.as_secs().max(1),
            restarts: true,
        };
        let made = self.site.create("pods", self.site.names.pod(plan, template)).await?;
        let no_uid = || Stop::new(Exit::Failure, format!("the API server gave pod {name} no uid"));
        let pod_uid = made.metadata.uid.clone().ok_or_else(no_uid)?;
        let born_unix_ms = made.metadata.creation_timestamp.as_ref().map_or_else(now_unix_ms, lives::unix_ms);
        self.watching.with(|schedule| {
            schedule.pods.push(PodRecord {
                pod_uid: pod_uid.clone(),
                namespace: self.site.names.namespace.clone(),
                pod: name.clone(),
                owner_kind: OWNER_KIND.to_owned(),
                owner_name: owner.name.clone(),
                containers: vec![owner.name.clone()],
                address: String::new(),
                born_unix_ms,
                gone_unix_ms: 0,
            });
        });
        let subject = Subject { pod_uid, owner_kind: OWNER_KIND.to_owned(), owner_name: owner.name.clone() };
        Ok(Member { name, subject, address: None, index })
    }

    /// The object that owns a workload's pods; made with the first of them. Replicas that come at once wait for it.
    async fn owner(&self, name: &str) -> Result<Owner, Stop> {
        let mut owners = self.owners.lock().await;
        if let Some(known) = owners.get(name) {
            return Ok(known.clone());
        }
        let made = self.site.create("deployments", self.site.names.owner(name)).await?;
        let owner = Owner { name: name.to_owned(), uid: made.metadata.uid.unwrap_or_default() };
        owners.insert(name.to_owned(), owner.clone());
        Ok(owner)
    }

    async fn stop(&self, member: &Member) -> Result<(), Stop> {
        self.site.delete_pod(&member.name).await?;
        if self.watching.gone(&member.name, GOING).await {
            return Ok(());
        }
        Err(Stop::new(Exit::Failure, format!("pod {} was told to go and is still there after {} s", member.name, GOING.as_secs())))
    }

    fn note_address(&self, pod_uid: &str, address: &str) {
        self.watching.with(|schedule| {
            if let Some(record) = schedule.pods.iter_mut().find(|record| record.pod_uid == pod_uid) {
                record.address = address.to_owned();
            }
        });
    }

    fn workload(&self, name: &str) -> anyhow::Result<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name).with_context(|| format!("no workload {name}"))
    }

    /// Host numbers of the run's pods, in whichever of their networks: a sweep leaves them out.
    fn hosts(&self) -> Vec<u8> {
        let last = |address: &str| address.rsplit('.').next().and_then(|host| host.parse::<u8>().ok());
        let mut hosts: Vec<u8> = self.watching.with(|schedule| schedule.pods.iter().filter_map(|pod| last(&pod.address)).collect());
        hosts.sort_unstable();
        hosts.dedup();
        // A flag without a value is no flag: nobody has the number 0.
        if hosts.is_empty() { vec![0] } else { hosts }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Member>>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a program may send to: its own /24 first, which a sweep is about, then those of its targets.
fn networks(own_text: &str, own: Option<Ipv4Addr>, targets: &[Ipv4Addr]) -> anyhow::Result<Vec<String>> {
    let mut networks = vec![own.map_or_else(|| format!("{own_text}/24"), |own| Net::slash24(own).to_string())];
    for target in targets {
        let network = Net::slash24(*target).to_string();
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    anyhow::ensure!(
        networks.len() <= MAX_NETS,
        "a program's targets are in {} networks of pods (/24), at most {} are possible: use fewer nodes, or fewer targets",
        networks.len() - 1,
        MAX_NETS - 1
    );
    Ok(networks)
}

/// Arguments of a container whose program may change, or that has several.
fn kept(lives: &[Vec<String>]) -> Vec<String> {
    let mut args = vec!["keep".to_owned(), format!("--book={}", book())];
    args.extend(lives.iter().map(|life| format!("--life={}", serde_json::json!(life))));
    args
}

/// What a program is told to last, seconds.
pub fn seconds_to(until: Instant) -> u64 {
    until.saturating_duration_since(Instant::now()).as_secs() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_send_to_its_own_network_and_to_those_of_its_targets() {
        let at = |c| Ipv4Addr::new(10, 213, c, 7);

        assert_eq!(networks("$(POD_IP)", None, &[at(1), at(1), at(2)]).unwrap(), ["$(POD_IP)/24", "10.213.1.0/24", "10.213.2.0/24"]);
        assert_eq!(networks("10.213.1.9", Some(at(1)), &[at(1)]).unwrap(), ["10.213.1.0/24"]);
        let many = networks("10.213.9.7", Some(at(9)), &[at(1), at(2), at(3), at(4)]).unwrap_err().to_string();
        assert!(many.contains("in 4 networks") && many.contains("at most 3"), "{many}");
    }

    #[test]
    fn lives_are_passed_on_word_by_word() {
        let args = kept(&[vec!["behave".into(), "web".into(), "--address=$(POD_IP)".into()]]);

        let book = format!("--book={}", book());
        assert_eq!(args, ["keep", book.as_str(), r#"--life=["behave","web","--address=$(POD_IP)"]"#]);
    }
}
