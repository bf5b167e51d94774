//! The requests.

use crate::fields;
use crate::reply::RefusedBy;
use crate::stage::{Launch, Tidying};
use nunbird_host::{Destination, Fetch, Validate};
use nunbird_messages::ProcessLimits;
use nunbird_wire::{Malformed, Message, Reader, Writer};
use std::path::PathBuf;

/// The most places of events.
const MAX_PLACES: usize = 3;

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
    /// What becomes of a job whose group cannot be made.
    pub without: Without,
    /// GitLab's id of the job.
    pub job_id: u64,
    /// Its runner's id; 0 where the server does not state it.
    pub runner_id: u64,
    /// The account.
    pub account: String,
}

/// What becomes of a job whose control group cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// It runs, and its use is not counted: no amounts are limited.
    Uncounted,
    /// It runs with a warning.
    Warned,
    /// It is denied: its user asked for other amounts than the site gives, which must not be a way to run without those of the site.
    Denied,
    /// It is refused.
    Refused,
}

const WITHOUT: [Without; 4] = [Without::Uncounted, Without::Warned, Without::Denied, Without::Refused];

impl Message for Request {
    fn write(&self, out: &mut Writer) {
        match self {
            Request::Account(name) => {
                out.u8(1);
                out.text(name);
            }
            Request::Group(name) => {
                out.u8(2);
                out.text(name);
            }
            Request::File(path) => {
                out.u8(3);
                out.path(path);
            }
            Request::KeysFile(directory, name) => {
                out.u8(4);
                out.path(directory);
                out.text(name);
            }
            Request::Fetch(fetch) => {
                out.u8(5);
                fields::put_fetch(out, fetch);
            }
            Request::Validate(validate) => {
                out.u8(6);
                fields::put_validate(out, validate);
            }
            Request::Expiry(account) => {
                out.u8(7);
                out.text(account);
            }
            Request::Person(file) => {
                out.u8(8);
                out.text(file);
            }
            Request::RememberPerson(file, line) => {
                out.u8(9);
                out.text(file);
                out.bytes(line);
            }
            Request::OwnFile(account, inside, limit) => {
                out.u8(10);
                out.text(account);
                out.path(inside);
                out.u64(*limit);
            }
            Request::Nologin => out.u8(11),
            Request::Variable(name) => {
                out.u8(12);
                out.text(name);
            }
            Request::Places(places) => {
                out.u8(13);
                out.list(places, fields::put_destination);
            }
            Request::Event(place, durably, event) => {
                out.u8(14);
                out.u8(*place);
                out.flag(*durably);
                out.bytes(event);
            }
            Request::Turn(file) => {
                out.u8(15);
                out.path(file);
            }
            Request::Trace(line) => {
                out.u8(16);
                out.bytes(line);
            }
            Request::Slot(slot) => {
                out.u8(17);
                out.text(&slot.server);
                out.u64(slot.job_id);
                out.text(&slot.account);
            }
            Request::Confine(confine) => {
                out.u8(18);
                out.text(&confine.name);
                confine.processes.write(out);
                out.bytes(&confine.order);
                out.u8(fields::number(&WITHOUT, &confine.without));
                out.u64(confine.job_id);
                out.u64(confine.runner_id);
                out.text(&confine.account);
            }
            Request::Admit(record) => {
                out.u8(19);
                out.bytes(record);
            }
            Request::Launch(launch) => {
                out.u8(20);
                launch.write(out);
            }
            Request::Tidy(tidying) => {
                out.u8(21);
                tidying.write(out);
            }
            Request::Refuse(denied) => {
                out.u8(22);
                out.flag(*denied);
            }
            Request::Deny(refused) => {
                out.u8(23);
                refused.write(out);
            }
            Request::Finish => out.u8(24),
            Request::Tidied => out.u8(25),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            1 => Request::Account(input.text()?),
            2 => Request::Group(input.text()?),
            3 => Request::File(input.path()?),
            4 => Request::KeysFile(input.path()?, input.text()?),
            5 => Request::Fetch(fields::fetch(input)?),
            6 => Request::Validate(fields::validate(input)?),
            7 => Request::Expiry(input.text()?),
            8 => Request::Person(input.text()?),
            9 => Request::RememberPerson(input.text()?, input.bytes()?.to_vec()),
            10 => Request::OwnFile(input.text()?, input.path()?, input.u64()?),
            11 => Request::Nologin,
            12 => Request::Variable(input.text()?),
            13 => Request::Places(input.list(MAX_PLACES, fields::destination)?),
            14 => Request::Event(input.u8()?, input.flag()?, input.bytes()?.to_vec()),
            15 => Request::Turn(input.path()?),
            16 => Request::Trace(input.bytes()?.to_vec()),
            17 => Request::Slot(Slot { server: input.text()?, job_id: input.u64()?, account: input.text()? }),
            18 => Request::Confine(Confine {
                name: input.text()?,
                processes: Message::read(input)?,
                order: input.bytes()?.to_vec(),
                without: fields::known(&WITHOUT, input.u8()?)?,
                job_id: input.u64()?,
                runner_id: input.u64()?,
                account: input.text()?,
            }),
            19 => Request::Admit(input.bytes()?.to_vec()),
            20 => Request::Launch(Message::read(input)?),
            21 => Request::Tidy(Message::read(input)?),
            22 => Request::Refuse(input.flag()?),
            23 => Request::Deny(Message::read(input)?),
            24 => Request::Finish,
            25 => Request::Tidied,
            _ => return Err(Malformed),
        })
    }
}
