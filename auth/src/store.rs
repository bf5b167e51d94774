//! Where job records live between the stages of a job.
//!
//! `/var/lib/nunbird/jobs`, root's and nobody else's; for `downscope = "none"` the user's own
//! `~/.local/state/nunbird/jobs`. A record is found by who calls and by the runner's private directory of
//! the job, whose inode it names: gitlab-runner makes one for each attempt and no CI user can make one that
//! belongs to the runner's account.

use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal};
use nunbird_handover::{JobDirectory, Keep, Now, Record};
use nunbird_sys::directory::{Directory, Lock};
use nunbird_sys::foreign::{self, Caller};
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::trusted::open_trusted_directory;
use nunbird_sys::{clock, users};
use std::fmt::Display;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of a packaged installation. Not configurable: later stages must find it without the configuration.
const PRIVILEGED: &str = "/var/lib/nunbird/jobs";
/// Below the home directory, for `downscope = "none"`.
const UNPRIVILEGED: &str = ".local/state/nunbird/jobs";
/// The largest record, in bytes.
const MAX_RECORD: u64 = Record::MOST;
/// How long another job's `config` may hold the lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// gitlab-runner tries to prepare a job three times, each in a directory of its own, and cleans up in between.
const MAX_ADMISSIONS: usize = 4;
/// The most jobs that one account runs at once on a host.
const MAX_SLOTS: u16 = 1000;

/// Who wants a slot.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) job_directory: &'a JobDirectory,
    pub(crate) server: &'a str,
    pub(crate) job_id: u64,
    /// Of the account.
    pub(crate) uid: u32,
}

/// The records of this host.
#[derive(Debug)]
pub(crate) struct Store {
    directory: Directory,
    keeper: Caller,
    caller: Caller,
}

/// The socket of the process that keeps this job's PAM session, where one serves the whole job: among the records, which
/// nobody but root reaches.
pub(crate) fn session_socket(record: &Record) -> PathBuf {
    Keep::socket(Path::new(PRIVILEGED), &record.decision_id)
}

/// The file of this job's record, where root keeps it.
pub(crate) fn record_file(record: &Record) -> PathBuf {
    Path::new(PRIVILEGED).join(name(record.runner_uid, &record.job_directory))
}

/// Of the record's file.
fn name(runner: u32, job: &JobDirectory) -> String {
    format!("{runner}-{:x}-{:x}.json", job.device, job.inode)
}

/// The runner's private directory of the job that is served.
///
/// # Errors
/// A system refusal when the runner names none, or one that others can enter.
pub(crate) fn job_directory(path: Option<&Path>, privilege: Privilege) -> Result<JobDirectory, Refusal> {
    let refuse = |detail: &dyn Display| {
        let message = "nunbird-auth was not started by gitlab-runner's custom executor";
        Refusal::system(Code::JobDirectory, message, detail)
            .help("see the admin guide on config.toml of the runner")
    };
    let path = path.ok_or_else(|| refuse(&"JOB_RESPONSE_FILE is not set"))?;
    if !path.is_absolute() {
        return Err(refuse(&format!("JOB_RESPONSE_FILE lies in {}, which is not absolute", path.display())));
    }
    let id = foreign::private_directory(path, privilege.caller).map_err(|e| {
        refuse(&format!("{} is not a private directory of uid {}: {e}", path.display(), privilege.caller.uid))
    })?;
    Ok(JobDirectory { path: path.to_path_buf(), device: id.device, inode: id.inode })
}

