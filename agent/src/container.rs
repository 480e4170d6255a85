//! The files of one container's cgroup, read into a sample.

use vedette_proto::{Column, Tier};

use crate::{
    files::{KernelFile, Read, Reader},
    hierarchy::Hierarchies,
    parse::{self, cgroup},
    sample::Sample,
};

/// Limits of a container, as its cgroup has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU limit in millicores.
    pub cpu_millicores: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Limit on processes and threads, the pod's where the container has none.
    pub pids: Option<u64>,
}

/// The files of one container's cgroup, kept open.
#[derive(Debug, Default)]
pub struct ContainerFiles {
    cpu: KernelFile,
    cpu_modes: KernelFile,
    cpu_limit: KernelFile,
    memory: KernelFile,
    memory_stat: KernelFile,
    memory_hits: KernelFile,
    memory_oom: KernelFile,
    pids: KernelFile,
    pids_hits: KernelFile,
    io_bytes: KernelFile,
    io_operations: KernelFile,
    pressure: [KernelFile; 3],
}

/// Writes the path of a file of one controller's hierarchy.
fn place<'a>(mount: &'a Option<String>, path: &'a str, file: &'static str) -> impl FnOnce(&mut String) + 'a {
    move |text| at(text, mount.as_deref().unwrap_or_default(), path, file)
}

/// The container's cgroup is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended;

impl ContainerFiles {
    /// Reads the fast tier, and the slow one on top where asked for.
    ///
    /// # Errors
    /// [`Ended`] when the cgroup is gone.
    pub fn read(
        &mut self,
        reader: &mut Reader,
        hierarchies: &Hierarchies,
        path: &str,
        slow: bool,
        limits: &Limits,
        sample: &mut Sample,
    ) -> Result<(), Ended> {
        match hierarchies {
            Hierarchies::Unified { mount } => self.read_unified(reader, mount, path, slow, sample)?,
            Hierarchies::PerController(found) => {
                if found.cpuacct.is_some() {
                    match reader.read(&mut self.cpu, "cpuacct.usage", |text| {
                        at(text, found.cpuacct.as_deref().unwrap_or_default(), path, "cpuacct.usage")
                    }) {
                        Read::Data(text) => cgroup::cpuacct_usage(text, sample),
                        Read::Ended => return Err(Ended),
                        Read::Absent => {}
                    }
                }
                if found.memory.is_some() {
                    let text = reader.read(&mut self.memory, "memory.usage_in_bytes", |text| {
                        at(text, found.memory.as_deref().unwrap_or_default(), path, "memory.usage_in_bytes");
                    });
                    sample.set_if(Column::MemoryCurrentBytes, text.data().and_then(parse::number));
                }
                if slow {
                    self.read_controllers_slow(reader, found, path, sample);
                }
            }
        }
        if slow {
            if limits.cpu_millicores.is_none() {
                for column in [Column::CpuPeriods, Column::CpuThrottledPeriods, Column::CpuThrottledUs] {
                    sample.clear(column);
                }
            }
            sample.set_if(Column::MemoryLimitBytes, limits.memory_bytes);
            sample.set_if(Column::PidsLimit, limits.pids);
        }
        Ok(())
    }

    fn read_unified(&mut self, reader: &mut Reader, mount: &str, path: &str, slow: bool, sample: &mut Sample) -> Result<(), Ended> {
        match reader.read(&mut self.cpu, "cpu.stat", |text| at(text, mount, path, "cpu.stat")) {
            Read::Data(text) => {
                cgroup::cpu_stat_usage(text, sample);
                if slow {
                    cgroup::cpu_stat_modes(text, sample);
                    cgroup::cpu_stat_throttling(text, sample);
                }
            }
            Read::Ended => return Err(Ended),
            Read::Absent => {}
        }
        let current = reader.read(&mut self.memory, "memory.current", |text| at(text, mount, path, "memory.current"));
        sample.set_if(Column::MemoryCurrentBytes, current.data().and_then(parse::number));
        if !slow {
            return Ok(());
        }
        if let Some(text) = reader.read(&mut self.memory_stat, "memory.stat", |text| at(text, mount, path, "memory.stat")).data() {
            cgroup::memory_stat_v2(text, sample);
        }
        let events = reader.read(&mut self.memory_hits, "memory.events", |text| at(text, mount, path, "memory.events"));
        sample.set_if(Column::MemoryLimitHits, events.data().and_then(|text| parse::key(text, b"max")));
        let pids = reader.read(&mut self.pids, "pids.current", |text| at(text, mount, path, "pids.current"));
        sample.set_if(Column::PidsCurrent, pids.data().and_then(parse::number));
        let hits = reader.read(&mut self.pids_hits, "pids.events", |text| at(text, mount, path, "pids.events"));
        sample.set_if(Column::PidsLimitHits, hits.data().and_then(|text| parse::key(text, b"max")));
        if let Some(text) = reader.read(&mut self.io_bytes, "io.stat", |text| at(text, mount, path, "io.stat")).data() {
            cgroup::io_stat(text, sample);
        }
        const PRESSURE: [(&str, Column); 3] =
            [("cpu.pressure", Column::CpuPressureUs), ("memory.pressure", Column::MemoryPressureUs), ("io.pressure", Column::IoPressureUs)];
        for (file, (name, column)) in self.pressure.iter_mut().zip(PRESSURE) {
            let text = reader.read(file, name, |text| at(text, mount, path, name));
            sample.set_if(column, text.data().and_then(cgroup::pressure_some));
        }
        Ok(())
    }

