//! The host under Nunbird: systemd's units, free space, kernel features, and what denies every
//! login at present.

use crate::finding::Finding;
use crate::host_facts::JOBS;
use crate::keys;
use crate::systemd::{self, property};
use nix::sys::statvfs::statvfs;
use nunbird_policy::{Downscope, Policy};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    if systemd::is_booted() {
        timer(policy, findings);
        sweep_timer(policy, findings);
    } else {
        findings.push(Finding::remark(
            "no-systemd",
            "systemd does not run here, so no timer fetches keys and no unit settings were inspected",
            format!("have cron run this every hour: {}", keys::refresh_command(policy, None)),
        ));
    }
    space(policy, findings);
    kernel(policy, findings);
    if policy.accounts.nologin {
        for file in ["/etc/nologin", "/run/nologin"].into_iter().filter(|file| Path::new(file).exists()) {
            findings.push(Finding::remark(
                "nologin",
                format!("{file} exists, so no job starts now"),
                format!("rm {file}"),
            ));
        }
    }
}

/// Keys that are pinned by hand are in a directory that root owns, and nothing fetches any.
fn timer(policy: &Policy, findings: &mut Vec<Finding>) {
    let pinned = policy.keys_dir.metadata().is_ok_and(|meta| meta.uid() == 0);
    if pinned || property("nunbird-keys.timer", "ActiveState").as_deref() == Some("active") {
        return;
    }
    findings.push(Finding::error(
        "keys-timer",
        "nunbird-keys.timer is not active, so keys are fetched only when a job's token matches none",
        "systemctl enable --now nunbird-keys.timer",
    ));
}

/// Without it a crashed runner's jobs keep their credentials, and their slots until their time is
/// up.
fn sweep_timer(policy: &Policy, findings: &mut Vec<Finding>) {
    let privileged = policy.downscope != Downscope::None;
    if !privileged || property("nunbird-sweep.timer", "ActiveState").as_deref() == Some("active") {
        return;
    }
    findings.push(Finding::remark(
        "sweep-timer",
        "nunbird-sweep.timer is not active, so what a crashed gitlab-runner leaves behind stays",
        "systemctl enable --now nunbird-sweep.timer",
    ));
}

/// Bytes below which a file system is nearly full: about ten thousand decisions.
const SCARCE: u64 = 64 << 20;
/// Bytes below which the next write may fail.
const NONE: u64 = 1 << 20;

/// The directories without which no job runs.
fn space(policy: &Policy, findings: &mut Vec<Finding>) {
    let audit = policy.audit.file.as_deref().and_then(Path::parent);
    let jobs = (policy.downscope == Downscope::Setuid).then(|| Path::new(JOBS));
    for place in audit.into_iter().chain(jobs).chain([policy.keys_dir.as_path()]) {
        let Ok(fs) = statvfs(place) else { continue };
        let free = fs.blocks_available().saturating_mul(fs.fragment_size());
        // File systems such as btrfs do not count inodes: they report 0 of 0.
        let no_inodes = fs.files() > 0 && fs.files_available() == 0;
        let shown = place.display();
        if free < NONE || no_inodes {
            let what =
                if no_inodes { "no inode is free".to_owned() } else { format!("{free} bytes are free") };
            findings.push(Finding::error(
                "space",
                format!("{shown}: {what}, so jobs are denied"),
                "free some space",
            ));
        } else if free < SCARCE {
            let message = format!("{shown}: {} MiB are free", free >> 20);
            findings.push(Finding::remark(
                "space",
                message,
                "free some space: a job that cannot be recorded does not run",
            ));
        }
    }
}

/// What the privileged sequence and the jobs' filters need of the kernel (docs/operation.md).
fn kernel(policy: &Policy, findings: &mut Vec<Finding>) {
    let setting =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).map(|text| text.trim().to_owned());
    match setting("kernel/seccomp/actions_avail") {
        Ok(actions) if ["kill_process", "errno"].iter().all(|a| actions.split(' ').any(|one| one == *a)) => {}
        _ => findings.push(Finding::error(
            "kernel",
            "the kernel has no seccomp filters, without which no token is verified",
            "use a kernel with CONFIG_SECCOMP_FILTER, and mount /proc",
        )),
    }
    // proc_sys_fs(5): these settings prevent attacks that make a privileged program act on another
    // file.
    for name in ["fs/protected_symlinks", "fs/protected_hardlinks"] {
        if setting(name).is_ok_and(|value| value == "0") {
            let shown = name.replace('/', ".");
            findings.push(Finding::remark("kernel", format!("{shown} is 0"), format!("sysctl {shown}=1")));
        }
    }
    if policy.downscope == Downscope::Setuid && setting("fs/suid_dumpable").is_ok_and(|value| value == "1") {
        findings.push(Finding::remark(
            "kernel",
            "fs.suid_dumpable is 1, which lets users have core dumps of privileged programs",
            "sysctl fs.suid_dumpable=0",
        ));
    }
}
