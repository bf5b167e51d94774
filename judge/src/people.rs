//! Which GitLab user an account belongs to, as this host remembers it. A file that is empty, cut short or about another account is an
//! error, never an account that is not known.

use crate::refusal::{Code, Refusal};
use nunbird_host::{PersonFile, System};
use nunbird_policy::{Person, person_file, read_person_file};
use std::path::Path;

/// The code of every trouble with the store or the site's file.
pub const CODE: Code = Code::PinStore;

/// The GitLab user that the account belongs to; none for one that no job has had yet.
///
/// # Errors
/// For the admin: when the file cannot be read, is somebody else's, or is damaged.
pub fn known(system: &impl System, server: &str, account: &str) -> Result<Option<u64>, String> {
    let name = file_name(server, account)?;
    let Some(PersonFile { path, bytes }) = system.person(&name)? else { return Ok(None) };
    let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = String::from_utf8(bytes).map_err(|e| explain(&e))?;
    read_person_file(&text, server, account).map(Some).map_err(|e| explain(&e))
}

fn file_name(server: &str, account: &str) -> Result<String, String> {
    person_file(server, account).ok_or_else(|| "the account or its server has no usable name".to_owned())
}

/// Makes the first job of an account its GitLab user's.
///
/// # Errors
/// A denial when another user's job was first; a system refusal when it cannot be written down.
pub fn remember(system: &impl System, person: &Person, login: &str) -> Result<(), Refusal> {
    let known = remembered(system, person).map_err(trouble)?;
    if known == person.user_id { Ok(()) } else { Err(mismatch(person, login, known, None)) }
}

/// The user that the account belongs to now, which is another one where another user's first job came at the same moment.
fn remembered(system: &impl System, person: &Person) -> Result<u64, String> {
    let name = file_name(&person.server, &person.account)?;
    if system.remember_person(&name, person.line().as_bytes())? {
        return Ok(person.user_id);
    }
    // It was there a moment ago: nunbirdctl has made the host forget it.
    let known = known(system, &person.server, &person.account)?;
    known.ok_or_else(|| format!("the file {name} was removed meanwhile"))
}

fn trouble(detail: String) -> Refusal {
    Refusal::system(CODE, "this host's list of people cannot be used", detail)
}

/// The account belongs to another GitLab user. The job's user learns neither whose it is nor any id.
pub fn mismatch(person: &Person, login: &str, pinned: u64, people_file: Option<&Path>) -> Refusal {
    let Person { account, server, user_id } = person;
    let login = nunbird_handover::Untrusted(login);
    let file = people_file.map(|file| format!(", and its line in {}", file.display())).unwrap_or_default();
    let detail = format!(
        "account `{account}` belongs to GitLab user id {pinned} of `{server}`, and this job's user `{login}` has id {user_id}\n\
         a renamed or reused login, or another user of that name; if the account is this user's now: \
         nunbirdctl people forget {account} --server {server}{file}"
    );
    Refusal::denied(Code::PinMismatch, "the account here belongs to another GitLab user than yours", detail)
        .help("if your GitLab account was made anew, ask your site's admins to forget the former one")
}

/// No user is known for the account, and the site admits known people only.
pub fn unknown(person: &Person, login: &str, people_file: Option<&Path>) -> Refusal {
    let Person { account, server, user_id } = person;
    let login = nunbird_handover::Untrusted(login);
    let file = people_file.map(|file| format!(" or {}", file.display())).unwrap_or_default();
    let detail = format!(
        "account `{account}` of `{server}` is not known, and accounts.pinning is \"known\"; this job's user `{login}` has id \
         {user_id}\nif the account is this user's: add `{account} {server} {user_id}` by nunbirdctl people import{file}"
    );
    Refusal::denied(Code::PinUnknown, "this site does not know your GitLab user yet", detail)
        .help("ask your site's admins to add you to the people who may run CI jobs here")
}