impl Store {
    /// Opens the store.
    ///
    /// # Errors
    /// A system refusal when the directory is missing or somebody else could write in it.
    pub(crate) fn open(privilege: Privilege) -> Result<Self, Refusal> {
        let keeper = privilege.keeper();
        let refuse = |detail: &dyn Display| {
            Refusal::system(Code::RecordStore, "Nunbird's job records on this host cannot be used", detail)
        };
        let path = path(privilege).map_err(|e| refuse(&e))?;
        let identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| refuse(&e))?;
        let owners = privilege.trusted_owners();
        let fd = open_trusted_directory(&path, &owners)
            .map_err(|e| refuse(&format!("{e} (the package makes {PRIVILEGED}, mode 0700)")))?;
        drop(identity);
        let directory = Directory::new(fd);
        let (uid, _, mode) = directory.owner().map_err(|e| refuse(&e))?;
        if uid != keeper.uid || mode & 0o077 != 0 {
            let shown = path.display();
            return Err(refuse(&format!(
                "{shown}: owned by uid {uid}, mode {mode:04o}; it must be mode 0700"
            )));
        }
        Ok(Store { directory, keeper, caller: privilege.caller })
    }

    /// The record of this job, live or not.
    ///
    /// # Errors
    /// A refusal when there is none, or it is not of this runner and directory.
    pub(crate) fn find(&self, job: &JobDirectory) -> Result<Record, Refusal> {
        let none = |detail: &dyn Display| {
            Refusal::denied(Code::NoRecord, "this job was not admitted on this host", detail)
                .help("the cause stands in the job log where the job was prepared")
        };
        let name = self.name(job);
        let bytes = self
            .as_keeper(|d| d.read(&name, MAX_RECORD).map(|(bytes, ..)| bytes))
            .map_err(|e| none(&format!("record {name}: {e}")))?;
        let record = Record::from_bytes(&bytes).map_err(|e| none(&format!("record {name}: {e}")))?;
        // The path as well: a later directory may get an earlier one's numbers.
        let same = record.job_directory == *job;
        if !same || record.runner_uid != self.caller.uid {
            return Err(none(&format!("record {name} is of another runner or directory")));
        }
        Ok(record)
    }

    /// The record of this name, for the keeper of the records alone.
    ///
    /// # Errors
    /// A refusal for any other caller, and for a record that cannot be read.
    pub(crate) fn named(&self, name: &str) -> Result<Record, Refusal> {
        let refuse = |detail: &dyn Display| {
            Refusal::denied(Code::NoRecord, "this job is no job that can be cleaned up so", detail)
                .help("use nunbirdctl sweep, as root")
        };
        if self.caller.uid != self.keeper.uid {
            return Err(refuse(&format!("uid {} does not keep the records", self.caller.uid)));
        }
        let read = self.as_keeper(|d| d.read(name, MAX_RECORD).map(|(bytes, ..)| bytes));
        let bytes = read.map_err(|e| refuse(&format!("record {name}: {e}")))?;
        Record::from_bytes(&bytes).map_err(|e| refuse(&format!("record {name}: {e}")))
    }

    /// Removes a record by its name.
    pub(crate) fn remove_named(&self, name: &str, _lock: &Lock) -> Result<(), Refusal> {
        self.as_keeper(|d| d.remove(name)).map_err(|e| self.trouble("cannot be removed", &e))
    }

    /// Writes a record under its name.
    pub(crate) fn write_named(&self, name: &str, record: &Record, _lock: &Lock) -> Result<(), Refusal> {
        let bytes = record.to_bytes().map_err(|e| self.trouble("cannot be written", &io::Error::other(e)))?;
        self.as_keeper(|d| d.replace(name, &bytes)).map_err(|e| self.trouble("cannot be written", &e))
    }

    /// The name of this job's record.
    pub(crate) fn name_of(&self, job: &JobDirectory) -> String {
        self.name(job)
    }

    /// Whether a record may still serve a stage that runs something.
    ///
    /// # Errors
    /// A refusal when it is closed or its time is up.
    pub(crate) fn check_live(record: &Record) -> Result<(), Refusal> {
        let now = now()?;
        if record.is_live(&now) {
            return Ok(());
        }
        if !record.is_of_boot(&now) {
            let detail = format!("job {} was admitted before this boot, {}", record.job_id, now.boot_id);
            let message = "this host has restarted since the job began";
            return Err(Refusal::system(Code::HostRestarted, message, detail).help("run the job again"));
        }
        let detail = format!(
            "record of job {}: expires_at {}, closed {}, now {}",
            record.job_id, record.expires_at, record.closed, now.epoch
        );
        Err(Refusal::denied(
            Code::RecordExpired,
            "the time in which this job may run on this host is over",
            detail,
        )
        .help("raise the job's timeout in GitLab; the id token lives as long as the job may"))
    }

    /// Keeps others from admitting a job until the lock goes.
    pub(crate) fn lock(&self) -> Result<Lock, Refusal> {
        self.as_keeper(|d| d.lock(PATIENCE)).map_err(|e| self.trouble("cannot be locked", &e))
    }

    /// The least slot that no other job of this account holds. The caller holds the lock until it has written its own
    /// record.
    ///
    /// # Errors
    /// A denial when the job has been admitted several times already: one token must not take every slot.
    pub(crate) fn free_slot(&self, wanted: &Claim<'_>, _lock: &Lock) -> Result<u16, Refusal> {
        let others = self.others(&self.name(wanted.job_directory))?;
        let same_job = |r: &&Record| r.job_id == wanted.job_id && r.identity.server == wanted.server;
        if others.iter().filter(same_job).count() >= MAX_ADMISSIONS {
            let detail = format!("job {} holds {MAX_ADMISSIONS} records", wanted.job_id);
            return Err(Refusal::denied(
                Code::AdmittedTooOften,
                "this job has been admitted on this host several times already",
                detail,
            ));
        }
        let taken: Vec<u16> = others.iter().filter(|r| r.account.uid == wanted.uid).map(|r| r.slot).collect();
        let free = (0..MAX_SLOTS).find(|slot| !taken.contains(slot));
        free.ok_or_else(|| {
            self.trouble("hold no free slot for this account", &io::Error::from(io::ErrorKind::StorageFull))
        })
    }

    /// Whether another job works in this record's directories by now, because the record's time is up.
    pub(crate) fn is_succeeded(&self, name: &str, record: &Record, _lock: &Lock) -> Result<bool, Refusal> {
        let others = self.others(name)?;
        let same_place =
            |r: &Record| r.slot == record.slot || r.workspace.builds_dir == record.workspace.builds_dir;
        Ok(others.iter().any(|r| r.account.uid == record.account.uid && same_place(r)))
    }

    /// The records that hold a slot, but the one of this name.
    fn others(&self, own: &str) -> Result<Vec<Record>, Refusal> {
        let now = now()?;
        let names = self.as_keeper(Directory::names).map_err(|e| self.trouble("cannot be listed", &e))?;
        // A file that is no record, or of another version, holds no slot.
        let read = |name: &String| self.as_keeper(|d| d.read(name, MAX_RECORD)).ok();
        let records = names.iter().filter(|name| *name != own).filter_map(read);
        let records = records.filter_map(|(bytes, ..)| Record::from_bytes(&bytes).ok());
        Ok(records.filter(|record| record.holds_slot(&now)).collect())
    }

    /// Writes a record, over an earlier one of the same directory.
    pub(crate) fn write(&self, record: &Record, lock: &Lock) -> Result<(), Refusal> {
        self.write_named(&self.name(&record.job_directory), record, lock)
    }

    fn name(&self, job: &JobDirectory) -> String {
        name(self.caller.uid, job)
    }

    fn as_keeper<T>(&self, act: impl FnOnce(&Directory) -> io::Result<T>) -> io::Result<T> {
        let _identity = FileIdentity::assume(self.keeper.uid, self.keeper.gid)?;
        act(&self.directory)
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Refusal {
        let detail = format!("job records of uid {} {what}: {error}", self.keeper.uid);
        Refusal::system(Code::RecordStore, "Nunbird's job records on this host cannot be used", detail)
    }
}

/// The time by which records are judged.
pub(crate) fn now() -> Result<Now, Refusal> {
    let read = || {
        let (epoch, boottime, boot_id) = (clock::now()?, clock::boottime()?, clock::boot_id()?);
        Ok::<_, io::Error>(Now { epoch, boottime, boot_id })
    };
    read().map_err(|e| Refusal::system(Code::Clock, "this host's clock cannot be read", e))
}

fn path(privilege: Privilege) -> io::Result<PathBuf> {
    if privilege.source.is_privileged() {
        return Ok(PathBuf::from(PRIVILEGED));
    }
    let user = users::by_uid(privilege.caller.uid)?.ok_or(io::ErrorKind::NotFound)?;
    // The home may be reached by a link (/home -> /data/home): it is the user's own, so follow it.
    let path = user.home.canonicalize()?.join(UNPRIVILEGED);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    Ok(path)
}
