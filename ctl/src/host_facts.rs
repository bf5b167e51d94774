//! What the configuration needs of this host, inspected from outside. Nothing is changed, and no
//! server is asked.

use crate::finding::Finding;
use crate::owner::{owner_and_mode, shared};
use crate::{
    container_facts, credential_facts, expiry_facts, floor_facts, key_facts, limit_facts, machine_facts,
    pam_facts, programs, scheduler_facts, scope_facts, sudo_facts,
};
use aws_lc_rs::digest::{SHA256, digest};
use nunbird_handover::Untrusted;
use nunbird_host::PEOPLE_DIR;
use nunbird_policy::{
    CONFIGURATIONS, Condition, DEFAULT_CONFIGURATION, Downscope, Local, Pinning, Policy, RuleOutcome, RunAs,
    Syslog, Validation, check,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest validation program that `nunbird-validate` takes, in bytes.
const MAX_PROGRAM: u64 = 16 << 20;
/// The directory of job records.
pub(crate) const JOBS: &str = "/var/lib/nunbird/jobs";

/// Inspects files, programs, keys, accounts, directories and audit destinations.
pub(crate) fn inspect(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    let owners = owners(policy, runner);
    let mut files = vec![policy.file.clone()];
    files.extend(crate::files::more(&policy.file).unwrap_or_default());
    // What came by standard input is to become a file.
    files.retain(|file| !crate::files::is_stdin(file));
    for file in &files {
        trusted(file, "configuration", &owners, findings);
    }
    if policy.downscope == Downscope::Setuid {
        if !files.is_empty() {
            listed(&policy.file, findings);
        }
        private(Path::new(JOBS), findings);
        if policy.accounts.pinning != Pinning::Off {
            private(Path::new(PEOPLE_DIR), findings);
        }
    }
    programs::inspect(policy, &owners, findings);
    machine_facts::inspect(policy, findings);
    pam_facts::inspect(policy, findings);
    expiry_facts::inspect(policy, findings);
    scope_facts::inspect(policy, findings);
    scheduler_facts::inspect(policy, findings);
    container_facts::inspect(policy, findings);
    credential_facts::inspect(policy, runner, findings);
    sudo_facts::inspect(policy, runner, findings);
    for map in policy.maps.values() {
        trusted(&map.file, "map", &owners, findings);
    }
    if let Some(file) = &policy.accounts.people_file {
        trusted(file, "people", &owners, findings);
    }
    key_facts::inspect(policy, runner, findings);
    audit(policy, &owners, findings);
    accounts(policy, runner, findings);
    if let Some(validation) = &policy.validation {
        validation_program(validation, &owners, findings);
    }
    floor_facts::inspect(policy, findings);
    jobs(policy, findings);
    limit_facts::inspect(policy, findings);
}

/// The owners whose files `nunbird-auth` trusts: root, and without privilege also the one user.
fn owners(policy: &Policy, runner: &str) -> Vec<u32> {
    match policy.downscope {
        Downscope::Setuid => vec![0],
        Downscope::Sudo => vec![0, crate::host::runner(policy, runner)],
        Downscope::None => vec![0, nix::unistd::getuid().as_raw()],
    }
}

/// Has a trusted owner and is writable by no other account, including every directory above.
pub(crate) fn trusted(file: &Path, code: &'static str, owners: &[u32], findings: &mut Vec<Finding>) {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    for (index, path) in whole.ancestors().enumerate() {
        let shown = path.display();
        let mut find =
            |what: &str, help: &str| findings.push(Finding::error(code, format!("{shown}: {what}"), help));
        match path.symlink_metadata() {
            Err(e) => {
                findings.push(Finding::unseen(code, path, &e, "create it, owned by root and readable"));
                return;
            }
            Ok(meta) if meta.is_symlink() => {
                find("a symbolic link, which nunbird-auth refuses", "name the file itself");
            }
            Ok(meta) if index == 0 && !meta.is_file() => find("not a regular file", "name a file"),
            Ok(meta) => {
                owner_and_mode(&meta, owners, &mut find);
                if index == 1 {
                    shared(&meta, &mut find);
                }
            }
        }
    }
}

