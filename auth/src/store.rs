//! Where job records live between the stages of a job.
//!
//! `/var/lib/nunbird/jobs`, root's alone; for `downscope = "none"` the user's own
//! `~/.local/state/nunbird/jobs`. A record is found by who calls and by the runner's private directory of
//! the job, whose inode it names: gitlab-runner makes one for each attempt and no CI user can make one that
//! belongs to the runner's account. An inode may be used again while the former job's record still exists, so a
//! record is never replaced by another job's: it is set aside, and whatever acts on one makes sure of its decision.
//!
//! Locks are of one runner account each, because a runner may stop its own calls; nothing under one waits for anything
//! but the disk. What accounts share, the slots, is in [`crate::slots`]. See docs/adr/0017.

use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal};
use nunbird_files::directory::{Directory, Lock};
use nunbird_files::foreign;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_host::{open_state, state_directory};
use nunbird_messages::{Claim, JobDirectory, Keep, Now, Record};
use nunbird_sys::clock;
use nunbird_wire::Message;
use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of a packaged installation. Not configurable: later stages must find it without the configuration.
const PRIVILEGED: &str = "/var/lib/nunbird/jobs";
/// Below the home directory, for `downscope = "none"`.
const UNPRIVILEGED: &str = ".local/state/nunbird/jobs";
/// The largest record, in bytes.
const MAX_RECORD: u64 = Record::MOST;
/// How long another call of the same runner account may hold the lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The records of this host.
#[derive(Debug)]
pub(crate) struct Store {
    directory: Directory,
    keeper: Caller,
    caller: Caller,
    /// Whether this process has the keeper's filesystem ids already, for several steps.
    is_keeper: Cell<bool>,
}

/// The socket of the process that keeps this job's PAM session, where one serves the whole job: among the records, which
/// only root reaches.
pub(crate) fn session_socket(record: &Record) -> PathBuf {
    Keep::socket(Path::new(PRIVILEGED), &record.decision_id)
}

