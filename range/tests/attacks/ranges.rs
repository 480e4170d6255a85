//! The run's address ranges: each answers as its name says, and no packet leaves the run.

use std::{net::Ipv4Addr, os::fd::OwnedFd, process::Command};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};
use vedette_range::{
    cgroups::Limits,
    nets::{Net, REACH, Range},
};

use crate::stage::{Stage, said};

/// Hears every IPv4 packet on every interface of the namespace that it is made in.
struct Ear(OwnedFd);

impl Ear {
    fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Self(socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(eth::IP)).expect("a packet socket"))
    }

    /// Packets so far that were for or from the address ranges of runs.
    fn of_runs(&self) -> usize {
        let reach: Net = REACH.parse().expect("a network");
        let mut packet = [0; 256];
        let mut found = 0;
        while let Ok((_, length)) = recv(&self.0, &mut packet[..], RecvFlags::TRUNC) {
            let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            found += usize::from(length >= 20 && (reach.contains(address(12)) || reach.contains(address(16))));
        }
        found
    }
}

/// What happens to a TCP connect from inside a pod, in the words of the shell that tries it.
fn connect(netns: &str, address: &str) -> String {
    let script = format!("exec 3<>/dev/tcp/{address}/81");
    let output =
        Command::new("nsenter").args([&format!("--net={netns}"), "timeout", "1", "bash", "-c", &script]).output().expect("nsenter");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(124) { "silence".to_owned() } else { said }
}

#[tokio::test]
async fn ranges_refuse_are_silent_or_are_forbidden() {
    let Some(stage) = Stage::make("ranges").await else { return };
    let pod = stage.runs("web", Limits::default(), &["idle", "--seconds", "600"]).await;
    let netns = pod.pod.network.path();

    assert!(connect(&netns, &stage.address(Range::Refusing, 77)).contains("refused"));
    assert_eq!(connect(&netns, &stage.address(Range::Silent, 77)), "silence");
    assert!(connect(&netns, &stage.address(Range::Denied, 77)).contains("route to host"));
    // Beyond the run's ranges there is no way at all.
    for address in ["192.0.2.1", "10.211.9.1", "10.216.9.1", "8.8.8.8"] {
        assert!(connect(&netns, address).contains("unreachable"), "{address}");
    }
    stage.end([pod]).await;
}

#[tokio::test]
async fn nothing_of_a_scan_or_a_flood_is_heard_on_the_hosts_interfaces() {
    let Some(stage) = Stage::make("escape").await else { return };
    let (ear, silent) = (Ear::open(), stage.address(Range::Silent, 9));

    let scan = ["scan", "--method", "syn", "--into", "silent", "--into", "denied", "--into", "refusing", "--rate", "500", "--seconds", "2"];
    let flood = ["syn-flood", "--target", &format!("{silent}:80"), "--source", "refusing", "--rate", "1000", "--seconds", "2"];
    for args in [&scan[..], &flood[..]] {
        let output = stage.tries(Limits::default(), args).await;
        assert!(output.status.success(), "{}", said(&output));
    }

    assert_eq!(ear.of_runs(), 0);
    stage.end([]).await;
}