/// A runner that is not root may name the default configuration, or one that root has listed.
fn listed(file: &Path, findings: &mut Vec<Finding>) {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    if file == Path::new(DEFAULT_CONFIGURATION) {
        return;
    }
    let list = match std::fs::read_to_string(CONFIGURATIONS) {
        Ok(list) => list,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => {
            let help = "make it a text of UTF-8 that every account can read";
            findings.push(Finding::unseen("not-listed", Path::new(CONFIGURATIONS), &e, help));
            return;
        }
    };
    if !list.lines().any(|line| nunbird_policy::listed(line).0 == file) {
        let message = format!(
            "{} is not listed in {CONFIGURATIONS}, so only a root runner can name it",
            file.display()
        );
        let help = format!("echo {} >> {CONFIGURATIONS}", file.display());
        findings.push(Finding::remark("not-listed", message, help));
    }
    for (index, line) in list.lines().enumerate() {
        let other = nunbird_policy::listed(line).0;
        let missing = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
        if !line.trim().is_empty() && other.metadata().as_ref().is_err_and(missing) {
            let message = format!("there is no file {}", Untrusted(&other.to_string_lossy()));
            let help = "write `FILE`, or `FILE URL` for a file of Jacamar CI's that names no server";
            let place = format!("{CONFIGURATIONS}:{}", index + 1);
            findings.push(Finding::remark("not-listed", message, help).at(place));
        }
    }
}

fn private(directory: &Path, findings: &mut Vec<Finding>) {
    let shown = directory.display();
    let help = format!("install -d -o root -g root -m 0700 {shown}");
    match directory.symlink_metadata() {
        Err(e) => findings.push(Finding::unseen("directory", directory, &e, &help)),
        Ok(meta) if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o077 != 0 => {
            let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
            let what =
                format!("{shown}: owned by uid {uid}, mode {mode:04o}, and not root's private directory");
            findings.push(Finding::error("directory", what, help));
        }
        Ok(_) => {}
    }
}

fn audit(policy: &Policy, owners: &[u32], findings: &mut Vec<Finding>) {
    let audit = &policy.audit;
    let mut find = |what: String, help: String| {
        findings.push(if audit.required {
            Finding::error("audit", format!("{what}, so no job runs"), help)
        } else {
            Finding::remark("audit", what, help)
        });
    };
    let parent = audit.file.as_deref().and_then(Path::parent);
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let help = format!("install -d -o root -m 0750 {}", parent.display());
        find(format!("{}: no such directory", parent.display()), help);
    }
    if audit.journald && !Path::new("/run/systemd/journal/socket").exists() {
        let help = "start systemd-journald, or set audit.journald = false".to_owned();
        find("/run/systemd/journal/socket: journald does not listen".to_owned(), help);
    }
    if audit.syslog == Some(Syslog::Local) && !Path::new("/dev/log").exists() {
        find("/dev/log: no syslog daemon listens".to_owned(), "start one, or remove audit.syslog".to_owned());
    }
    // A file that others may write is no evidence. A missing file is created by the first event.
    let file = audit.file.as_deref().filter(|file| file.symlink_metadata().is_ok());
    if let Some(path) = file.or(parent.filter(|parent| parent.is_dir())) {
        let shown = path.display();
        let meta = path.metadata();
        let mut find =
            |what: &str, help: &str| findings.push(Finding::error("audit", format!("{shown}: {what}"), help));
        if let Ok(meta) = meta {
            owner_and_mode(&meta, owners, &mut find);
        }
    }
}

/// The accounts and groups that the configuration names.
fn accounts(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    let host = crate::host::ThisHost::default();
    let caller = crate::host::runner(policy, runner);
    let mut seen = BTreeSet::new();
    for rule in &policy.rules {
        if let RuleOutcome::RunAs(RunAs::Account(name)) = &rule.outcome
            && seen.insert(name)
        {
            let trouble = match check(policy, name, &host, caller) {
                Ok(Ok(_)) => continue,
                Ok(Err(violation)) => violation.to_string(),
                Err(trouble) => trouble.detail,
            };
            let message =
                format!("rule `{}` runs jobs as `{name}`, which may not run jobs: {trouble}", rule.name);
            findings.push(
                Finding::error("account", message, "create the account, or name another")
                    .at(rule.place.to_string()),
            );
        }
    }
    // A group that keeps jobs out must exist: without it every job that reaches the rule is denied.
    let mut groups: BTreeMap<&String, bool> =
        policy.accounts.deny_groups.iter().map(|group| (group, true)).collect();
    for rule in &policy.rules {
        let denies = matches!(rule.outcome, RuleOutcome::Deny(_));
        let when = rule.conditions.iter().map(|condition| (condition, denies));
        for (condition, needed) in when.chain(rule.exceptions.iter().map(|condition| (condition, true))) {
            if let Condition::Local(Local::Group(names)) = condition {
                names.iter().for_each(|name| *groups.entry(name).or_default() |= needed);
            }
        }
    }
    for (group, denies) in groups {
        if nunbird_accounts::users::group_by_name(group).ok().flatten().is_some() {
            continue;
        }
        let help = "check the spelling, or the name service";
        findings.push(if denies {
            Finding::error(
                "group",
                format!("this host has no group `{group}`, which keeps jobs out: all of them are denied"),
                help,
            )
        } else {
            Finding::remark("group", format!("this host has no group `{group}`, so it has no members"), help)
        });
    }
    if policy.downscope != Downscope::None
        && nunbird_accounts::users::by_name(runner).ok().flatten().is_none()
    {
        findings.push(Finding::remark(
            "runner-user",
            format!("this host has no account `{runner}` that could run gitlab-runner"),
            "name the account that does with --runner-user",
        ));
    }
}

