//! Job records, and everything that their jobs left: processes, credentials, jobs of the scheduler,
//! old directories.

use super::{Action, Item, auth};
use crate::output::CtlError;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use nunbird_files::directory::Directory;
use nunbird_host::runner;
use nunbird_messages::{Now, Record};
use nunbird_sys::clock;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) const PRIVILEGED: &str = "/var/lib/nunbird/jobs";
pub(super) const UNPRIVILEGED: &str = ".local/state/nunbird/jobs";
pub(super) const MAX_RECORD: u64 = Record::MOST;
/// How the names of records end, those of Nunbird 0.1 last, which this version cannot read.
pub(super) const SUFFIXES: [&str; 2] = [Record::SUFFIX, ".json"];
/// A record that this version cannot read belongs to no running job after GitLab's longest timeout, in seconds.
pub(super) const LONGEST_JOB: u64 = 31 * 86_400;

/// A record, and whether its job has ended.
#[derive(Debug)]
pub(crate) struct JobRecord {
    directory: PathBuf,
    name: String,
    /// `None` for one that cannot be parsed.
    pub(crate) record: Option<Record>,
    /// Why it is removed, or else why it stays.
    pub(crate) over: Result<String, String>,
}

impl JobRecord {
    /// The name of its file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// The time by which records are judged.
pub(crate) fn now() -> Result<Now, CtlError> {
    let read = || {
        Ok::<_, std::io::Error>(Now {
            epoch: clock::now()?,
            boottime: clock::boottime()?,
            boot_id: clock::boot_id()?,
        })
    };
    read().map_err(|e| CtlError::new(format!("the clock: {e}")))
}

/// Every record that this account keeps.
pub(crate) fn read(now: &Now) -> Result<Vec<JobRecord>, CtlError> {
    let Some((path, directory)) = own()? else { return Ok(Vec::new()) };
    let mut names = directory.names().map_err(|e| CtlError::new(format!("{}: {e}", path.display())))?;
    names.retain(|name| SUFFIXES.iter().any(|end| name.ends_with(end)));
    names.sort();
    Ok(names.into_iter().map(|name| judge(&directory, &path, name, now)).collect())
}

/// The directory of the records that this account keeps; none where there is none.
pub(super) fn own() -> Result<Option<(PathBuf, Directory)>, CtlError> {
    let path = place()?;
    let failed = |e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", path.display()));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = match open(&path, flags, Mode::empty()) {
        Ok(fd) => Directory::new(fd),
        Err(Errno::ENOENT | Errno::EACCES) => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let (owner, ..) = directory.owner().map_err(|e| failed(&e))?;
    Ok((owner == geteuid().as_raw()).then_some((path, directory)))
}

fn place() -> Result<PathBuf, CtlError> {
    if geteuid().is_root() {
        return Ok(PathBuf::from(PRIVILEGED));
    }
    let user = nunbird_accounts::users::by_uid(geteuid().as_raw()).map_err(CtlError::new)?;
    Ok(user.map_or_else(PathBuf::new, |user| user.home.join(UNPRIVILEGED)))
}

fn judge(directory: &Directory, path: &Path, name: String, now: &Now) -> JobRecord {
    let read = directory.read(&name, MAX_RECORD).map_err(|e| e.to_string());
    let record = read.and_then(|(bytes, ..)| Record::parse(&bytes).map_err(|e| e.to_string()));
    let over = match &record {
        Ok(record) if !record.is_of_boot(now) => Ok("the host has restarted since".to_owned()),
        Ok(record) if record.is_over(now) => {
            let hours = now.epoch.saturating_sub(record.expires_at) / 3600;
            Ok(format!("the job's time was up {hours} hours ago"))
        }
        Ok(record) if record.is_abandoned(&name) => {
            Ok("its cleanup failed, and its directory now belongs to another job".to_owned())
        }
        Ok(record) => match runner::is_gone(record, now) {
            Ok(true) => Ok("the gitlab-runner that started it has ended".to_owned()),
            Ok(false) => Err("its job may still run".to_owned()),
            Err(e) => Err(format!("its job may still run; its runner cannot be checked: {e}")),
        },
        Err(why) => match age(&path.join(&name), now) {
            Some(age) if age > LONGEST_JOB => {
                Ok(format!("it cannot be read ({why}), and no job lasts this long"))
            }
            _ => Err(format!("it cannot be read ({why})")),
        },
    };
    JobRecord { directory: path.to_owned(), name, record: record.ok(), over }
}

pub(super) fn age(file: &Path, now: &Now) -> Option<u64> {
    let changed = file.symlink_metadata().ok()?.modified().ok()?;
    let changed = changed.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(now.epoch.saturating_sub(changed))
}

/// Cleans up after every ended job. Accounts with a job whose cleanup failed come last: a user can
/// stop the cleanup of each of their jobs until its time is up, and others must not wait for that.
pub(super) fn sweep_all(records: Vec<JobRecord>, dry_run: bool) -> Progress {
    let mut progress = Progress::default();
    for found in records {
        let account = found.record.as_ref().map(|record| record.account.name.clone());
        if account.as_ref().is_some_and(|account| progress.failing.contains(account)) {
            progress.put_off.push(found);
            continue;
        }
        let item = sweep(found, dry_run);
        if item.action == Action::Failed {
            progress.failing.extend(account);
        }
        progress.items.push(item);
    }
    progress
}

/// The results for the records.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The inspected items.
    pub(super) items: Vec<Item>,
    /// The items to inspect last.
    pub(super) put_off: Vec<JobRecord>,
    failing: BTreeSet<String>,
}

/// Cleans up after the job, as its user, and removes its record.
pub(super) fn sweep(found: JobRecord, dry_run: bool) -> Item {
    let path = found.path();
    let whose = found
        .record
        .as_ref()
        .map_or_else(String::new, |record| format!("job {} of {}: ", record.job_id, record.account.name));
    let item = |action, reason: &str, said| Item {
        kind: "record",
        path: path.clone(),
        action,
        reason: format!("{whose}{reason}"),
        said,
    };
    match (&found.over, &found.record) {
        (Err(why), _) => item(Action::Kept, why, Vec::new()),
        (Ok(why), _) if dry_run => item(Action::WouldRemove, why, Vec::new()),
        (Ok(why), None) => match std::fs::remove_file(&path) {
            Ok(()) => item(Action::Removed, why, Vec::new()),
            Err(e) => item(Action::Failed, why, vec![e.to_string()]),
        },
        (Ok(why), Some(_)) => {
            let (done, said) = auth(&["-u".as_ref(), "reap".as_ref(), found.name.as_ref()]);
            let gone = path.symlink_metadata().is_err();
            let action = if done || gone { Action::Removed } else { Action::Failed };
            item(action, why, said)
        }
    }
}
