//! gitlab-runner's own temporary files, which it removes itself unless it is killed: the directory
//! of a job (`custom-executor…`, with the job response and every secret in it) and a job's log
//! (`trace…`).

use super::records::JobRecord;
use super::use_of::InUse;
use super::{Action, Item, tree};
use crate::arguments::{DEFAULT_RUNNER, Sweep};
use crate::output::CtlError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::geteuid;
use nunbird_accounts::users::{self, UserEntry};
use nunbird_files::directory::Directory;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The account that runs gitlab-runner.
///
/// # Errors
/// If this process may not act for it. Root may, and finds no files of an account that does not
/// exist.
pub(super) fn runner(options: &Sweep) -> Result<Option<UserEntry>, CtlError> {
    let name = &options.runner.runner_user;
    let runner = users::by_name(name).map_err(CtlError::new)?;
    let own = geteuid().as_raw();
    if own != 0 && runner.as_ref().is_none_or(|runner| runner.uid != own) {
        return Err(CtlError::new(format!(
            "run this as root or as `{name}`, or name the runner's account with --runner-user"
        )));
    }
    Ok(runner)
}

/// The accounts whose temporary files are inspected: the named one, and for root also root, which
/// GitLab's own packages run gitlab-runner as, and every account whose runner has a job here.
///
/// # Errors
/// If the user database does not respond.
pub(super) fn runners(named: Option<&UserEntry>, records: &[JobRecord]) -> Result<Vec<UserEntry>, CtlError> {
    let mut runners: Vec<UserEntry> = named.cloned().into_iter().collect();
    if !geteuid().is_root() {
        return Ok(runners);
    }
    let of_records = records.iter().filter_map(|found| Some(found.record.as_ref()?.runner_uid));
    for uid in std::iter::once(0).chain(of_records) {
        if !runners.iter().any(|known| known.uid == uid) {
            runners.extend(users::by_uid(uid).map_err(CtlError::new)?);
        }
    }
    Ok(runners)
}

/// Searches each directory for temporary files and removes those that are old and not in use.
pub(super) fn sweep(
    options: &Sweep,
    runners: &[UserEntry],
    live: &InUse,
    now: u64,
) -> Result<Vec<Item>, CtlError> {
    let mut items = Vec::new();
    let name = &options.runner.runner_user;
    if name != DEFAULT_RUNNER && !runners.iter().any(|runner| runner.name == *name) {
        let reason = format!("there is no account `{name}`; name the runner's with --runner-user");
        let (kind, path, said) =
            ("job-directory", options.tmpdir.first().cloned().unwrap_or_default(), Vec::new());
        items.push(Item { kind, path, action: Action::Failed, reason, said });
    }
    for path in &options.tmpdir {
        for runner in runners {
            items.extend(in_directory(path, runner, options, live, now)?);
        }
    }
    Ok(items)
}

fn in_directory(
    path: &Path,
    runner: &UserEntry,
    options: &Sweep,
    live: &InUse,
    now: u64,
) -> Result<Vec<Item>, CtlError> {
    let failed = |e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", path.display()));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = match open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(failed(&e)),
    };
    let copy = directory.try_clone().map_err(|e| failed(&e))?;
    // gitlab-runner makes no names that are not UTF-8.
    let mut names = Directory::new(copy).text_names().map_err(|e| failed(&e))?;
    names.sort();
    let mut items = Vec::new();
    for name in names {
        let Some(kind) = kind(&name) else { continue };
        let Ok(stat) = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        // A link or another account's file with such a name is not the runner's.
        if stat.st_uid != runner.uid || stat.st_mode & libc::S_IFMT != format_of(kind) {
            continue;
        }
        let young = youngest(&directory, &name, &stat);
        let age = now.saturating_sub(u64::try_from(young).unwrap_or(0));
        let (action, reason) = if age < options.older_than {
            (Action::Kept, format!("changed {} minutes ago", age / 60))
        } else if let Some(why) = live.user_of(&stat, &name) {
            (Action::Kept, why)
        } else {
            let reason = format!("unused for {} hours", age / 3600);
            match options.dry_run {
                true => (Action::WouldRemove, reason),
                false => remove(&directory, &name, runner, reason),
            }
        };
        items.push(Item { kind, path: path.join(&name), action, reason, said: Vec::new() });
    }
    Ok(items)
}

/// As os.MkdirTemp and os.CreateTemp of Go name them: the prefix and a number.
fn kind(name: &str) -> Option<&'static str> {
    let number = |prefix: &str| {
        let digits = name.strip_prefix(prefix)?;
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(())
    };
    number("custom-executor").map(|()| "job-directory").or_else(|| number("trace").map(|()| "trace"))
}

fn format_of(kind: &str) -> libc::mode_t {
    if kind == "trace" { libc::S_IFREG } else { libc::S_IFDIR }
}

/// The time of the last change: each stage creates a directory for its script in a job's directory.
fn youngest(directory: &OwnedFd, name: &str, stat: &FileStat) -> i64 {
    let inside = tree::open_directory(directory, name).ok().map(Directory::new);
    let changed = inside.iter().flat_map(|inside| tree::changed(inside).unwrap_or_default());
    changed.chain([stat.st_mtime]).max().unwrap_or(stat.st_mtime)
}

/// As the runner, which cannot touch the files of other accounts.
fn remove(directory: &OwnedFd, name: &str, runner: &UserEntry, reason: String) -> (Action, String) {
    match tree::as_account((runner.uid, runner.gid), || tree::remove(directory, name, runner.uid)) {
        Ok(()) => (Action::Removed, reason),
        Err(e) => (Action::Failed, format!("{reason}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn only_names_that_the_runner_makes_are_looked_at() {
        assert_eq!(kind("custom-executor123456789"), Some("job-directory"));
        assert_eq!(kind("trace3141592653"), Some("trace"));
        for name in
            ["custom-executor", "trace", "trace-1", "traces1", "custom-executor12x", "xtrace1", "trace1.log"]
        {
            assert_eq!(kind(name), None, "{name}");
        }
    }
}
