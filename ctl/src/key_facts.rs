//! The keys directory, and whether a token could be verified with its present contents.

use crate::finding::Finding;
use crate::owner::shared;
use crate::{keys, token};
use nix::unistd::{Group, Uid, User, getgrouplist};
use nunbird_policy::{Downscope, GitLabServer, IdentitySource, Policy};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Keys that the server published longer ago were missed by the hourly timer several times.
/// Seconds.
const STALE: u64 = 24 * 3600;

pub(crate) fn inspect(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    let owner = directory(policy, runner, findings);
    let Ok(now) = nunbird_sys::clock::now() else { return };
    for server in &policy.gitlab {
        one(policy, server, owner, now, findings);
        if let Some(file) = &server.ca_file {
            in_own_directory("ca-file", file, findings);
        }
        if let Some(file) = &server.ca_file
            && let Err(e) = crate::files::regular(file)
        {
            let help = format!("put the certificate authorities of {} there, readable", server.url);
            findings.push(Finding::unseen("ca-file", file, &e, &help));
        }
        if let Some(file) = &server.proxy_auth_file {
            // Who asks the server: the account of the timer, and, where nothing has privilege, the one that runs gitlab-runner for jobs.
            let mut readers: Vec<u32> = owner.into_iter().collect();
            if policy.downscope != Downscope::Setuid {
                readers.push(crate::host::runner(policy, runner));
            }
            proxy_auth(server, file, owner, &readers, findings);
        }
    }
}

/// The proxy's password: readable by `nunbird-keys`, which runs as these accounts, and by no account beside.
fn proxy_auth(
    server: &GitLabServer,
    file: &Path,
    owner: Option<u32>,
    readers: &[u32],
    findings: &mut Vec<Finding>,
) {
    const CODE: &str = "proxy-auth-file";
    in_own_directory(CODE, file, findings);
    let shown = file.display();
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(e) => {
            let help = format!("write `USER:PASSWORD` for the proxy of {} into it", server.url);
            return findings.push(Finding::unseen(CODE, file, &e, &help));
        }
    };
    let mode = meta.mode() & 0o7777;
    if mode & 0o027 != 0 {
        let what = format!("{shown}: others can read or change the proxy's password (mode {mode:04o})");
        findings.push(Finding::error(CODE, what, "chmod g-w,o-rwx"));
    }
    if meta.uid() != 0 && owner.is_some_and(|owner| owner != meta.uid()) {
        let what = format!("{shown}: owned by uid {}, and nunbird-keys refuses it", meta.uid());
        findings.push(Finding::error(CODE, what, "make root the owner (chown root)"));
    }
    for reader in readers {
        let Ok(Some(reader)) = User::from_uid(Uid::from_raw(*reader)) else { continue };
        let name = CString::new(reader.name.as_str()).unwrap_or_default();
        let groups = getgrouplist(&name, reader.gid).unwrap_or_else(|_| vec![reader.gid]);
        let readable = reader.uid.is_root()
            || (meta.uid() == reader.uid.as_raw() && mode & 0o400 != 0)
            || (groups.iter().any(|gid| gid.as_raw() == meta.gid()) && mode & 0o040 != 0);
        if !readable {
            let what = format!("{shown}: `{}`, which asks the server, cannot read it", reader.name);
            findings.push(Finding::error(CODE, what, readable_for(file, owner, &reader)));
        }
    }
}

/// How this account is given the file, by the group of the account that owns the keys directory.
fn readable_for(file: &Path, owner: Option<u32>, reader: &User) -> String {
    let owner = owner.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
    let gid = owner.as_ref().map_or(reader.gid, |owner| owner.gid);
    let group = Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
    let member = match owner {
        Some(owner) if owner.uid != reader.uid => format!("usermod -aG {group} {} && ", reader.name),
        _ => String::new(),
    };
    let shown = file.display();
    format!("{member}chown root:{group} {shown} && chmod 0640 {shown}")
}

