//! The queue: jobs in a directory, under a lock.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A queue, locked as long as this lives.
#[derive(Debug)]
pub struct Queue {
    at: PathBuf,
    _lock: File,
}

/// A job, as its scheduler knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The id.
    pub number: u64,
    /// The account that submitted it.
    pub owner: String,
    /// Its uid.
    pub uid: u32,
    /// The name that it was given.
    pub name: String,
    /// The queue's or partition's name.
    pub queue: String,
    /// What it is doing.
    pub standing: JobState,
    /// Whether it is held.
    pub held: bool,
    /// When it was submitted, in seconds since the epoch.
    pub submitted: u64,
    /// When its last run began.
    pub started: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
    /// Seconds that it may run.
    pub limit: Option<u64>,
    /// Why it waits.
    pub reason: String,
    /// How many times it was started.
    pub runs: u32,
    /// How it ended.
    pub end: Option<End>,
    /// Words for execve(2).
    pub program: Vec<String>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where its output goes.
    pub output: PathBuf,
    /// Where its errors go, where that is another place.
    pub error: Option<PathBuf>,
    /// Data that only its own scheduler uses.
    pub more: BTreeMap<String, String>,
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It waits, held or not.
    Waiting,
    /// It runs.
    Running,
    /// It was asked to end and has not.
    Leaving,
    /// It has ended.
    Ended,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The cause.
    pub cause: Cause,
    /// The exit code of what ran.
    pub code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// The uid that requested it.
    pub by: u32,
}

/// The cause of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The job's own.
    Itself,
    /// A user cancelled it.
    Cancelled,
    /// The time limit.
    Time,
    /// The memory limit.
    Memory,
    /// The node is lost.
    Node,
    /// Another job preempted it.
    Preempted,
    /// What it asks for is not available.
    Infeasible,
}

/// A request to a job's mom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomRequest {
    /// It must not start.
    Hold,
    /// It may start.
    Release,
    /// It gets this signal.
    Signal(i32),
    /// It must end, requested by this uid.
    Cancel(u32),
    /// It must be killed, requested by this uid.
    Kill(u32),
    /// It ends for this reason: a fault.
    End(Cause),
    /// It is stopped and put back: a fault.
    Requeue,
}

