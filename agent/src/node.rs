//! The node as a whole: CPU, memory, load, disks, network, connections tracked, and the file system under the agent's own root.

use procfs::FromRead;
use vedette_proto::{Column, Observation, Tier};

use crate::{
    files::{KernelFile, Reader},
    network,
    observe::observe,
    parse::{self, cgroup, net, node},
    sample::Sample,
};

/// What the known containers used, for the residual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// CPU time of this tick's rows.
    pub cpu_us: u64,
    /// Memory charged to them.
    pub memory_bytes: u64,
    /// How many there are.
    pub containers: u64,
}

/// The node's files and last readings.
#[derive(Debug, Default)]
pub struct Node {
    stat: KernelFile,
    loadavg: KernelFile,
    meminfo: KernelFile,
    dev: KernelFile,
    pressure: [KernelFile; 3],
    conntrack: [KernelFile; 2],
    previous: Sample,
}

/// Interfaces that carry the node's own traffic: not lo, and not what only passes containers' traffic on.
pub(crate) fn is_own_interface(name: &[u8]) -> bool {
    const PASSING: [&[u8]; 20] = [
        b"lo",
        b"veth",
        b"br-",
        b"cni",
        b"docker",
        b"cbr",
        b"virbr",
        b"podman",
        b"cali",
        b"lxc",
        b"cilium",
        b"flannel",
        b"vxlan",
        b"tunl",
        b"weave",
        b"kube-ipvs",
        b"nodelocaldns",
        b"dummy",
        b"ifb",
        b"vnet",
    ];
    let bridge = name.strip_prefix(b"br").is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit));
    !bridge && !PASSING.iter().any(|prefix| name.starts_with(prefix) && (*prefix != b"lo" || name == b"lo"))
}

impl Node {
    /// The last reading of every column.
    #[must_use]
    pub fn latest(&self) -> &Sample {
        &self.previous
    }

    /// Reads the node and says what happened since it was read before.
    pub fn observe(&mut self, reader: &mut Reader, proc: &str, slow: bool, now_us: u64, known: Known) -> Observation {
        let mut sample = Sample::default();
        let place = |file: &'static str| {
            move |text: &mut String| {
                text.push_str(proc);
                text.push_str(file);
            }
        };
        if let Some(text) = reader.read(&mut self.stat, "stat", place("/stat")).data() {
            node::stat(text, &mut sample);
        }
        if let Some(text) = reader.read(&mut self.loadavg, "loadavg", place("/loadavg")).data() {
            node::loadavg(text, &mut sample);
        }
        let memory = reader.read(&mut self.meminfo, "meminfo", place("/meminfo")).data().map(node::meminfo).unwrap_or_default();
        sample.set_if(Column::NodeMemoryTotalBytes, memory.total);
        sample.set_if(Column::NodeMemoryAvailableBytes, memory.available);
        if let Some(sum) = reader
            .read(&mut self.dev, "net/dev", |text| network::host_dev_place(text, proc))
            .data()
            .and_then(|text| net::traffic(text, is_own_interface))
        {
            sample.set(Column::NodeNetRxBytes, sum.rx_bytes);
            sample.set(Column::NodeNetTxBytes, sum.tx_bytes);
        }
        if slow {
            self.read_slow(reader, proc, &mut sample);
        } else {
            sample.clear(Column::NodeProcesses);
        }
        crate::container::stamp(&mut sample, now_us, slow, false);