    fn read_controllers_slow(&mut self, reader: &mut Reader, found: &crate::hierarchy::Controllers, path: &str, sample: &mut Sample) {
        let place = |mount, file| place(mount, path, file);
        if found.cpuacct.is_some()
            && let Some(text) = reader.read(&mut self.cpu_modes, "cpuacct.stat", place(&found.cpuacct, "cpuacct.stat")).data()
        {
            cgroup::cpuacct_stat(text, sample);
        }
        if found.cpu.is_some()
            && let Some(text) = reader.read(&mut self.cpu_limit, "cpu.stat", place(&found.cpu, "cpu.stat")).data()
        {
            cgroup::cpu_stat_throttling(text, sample);
        }
        if found.memory.is_some() {
            if let Some(text) = reader.read(&mut self.memory_stat, "memory.stat", place(&found.memory, "memory.stat")).data() {
                cgroup::memory_stat_v1(text, sample);
            }
            let hits = reader.read(&mut self.memory_hits, "memory.failcnt", place(&found.memory, "memory.failcnt"));
            sample.set_if(Column::MemoryLimitHits, hits.data().and_then(parse::number));
            let kills = reader.read(&mut self.memory_oom, "memory.oom_control", place(&found.memory, "memory.oom_control"));
            sample.set_if(Column::OomKills, kills.data().and_then(|text| parse::key(text, b"oom_kill")));
        }
        if found.pids.is_some() {
            let pids = reader.read(&mut self.pids, "pids.current", place(&found.pids, "pids.current"));
            sample.set_if(Column::PidsCurrent, pids.data().and_then(parse::number));
            let hits = reader.read(&mut self.pids_hits, "pids.events", place(&found.pids, "pids.events"));
            sample.set_if(Column::PidsLimitHits, hits.data().and_then(|text| parse::key(text, b"max")));
        }
        if let Some(names) = found.disk_io {
            let bytes = reader.read(&mut self.io_bytes, names[0], place(&found.blkio, names[0])).data().map(cgroup::blkio);
            let operations = reader.read(&mut self.io_operations, names[1], place(&found.blkio, names[1])).data().map(cgroup::blkio);
            sample.set_if(Column::IoReadBytes, bytes.map(|(read, _)| read));
            sample.set_if(Column::IoWriteBytes, bytes.map(|(_, write)| write));
            sample.set_if(Column::IoReads, operations.map(|(read, _)| read));
            sample.set_if(Column::IoWrites, operations.map(|(_, write)| write));
        }
    }

    /// Closes everything.
    pub fn close(&mut self, reader: &mut Reader) {
        let Self {
            cpu,
            cpu_modes,
            cpu_limit,
            memory,
            memory_stat,
            memory_hits,
            memory_oom,
            pids,
            pids_hits,
            io_bytes,
            io_operations,
            pressure,
        } = self;
        let files = [cpu, cpu_modes, cpu_limit, memory, memory_stat, memory_hits, memory_oom, pids, pids_hits, io_bytes, io_operations];
        for file in files.into_iter().chain(pressure) {
            reader.close(file);
        }
    }
}

/// Reads the limits of a container; `pod_path` is empty outside a pod.
pub fn limits(reader: &mut Reader, hierarchies: &Hierarchies, path: &str, pod_path: &str) -> Limits {
    let mut read = |mount: &Option<String>, path: &str, file: &'static str, parse: fn(&[u8]) -> Option<u64>| {
        let mount = mount.as_deref()?;
        reader.read_once(file, |text| at(text, mount, path, file)).data().and_then(parse)
    };
    match hierarchies {
        Hierarchies::Unified { mount } => {
            let mount = Some(mount.clone());
            let pids = read(&mount, path, "pids.max", cgroup::limit);
            Limits {
                cpu_millicores: read(&mount, path, "cpu.max", cgroup::cpu_max_millicores),
                memory_bytes: read(&mount, path, "memory.max", cgroup::limit),
                pids: if pids.is_none() && !pod_path.is_empty() { read(&mount, pod_path, "pids.max", cgroup::limit) } else { pids },
            }
        }
        Hierarchies::PerController(found) => {
            let quota = read(&found.cpu, path, "cpu.cfs_quota_us", cgroup::limit);
            let period = quota.and_then(|_| read(&found.cpu, path, "cpu.cfs_period_us", cgroup::limit));
            let pids = read(&found.pids, path, "pids.max", cgroup::limit);
            Limits {
                cpu_millicores: quota.zip(period).and_then(|(quota, period)| cgroup::millicores(quota, period)),
                memory_bytes: read(&found.memory, path, "memory.limit_in_bytes", cgroup::limit),
                pids: if pids.is_none() && !pod_path.is_empty() { read(&found.pids, pod_path, "pids.max", cgroup::limit) } else { pids },
            }
        }
    }
}

/// OOM kills within a pod on v2: the container's own file is gone together with the container that was killed.
pub fn pod_oom_kills(reader: &mut Reader, file: &mut KernelFile, hierarchies: &Hierarchies, pod_path: &str, sample: &mut Sample) {
    if let Hierarchies::Unified { mount } = hierarchies
        && !pod_path.is_empty()
    {
        let events = reader.read(file, "memory.events", |text| at(text, mount, pod_path, "memory.events"));
        sample.set_if(Column::OomKills, events.data().and_then(|text| parse::key(text, b"oom_kill")));
    }
}

/// Writes the path of a cgroup's file.
pub fn at(text: &mut String, mount: &str, path: &str, file: &str) {
    text.push_str(mount);
    text.push('/');
    text.push_str(path);
    text.push('/');
    text.push_str(file);
}

/// Marks the tiers that were read.
pub fn stamp(sample: &mut Sample, now_us: u64, slow: bool, rare: bool) {
    sample.read_at(Tier::Fast, now_us);
    if slow {
        sample.read_at(Tier::Slow, now_us);
    }
    if rare {
        sample.read_at(Tier::Rare, now_us);
    }
}
