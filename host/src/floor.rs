//! What no decision can override: who never runs a job here, whatever the configuration has.
//!
//! `/etc/nunbird/floor` is root's, and read here, line by line, so that it holds for a decider that was taken over as well. A host without it has
//! the floor that is built in.

use crate::files;
use crate::refusal::{Code, Refusal};
use crate::rights::Rights;
use crate::system::System;
use nunbird_accounts::users::{self, UserEntry};
use nunbird_files::identity::Caller;
use nunbird_files::trusted::Distrust;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whose owner fetches keys.
const KEYS: &str = "/var/lib/nunbird/keys";
const FILE: &str = "/etc/nunbird/floor";
/// The least uid of a host whose file does not set it: `UID_MIN` of login.defs(5).
const MIN_UID: u32 = 1000;
/// The overflow ids: files of unmapped users and of NFS's nobody.
const OVERFLOW: [u32; 2] = [65533, 65534];
/// The account that fetches keys. The package makes it.
const SYSTEM_ACCOUNT: &str = "nunbird";

/// The floor of this host.
#[derive(Debug, PartialEq, Eq)]
pub struct Floor {
    min_uid: u32,
    deny_groups: Vec<String>,
    validation_users: Vec<String>,
    homes: Vec<PathBuf>,
    audit_files: Vec<PathBuf>,
}

