//! What this host needs for machines of jobs (`engine = "nspawn"`).

use crate::finding::Finding;
use nunbird_policy::{MACHINES, Policy};
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
    let nested = policy.containers.values().find(|container| container.is_by(MACHINES) && container.nested);
    findings.extend(nested.zip(of_one).and_then(|(container, (size, _))| small(&container.name, size)));
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

/// They take 1 GB of a job's memory (docs/threat-model.md).
const RECOMMENDED: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::{few, size_and_count, small};

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
}