/// The file of this job's record, where root keeps it.
pub(crate) fn record_file(record: &Record) -> PathBuf {
    Path::new(PRIVILEGED).join(Record::name(record.runner_uid, &record.job_directory))
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
    /// A system refusal when the directory is missing or another account could write in it.
    pub(crate) fn open(privilege: Privilege) -> Result<Self, Refusal> {
        let rights = privilege.rights();
        let path = state_directory(rights, PRIVILEGED, UNPRIVILEGED).map_err(|e| unusable(&e))?;
        let directory = open_state(&path, rights, PRIVILEGED).map_err(|e| unusable(&e))?;
        Ok(Store { directory, keeper: rights.keeper, caller: privilege.caller, is_keeper: Cell::new(false) })
    }

    /// The record of this job, live or not.
    ///
    /// # Errors
    /// A refusal when there is none, or it is not of this runner and directory.
    pub(crate) fn find(&self, job: &JobDirectory) -> Result<Record, Refusal> {
        let none = |detail: &dyn Display| {
            Refusal::denied(Code::NoRecord, "this job was not admitted on this host", detail)
                .help("see the job log where the job was prepared")
        };
        let name = self.name_of(job);
        let bytes = self.contents(&name)?.ok_or_else(|| none(&format!("there is no record {name}")))?;
        let record = Record::parse(&bytes).map_err(|e| {
            let message = "this job's record is of another version of Nunbird, or damaged";
            Refusal::system(Code::RecordFormat, message, format!("record {name}: {e}"))
                .help("run the job again")
        })?;
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
        Record::parse(&bytes).map_err(|e| refuse(&format!("record {name}: {e}")))
    }

    /// The name of this job's record.
    pub(crate) fn name_of(&self, job: &JobDirectory) -> String {
        Record::name(self.caller.uid, job)
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

    /// Keeps other calls of this runner account from admitting or closing a job until the lock goes.
    pub(crate) fn lock(&self, runner: u32) -> Result<Lock, Refusal> {
        let name = Record::lock(runner);
        self.as_keeper(|d| d.lock(&name, PATIENCE)).map_err(|e| self.trouble("cannot be locked", &e))
    }

    /// Whether another job works in this record's directories by now, because the host has restarted since.
    pub(crate) fn is_succeeded(&self, record: &Record) -> Result<bool, Refusal> {
        let same_place = |r: &Record| r.slot == record.slot || r.builds_dir == record.builds_dir;
        let another = |r: &Record| {
            r.decision_id != record.decision_id && r.account.uid == record.account.uid && same_place(r)
        };
        Ok(self.holders()?.iter().any(another))
    }

    /// The records that hold a slot, of every runner account.
    pub(crate) fn holders(&self) -> Result<Vec<Record>, Refusal> {
        let now = now()?;
        let mut names = self.names()?;
        // A file that is no record, or of another version, holds no slot: its claim does.
        names.retain(|name| name.ends_with(Record::SUFFIX));
        let records = names.iter().filter_map(|name| Record::parse(&self.contents(name).ok()??).ok());
        Ok(records.filter(|record| record.holds_slot(&now)).collect())
    }

    /// The names of records and claims.
    pub(crate) fn names(&self) -> Result<Vec<String>, Refusal> {
        self.as_keeper(Directory::names).map_err(|e| self.trouble("cannot be listed", &e))
    }

    /// Writes the record of a new admission. One that has its name, of a job whose directory had the same numbers, is set
    /// aside; a call that ends between the two steps leaves that one to `reap` and none of the new job.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Refusal> {
        self.at_once(|| self.write_beside(record))
    }

    fn write_beside(&self, record: &Record) -> Result<(), Refusal> {
        let name = self.name_of(&record.job_directory);
        let _lock = self.lock(record.runner_uid)?;
        let Some(bytes) = self.contents(&name)? else { return self.replace(&name, record) };
        // Cut short, or of another version: it stays for the sweep under the new decision's id.
        let former = Record::parse(&bytes).map_or_else(|_| record.decision_id.clone(), |r| r.decision_id);
        let aside = Record::set_aside(&former);
        self.as_keeper(|d| d.rename(&name, &aside)).map_err(|e| self.trouble("cannot be renamed", &e))?;
        self.replace(&name, record)
    }

    /// Marks a record as closed, under whichever name it has by now. Whether it was still there.
    pub(crate) fn close(&self, name: &str, record: &mut Record, _lock: &Lock) -> Result<bool, Refusal> {
        let Some(name) = self.whereabouts(name, record)? else { return Ok(false) };
        record.closed = true;
        self.replace(&name, record).map(|()| true)
    }

    /// Removes a record, under whichever name it has by now, and then its claim on the slot. Neither may be another job's.
    pub(crate) fn remove(&self, name: &str, record: &Record) -> Result<(), Refusal> {
        self.at_once(|| self.remove_with_claim(name, record))
    }

    fn remove_with_claim(&self, name: &str, record: &Record) -> Result<(), Refusal> {
        let _lock = self.lock(record.runner_uid)?;
        if let Some(name) = self.whereabouts(name, record)? {
            self.remove_file(&name)?;
        }
        let claim = Claim::name_for(record);
        let held = self.as_keeper(|d| d.read(&claim, Claim::MOST)).ok();
        let held = held.and_then(|(bytes, ..)| Claim::parse(&bytes).ok());
        match held {
            Some(held) if held.decision_id == record.decision_id => self.remove_file(&claim),
            _ => Ok(()),
        }
    }

    /// The name that the record of this decision has; none where it has been removed.
    fn whereabouts(&self, name: &str, record: &Record) -> Result<Option<String>, Refusal> {
        for name in [name.to_owned(), Record::set_aside(&record.decision_id)] {
            // What is no record is not this one.
            let found = self.contents(&name)?.and_then(|bytes| Record::parse(&bytes).ok());
            if found.is_some_and(|found| found.decision_id == record.decision_id) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// What this file of the store has; nothing only where there is no such file.
    fn contents(&self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        match self.as_keeper(|d| d.read(name, MAX_RECORD)) {
            Ok((bytes, ..)) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.trouble("cannot be read", &e)),
        }
    }

    fn replace(&self, name: &str, record: &Record) -> Result<(), Refusal> {
        let bytes = record.to_bytes();
        // A longer one would be none to the next stage.
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_RECORD {
            let long = format!(
                "the record has {} bytes and may have {MAX_RECORD}: shorten [job.environment]",
                bytes.len()
            );
            return Err(self.trouble("cannot be written", &io::Error::other(long)));
        }
        // One for each runner account, whose lock is held: a runner that kills its calls leaves no more than this.
        let temporary = format!(".record-{}", record.runner_uid);
        self.as_keeper(|d| d.replace(name, &temporary, &bytes))
            .map_err(|e| self.trouble("cannot be written", &e))
    }

    /// One that is not there is fine.
    pub(crate) fn remove_file(&self, name: &str) -> Result<(), Refusal> {
        self.as_keeper(|d| d.remove(name)).map_err(|e| self.trouble("cannot be removed", &e))
    }

    pub(crate) fn as_keeper<T>(&self, act: impl FnOnce(&Directory) -> io::Result<T>) -> io::Result<T> {
        if self.is_keeper.get() {
            return act(&self.directory);
        }
        acting_as(self.keeper, || act(&self.directory))?
    }

    /// Several steps under the keeper's filesystem ids, which touch nothing but the store.
    pub(crate) fn at_once<T>(&self, act: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        let done = acting_as(self.keeper, || {
            let before = self.is_keeper.replace(true);
            let done = act();
            self.is_keeper.set(before);
            done
        });
        done.map_err(|e| self.trouble("cannot be used", &e))?
    }

    pub(crate) fn trouble(&self, what: &str, error: &io::Error) -> Refusal {
        unusable(&format!("job records of uid {} {what}: {error}", self.keeper.uid))
    }
}

fn unusable(detail: &dyn Display) -> Refusal {
    Refusal::system(Code::RecordStore, "Nunbird's job records on this host cannot be used", detail)
}

/// The time by which records are judged.
pub(crate) fn now() -> Result<Now, Refusal> {
    let read = || {
        let (epoch, boottime, boot_id) = (clock::now()?, clock::boottime()?, clock::boot_id()?);
        Ok::<_, io::Error>(Now { epoch, boottime, boot_id })
    };
    read().map_err(|e| Refusal::system(Code::Clock, "this host's clock cannot be read", e))
}
