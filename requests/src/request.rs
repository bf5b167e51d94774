//! The requests.

use crate::stage::{Launch, Tidying};
use nunbird_host::{Destination, Fetch, Validate};
use nunbird_messages::{ProcessLimits, RefusedBy};
use nunbird_wire::{choice, layout};
use std::path::PathBuf;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// An entry of the user database, by its name.
    Account(String),
    /// An entry of the group database, by its name.
    Group(String),
    /// A file that only root can have written; its descriptor follows the reply.
    File(PathBuf),
    /// A file of the keys directory: the directory and the name.
    KeysFile(PathBuf, String),
    /// A call of `nunbird-keys`.
    Fetch(Fetch),
    /// A call of the site's validation program.
    Validate(Validate),
    /// Whether an account has expired.
    Expiry(String),
    /// A file of the store of people.
    Person(String),
    /// The same, to be written with this line.
    RememberPerson(String, Vec<u8>),
    /// A file of the account's own: the account, the path below its home directory, and its greatest length in bytes.
    OwnFile(String, PathBuf, u64),
    /// Whether the host takes no logins.
    Nologin,
    /// A variable of the job, as gitlab-runner gave it.
    Variable(String),
    /// Opens the places of audit events.
    Places(Vec<Destination>),
    /// Sends an event to the place of this number, durably or not.
    Event(u8, bool, Vec<u8>),
    /// Counts a refusal without a verified identity beside this audit file.
    Turn(PathBuf),
    /// A line for the local syslog daemon.
    Trace(Vec<u8>),
    /// Takes a slot.
    Slot(Slot),
    /// Puts the job's limits in force.
    Confine(Confine),
    /// Admits the job by this record. The last request of a job that runs.
    Admit(Vec<u8>),
    /// Starts the launcher of a stage, and comes back when it has ended.
    Launch(Launch),
    /// The stage's events are written. The last request of a stage that has run.
    Finish,
    /// Runs the launcher for an account without a job.
    Tidy(Tidying),
    /// Build directories have been tidied. The last request of [`crate::Task::Tidy`].
    Tidied,
    /// The call is refused; `true` where that is final. The refusal has been written and printed. The last request of [`crate::Task::Config`] and
    /// [`crate::Task::Stage`].
    Refuse(bool),
    /// The same of [`crate::Task::Tidy`], to be written and printed.
    Deny(RefusedBy),
}

/// A slot that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The configured name of the job's server.
    pub server: String,
    /// GitLab's id of the job.
    pub job_id: u64,
    /// The account.
    pub account: String,
}

/// Limits to put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confine {
    /// The site's name of the limits.
    pub name: String,
    /// The limits of the job's processes.
    pub processes: ProcessLimits,
    /// The order for `nunbird-limits`.
    pub order: Vec<u8>,
    /// GitLab's id of the job.
    pub job_id: u64,
    /// Its runner's id; 0 where the server does not state it.
    pub runner_id: u64,
    /// The account.
    pub account: String,
}

layout!(Slot { server, job_id, account });
layout!(Confine { name, processes, order, job_id, runner_id, account });
choice!(Request {
    1 => Account(name),
    2 => Group(name),
    3 => File(path),
    4 => KeysFile(directory, name),
    5 => Fetch(fetch),
    6 => Validate(validate),
    7 => Expiry(account),
    8 => Person(file),
    9 => RememberPerson(file, line),
    10 => OwnFile(account, inside, limit),
    11 => Nologin,
    12 => Variable(name),
    13 => Places(places),
    14 => Event(place, durably, event),
    15 => Turn(file),
    16 => Trace(line),
    17 => Slot(slot),
    18 => Confine(confine),
    19 => Admit(record),
    20 => Launch(launch),
    21 => Tidy(tidying),
    22 => Refuse(denied),
    23 => Deny(refused),
    24 => Finish,
    25 => Tidied,
});
