//! What this host needs for machines of jobs (`engine = "nspawn"`).

use crate::finding::Finding;
use nunbird_policy::{ContainerPolicy, Job, MACHINES, Policy};
use std::fs;
use std::path::Path;

const IDS: &str = "/etc/nunbird/machine-ids";
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// What each user of a machine has at least, and the host as much again (`machine/src/counts.rs`).
const OF_A_MACHINE: u64 = 64;

/// Looks at it where some container is a machine.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    if !policy.containers.values().any(|container| container.is_by(MACHINES)) {
        return;
    }
    let needed = [
        ("/usr/bin/systemd-nspawn", "install systemd-container: jobs have machines (`engine = \"nspawn\"`)"),
        (IDS, "write `ids FIRST SIZE COUNT` there: no machine of a job starts before"),
    ];
    for (path, help) in needed {
        if let Err(e) = Path::new(path).metadata() {
            findings.push(Finding::unseen("program", Path::new(path), &e, help));
        }
    }
    let ids = fs::read_to_string(IDS).unwrap_or_default();
    let instances = fs::read_to_string(INSTANCES).ok().and_then(|text| text.trim().parse().ok());
    let of_one = size_and_count(&ids);
    findings.extend(instances.zip(of_one).and_then(|(instances, (_, count))| few(instances, count)));
    findings.extend(
        instances
            .zip(of_one)
            .map(|(instances, (_, count))| taken(policy, count, instances))
            .unwrap_or_default(),
    );
    let nested = policy.containers.values().find(|container| container.is_by(MACHINES) && container.nested);
    findings.extend(nested.zip(of_one).and_then(|(container, (size, _))| small(&container.name, size)));
}

/// Looks at each container whose jobs are more users than one for the kernel, for so many machines at a time and so many instances of each user.
fn taken(policy: &Policy, count: u64, instances: u64) -> Vec<Finding> {
    let jobs = || std::iter::once(&policy.job).chain(policy.profiles.values().map(|profile| &profile.job));
    let machines = policy.containers.values().filter(|one| one.is_by(MACHINES) && (one.nested || one.root));
    let all = machines.filter_map(|one| {
        let most = jobs().filter(|job| job.container.as_ref() == Some(&one.name)).map(most_memory);
        let most = most.max_by_key(|memory| memory.unwrap_or(u64::MAX))?;
        many_users(one, most, count, instances)
    });
    all.collect()
}

/// What a job can have of memory, whatever its variables ask for; none without a limit.
fn most_memory(job: &Job) -> Option<u64> {
    let limits = job.limits.as_ref()?;
    limits.amounts.memory.map(|memory| memory.max(limits.maximum.memory.unwrap_or(0)))
}

/// Each user of a machine has a share of what the kernel counts per user, and the host's root has the sum on its count. Only memory bounds that.
fn many_users(one: &ContainerPolicy, memory: Option<u64>, count: u64, instances: u64) -> Option<Finding> {
    let ContainerPolicy { name, nested, .. } = one;
    let (key, users) = match nested {
        true => ("nested", format!("as {USERS} users more")),
        false => ("root", "as every user of its machine".to_owned()),
    };
    let begin = format!(
        "[container.{name}] has `{key}`: a job in it can act {users}, each with a share of what the kernel counts per user of the host's root, \
         who has {instances} inotify instances"
    );
    let Some(memory) = memory else {
        return Some(Finding::remark(
            "machine-counts",
            format!(
                "{begin}; no limit of memory bounds what one of {count} machines at a time takes of them"
            ),
            "name `limits` with `memory` where `container` is named",
        ));
    };
    let (of_one, of_all) = too_many(memory, count, instances)?;
    Some(Finding::remark(
        "machine-counts",
        format!(
            "{begin}; with {} MiB of memory one machine takes up to {of_one} of them, and {count} machines at a time up to {of_all}",
            memory >> 20
        ),
        format!(
            "write `fs.inotify.max_user_instances = {}` into a file in /etc/sysctl.d, a smaller `memory` into the jobs' `[limits.NAME]`, or a \
             smaller COUNT into {IDS}",
            of_all.saturating_add(1)
        ),
    ))
}

/// How many instances one machine has room for, and all machines at a time, where that is no less than there are.
fn too_many(memory: u64, count: u64, instances: u64) -> Option<(u64, u64)> {
    let of_one = memory / INSTANCE;
    let of_all = of_one.saturating_mul(count);
    (of_all >= instances).then_some((of_one, of_all))
}

/// SIZE and COUNT of `ids FIRST SIZE COUNT`. What else is in the file `nunbird-machine` judges.
fn size_and_count(text: &str) -> Option<(u64, u64)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut ids = lines.map(str::split_whitespace).filter(|words| words.clone().next() == Some("ids"));
    let mut numbers = ids.next()?.skip(2).map(str::parse::<u64>);
    numbers.next()?.ok().zip(numbers.next()?.ok())
}

/// Containers in a machine have as many ids again as a system needs.
fn small(container: &str, size: u64) -> Option<Finding> {
    (size < NESTED).then(|| {
        Finding::error(
            "machine-nested",
            format!("[container.{container}] has `nested`, and machines have {size} ids: none of its jobs starts"),
            format!("write {NESTED} as SIZE into {IDS}, or 65536 more than the largest uid and gid of accounts that have jobs"),
        )
    })
}

fn few(instances: u64, count: u64) -> Option<Finding> {
    let needed = count.saturating_mul(OF_A_MACHINE);
    (instances < needed).then(|| {
        Finding::error(
            "machine-inotify",
            format!(
                "fs.inotify.max_user_instances is {instances}, and {count} machines at a time need {needed}: no machine of a job starts"
            ),
            format!(
                "write `fs.inotify.max_user_instances = {}` into a file in /etc/sysctl.d and run `sysctl --system`, or a smaller COUNT into {IDS}",
                needed.max(RECOMMENDED)
            ),
        )
    })
}

/// The fewest ids of a machine with containers in it (`machine/src/ids.rs`).
const NESTED: u64 = 131_072;

/// The users of a machine that its account can become beside itself (`machine/src/nested.sh`).
const USERS: u64 = 65_536;

/// What an instance of inotify takes of a job's memory, in bytes (docs/threat-model.md).
const INSTANCE: u64 = 956;

/// They take 1 GB of a job's memory (docs/threat-model.md).
const RECOMMENDED: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::{few, size_and_count, small, too_many};

    #[test]
    fn each_machine_at_a_time_needs_instances_of_inotify() {
        assert_eq!(size_and_count("# a\nids 1879048192 65536 64 # b\n"), Some((65_536, 64)));
        assert_eq!(size_and_count("ids 1879048192 65536\n").or(size_and_count("id 1 2 3")), None);
        assert!(few(128, 2).is_none() && few(4096, 64).is_none());
        assert!(few(128, 3).is_some() && few(4095, 64).is_some());
    }

    #[test]
    fn containers_in_a_machine_need_ids_beside_those_of_accounts() {
        assert!(small("one", 131_072).is_none() && small("one", 131_071).is_some());
    }

    #[test]
    fn memory_of_all_machines_bounds_what_they_take_of_roots_instances() {
        assert_eq!(too_many(956 * 500, 2, 1001), None);
        assert_eq!(too_many(956 * 500, 2, 1000), Some((500, 1000)));
        assert_eq!(too_many(956 * 501 - 1, 2, 1001), None);
        assert_eq!(too_many(1 << 30, 64, 1 << 20), Some((1_123_160, 71_882_240)));
        assert!(too_many(u64::MAX, u64::MAX, u64::MAX).is_some());
    }
}
