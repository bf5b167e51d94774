//! Limits that are allowed but rarely intended, from the configuration and on this host.

use crate::finding::Finding;
use nunbird_cgroup::{Trouble, disk_of, disks_of};
use nunbird_handover::Untrusted;
use nunbird_policy::{CgroupDriver, Limits, Policy};
use std::path::Path;

/// Findings from the configuration alone.
pub(crate) fn check(policy: &Policy, findings: &mut Vec<Finding>) {
    for limits in policy.limits.values() {
        let mut remark = |message: &str, help: &str| {
            let name = Untrusted(&limits.name);
            findings.push(Finding::remark("limits", format!("[limits.{name}]: {message}"), help));
        };
        if !is_used(policy, limits) {
            remark(
                "no rule's jobs have these limits",
                "name them in [job], a profile or a rule, or remove them",
            );
        }
        if limits.standing.nice.is_some() && limits.amounts.cpu.is_some() {
            let message = "with `cpus` the job has its own cpu cgroup, and `nice` only orders its \
                           processes among each other";
            remark(message, "remove `nice`, if it was meant to give jobs lower priority than others");
        }
        let writes = limits.disks.iter().any(|disk| disk.write.is_some() || disk.write_ops.is_some());
        if writes && limits.cgroup_driver == CgroupDriver::CgroupfsV1 {
            let message = "version 1 does not count writes that go through the page cache, which are most";
            remark(message, "use version 2, or expect the limit for O_DIRECT and O_SYNC alone");
        }
        if limits.rlimits.address_space.zip(limits.amounts.memory).is_some_and(|(most, memory)| most < memory)
        {
            let message = "`as` is less than `memory`, so no single process can use all of the memory";
            remark(message, "raise `as`: programs reserve more addresses than they use");
        }
        if limits.rlimits.nproc.zip(limits.amounts.pids).is_some_and(|(most, pids)| most < pids) {
            let message =
                "`nproc` is less than `pids`, and also counts the account's other processes on this host";
            remark(message, "remove `nproc`: `pids` counts only the job's own");
        }
        if limits.rlimits.stack.is_some() && jobs_of(policy, limits).any(|job| job.raise_stack_limit) {
            remark("its `stack` overrides `raise_stack_limit`", "keep one of the two");
        }
    }
}

/// The limits compared with this host.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    let memory = total("MemTotal:");
    let swap = total("SwapTotal:");
    let processors = std::thread::available_parallelism().ok();
    let processors = processors.and_then(|n| u64::try_from(n.get()).ok()).map(|n| n.saturating_mul(1000));
    for limits in policy.limits.values() {
        let name = Untrusted(&limits.name);
        let rows = [
            ("memory", limits.amounts.memory, memory, "memory"),
            ("max_memory", limits.maximum.memory, memory, "memory"),
            ("swap", limits.amounts.swap, swap, "swap"),
            ("cpus", limits.amounts.cpu, processors, "processors"),
            ("max_cpus", limits.maximum.cpu, processors, "processors"),
        ];
        for (key, wanted, there, what) in rows {
            if wanted.zip(there).is_some_and(|(wanted, there)| wanted > there) {
                let message = format!("[limits.{name}]: `{key}` is more {what} than this host has");
                findings.push(Finding::remark(
                    "limits",
                    message,
                    "lower it, unless other hosts share the file",
                ));
            }
        }
        let paths = || limits.disks.iter().map(|disk| disk.device.as_path());
        let nowhere: Vec<Trouble> = paths().filter_map(|path| disk_of(path).err()).collect();
        let twice = disks_of(paths()).err().filter(|_| nowhere.is_empty());
        for trouble in nowhere.into_iter().chain(twice) {
            let message = format!("[limits.{name}]: {}", Untrusted(&trouble.to_string()));
            let help = "name a block device of this host, or a path on one, and each device once";
            findings.push(match limits.require {
                true => Finding::error("limits", format!("{message}, so its jobs are refused"), help),
                false => {
                    Finding::remark("limits", format!("{message}, so its jobs run without limits"), help)
                }
            });
        }
    }
}

fn is_used(policy: &Policy, limits: &Limits) -> bool {
    policy.rules.iter().any(|rule| policy.limits_of(rule) == Some(limits))
}

fn jobs_of<'p>(policy: &'p Policy, limits: &Limits) -> impl Iterator<Item = &'p nunbird_policy::Job> {
    let rules = policy.rules.iter().filter(move |rule| policy.limits_of(rule) == Some(limits));
    rules.map(|rule| policy.job_of(rule).0).collect::<Vec<_>>().into_iter()
}

/// Bytes in a line of `/proc/meminfo` (proc_meminfo(5)).
fn total(word: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
