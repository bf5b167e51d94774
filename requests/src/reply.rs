//! The replies.

use crate::StageEnd;
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::{GroupEntry, UserEntry};
use nunbird_host::{OwnFile, PersonFile, Report, Turn, Unfetched};
use nunbird_messages::{Group, RefusedBy};
use nunbird_wire::choice;

/// What `nunbird-keys` has printed, or why not.
pub type Fetched = Result<Vec<u8>, Unfetched>;

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
    /// Whether a refusal is written down.
    Turn(Turn),
    /// The job's control group as the record is to have it, or why there is none, for the admin.
    Confined(Result<Group, String>),
    /// The launcher has ended.
    Ended(Box<StageEnd>),
}

choice!(Reply {
    1 => Trouble(why),
    2 => Refused(refused),
    3 => Done,
    4 => Truth(truth),
    5 => Number(number),
    6 => Bytes(bytes),
    7 => Text(text),
    8 => Texts(texts),
    9 => Account(account),
    10 => Group(group),
    11 => Fetched(fetched),
    12 => Report(report),
    13 => Expiry(expiry),
    14 => Person(person),
    15 => OwnFile(file),
    16 => Turn(turn),
    17 => Confined(group),
    18 => Ended(end),
});
