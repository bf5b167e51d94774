//! The installed programs, and how `nunbird-auth` gets its privilege.

use crate::finding::Finding;
use crate::owner::{owner_and_mode, shared};
use nix::sys::statvfs::{FsFlags, statvfs};
use nunbird_policy::{Downscope, MACHINES, Policy};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path of `nunbird-auth`: beside the launcher.
pub(crate) fn auth(policy: &Policy) -> PathBuf {
    policy.job.launcher.with_file_name("nunbird-auth")
}

/// Looks at all that this policy needs.
pub(crate) fn inspect(policy: &Policy, owners: &[u32], findings: &mut Vec<Finding>) {
    let launcher = &policy.job.launcher;
    let auth = auth(policy);
    let limits = (!policy.limits.is_empty()).then_some("nunbird-limits");
    let machines = policy.containers.values().any(|container| container.is_by(MACHINES));
    let machine = machines.then_some("nunbird-machine");
    let validates = policy.validation.as_ref().map(|_| "nunbird-validate");
    let others = ["nunbird-decide", "nunbird-keys"].into_iter().chain(limits).chain(machine).chain(validates);
    let others: Vec<PathBuf> = others.map(|name| launcher.with_file_name(name)).collect();
    for program in [launcher, &auth].into_iter().chain(&others) {
        let shown = program.display();
        match program.metadata() {
            Err(e) => findings.push(Finding::unseen("program", program, &e, "install the package")),
            Ok(meta) => {
                let mut find = |what: &str, help: &str| {
                    findings.push(Finding::error("program", format!("{shown}: {what}"), help));
                };
                owner_and_mode(&meta, owners, &mut find);
                if let Some(Ok(parent)) = program.parent().map(Path::metadata) {
                    shared(&parent, &mut find);
                }
                if !meta.is_file() || meta.mode() & 0o111 == 0 {
                    find("not an executable file", "install the package again");
                }
            }
        }
    }
    if policy.downscope == Downscope::Setuid
        && let Ok(meta) = auth.metadata()
    {
        privilege(&auth, &meta, findings);
    }
}

/// Whether a file has capabilities.
pub(crate) fn has_capabilities(file: &Path) -> bool {
    Capabilities::of(file).is_some()
}

fn privilege(auth: &Path, meta: &Metadata, findings: &mut Vec<Finding>) {
    let shown = auth.display();
    let setuid_bit = meta.mode() & 0o4000 != 0;
    let capabilities = Capabilities::of(auth);
    let mut error =
        |what: &str, help: &str| findings.push(Finding::error("privilege", format!("{shown}: {what}"), help));
    if let Some(set) = &capabilities {
        if !set.is_as_needed() {
            let what = format!("has the file capabilities {set}, not cap_setuid,cap_setgid=p");
            error(&what, "setcap cap_setuid,cap_setgid=p: it needs these two, permitted, and no other");
        } else if setuid_bit {
            error("has both a setuid bit and file capabilities", "chmod u-s, or setcap -r");
        }
    }
    let privileged = setuid_bit || capabilities.is_some();
    if privileged && meta.mode() & 0o001 != 0 {
        let help = "chown root:<the runner's group> and chmod 4750 (0750 with capabilities)";
        error("has privilege and can be executed by everybody", help);
    }
    if meta.mode() & 0o2000 != 0 {
        error("has a setgid bit", "chmod g-s");
    }
    if privileged && meta.gid() == 0 {
        error(
            "belongs to group 0, so no runner can execute it",
            "chgrp to the group of the runner's account",
        );
    }
    if !privileged {
        findings.push(Finding::remark(
            "privilege",
            format!("{shown}: neither a setuid bit nor file capabilities, so only a root runner's jobs run"),
            "chmod 4750, or setcap cap_setuid,cap_setgid=p, unless gitlab-runner runs as root",
        ));
    }
    let nosuid = statvfs(auth).map(|fs| fs.flags().contains(FsFlags::ST_NOSUID));
    if privileged && nosuid == Ok(true) {
        findings.push(Finding::error(
            "nosuid",
            format!("{shown}: its file system is mounted nosuid, so its privilege has no effect"),
            "install it on another file system, or mount this one with suid",
        ));
    }
}

/// File capabilities (`struct vfs_cap_data` and `vfs_ns_cap_data`, linux/capability.h).
struct Capabilities {
    permitted: u64,
    inheritable: u64,
    /// Raised in the effective set by execve(2): auth raises what it needs itself.
    effective: bool,
}

/// `cap_setgid` is 6 and `cap_setuid` is 7 (linux/capability.h).
const SETUID_AND_SETGID: u64 = (1 << 6) | (1 << 7);

impl Capabilities {
    fn of(file: &Path) -> Option<Capabilities> {
        let bytes = xattr::get(file, "security.capability").ok()??;
        let word = |at: usize| Some(u64::from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)));
        let wide = |at: usize| Some(word(at)? | (word(at + 8).unwrap_or(0) << 32));
        Some(Capabilities { permitted: wide(4)?, inheritable: wide(8)?, effective: word(0)? & 1 != 0 })
    }

    fn is_as_needed(&self) -> bool {
        self.permitted == SETUID_AND_SETGID && self.inheritable == 0
    }
}

impl std::fmt::Display for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (permitted, inheritable) = (self.permitted, self.inheritable);
        let effective = if self.effective { " (effective)" } else { "" };
        write!(f, "permitted {permitted:#x}{effective}, inheritable {inheritable:#x}")
    }
}