fn validation_program(validation: &Validation, owners: &[u32], findings: &mut Vec<Finding>) {
    trusted(&validation.script, "validation", owners, findings);
    let shown = validation.script.display();
    let mut error = |what: String, help: &str| findings.push(Finding::error("validation", what, help));
    if let Some(wanted) = &validation.sha256 {
        match crate::files::at_most(&validation.script, MAX_PROGRAM) {
            Ok(bytes) => {
                let found: String =
                    digest(&SHA256, &bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect();
                if *wanted != found {
                    let what = format!("{shown}: its SHA-256 is {found}, so every job is denied");
                    error(what, "inspect the program, then set validation.sha256");
                }
            }
            // That it is missing, or may not be seen, is said above.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
            Err(e) => error(
                format!("{shown}: its SHA-256 is unknown: {e}"),
                "replace it by a regular file of at most 16 MiB",
            ),
        }
    }
    if validation.script.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 == 0) {
        error(format!("{shown}: not executable, so every job is denied"), "chmod +x");
    }
    if nunbird_accounts::users::by_name(&validation.user).ok().flatten().is_none() {
        let what = format!("this host has no account `{}`, so every job is denied", validation.user);
        error(what, "set validation.user to an account of this host");
    }
}

/// What jobs need: their shell, and the parent of their directories.
fn jobs(policy: &Policy, findings: &mut Vec<Finding>) {
    let plain = std::iter::once((&policy.job, &policy.directories));
    let profiles = policy.profiles.values().map(|profile| (&profile.job, &profile.directories));
    let mut shells = BTreeSet::new();
    let mut parents = BTreeSet::new();
    for (job, directories) in plain.chain(profiles) {
        shells.insert(job.shell.clone());
        parents.extend(fixed_part(&directories.data_dir));
    }
    for shell in shells {
        let shown = shell.display();
        match shell.metadata() {
            Err(e) => findings.push(Finding::unseen("shell", &shell, &e, "install it, or set job.shell")),
            Ok(meta) if !meta.is_file() || meta.mode() & 0o111 == 0 => {
                findings.push(Finding::error("shell", format!("{shown}: not executable"), "set job.shell"));
            }
            Ok(_) => {}
        }
    }
    for parent in parents.iter().filter(|parent| !parent.is_dir()) {
        findings.push(Finding::error(
            "data-dir",
            format!("{}: no such directory, so jobs cannot create theirs", parent.display()),
            "create or mount it, or set directories.data_dir",
        ));
    }
}

/// The directory above the first part of `data_dir` that depends on the account; `None` if that is
/// its home.
fn fixed_part(data_dir: &str) -> Option<PathBuf> {
    let fixed = data_dir.split('$').next().unwrap_or("");
    let directory = fixed.rsplit_once('/').map(|(directory, _)| directory)?;
    (!directory.is_empty()).then(|| PathBuf::from(directory))
}

#[cfg(test)]
mod tests {
    use super::fixed_part;
    use std::path::Path;

    #[test]
    fn the_fixed_part_of_a_data_directory_ends_before_the_account() {
        assert_eq!(fixed_part("/scratch/$USER/ci").as_deref(), Some(Path::new("/scratch")));
        assert_eq!(fixed_part("/work/ci-$USER").as_deref(), Some(Path::new("/work")));
        assert_eq!(fixed_part("$HOME/.nunbird"), None);
        assert_eq!(fixed_part("/$USER"), None);
    }
}
