//! The replies.

use crate::{StageEnd, fields};
use nunbird_host::{Nologin, OwnFile, PersonFile, Report, Turn, Unfetched};
use nunbird_messages::Group;
use nunbird_sys::shadow::Expiry;
use nunbird_sys::users::{GroupEntry, UserEntry};
use nunbird_wire::{Malformed, Message, Reader, Writer};

/// A refusal that `nunbird-auth` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBy {
    /// Whether it is final.
    pub denied: bool,
    /// The code's name.
    pub code: String,
    /// For the CI user.
    pub message: String,
    /// For the admin.
    pub detail: String,
    /// What the reader can do.
    pub help: String,
}

/// What `nunbird-keys` has printed, or why not.
pub type Fetched = Result<Vec<u8>, Unfetched>;

/// Limits that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// The job's control group as the record is to have it.
    pub group: Option<Group>,
    /// Why the job runs without them, where it does.
    pub unlimited: Option<String>,
}

/// A reply. Which one fits, the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It could not be done, and why, for the admin.
    Trouble(String),
    /// The job is to be refused.
    Refused(RefusedBy),
    /// It is done, and there is no more to say. A file's descriptor may follow.
    Done,
    /// Whether it was so.
    Truth(bool),
    /// A number.
    Number(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A text; none where there is none.
    Text(Option<String>),
    /// One text or none for each.
    Texts(Vec<Option<String>>),
    /// An account; none where there is none.
    Account(Option<UserEntry>),
    /// A group; none where there is none.
    Group(Option<GroupEntry>),
    /// Of `nunbird-keys`.
    Fetched(Fetched),
    /// Of the validation program.
    Report(Report),
    /// Of an account.
    Expiry(Expiry),
    /// Of the store of people.
    Person(Option<PersonFile>),
    /// A user's own file.
    OwnFile(OwnFile),
    /// The file that keeps jobs out.
    Nologin(Option<Nologin>),
    /// Whether a refusal is written down.
    Turn(Turn),
    /// The job's limits.
    Confined(Confined),
    /// The launcher has ended.
    Ended(Box<StageEnd>),
}

impl Message for Reply {
    fn write(&self, out: &mut Writer) {
        match self {
            Reply::Trouble(why) => {
                out.u8(1);
                out.text(why);
            }
            Reply::Refused(refused) => {
                out.u8(2);
                refused.write(out);
            }
            Reply::Done => out.u8(3),
            Reply::Truth(truth) => {
                out.u8(4);
                out.flag(*truth);
            }
            Reply::Number(number) => {
                out.u8(5);
                out.u64(*number);
            }
            Reply::Bytes(bytes) => {
                out.u8(6);
                out.bytes(bytes);
            }
            Reply::Text(text) => {
                out.u8(7);
                out.optional(text.as_ref(), |out, text| out.text(text));
            }
            Reply::Texts(texts) => {
                out.u8(8);
                out.list(texts, |out, text| out.optional(text.as_ref(), |out, text| out.text(text)));
            }
            Reply::Account(account) => {
                out.u8(9);
                out.optional(account.as_ref(), fields::put_account);
            }
            Reply::Group(group) => {
                out.u8(10);
                out.optional(group.as_ref(), fields::put_group);
            }
            Reply::Fetched(Ok(bytes)) => {
                out.u8(11);
                out.bytes(bytes);
            }
            Reply::Fetched(Err(Unfetched { possible, why })) => {
                out.u8(12);
                out.flag(*possible);
                out.text(why);
            }
            Reply::Report(report) => {
                out.u8(13);
                fields::put_report(out, report);
            }
            Reply::Expiry(expiry) => {
                out.u8(14);
                fields::put_expiry(out, *expiry);
            }
            Reply::Person(person) => {
                out.u8(15);
                out.optional(person.as_ref(), fields::put_person);
            }
            Reply::OwnFile(file) => {
                out.u8(16);
                fields::put_own_file(out, file);
            }
            Reply::Nologin(nologin) => {
                out.u8(17);
                out.optional(nologin.as_ref(), fields::put_nologin);
            }
            Reply::Turn(turn) => {
                out.u8(18);
                fields::put_turn(out, *turn);
            }
            Reply::Confined(Confined { group, unlimited }) => {
                out.u8(19);
                group.write(out);
                out.optional(unlimited.as_ref(), |out, why| out.text(why));
            }
            Reply::Ended(end) => {
                out.u8(20);
                end.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            1 => Reply::Trouble(input.text()?),
            2 => Reply::Refused(RefusedBy::read(input)?),
            3 => Reply::Done,
            4 => Reply::Truth(input.flag()?),
            5 => Reply::Number(input.u64()?),
            6 => Reply::Bytes(input.bytes()?.to_vec()),
            7 => Reply::Text(input.optional(Reader::text)?),
            8 => Reply::Texts(input.list(64, |input| input.optional(Reader::text))?),
            9 => Reply::Account(input.optional(fields::account)?),
            10 => Reply::Group(input.optional(fields::group)?),
            11 => Reply::Fetched(Ok(input.bytes()?.to_vec())),
            12 => Reply::Fetched(Err(Unfetched { possible: input.flag()?, why: input.text()? })),
            13 => Reply::Report(fields::report(input)?),
            14 => Reply::Expiry(fields::expiry(input)?),
            15 => Reply::Person(input.optional(fields::person)?),
            16 => Reply::OwnFile(fields::own_file(input)?),
            17 => Reply::Nologin(input.optional(fields::nologin)?),
            18 => Reply::Turn(fields::turn(input)?),
            19 => Reply::Confined(Confined {
                group: Message::read(input)?,
                unlimited: input.optional(Reader::text)?,
            }),
            20 => Reply::Ended(Box::new(Message::read(input)?)),
            _ => return Err(Malformed),
        })
    }
}