impl Floor {
    /// Reads the file.
    ///
    /// # Errors
    /// A system refusal for a file that is not root's alone, and for a line that is not understood.
    pub fn read(rights: Rights) -> Result<Self, Refusal> {
        if !rights.privileged {
            return Self::parse("").map_err(|(_, why)| unusable(&why));
        }
        let path = Path::new(FILE);
        let bytes = match files::read_bytes(path, rights) {
            Ok(bytes) => bytes,
            Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(unusable(&e)),
        };
        let text = String::from_utf8(bytes).map_err(|e| unusable(&format!("{FILE}: {e}")))?;
        Self::parse(&text).map_err(|(line, why)| unusable(&format!("{FILE}:{line}: {why}")))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut floor = Floor {
            min_uid: MIN_UID,
            deny_groups: Vec::new(),
            validation_users: Vec::new(),
            homes: Vec::new(),
            audit_files: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let refuse = |why: &str| (index + 1, why.to_owned());
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["min_uid", number] => {
                    let uid = number.parse().ok().filter(|uid| *uid > 0);
                    floor.min_uid = uid.ok_or_else(|| refuse("`min_uid` expects a uid above 0"))?;
                }
                ["deny_group", name] => floor.deny_groups.push((*name).to_owned()),
                ["audit_file", path] if path.starts_with('/') => {
                    floor.audit_files.push(PathBuf::from(path));
                }
                ["directories_in", path] if path.starts_with('/') => floor.homes.push(PathBuf::from(path)),
                ["validation_user", name] => floor.validation_users.push((*name).to_owned()),
                _ => {
                    let known = "expected `min_uid NUMBER`, or one of deny_group, validation_user, directories_in and audit_file with a name or path";
                    return Err(refuse(known));
                }
            }
        }
        Ok(floor)
    }

    /// What holds for every stage, also one that clears away for an account that is below the floor by now.
    ///
    /// # Errors
    /// A denial.
    pub fn check_ids(name: &str, account: &UserEntry, rights: Rights) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(denied(name, why));
        if account.name != name || account.name_of_uid.as_deref() != Some(name) {
            return refuse("the user database has another name for it");
        }
        if [account.uid, account.gid].iter().any(|id| *id == 0 || *id == u32::MAX)
            || OVERFLOW.contains(&account.uid)
        {
            return refuse("its uid or gid is never a user's");
        }
        if rights.privileged && (account.uid == rights.caller.uid || account.name == SYSTEM_ACCOUNT) {
            return refuse("it runs gitlab-runner or Nunbird itself");
        }
        if rights.privileged && account.groups.contains(&0) {
            return refuse("it is a member of group 0");
        }
        Ok(())
    }

    /// Whether jobs may run as this account. `name` is what was asked for.
    ///
    /// # Errors
    /// A denial; a system refusal where a group cannot be looked up, which is never taken for "no member".
    pub fn check(
        &self,
        name: &str,
        account: &UserEntry,
        rights: Rights,
        system: &impl System,
    ) -> Result<(), Refusal> {
        Self::check_ids(name, account, rights)?;
        if !rights.privileged {
            return Ok(());
        }
        let refuse = |why: &str| Err(denied(name, why));
        if account.uid < self.min_uid {
            return refuse(&format!("uid {} is below min_uid {}", account.uid, self.min_uid));
        }
        for group in &self.deny_groups {
            let failed = |why: &dyn std::fmt::Display| {
                let message = "this host does not know a group that its policy names";
                Refusal::system(Code::Group, message, format!("deny_group {group} of {FILE}: {why}"))
            };
            let entry = system.group(group).map_err(|e| failed(&e))?;
            let entry = entry.ok_or_else(|| failed(&"no such group"))?;
            if entry.has(&account.name, account.gid, &account.groups) {
                return refuse(&format!("a member of `{group}`"));
            }
        }
        Ok(())
    }

    /// The least uid of an account that may have jobs.
    pub fn min_uid(&self) -> u32 {
        self.min_uid
    }

    /// Whether `nunbird-keys` may run as these ids: the owner of the default keys directory, or an account that could have jobs.
    ///
    /// # Errors
    /// A sentence, where it may not or where that cannot be found out.
    pub fn may_fetch(&self, ids: Caller, rights: Rights, system: &impl System) -> Result<(), String> {
        let fetches = |found: std::fs::Metadata| found.uid() == ids.uid && found.gid() == ids.gid;
        if ids.uid != 0 && std::fs::symlink_metadata(KEYS).is_ok_and(fetches) {
            return Ok(());
        }
        let refuse =
            || format!("belongs to uid {} gid {}, as which nothing is run for Nunbird", ids.uid, ids.gid);
        let account = users::by_uid(ids.uid).map_err(|e| format!("looking up uid {}: {e}", ids.uid))?;
        let account = account.filter(|account| account.gid == ids.gid).ok_or_else(refuse)?;
        self.check(&account.name, &account, rights, system).map_err(|refusal| refusal.detail)
    }

    /// Whether the site's validation program may run as this account: one that could have jobs, or that the file names.
    pub fn may_validate(&self, account: &UserEntry, rights: Rights, system: &impl System) -> bool {
        self.validation_users.contains(&account.name)
            || self.check(&account.name, account, rights, system).is_ok()
    }

    /// Whether this may be a file of audit events although the floor does not name it: by its name, in no directory of configurations or of Nunbird's
    /// own.
    pub fn is_named_for_events(path: &Path) -> bool {
        let named = path.extension().is_some_and(|kind| kind == "jsonl");
        let kept = ["/etc", "/var/lib/nunbird", "/usr", "/opt/nunbird"];
        named && kept.iter().all(|kept| !path.starts_with(kept))
    }

    /// Whether this may be a file of audit events, by its name or because the file names it.
    pub fn is_of_events(&self, path: &Path) -> bool {
        Self::is_named_for_events(path) || self.audit_files.iter().any(|known| known == path)
    }

    /// Whether a directory of the account's own may be made with this path in one of root's: its last part is the account's name, or the file
    /// names the directory above it. A directory of a user's in another place could be read as the host's configuration.
    pub fn may_own(&self, path: &Path, account: &str) -> bool {
        let named = path.file_name().is_some_and(|name| name == account);
        named || path.parent().is_some_and(|parent| self.homes.iter().any(|home| home == parent))
    }
}

fn denied(name: &str, why: &str) -> Refusal {
    let message = "you have no account on this host that may run CI jobs";
    Refusal::denied(Code::Account, message, format!("account `{name}`: {why} ({FILE})"))
}

fn unusable(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::ConfigurationFile, "Nunbird's configuration on this host cannot be used", detail)
}

#[cfg(test)]
mod tests {
    use super::{Floor, MIN_UID};

    #[test]
    fn lines_raise_the_floor_and_anything_else_is_an_error_with_its_line() {
        let floor =
            Floor::parse("# ours\n\nmin_uid 500\ndeny_group wheel\nvalidation_user root\n").expect("a floor");
        assert_eq!(
            (floor.min_uid, floor.deny_groups, floor.validation_users),
            (500, vec!["wheel".to_owned()], vec!["root".to_owned()])
        );
        assert_eq!(Floor::parse("").expect("none").min_uid, MIN_UID);
        for (text, line) in [
            ("\nmin_uid", 2),
            ("min_uid 0", 1),
            ("min_uid -1", 1),
            ("deny_groups wheel", 1),
            ("min_uid 1 2", 1),
        ] {
            assert_eq!(Floor::parse(text).expect_err(text).0, line, "{text}");
        }
    }
}
