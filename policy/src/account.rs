//! Rules about local accounts that no policy can override.
//!
//! The names that GitLab sends are chosen by its users; the facts come from the system's user database.
//! Both must pass here before anything is done in an account's name.

use crate::Accounts;
use nunbird_handover::Untrusted;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the user database says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// The name that the database returned; some return another spelling than was asked for.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, with the primary one.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// The first name that the database has for this uid: another one means that two names share the uid.
    pub name_of_uid: Option<String>,
}

impl AccountFacts {
    /// Whether the group is among those that the database gives for the account.
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Why an account may not run jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Not a name in the portable form.
    Name,
    /// The name of an account of the system.
    System(String),
    /// The database returned another name, or the uid belongs to another name first.
    Alias(String),
    /// uid or gid 0, or an id that means "no id" to system calls.
    Id(u32),
    /// Below the site's `min_uid`.
    BelowMinimum(u32, u32),
    /// Above the site's `max_uid`.
    AboveMaximum(u32, u32),
    /// Denied by the site's list.
    Denied,
    /// A member of a group that the site denies.
    DeniedGroup(String),
    /// Not in the user database.
    Missing,
    /// The account that runs gitlab-runner.
    Runner,
    /// Not the account that runs gitlab-runner, whose uid this is, with `downscope = "none"`.
    NotTheRunner(u32),
    /// The shell does not let the account log in.
    Shell(PathBuf),
    /// The site does not list the shell.
    ShellNotListed(PathBuf),
    /// The home directory is no absolute path.
    Home,
    /// A supplementary group is root's.
    Group(u32),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Name => f.write_str(
                "not a portable login name (lower-case letters, digits, `_`, `.`, `-`; 1 to 32 characters)",
            ),
            Violation::System(name) => write!(f, "`{name}` belongs to the system"),
            Violation::Alias(other) => {
                write!(f, "the user database has it as `{}`", Untrusted(other))
            }
            Violation::Id(id) => write!(f, "id {id} is never a user's"),
            Violation::BelowMinimum(uid, min) => write!(f, "uid {uid} is below min_uid {min}"),
            Violation::AboveMaximum(uid, max) => write!(f, "uid {uid} is above max_uid {max}"),
            Violation::Denied => f.write_str("listed under accounts.deny"),
            Violation::DeniedGroup(name) => {
                write!(f, "a member of `{}`, listed under accounts.deny_groups", Untrusted(name))
            }
            Violation::Missing => f.write_str("not in the user database"),
            Violation::Runner => f.write_str("it is the account that runs gitlab-runner"),
            Violation::NotTheRunner(uid) => {
                write!(
                    f,
                    "this runner belongs to uid {uid} and serves no other account (downscope = \"none\")"
                )
            }
            Violation::Shell(shell) => {
                write!(f, "its login shell is {}", Untrusted(&shell.to_string_lossy()))
            }
            Violation::ShellNotListed(shell) => {
                let shell = shell.to_string_lossy();
                write!(f, "its login shell {} is not listed under accounts.shells", Untrusted(&shell))
            }
            Violation::Home => f.write_str("its home directory is not an absolute path"),
            Violation::Group(gid) => write!(f, "it is a member of group {gid}"),
        }
    }
}

/// Names of the system or of privilege on one distribution or another, whatever their uid.
const SYSTEM_NAMES: [&str; 14] = [
    "root",
    "toor",
    "bin",
    "daemon",
    "adm",
    "sync",
    "shutdown",
    "halt",
    "mail",
    "nobody",
    "nfsnobody",
    "nunbird",
    "gitlab-runner",
    "munge",
];

/// Checks the form of a login name before the user database sees it.
///
/// A name must not look like a number, for tools that take both; not like an option, for tools that read
/// one; not like a path. The form is that of systemd's "strict" mode (systemd.io/USER_NAMES), lower case
/// because some databases fold case and would answer for two spellings.
///
/// # Errors
/// [`Violation::Name`] or [`Violation::System`].
pub fn check_name(name: &str) -> Result<(), Violation> {
    let first = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    let mut bytes = name.bytes();
    if name.len() > 32 || !bytes.next().is_some_and(first) || !bytes.all(rest) || name.ends_with('.') {
        return Err(Violation::Name);
    }
    if SYSTEM_NAMES.contains(&name) || name.starts_with("systemd-") {
        return Err(Violation::System(name.to_owned()));
    }
    Ok(())
}

/// Whether a GitLab login is a bot's: project and group access tokens, service accounts, GitLab's own.
///
/// The names are those that GitLab gives (`project_<id>_bot…`, `group_<id>_bot…`, `service_account_…`);
/// a service account that was renamed cannot be distinguished from a person here.
pub(crate) fn is_bot(login: &str) -> bool {
    let numbered = |prefix: &str| {
        login.strip_prefix(prefix).is_some_and(|rest| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && rest.get(digits..).is_some_and(|tail| tail.starts_with("_bot"))
        })
    };
    numbered("project_")
        || numbered("group_")
        || login.starts_with("service_account_")
        || matches!(login, "ghost" | "support-bot" | "alert-bot" | "security-bot" | "automation-bot")
        || login.starts_with("gitlab-security-policy-bot")
}

/// Checks what the user database says about `requested`.
///
/// # Errors
/// The first rule that the account breaks.
pub fn check_account(requested: &str, facts: &AccountFacts, rules: &Accounts) -> Result<(), Violation> {
    check_name(requested)?;
    if facts.name != requested {
        return Err(Violation::Alias(facts.name.clone()));
    }
    // u32::MAX is -1: "leave this id alone" to setresuid(2) (CVE-2019-14287 in sudo).
    for id in [facts.uid, facts.gid] {
        if id == 0 || id == u32::MAX {
            return Err(Violation::Id(id));
        }
    }
    // 65534 is the overflow id: files of unmapped users and of NFS's nobody.
    if [65534, 65533].contains(&facts.uid) {
        return Err(Violation::Id(facts.uid));
    }
    if facts.uid < rules.min_uid {
        return Err(Violation::BelowMinimum(facts.uid, rules.min_uid));
    }
    if facts.uid > rules.max_uid {
        return Err(Violation::AboveMaximum(facts.uid, rules.max_uid));
    }
    if rules.deny.iter().any(|name| name == requested) {
        return Err(Violation::Denied);
    }
    match &facts.name_of_uid {
        Some(name) if name == requested => {}
        Some(other) => return Err(Violation::Alias(other.clone())),
        None => return Err(Violation::Alias("no name".to_owned())),
    }
    if facts.groups.contains(&0) {
        return Err(Violation::Group(0));
    }
    if !facts.home.is_absolute() {
        return Err(Violation::Home);
    }
    if !facts.shell.is_absolute() || refuses_login(&facts.shell) {
        return Err(Violation::Shell(facts.shell.clone()));
    }
    if !rules.shells.is_empty() && !rules.shells.contains(&facts.shell) {
        return Err(Violation::ShellNotListed(facts.shell.clone()));
    }
    Ok(())
}

/// Shells that exist to say no.
pub(crate) fn refuses_login(shell: &Path) -> bool {
    let name = shell.file_name().and_then(|n| n.to_str()).unwrap_or("");
    matches!(name, "" | "nologin" | "false" | "true" | "sync" | "halt" | "shutdown" | "git-shell")
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
