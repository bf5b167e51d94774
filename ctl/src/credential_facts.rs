//! The site's passwords for registries: the programs that have them, who could read or change what is kept of them, and whether jobs could
//! use it now.

use crate::credentials::{MAKE, is_kept, is_listed};
use crate::files;
use crate::finding::Finding;
use crate::host_facts::trusted;
use crate::output::Format;
use nunbird_handover::Untrusted;
use nunbird_judge::registries::repositories_of_a_job;
use nunbird_judge::site_credentials::{StoredCredential, file_name};
use nunbird_policy::{
    CONFIGURATIONS, CREDENTIALS_DIR, DEFAULT_CONFIGURATION, Downscope, Policy, SiteCredential,
};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

const CODE: &str = "credential";
/// With an image and some services, a job pulls from so many repositories.
const FEW: usize = 6;
/// The command that asks the programs.
const REFRESH: &str =
    "systemctl enable --now nunbird-credentials.timer && systemctl start nunbird-credentials.service";

pub(crate) fn inspect(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    without_table(policy, findings);
    if policy.credentials.is_empty() {
        return;
    }
    if policy.downscope == Downscope::Setuid && !files::is_stdin(&policy.file) && !is_listed(&policy.file) {
        let file = policy.file.display();
        let what = format!(
            "{file}: neither {DEFAULT_CONFIGURATION} nor a line of {CONFIGURATIONS}, so nunbird-credentials.timer asks for none of its passwords, and \
             jobs use what `nunbirdctl credentials refresh --configuration` has kept of them until it is `max_age` old"
        );
        findings.push(Finding::error(CODE, what, format!("echo {file} >> {CONFIGURATIONS}")));
    }
    let owner = directory(policy, runner, findings);
    let Ok(now) = nunbird_sys::clock::now() else { return };
    for of in policy.credentials.values() {
        program(of, findings);
        file(of, owner, now, findings);
    }
}

/// What is kept for a table that no configuration of this host has is a secret which nothing needs.
fn without_table(policy: &Policy, findings: &mut Vec<Finding>) {
    let Ok(entries) = std::fs::read_dir(CREDENTIALS_DIR) else { return };
    let mut known: BTreeSet<String> = policy.credentials.values().map(file_name).collect();
    let all = match files::configurations(Path::new(DEFAULT_CONFIGURATION)) {
        Ok(all) => all,
        // A finding of its own says so.
        Err(_) => return,
    };
    for path in all {
        match files::read(&path, Format::Text) {
            Ok(read) => known.extend(read.policy.credentials.values().map(file_name)),
            Err(_) if path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound) => {}
            // It may have the table.
            Err(_) => return,
        }
    }
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.iter().filter(|name| is_kept(name) && !known.contains(*name)) {
        if let Some(file) = unlisted(name) {
            let (name, file) = (Untrusted(name), Untrusted(&file));
            let what = format!(
                "{CREDENTIALS_DIR}/{name}: kept for {file}, which is in no list, so nunbird-credentials.timer asks for no newer one"
            );
            let help = format!(
                "if a runner has that file as `--configuration`, write its path into {CONFIGURATIONS}; if not, remove the password"
            );
            findings.push(Finding::remark(CODE, what, help));
            continue;
        }
        let what = format!(
            "{CREDENTIALS_DIR}/{}: no configuration has a [credential.NAME] for this password",
            Untrusted(name)
        );
        findings.push(Finding::error(
            CODE,
            what,
            "systemctl start nunbird-credentials.service, which removes it",
        ));
    }
}

/// The configuration for which it is kept where the timer does not read that one. This process may be root's, so it does not read what that account
/// names: whether the table is there still is the affair of a refresh.
fn unlisted(name: &str) -> Option<String> {
    let bytes = files::of_others(&Path::new(CREDENTIALS_DIR).join(name)).map(Zeroizing::new).ok()?;
    Some(StoredCredential::read(&bytes).ok()?.unlisted.as_ref()?.display().to_string())
}

