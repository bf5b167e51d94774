//! Which GitLab user an account belongs to, as this host remembers it.
//!
//! `/var/lib/nunbird/people`, root's and nobody else's; for programs without privilege the runner's own
//! `~/.local/state/nunbird/people`. One file for each account and server, so that a lookup reads one line, and that the
//! first of two jobs at once is decided by link(2). A file that is empty, cut short or about another account is an error, never
//! an account that is not known.

use crate::privilege::Privilege;
use crate::refusal::Refusal;
use crate::store;
use nunbird_policy::{PEOPLE_DIR, Person, UNPRIVILEGED_PEOPLE_DIR, person_file, read_person_file};
use nunbird_sys::directory::Directory;
use nunbird_sys::foreign::Caller;
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::trusted::open_trusted_directory;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The code of every trouble with the store or the site's file.
pub(crate) const CODE: &str = "pin-store";
/// The longest line, in bytes: names of 32 and 64 characters, a number of 20 digits.
const MAX_LINE: u64 = 128;

/// The store, opened.
#[derive(Debug)]
pub(crate) struct People {
    directory: Directory,
    keeper: Caller,
    path: PathBuf,
}

impl People {
    /// Opens the store.
    ///
    /// # Errors
    /// For the admin: when the directory is missing or somebody else could write in it.
    pub(crate) fn open(privilege: Privilege) -> Result<Self, String> {
        let keeper = privilege.keeper();
        let path = store::state_directory(privilege, PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR)
            .map_err(|e| format!("{UNPRIVILEGED_PEOPLE_DIR} of uid {}: {e}", keeper.uid))?;
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| explain(&e))?;
        let fd = open_trusted_directory(&path, &privilege.trusted_owners())
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
    pub(crate) fn find(&self, server: &str, account: &str) -> Result<Option<u64>, String> {
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
    pub(crate) fn remember(&self, person: &Person) -> Result<u64, String> {
        let name = file_name(&person.server, &person.account)?;
        let write = |d: &Directory| d.publish(&d.draft(person.line().as_bytes())?, &name);
        let new = self
            .as_keeper(write)
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

fn file_name(server: &str, account: &str) -> Result<String, String> {
    person_file(server, account).ok_or_else(|| "the account or its server has no usable name".to_owned())
}

/// An account that nobody is known for yet, and where to write down whose it is.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) people: Rc<People>,
    pub(crate) person: Person,
}

impl First {
    /// Makes the account this job's user's.
    ///
    /// # Errors
    /// A denial when another user's job was first; a system refusal when it cannot be written down.
    pub(crate) fn remember(&self, login: &str) -> Result<(), Refusal> {
        let known = self.people.remember(&self.person).map_err(trouble)?;
        if known == self.person.user_id { Ok(()) } else { Err(mismatch(&self.person, login, known, None)) }
    }
}

pub(crate) fn trouble(detail: String) -> Refusal {
    Refusal::system(CODE, "this host's list of people cannot be used", detail)
}

/// The account belongs to another GitLab user. The job's user learns neither whose it is nor any id.
pub(crate) fn mismatch(person: &Person, login: &str, pinned: u64, people_file: Option<&Path>) -> Refusal {
    let Person { account, server, user_id } = person;
    let login = nunbird_handover::Untrusted(login);
    let file = people_file.map(|file| format!(", and its line in {}", file.display())).unwrap_or_default();
    let detail = format!(
        "account `{account}` belongs to GitLab user id {pinned} of `{server}`, and this job's user `{login}` has id {user_id}\n\
         a renamed or reused login, or another user of that name; if the account is this user's now: \
         nunbirdctl people forget {account} --server {server}{file}"
    );
    Refusal::denied("pin-mismatch", "the account here belongs to another GitLab user than yours", detail)
        .help("if your GitLab account was made anew, ask your site's admins to forget the former one")
}

/// The account belongs to nobody yet, and the site admits known people alone.
pub(crate) fn unknown(person: &Person, login: &str, people_file: Option<&Path>) -> Refusal {
    let Person { account, server, user_id } = person;
    let login = nunbird_handover::Untrusted(login);
    let file = people_file.map(|file| format!(" or {}", file.display())).unwrap_or_default();
    let detail = format!(
        "account `{account}` of `{server}` is not known, and accounts.pinning is \"known\"; this job's user `{login}` has id \
         {user_id}\nif the account is this user's: add `{account} {server} {user_id}` by nunbirdctl people import{file}"
    );
    Refusal::denied("pin-unknown", "this site does not know your GitLab user yet", detail)
        .help("ask your site's admins to add you to the people who may run CI jobs here")
}
