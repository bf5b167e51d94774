//! Which GitLab user an account belongs to, as this host remembers it.
//!
//! `/var/lib/nunbird/people`, root's and nobody else's; for programs without privilege the runner's own
//! `~/.local/state/nunbird/people`. One file for each account and server, so that a lookup reads one line, and that the
//! first of two jobs at once is decided by link(2). A file that is empty, cut short or about another account is an error, never
//! an account that is not known.

use crate::refusal::{Code, Refusal};
use crate::rights::{Rights, state_directory, state_path};
use nunbird_files::directory::Directory;
use nunbird_files::foreign::Caller;
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::open_trusted_directory;
use nunbird_policy::{PEOPLE_DIR, Person, UNPRIVILEGED_PEOPLE_DIR, person_file, read_person_file};
use std::io;
use std::path::{Path, PathBuf};

/// The code of every trouble with the store or the site's file.
pub const CODE: Code = Code::PinStore;
/// The longest line, in bytes: names of 32 and 64 characters, a number of 20 digits.
const MAX_LINE: u64 = 128;

/// The store, opened.
#[derive(Debug)]
pub struct People {
    directory: Directory,
    keeper: Caller,
    path: PathBuf,
}

impl People {
    /// Opens the store.
    ///
    /// # Errors
    /// For the admin: when the directory is missing or somebody else could write in it.
    pub fn open(rights: Rights) -> Result<Self, String> {
        let path = state_directory(rights, PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR);
        Self::at(path.map_err(|e| no_directory(rights, &e))?, rights)
    }

    /// The GitLab user that an account belongs to, without making a directory that is not there yet.
    ///
    /// # Errors
    /// As [`People::open`] and [`People::find`].
    pub fn known(rights: Rights, server: &str, account: &str) -> Result<Option<u64>, String> {
        let path = state_path(rights, PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR);
        let path = path.map_err(|e| no_directory(rights, &e))?;
        let missing = || {
            let _identity = FileIdentity::assume(rights.keeper.uid, rights.keeper.gid).ok()?;
            path.symlink_metadata().err().map(|e| e.kind())
        };
        if !rights.privileged && missing() == Some(io::ErrorKind::NotFound) {
            return Ok(None);
        }
        Self::at(path, rights)?.find(server, account)
    }

    fn at(path: PathBuf, rights: Rights) -> Result<Self, String> {
        let keeper = rights.keeper;
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| explain(&e))?;
        let fd = open_trusted_directory(&path, &rights.trusted_owners())
            .map_err(|e| format!("{e} (the package makes {PEOPLE_DIR}, mode 0700)"))?;
        drop(identity);
        let directory = Directory::new(fd);
        let (uid, _, mode) = directory.owner().map_err(|e| explain(&e))?;
        if uid != keeper.uid || mode & 0o077 != 0 {
            return Err(explain(&format!("owned by uid {uid}, mode {mode:04o}; it must be mode 0700")));
        }
        Ok(People { directory, keeper, path })
    }

    /// The GitLab user that the account belongs to; none for one that no job has had yet.
    ///
    /// # Errors
    /// For the admin: when the file cannot be read, is somebody else's, or is damaged.
    pub fn find(&self, server: &str, account: &str) -> Result<Option<u64>, String> {
        let name = file_name(server, account)?;
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", self.path.join(&name).display());
        let (bytes, owner, mode) = match self.as_keeper(|d| d.read(&name, MAX_LINE)) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(explain(&e)),
        };
        if owner != self.keeper.uid || mode & 0o022 != 0 {
            return Err(explain(&format!("owned by uid {owner}, mode {mode:04o}; it must be mode 0600")));
        }
        let text = String::from_utf8(bytes).map_err(|e| explain(&e))?;
        read_person_file(&text, server, account).map(Some).map_err(|e| explain(&e))
    }

    /// Remembers whose account this is, unless it is known already. The answer is the user that it belongs to now, which is another
    /// one where another user's first job came at the same moment.
    ///
    /// # Errors
    /// For the admin: when the disk does not have the line for certain.
    pub fn remember(&self, person: &Person) -> Result<u64, String> {
        let name = file_name(&person.server, &person.account)?;
        let new = self
            .as_keeper(|d| d.create(&name, person.line().as_bytes()))
            .map_err(|e| format!("{} cannot be written: {e}", self.path.join(&name).display()))?;
        if new {
            return Ok(person.user_id);
        }
        let known = self.find(&person.server, &person.account)?;
        // It was there a moment ago: nunbirdctl has made the host forget it.
        known.ok_or_else(|| format!("{}: removed meanwhile", self.path.join(&name).display()))
    }

    fn as_keeper<T>(&self, act: impl FnOnce(&Directory) -> io::Result<T>) -> io::Result<T> {
        let _identity = FileIdentity::assume(self.keeper.uid, self.keeper.gid)?;
        act(&self.directory)
    }
}

fn no_directory(rights: Rights, error: &io::Error) -> String {
    format!("{UNPRIVILEGED_PEOPLE_DIR} of uid {}: {error}", rights.keeper.uid)
}

fn file_name(server: &str, account: &str) -> Result<String, String> {
    person_file(server, account).ok_or_else(|| "the account or its server has no usable name".to_owned())
}

/// Makes the first job of an account its GitLab user's.
///
/// # Errors
/// A denial when another user's job was first; a system refusal when it cannot be written down.
pub fn remember(rights: Rights, person: &Person, login: &str) -> Result<(), Refusal> {
    let known = People::open(rights).and_then(|people| people.remember(person)).map_err(trouble)?;
    if known == person.user_id { Ok(()) } else { Err(mismatch(person, login, known, None)) }
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

/// The account belongs to nobody yet, and the site admits known people alone.
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
