//! What `way = "scope"` of a table `[limits.NAME]` needs of this host: systemd as its first process, and root.

use crate::finding::Finding;
use crate::programs;
use nunbird_policy::{Downscope, LimitsWay, Policy};
use std::path::Path;

/// Exists if systemd is the first process (sd_booted(3)); only root may see its socket for root,
/// beside it.
const BOOTED: &str = "/run/systemd/system";
/// Exists if the v2 hierarchy is systemd's own.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";

/// Checks each table with this value.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    let rootless =
        policy.downscope != Downscope::Setuid || programs::has_capabilities(&programs::auth(policy));
    let booted = Path::new(BOOTED).is_dir();
    let unified = Path::new(UNIFIED).exists();
    for limits in policy.limits.values().filter(|limits| limits.way == LimitsWay::Scope) {
        let fate = if limits.require { "no job with them runs" } else { "jobs run without them" };
        let mut find = |what: &str, help: &str| {
            let what = format!("`way = \"scope\"` of `[limits.{}]` {what}, so {fate}", limits.name);
            findings.push(Finding::error("limits-scope", what, help));
        };
        if rootless {
            find(
                "needs root, because systemd accepts no other caller, but nunbird-auth has file \
                 capabilities or no privilege",
                "install the package `nunbird` instead of `nunbird-caps`, or write `way = \"delegated\"`",
            );
        }
        if !booted {
            find(
                "needs systemd as the first process of this host",
                "write `way = \"delegated\"` or `\"v1\"`",
            );
        } else if !unified && limits.amounts.swap.is_some() {
            find(
                "limits swap, which systemd does not support on cgroup version 1",
                "write `way = \"v1\"`, or no `swap`",
            );
        }
    }
}
