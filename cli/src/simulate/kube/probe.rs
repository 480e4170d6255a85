//! Whether the cluster enforces network policies, tried before anything is attacked: by a pod like those to come, at one of the run's
//! own that it may reach and at one that it must not.

use std::net::Ipv4Addr;
use std::time::Duration;

use vedette_range::behave::reach::{THROUGH, UNREACHED};
use vedette_range::cgroups::Limits;
use vedette_range::guard::{BLOCK, Net};

use super::objects::{PodPlan, Role};
use super::site::Site;
use super::watching::{Watching, address};
use crate::escape::escaped;
use crate::exit::{Exit, Stop};

/// The three pods.
const OPEN: &str = "probe-open";
const SHUT: &str = "probe-shut";
const PROBE: &str = "probe";
/// Where a sink listens.
const PORT: u16 = 9000;
/// How long a pod may take to run: its image may have to be pulled.
pub const START: Duration = Duration::from_secs(120);
/// How long policies may take to reach every node, seconds.
const SECONDS: u64 = 30;
/// A policy that comes at the last moment, and a pod that is told so late.
const LIMIT: Duration = Duration::from_secs(SECONDS + 60);
/// A pod of the probe ends by itself after so many seconds.
const DEADLINE: u64 = 600;

/// Tries; an error says why nothing may be attacked here.
pub async fn probe(site: &Site, watching: &Watching) -> Result<(), Stop> {
    for (name, role) in [(OPEN, Role::Pod), (SHUT, Role::Outside)] {
        make(site, name, role, vec!["behave".to_owned(), "sink".to_owned(), "--address=$(POD_IP)".to_owned()]).await?;
    }
    let mut listeners = Vec::new();
    for name in [OPEN, SHUT] {
        let pod = watching.running(name, START).await?;
        listeners.push(in_block(name, address(&pod).unwrap_or_default())?);
    }
    let mut args = vec!["behave".to_owned(), "reach".to_owned(), "--allow=$(POD_IP)/24".to_owned()];
    args.extend(listeners.iter().map(|address| format!("--allow={}", Net::slash24(*address))));
    args.extend([
        "--host-namespace=0".to_owned(),
        format!("--open={}:{PORT}", listeners[0]),
        format!("--shut={}:{PORT}", listeners[1]),
        format!("--seconds={SECONDS}"),
    ]);
    make(site, PROBE, Role::Pod, args).await?;
    let (code, said) = watching.ended(PROBE, LIMIT).await?;
    for name in [PROBE, OPEN, SHUT] {
        site.delete_pod(name).await?;
    }
    verdict(code, &said)
}

async fn make(site: &Site, name: &str, role: Role, args: Vec<String>) -> Result<(), Stop> {
    let plan = PodPlan { name, container: name, owner: None, role, limits: Limits::default(), args, seconds: DEADLINE, restarts: false };
    site.create("pods", site.names.pod(plan, "")).await.map(drop)
}

/// What the probe's exit code means.
fn verdict(code: i32, said: &str) -> Result<(), Stop> {
    let refused = |problem: String| Err(Stop::new(Exit::Failure, format!("{problem}: nothing is attacked here; see docs/lab.md")));
    match code {
        0 => Ok(()),
        THROUGH => refused("this cluster does not enforce network policies: a pod reached what its policy forbids".to_owned()),
        UNREACHED => refused("cannot tell whether this cluster enforces network policies: pods do not reach each other at all".to_owned()),
        _ => refused(format!(
            "cannot tell whether this cluster enforces network policies: the probe failed ({code}): {}",
            escaped(said.trim())
        )),
    }
}

/// The address of a pod, if the range's programs may be told of it.
pub fn in_block(pod: &str, address: &str) -> Result<Ipv4Addr, Stop> {
    let block: Net = BLOCK.parse().expect("the block is a network");
    let inside = address.parse().ok().filter(|&address: &Ipv4Addr| block.contains(address));
    inside.ok_or_else(|| {
        let problem = format!("pod {pod} has the address {}, outside of {BLOCK}", escaped(address));
        let hint = "the range's programs send there and nowhere else, so give the cluster's pods such addresses (docs/lab.md)";
        Stop::new(Exit::Failure, format!("{problem}: {hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_where_there_should_be_silence_is_good_enough() {
        let says = |code| verdict(code, "Error: x\n").unwrap_err().message;

        assert!(verdict(0, "").is_ok());
        assert!(says(THROUGH).contains("does not enforce network policies"));
        assert!(says(UNREACHED).contains("cannot tell"));
        assert!(says(1).contains("the probe failed (1): Error: x"), "{}", says(1));
        assert!([THROUGH, UNREACHED, 1].into_iter().all(|code| says(code).contains("nothing is attacked here")));
    }

    #[test]
    fn an_address_outside_of_the_block_says_what_to_do() {
        let refused = |address| in_block("web-0", address).unwrap_err().message;

        assert_eq!(in_block("web-0", "10.213.4.9").unwrap(), Ipv4Addr::new(10, 213, 4, 9));
        for address in ["10.244.0.7", "fd00::1", ""] {
            assert!(refused(address).contains("outside of 10.213.0.0/16") && refused(address).contains("docs/lab.md"), "{address}");
        }
    }
}
