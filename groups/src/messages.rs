//! Requests and answers.

use crate::gauge::{Count, Reading, Usage};
use nunbird_wire::{Malformed, Message, Reader, Writer};

/// The version of all messages of this crate.
pub const FORMAT: u32 = 1;
/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// The longest answer, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;
/// The most gauges of an answer.
pub const MAX_GAUGES: usize = 8;

/// One request. A group is the bytes of [`Answer::Made`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Makes a group and puts its limits in force.
    Make(Make),
    /// Makes sure that the limits of a group are in force, opens its counters, and brings this process into it, if one is named.
    Enter(Vec<u8>, Option<i32>),
    /// Ends every process of a group; its user has this uid.
    End(Vec<u8>, u32),
    /// Removes a group.
    Remove(Vec<u8>),
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
    /// An [`Order`](crate::Order).
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

const SYSTEMD: [Systemd; 3] = [Systemd::Answers, Systemd::Capabilities, Systemd::NoPrivilege];

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The group that was made.
    Made(Vec<u8>),
    /// What its processes have used up to now, and the gauges whose files follow.
    Entered(Usage, Vec<(Count, Reading)>),
    /// What its processes have used.
    Ended(Usage),
    /// It has been done, or there is no such group any more.
    Done,
    /// These ids do not suffice: to be asked again with those of the keeper.
    Keeper,
    /// Why it could not be done, for the admin.
    Trouble(String),
}

impl Message for Request {
    fn write(&self, out: &mut Writer) {
        out.u32(FORMAT);
        match self {
            Request::Make(make) => {
                out.u8(1);
                out.u32(make.runner);
                out.u32(make.keeper);
                out.u8(number(&SYSTEMD, &make.systemd));
                out.u64(make.runner_id);
                out.u64(make.job_id);
                out.u64(make.decision);
                out.text(&make.account);
                out.bytes(&make.order);
            }
            Request::Enter(group, process) => {
                out.u8(2);
                out.bytes(group);
                out.optional(*process, |out, process| out.u32(process.cast_unsigned()));
            }
            Request::End(group, user) => {
                out.u8(3);
                out.bytes(group);
                out.u32(*user);
            }
            Request::Remove(group) => {
                out.u8(4);
                out.bytes(group);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if input.u32()? != FORMAT {
            return Err(Malformed);
        }
        Ok(match input.u8()? {
            1 => Request::Make(Make {
                runner: input.u32()?,
                keeper: input.u32()?,
                systemd: known(&SYSTEMD, input.u8()?)?,
                runner_id: input.u64()?,
                job_id: input.u64()?,
                decision: input.u64()?,
                account: input.text()?,
                order: input.bytes()?.to_vec(),
            }),
            2 => Request::Enter(
                input.bytes()?.to_vec(),
                input.optional(|input| Ok(input.u32()?.cast_signed()))?,
            ),
            3 => Request::End(input.bytes()?.to_vec(), input.u32()?),
            4 => Request::Remove(input.bytes()?.to_vec()),
            _ => return Err(Malformed),
        })
    }
}

impl Message for Answer {
    fn write(&self, out: &mut Writer) {
        out.u32(FORMAT);
        match self {
            Answer::Made(group) => {
                out.u8(1);
                out.bytes(group);
            }
            Answer::Entered(before, gauges) => {
                out.u8(2);
                out.message(before);
                out.list(gauges, |out, (count, reading)| {
                    out.u8(number(&Count::ALL, count));
                    out.message(reading);
                });
            }
            Answer::Ended(usage) => {
                out.u8(3);
                out.message(usage);
            }
            Answer::Done => out.u8(4),
            Answer::Keeper => out.u8(5),
            Answer::Trouble(why) => {
                out.u8(6);
                out.text(why);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if input.u32()? != FORMAT {
            return Err(Malformed);
        }
        Ok(match input.u8()? {
            1 => Answer::Made(input.bytes()?.to_vec()),
            2 => Answer::Entered(
                input.message()?,
                input.list(MAX_GAUGES, |input| Ok((known(&Count::ALL, input.u8()?)?, input.message()?)))?,
            ),
            3 => Answer::Ended(input.message()?),
            4 => Answer::Done,
            5 => Answer::Keeper,
            6 => Answer::Trouble(input.text()?),
            _ => return Err(Malformed),
        })
    }
}

fn number<T: PartialEq>(known: &[T], value: &T) -> u8 {
    known.iter().position(|one| one == value).and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}

fn known<T: Copy>(known: &[T], number: u8) -> Result<T, Malformed> {
    known.get(usize::from(number)).copied().ok_or(Malformed)
}