impl Queue {
    /// Makes an empty one that all accounts can use.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn create(at: &Path) -> io::Result<()> {
        for (name, mode) in [("", 0o1777), ("jobs", 0o1777), ("faults", 0o755), ("lost", 0o1777)] {
            fs::create_dir(at.join(name))?;
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode))?;
        }
        for name in ["lock", "next"] {
            fs::write(at.join(name), "")?;
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o666))?;
        }
        Ok(())
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// When there is no queue.
    pub fn open(at: &Path) -> io::Result<Queue> {
        let lock = OpenOptions::new().write(true).open(at.join("lock"))?;
        lock.lock()?;
        Ok(Queue { at: at.to_owned(), _lock: lock })
    }

    /// The number of the next job.
    pub(super) fn number(&self) -> io::Result<u64> {
        let number = fs::read_to_string(self.at.join("next"))?.trim().parse().unwrap_or(1);
        fs::write(self.at.join("next"), (number + 1).to_string())?;
        Ok(number)
    }

    /// Puts a job in, with its script.
    pub(super) fn add(&self, job: &Job, script: Option<&[u8]>) -> io::Result<()> {
        let directory = self.directory(job.number);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        if let Some(script) = script {
            fs::write(directory.join("script"), script)?;
        }
        fs::write(directory.join("request"), "")?;
        self.save(job)
    }

    /// Replaces the data of a job, if it is in the queue at all.
    pub(super) fn save(&self, job: &Job) -> io::Result<()> {
        let new = self.directory(job.number).join("job.new");
        fs::write(&new, serde_json::to_vec(job)?)?;
        fs::rename(new, self.directory(job.number).join("job"))
    }

    /// A job, whether or not queue or accounting list it.
    pub(super) fn job(&self, number: u64) -> Option<Job> {
        serde_json::from_slice(&fs::read(self.directory(number).join("job")).ok()?).ok()
    }

    fn all(&self) -> Vec<Job> {
        let entries = fs::read_dir(self.at.join("jobs")).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut jobs: Vec<Job> = numbers.filter_map(|number| self.job(number)).collect();
        jobs.sort_by_key(|job| job.number);
        jobs
    }

    /// The jobs that the queue knows, ended ones too.
    pub fn known(&self) -> Vec<Job> {
        self.all().into_iter().filter(|job| !self.has(job.number, "forgotten")).collect()
    }

    /// The ended jobs that accounting knows.
    pub(super) fn recorded(&self) -> Vec<Job> {
        let ended = |job: &Job| job.standing == JobState::Ended && !self.has(job.number, "unrecorded");
        self.all().into_iter().filter(ended).collect()
    }

    /// Sends a request to a job's mom.
    ///
    /// # Errors
    /// When the job is another account's.
    pub fn request(&self, number: u64, request: MomRequest) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.directory(number).join("request"))?;
        writeln!(file, "{}", serde_json::to_string(&request)?)
    }

    /// The state that an injected fault sets in place of the real one.
    pub(super) fn word(&self, number: u64, right: &str) -> String {
        fs::read_to_string(self.directory(number).join("word")).unwrap_or_else(|_| right.to_owned())
    }

    /// Marks a job, or removes the mark.
    ///
    /// # Errors
    /// When its directory is not the caller's.
    pub fn mark(&self, number: u64, mark: &str, text: Option<&str>) -> io::Result<()> {
        let path = self.directory(number).join(mark);
        match text {
            Some(text) => fs::write(path, text),
            None => fs::remove_file(path),
        }
    }

    /// Loses a job, and gives its number to the next one.
    ///
    /// # Errors
    /// When its directory is not the caller's.
    pub fn lose(&self, number: u64) -> io::Result<()> {
        fs::rename(self.directory(number), self.at.join("lost").join(number.to_string()))?;
        fs::write(self.at.join("next"), number.to_string())
    }

    /// Whether LSF's commands are OpenLava's.
    pub(super) fn is_openlava(&self) -> bool {
        self.at.join("openlava").exists()
    }

    /// Seconds of a minute.
    pub(super) fn minute(at: &Path) -> u64 {
        fs::read_to_string(at.join("minute")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(60)
    }

    pub(super) fn directory(&self, number: u64) -> PathBuf {
        self.at.join("jobs").join(number.to_string())
    }

    fn has(&self, number: u64, mark: &str) -> bool {
        self.directory(number).join(mark).exists()
    }
}

impl Job {
    /// A job of an account, with defaults before options are applied.
    pub(super) fn new(number: u64, owner: &str, uid: u32) -> Job {
        Job {
            number,
            owner: owner.to_owned(),
            uid,
            name: String::new(),
            queue: String::new(),
            standing: JobState::Waiting,
            held: false,
            submitted: now(),
            started: None,
            ended: None,
            limit: None,
            reason: String::new(),
            runs: 0,
            end: None,
            program: Vec::new(),
            directory: "/".into(),
            environment: BTreeMap::new(),
            output: "/dev/null".into(),
            error: None,
            more: BTreeMap::new(),
        }
    }

    /// What a scheduler knows besides.
    pub(super) fn more(&self, name: &str) -> &str {
        self.more.get(name).map_or("", String::as_str)
    }

    /// Whether it waits or runs.
    pub(super) fn is_live(&self) -> bool {
        self.standing != JobState::Ended
    }

    /// The cause of its end.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.end.as_ref().map(|end| end.cause)
    }

    /// Its exit code as a shell would have it.
    pub(super) fn code(&self) -> Option<i32> {
        self.status(128)
    }

    /// The exit code, or the number of the signal and this offset.
    pub(super) fn status(&self, offset: i32) -> Option<i32> {
        let end = self.end.as_ref()?;
        end.code.or(end.signal.map(|signal| offset + signal))
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
