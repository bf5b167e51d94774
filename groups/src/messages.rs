//! Requests and answers.

use nunbird_group::Group;
use nunbird_wire::{choice, layout};
use std::os::fd::RawFd;

/// The number of the socket in `nunbird-limits`.
pub const SOCKET_FD: RawFd = 3;
/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// The longest answer, in bytes: what is in eight counters, and a word.
pub const MAX_ANSWER: usize = 160 << 10;
/// The most counters of an answer.
pub const MAX_COUNTERS: usize = 8;

/// One request. A group has the bytes of [`Answer::Made`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Makes a group and puts its limits in force.
    Make(Make),
    /// Makes sure that the limits of a group are in force, opens its counters, and brings this process into it, if one is named.
    Enter(Group, Option<i32>),
    /// Ends every process of a group; its user has this uid.
    End(Group, u32),
    /// Removes a group.
    Remove(Group),
}

/// A group to be made. All but the order is the word of `nunbird-auth`; the group's name is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// The uid of the account that runs gitlab-runner.
    pub runner: u32,
    /// The uid that groups have which are not the runner's.
    pub keeper: u32,
    /// Whether systemd would make groups for Nunbird.
    pub systemd: Systemd,
    /// GitLab's id of the runner.
    pub runner_id: u64,
    /// GitLab's id of the job.
    pub job_id: u64,
    /// The first half of the decision's id.
    pub decision: u64,
    /// The job's account.
    pub account: String,
    /// What the decider orders, for `nunbird-limits` alone (`nunbird_gauges::Order`).
    pub order: Vec<u8>,
}

/// To whom systemd answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Systemd {
    /// To root, which `nunbird-auth` is.
    Answers,
    /// Not to file capabilities.
    Capabilities,
    /// Not to accounts without privilege.
    NoPrivilege,
}

choice!(Systemd { 0 => Answers, 1 => Capabilities, 2 => NoPrivilege });

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The group that was made.
    Made(Vec<u8>),
    /// What the counters are, as `nunbird_gauges` has it, and what is in each of them, whose files follow.
    Entered(Vec<u8>, Vec<Vec<u8>>),
    /// What its processes have used: what the counters are, and what is in each of them.
    Ended(Vec<u8>, Vec<Vec<u8>>),
    /// It has been done, or there is no such group any more.
    Done,
    /// These ids do not suffice: to be asked again with those of the keeper.
    Keeper,
    /// Why it could not be done, for the admin.
    Trouble(String),
}

choice!(Request { 1 => Make(make), 2 => Enter(group, process), 3 => End(group, user), 4 => Remove(group) });
layout!(Make { runner, keeper, systemd, runner_id, job_id, decision, account, order });
choice!(Answer {
    1 => Made(group),
    2 => Entered(described, contents),
    3 => Ended(described, contents),
    4 => Done,
    5 => Keeper,
    6 => Trouble(why),
});
