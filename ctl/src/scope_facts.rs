//! What `cgroup_driver = "systemd"` of a table `[limits.NAME]` needs of this host: systemd as its first process, and root.

use crate::finding::Finding;
use crate::programs;
use nunbird_policy::{CgroupDriver, Downscope, Policy};
use std::path::Path;

/// Exists if systemd is the first process (sd_booted(3)); only root may see its socket for root,
/// beside it.
const BOOTED: &str = "/run/systemd/system";
/// Exists if the v2 hierarchy is systemd's own.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";

/// Looks, for each table that has this driver.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    let rootless =
        policy.downscope != Downscope::Setuid || programs::has_capabilities(&programs::auth(policy));
    let booted = Path::new(BOOTED).is_dir();
    let unified = Path::new(UNIFIED).exists();
    for limits in policy.limits.values().filter(|limits| limits.cgroup_driver == CgroupDriver::Systemd) {
        let effect = if limits.require { "no job with them runs" } else { "jobs run without them" };
        let mut find = |what: &str, help: &str| {
            let what =
                format!("`cgroup_driver = \"systemd\"` of `[limits.{}]` {what}, so {effect}", limits.name);
            findings.push(Finding::error("limits-scope", what, help));
        };
        if rootless {
            find(
                "needs root, because systemd accepts no other caller, but nunbird-auth has file capabilities or no privilege",
                "install the package `nunbird` instead of `nunbird-caps`, or write `cgroup_driver = \"cgroupfs-v2\"`",
            );
        }
        if !booted {
            find(
                "needs systemd as the first process of this host",
                "write `cgroup_driver = \"cgroupfs-v2\"` or `\"cgroupfs-v1\"`",
            );
        } else if !unified && limits.amounts.swap.is_some() {
            find(
                "limits swap, which systemd does not do on version 1 of control groups",
                "write `cgroup_driver = \"cgroupfs-v1\"`, or no `swap`",
            );
        }
    }
}