/// Gives its owner.
fn directory(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) -> Option<u32> {
    let path = Path::new(CREDENTIALS_DIR);
    let shown = path.display();
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) => {
            findings.push(Finding::unseen(CODE, path, &e, MAKE));
            return None;
        }
    };
    let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let mut find = |what: String| findings.push(Finding::error(CODE, format!("{shown}: {what}"), MAKE));
    if !meta.is_dir() {
        find("not a directory".to_owned());
    }
    if mode & 0o027 != 0 {
        find(format!("others can read or change the site's passwords (mode {mode:04o})"));
    }
    if policy.downscope == Downscope::Setuid && gid != 0 {
        find(format!("its group is {gid}; root's has to be that of all files in it"));
    }
    if policy.downscope == Downscope::Setuid && uid != 0 && uid == crate::host::runner(policy, runner) {
        find(format!("belongs to `{runner}`, which runs gitlab-runner, and nunbird-auth refuses it"));
    }
    if uid != 0 && policy.keys_dir.metadata().is_ok_and(|keys| keys.uid() == uid) {
        find(
            "belongs to the account that keeps the signing keys, which its programs could replace".to_owned(),
        );
    }
    // What nunbird-auth compares with; a floor that cannot be read has a finding of its own.
    if let Ok(floor) = crate::floor_facts::floor()
        && uid >= floor.min_uid()
    {
        let min = floor.min_uid();
        find(format!("belongs to uid {uid}, which is an account that jobs may have (min_uid {min})"));
    }
    Some(uid)
}

fn program(of: &SiteCredential, findings: &mut Vec<Finding>) {
    trusted(&of.helper, CODE, &[0], findings);
    if of.helper.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 == 0) {
        findings.push(Finding::error(CODE, format!("{}: not executable", of.helper.display()), "chmod +x"));
    }
}

fn file(of: &SiteCredential, owner: Option<u32>, now: u64, findings: &mut Vec<Finding>) {
    let path = Path::new(CREDENTIALS_DIR).join(file_name(of));
    let shown = path.display();
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) => return findings.push(Finding::unseen(CODE, &path, &e, REFRESH).at(of.place.to_string())),
    };
    if !meta.is_file() {
        let what = format!("{shown}: not a regular file, so the jobs of its projects fail");
        return findings.push(Finding::error(CODE, what, "remove it, and look for what has put it there"));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o137 != 0 {
        let what =
            format!("{shown}: others can read or change the site's password (mode {mode:04o}, not 0640)");
        findings.push(Finding::error(
            CODE,
            what,
            "chmod 0640, and have the password replaced at the registry",
        ));
    }
    if meta.uid() != 0 && owner.is_some_and(|owner| owner != meta.uid()) {
        let what = format!("{shown}: owned by uid {}, and nunbird-auth refuses it", meta.uid());
        findings.push(Finding::error(CODE, what, REFRESH));
    }
    let why = match files::of_others(&path).map(Zeroizing::new) {
        Ok(bytes) => match StoredCredential::read(&bytes) {
            Ok(stored) => {
                let most = repositories_of_a_job(&stored.registry, &stored.user, &stored.secret);
                if most < FEW {
                    let what = format!(
                        "{shown}: so long that it fits into the message of a job for {most} repositories only; jobs with more images and services of \
                         this registry fail"
                    );
                    let help = "let its program give a shorter password or token";
                    findings.push(Finding::remark(CODE, what, help).at(of.place.to_string()));
                }
                stored.unusable(of, now)
            }
            Err(why) => Some(why),
        },
        Err(e) => return findings.push(Finding::unseen(CODE, &path, &e, REFRESH)),
    };
    if let Some(why) = why {
        let what = format!("{shown}: {}, so the jobs of its projects fail", Untrusted(&why));
        findings.push(Finding::error(CODE, what, REFRESH).at(of.place.to_string()));
    }
}
