//! What the configuration needs of this host, looked at from outside.

use aws_lc_rs::digest::{SHA256, digest};
use nunbird_handover::Untrusted;
use nunbird_policy::{
    Condition, DEFAULT_CONFIGURATION, Downscope, Outcome, Policy, RunAs, Syslog, Validation, check,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One finding about a policy or the host.
pub(crate) struct Finding {
    error: bool,
    code: &'static str,
    message: String,
    place: Option<String>,
    help: String,
}

impl Finding {
    /// Jobs will fail, or run otherwise than is written.
    pub(crate) fn error(code: &'static str, message: String, help: String) -> Self {
        Finding { error: true, code, message, place: None, help }
    }

    /// Worth a look.
    pub(crate) fn remark(code: &'static str, message: String, help: String) -> Self {
        Finding { error: false, code, message, place: None, help }
    }

    pub(crate) fn at(self, place: String) -> Self {
        Finding { place: Some(place), ..self }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.error
    }

    pub(crate) fn machine(&self) -> Value {
        json!({
            "severity": if self.error { "error" } else { "remark" },
            "code": self.code,
            "message": self.message,
            "place": self.place,
            "help": self.help,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.error { "error" } else { "remark" };
        write!(f, "{kind}[{}]: {}", self.code, Untrusted(&self.message))?;
        if let Some(place) = &self.place {
            write!(f, "\n --> {}", Untrusted(place))?;
        }
        write!(f, "\n  = help: {}", Untrusted(&self.help))
    }
}

/// Keys older than this were missed by the timer several times.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Looks at files, programs, keys, accounts and places for audit events.
pub(crate) fn look(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    let mut files = vec![policy.file.clone()];
    files.extend(crate::files::more(&policy.file).unwrap_or_default());
    for file in &files {
        trusted(file, "configuration", findings);
    }
    let setuid = policy.downscope == Downscope::Setuid;
    if setuid {
        listed(&policy.file, findings);
        private(Path::new("/var/lib/nunbird/jobs"), findings);
    }
    programs(policy, setuid, findings);
    for map in policy.maps.values() {
        trusted(&map.file, "map", findings);
    }
    for server in &policy.gitlab {
        keys(&policy.keys_dir.join(format!("{}.json", server.name)), findings);
    }
    audit(policy, findings);
    accounts(policy, runner, findings);
    if let Some(validation) = &policy.validation {
        validation_program(validation, findings);
    }
}

/// Root's, and writable by nobody else, with every directory above.
fn trusted(file: &Path, code: &'static str, findings: &mut Vec<Finding>) {
    for (index, path) in file.ancestors().enumerate() {
        if path.as_os_str().is_empty() {
            return;
        }
        let shown = path.display();
        let mut find = |what: String, help: &str| {
            findings.push(Finding::error(code, format!("{shown}: {what}"), help.to_owned()));
        };
        match path.symlink_metadata() {
            Err(e) => {
                find(e.to_string(), "write it, root's and readable");
                return;
            }
            Ok(meta) if meta.is_symlink() => {
                find("a symbolic link, which nunbird-auth refuses".to_owned(), "name the file itself");
            }
            Ok(meta) if index == 0 && !meta.is_file() => find("not a regular file".to_owned(), "name a file"),
            Ok(meta) => owner_and_mode(&meta, &mut find),
        }
    }
}

fn owner_and_mode(meta: &Metadata, find: &mut impl FnMut(String, &str)) {
    if meta.uid() != 0 {
        find(format!("owned by uid {}", meta.uid()), "chown root");
    }
    // A sticky directory such as /tmp lets others add, not replace.
    if meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0) {
        find(format!("writable by others (mode {:04o})", meta.mode() & 0o7777), "chmod go-w");
    }
}

/// A runner that is not root may name the default configuration, or one that root has listed.
fn listed(file: &Path, findings: &mut Vec<Finding>) {
    const LIST: &str = "/etc/nunbird/configurations";
    if file == Path::new(DEFAULT_CONFIGURATION) {
        return;
    }
    let list = std::fs::read_to_string(LIST).unwrap_or_default();
    if !list.lines().any(|line| Path::new(line.trim()) == file) {
        findings.push(Finding::remark(
            "not-listed",
            format!("{} is not listed in {LIST}, so only a root runner can name it", file.display()),
            format!("echo {} >> {LIST}", file.display()),
        ));
    }
}

fn programs(policy: &Policy, setuid: bool, findings: &mut Vec<Finding>) {
    let launcher = &policy.job.launcher;
    let auth: PathBuf = launcher.with_file_name("nunbird-auth");
    for program in [launcher, &auth, &launcher.with_file_name("nunbird-keys")] {
        let shown = program.display();
        match program.metadata() {
            Err(e) => findings.push(Finding::error(
                "program",
                format!("{shown}: {e}"),
                "install the package".to_owned(),
            )),
            Ok(meta) => {
                let mut find = |what: String, help: &str| {
                    findings.push(Finding::error("program", format!("{shown}: {what}"), help.to_owned()));
                };
                owner_and_mode(&meta, &mut find);
            }
        }
    }
    if setuid && let Ok(meta) = auth.metadata() {
        privilege(&auth, &meta, findings);
    }
}

/// `cap_setgid` is 6 and `cap_setuid` is 7 (linux/capability.h).
const SETUID_AND_SETGID: u64 = (1 << 6) | (1 << 7);

fn privilege(auth: &Path, meta: &Metadata, findings: &mut Vec<Finding>) {
    let shown = auth.display();
    let capabilities = file_capabilities(auth);
    let setuid_bit = meta.mode() & 0o4000 != 0;
    let mut error = |what: String, help: &str| {
        findings.push(Finding::error("privilege", format!("{shown}: {what}"), help.to_owned()));
    };
    match capabilities {
        Some(set) if set != SETUID_AND_SETGID => {
            error(
                format!("has the file capabilities {set:#x}"),
                "setcap cap_setuid,cap_setgid=p: it needs these two and no other",
            );
        }
        Some(_) if setuid_bit => {
            error("has both a setuid bit and file capabilities".to_owned(), "chmod u-s, or setcap -r");
        }
        _ => {}
    }
    let privileged = setuid_bit || capabilities.is_some();
    if privileged && meta.mode() & 0o001 != 0 {
        error(
            "has privilege and can be executed by everybody".to_owned(),
            "chown root:<the runner's group> and chmod o-rwx",
        );
    }
    if privileged && meta.gid() == 0 {
        error(
            "belongs to group 0, so no runner can execute it".to_owned(),
            "chgrp to the group of the runner's account",
        );
    }
    if !privileged {
        findings.push(Finding::remark(
            "privilege",
            format!("{shown}: neither a setuid bit nor file capabilities, so only a root runner's jobs run"),
            "chmod 4750, or setcap cap_setuid,cap_setgid=p, unless gitlab-runner runs as root".to_owned(),
        ));
    }
    let nosuid =
        nix::sys::statvfs::statvfs(auth).map(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID));
    if privileged && nosuid == Ok(true) {
        findings.push(Finding::error(
            "nosuid",
            format!("{shown}: its file system is mounted nosuid, so its privilege has no effect"),
            "install it on another file system, or mount this one with suid".to_owned(),
        ));
    }
}

/// The permitted set of the file's capabilities (`struct vfs_cap_data`, linux/capability.h).
fn file_capabilities(file: &Path) -> Option<u64> {
    let bytes = xattr::get(file, "security.capability").ok()??;
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (low, high) = (word(4)?, word(12).unwrap_or(0));
    Some(u64::from(low) | (u64::from(high) << 32))
}

fn keys(file: &Path, findings: &mut Vec<Finding>) {
    let shown = file.display();
    match file.metadata().and_then(|meta| meta.modified()) {
        Err(e) => {
            findings.push(Finding::error("keys", format!("{shown}: {e}"), "nunbird-keys refresh".to_owned()));
        }
        Ok(modified) => {
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age > STALE {
                findings.push(Finding::remark(
                    "keys",
                    format!("{shown}: fetched {} hours ago", age.as_secs() / 3600),
                    "systemctl status nunbird-keys.timer; pinned keys may be older".to_owned(),
                ));
            }
        }
    }
}

fn private(directory: &Path, findings: &mut Vec<Finding>) {
    let shown = directory.display();
    let help = || format!("install -d -o root -g root -m 0700 {shown}");
    match directory.metadata() {
        Err(e) => findings.push(Finding::error("directory", format!("{shown}: {e}"), help())),
        Ok(meta) if meta.uid() != 0 || meta.mode() & 0o077 != 0 => findings.push(Finding::error(
            "directory",
            format!("{shown}: owned by uid {}, mode {:04o}", meta.uid(), meta.mode() & 0o7777),
            help(),
        )),
        Ok(_) => {}
    }
}

fn audit(policy: &Policy, findings: &mut Vec<Finding>) {
    let audit = &policy.audit;
    let mut find = |what: String, help: String| {
        findings.push(if audit.required {
            Finding::error("audit", format!("{what}, so no job runs"), help)
        } else {
            Finding::remark("audit", what, help)
        });
    };
    if let Some(parent) = audit.file.as_deref().and_then(Path::parent)
        && !parent.is_dir()
    {
        find(
            format!("{}: no such directory", parent.display()),
            format!("install -d -o root -m 0755 {}", parent.display()),
        );
    }
    if audit.journald && !Path::new("/run/systemd/journal/socket").exists() {
        find(
            "/run/systemd/journal/socket: journald does not listen".to_owned(),
            "audit.journald = false".to_owned(),
        );
    }
    if audit.syslog == Some(Syslog::Local) && !Path::new("/dev/log").exists() {
        find("/dev/log: no syslog daemon listens".to_owned(), "start one, or remove audit.syslog".to_owned());
    }
}

/// The accounts and groups that rules name.
fn accounts(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    let host = crate::host::ThisHost::default();
    let caller = crate::host::runner(policy, runner);
    let mut seen = BTreeSet::new();
    for rule in &policy.rules {
        if let Outcome::RunAs(RunAs::Account(name)) = &rule.outcome
            && seen.insert(name)
        {
            let trouble = match check(policy, name, &host, caller) {
                Ok(Ok(_)) => continue,
                Ok(Err(violation)) => violation.to_string(),
                Err(trouble) => trouble.detail,
            };
            let message =
                format!("rule `{}` runs jobs as `{name}`, which no job may become: {trouble}", rule.name);
            let help = "make the account, or name another".to_owned();
            findings.push(Finding::error("account", message, help).at(rule.place.to_string()));
        }
    }
    let named =
        policy.rules.iter().flat_map(|rule| &rule.conditions).filter_map(|condition| match condition {
            Condition::LocalGroup(groups) => Some(groups),
            _ => None,
        });
    let groups: BTreeSet<&String> = named.flatten().chain(&policy.accounts.deny_groups).collect();
    for group in groups {
        if nunbird_sys::users::group_by_name(group).ok().flatten().is_none() {
            findings.push(Finding::remark(
                "group",
                format!("this host has no group `{group}`, so nobody is a member"),
                "check the spelling, or the name service".to_owned(),
            ));
        }
    }
}

fn validation_program(validation: &Validation, findings: &mut Vec<Finding>) {
    trusted(&validation.script, "validation", findings);
    let shown = validation.script.display();
    if let (Some(wanted), Ok(bytes)) = (&validation.sha256, std::fs::read(&validation.script)) {
        let found: String = digest(&SHA256, &bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        if *wanted != found {
            findings.push(Finding::error(
                "validation",
                format!("{shown}: its SHA-256 is {found}, so every job is denied"),
                "look at the program, then set validation.sha256".to_owned(),
            ));
        }
    }
    if nunbird_sys::users::by_name(&validation.user).ok().flatten().is_none() {
        findings.push(Finding::error(
            "validation",
            format!("this host has no account `{}`, so every job is denied", validation.user),
            "set validation.user to an account of this host".to_owned(),
        ));
    }
}