        let mut row = observe(&self.previous, &sample);
        self.previous.update(&sample);
        row.set(Column::NodeContainers, known.containers);
        // Ticks of 10 ms and readings some milliseconds apart can make the parts exceed the whole: then nothing is left over.
        row.set_if(Column::NodeResidualCpuUs, row.get(Column::NodeCpuBusyUs).map(|busy| busy.saturating_sub(known.cpu_us)));
        let used = memory.total.zip(memory.free).map(|(total, free)| total.saturating_sub(free));
        row.set_if(Column::NodeResidualMemoryBytes, used.map(|used| used.saturating_sub(known.memory_bytes)));
        row
    }

    fn read_slow(&mut self, reader: &mut Reader, proc: &str, sample: &mut Sample) {
        const PRESSURE: [(&str, Column); 3] = [
            ("pressure/cpu", Column::NodeCpuPressureUs),
            ("pressure/memory", Column::NodeMemoryPressureUs),
            ("pressure/io", Column::NodeIoPressureUs),
        ];
        let place = |file: &'static str| move |text: &mut String| text.extend([proc, "/", file]);
        for (file, (name, column)) in self.pressure.iter_mut().zip(PRESSURE) {
            sample.set_if(column, reader.read(file, name, place(name)).data().and_then(cgroup::pressure_some));
        }
        const CONNTRACK: [(&str, Column); 2] = [
            ("sys/net/netfilter/nf_conntrack_count", Column::NodeConntrackEntries),
            ("sys/net/netfilter/nf_conntrack_max", Column::NodeConntrackLimit),
        ];
        for (file, (name, column)) in self.conntrack.iter_mut().zip(CONNTRACK) {
            sample.set_if(column, reader.read(file, name, place(name)).data().and_then(parse::number));
        }
        if let Some(disks) = reader.read_once("diskstats", place("diskstats")).data().and_then(whole_disks) {
            const SECTOR: u64 = 512;
            let (read, written) = disks.iter().fold((0u64, 0u64), |(read, written), disk| {
                (
                    read.saturating_add(disk.sectors_read.saturating_mul(SECTOR)),
                    written.saturating_add(disk.sectors_written.saturating_mul(SECTOR)),
                )
            });
            sample.set(Column::NodeDiskReadBytes, read);
            sample.set(Column::NodeDiskWriteBytes, written);
        }
        // In a pod this is the file system that the node keeps containers on.
        if let Ok(space) = rustix::fs::statvfs("/") {
            sample.set(Column::NodeFsSizeBytes, space.f_blocks.saturating_mul(space.f_frsize));
            sample.set(Column::NodeFsAvailableBytes, space.f_bavail.saturating_mul(space.f_frsize));
            sample.set(Column::NodeFsInodesFree, space.f_favail);
        }
        debug_assert!(sample.at_us(Tier::Slow).is_none());
    }
}

/// The disks of a `diskstats` whose I/O is counted once; `None` where it is none.
#[must_use]
pub fn whole_disks(text: &[u8]) -> Option<Vec<procfs::DiskStat>> {
    let procfs::DiskStats(mut disks) = procfs::DiskStats::from_read(text).ok()?;
    let names: Vec<_> = disks.iter().map(|disk| disk.name.clone()).collect();
    disks.retain(|disk| is_whole_disk(&disk.name, &names));
    Some(disks)
}

/// Not a partition of another entry, and not stacked on one (loop, device mapper, RAID), whose I/O is counted below.
fn is_whole_disk(name: &str, names: &[String]) -> bool {
    if ["loop", "ram", "zram", "dm-", "md", "sr", "fd"].iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    !names.iter().any(|disk| {
        name.len() > disk.len()
            && name.strip_prefix(disk.as_str()).is_some_and(|rest| rest.trim_start_matches('p').bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_stacked_devices_are_not_counted_again() {
        let names: Vec<String> = ["sda", "sda1", "nvme0n1", "nvme0n1p2", "dm-0", "vdb", "loop3"].map(String::from).to_vec();

        let whole: Vec<_> = names.iter().filter(|name| is_whole_disk(name, &names)).collect();

        assert_eq!(whole, ["sda", "nvme0n1", "vdb"]);
    }

    #[test]
    fn interfaces_that_pass_traffic_on_are_not_the_nodes_own() {
        let own: Vec<_> = ["lo", "eth0", "ens5", "br0", "br-1a2b", "cni0", "veth12", "docker0", "bond0", "wlan0", "lowpan0"]
            .into_iter()
            .filter(|name| is_own_interface(name.as_bytes()))
            .collect();

        assert_eq!(own, ["eth0", "ens5", "bond0", "wlan0", "lowpan0"]);
    }
}