/// The owner of the directory decides which keys it contains. Returns that uid.
fn directory(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) -> Option<u32> {
    let path = &policy.keys_dir;
    let shown = path.display();
    let help = format!("install -d -o nunbird -g nunbird -m 0755 {shown}");
    let meta = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            findings.push(Finding::error("keys", format!("{shown}: not a directory"), help));
            return None;
        }
        Err(e) => {
            findings.push(Finding::unseen("keys", path, &e, &help));
            return None;
        }
    };
    if meta.mode() & 0o022 != 0 {
        findings.push(Finding::error("keys", format!("{shown}: writable by others"), "chmod go-w"));
    }
    in_own_directory("keys", path, findings);
    if policy.downscope == Downscope::Setuid
        && meta.uid() != 0
        && meta.uid() == crate::host::runner(policy, runner)
    {
        let what =
            format!("{shown}: belongs to `{runner}`, which runs gitlab-runner and could write its own keys");
        findings.push(Finding::error("keys", what, "give it to a user of its own: chown nunbird"));
    }
    if policy.downscope == Downscope::Setuid && meta.uid() == 0 && asks_servers(policy) {
        let what =
            format!("{shown}: belongs to root, and no server is asked about jobs and their users as root");
        let help =
            "give it to a user of its own (chown nunbird), or set `user_check = \"off\"` for each server";
        findings.push(Finding::error("keys", what, help));
    }
    Some(meta.uid())
}

/// Whether some job is admitted only after its server has answered.
fn asks_servers(policy: &Policy) -> bool {
    policy.identity.sources.contains(&IdentitySource::JobToken)
        || policy
            .rules
            .iter()
            .any(|rule| policy.gitlab.iter().any(|server| policy.asks_about_user(rule, Some(server))))
}

/// Whether only root can have written what decides which keys are trusted.
fn in_own_directory(code: &'static str, path: &Path, findings: &mut Vec<Finding>) {
    if let Some(parent) = path.parent()
        && let Ok(meta) = parent.metadata()
    {
        let shown = parent.display();
        shared(&meta, &mut |what, help| {
            findings.push(Finding::error(code, format!("{shown}: {what}"), help));
        });
    }
}

fn one(policy: &Policy, server: &GitLabServer, owner: Option<u32>, now: u64, findings: &mut Vec<Finding>) {
    let path = policy.keys_dir.join(format!("{}.json", server.name));
    let shown = path.display();
    let refresh = keys::refresh_command(policy, Some(&server.name));
    match path.symlink_metadata() {
        Err(e) => return findings.push(Finding::unseen("keys", &path, &e, &refresh)),
        Ok(meta) => {
            let of_stranger = meta.uid() != 0 && owner.is_some_and(|owner| owner != meta.uid());
            if !meta.is_file() || of_stranger || meta.mode() & 0o022 != 0 {
                let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
                let what =
                    format!("{shown}: owned by uid {uid}, mode {mode:04o}, which nunbird-auth refuses");
                findings.push(Finding::error("keys", what, refresh.clone()));
            }
        }
    }
    let known = match token::stored(policy, server) {
        Ok(known) => known,
        Err(why) => return findings.push(Finding::error("keys", why, refresh)),
    };
    let used: Vec<_> = known.iter().filter(|key| keys::is_used(key, server, now)).collect();
    let newest = used.iter().map(|key| key.last_seen).max();
    match newest {
        None => {
            let what = format!("{shown}: none of its {} keys can be used", known.len());
            findings.push(Finding::error("keys", what, refresh));
        }
        Some(seen) if used.iter().all(|key| !key.pinned) && now.saturating_sub(seen) > STALE => {
            let hours = now.saturating_sub(seen) / 3600;
            findings.push(Finding::remark(
                "keys-old",
                format!("{shown}: the server was last seen {hours} hours ago"),
                "systemctl status nunbird-keys.timer",
            ));
        }
        Some(_) => {}
    }
}
