//! The host's user database and the site's maps, as a decision asks for them.

use crate::people;
use crate::refusal::{Code, Refusal};
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::GroupEntry;
use nunbird_handover::Untrusted;
use nunbird_host::{System, files};
use nunbird_policy::{
    AccountFacts, Accounts, Host, HostError, MapFile, Policy, ServerUser, Subject, Violation,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// Asks the user database and reads map files. Each name is looked up once, so that all of a decision sees the
/// same facts.
#[derive(Debug)]
pub struct ThisHost<S> {
    system: S,
    accounts: RefCell<BTreeMap<String, Option<AccountFacts>>>,
    groups: RefCell<BTreeMap<String, Option<GroupEntry>>>,
    /// By server and account.
    people: RefCell<BTreeMap<(String, String), Option<u64>>>,
}

impl<S: System> ThisHost<S> {
    /// A host that has not been asked anything yet.
    pub fn new(system: S) -> Self {
        let (accounts, groups, people) = (RefCell::default(), RefCell::default(), RefCell::default());
        ThisHost { system, accounts, groups, people }
    }

    fn group_entry(&self, name: &str) -> Result<Option<GroupEntry>, HostError> {
        if let Some(known) = self.groups.borrow().get(name) {
            return Ok(known.clone());
        }
        let entry = self.system.group(name).map_err(silent)?;
        self.groups.borrow_mut().insert(name.to_owned(), entry.clone());
        Ok(entry)
    }
}

impl<S: System> Host for ThisHost<S> {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        if let Some(known) = self.accounts.borrow().get(name) {
            return Ok(known.clone());
        }
        let facts = look_up(&self.system, name)?;
        self.accounts.borrow_mut().insert(name.to_owned(), facts.clone());
        Ok(facts)
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        Ok(self.group_entry(name)?.map(|entry| entry.gid))
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        let entry = self.group_entry(group)?;
        Ok(entry.map(|entry| entry.has(&account.name, account.gid, &account.groups)))
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError> {
        let failed = |detail: String| HostError { code: Code::Map, detail };
        let bytes = self.read(&map.file).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|e| failed(format!("{}: {e}", map.file.display())))?;
        Ok(Cow::Owned(text))
    }

    fn pinned(
        &self,
        people_file: Option<&Path>,
        server: &str,
        account: &str,
    ) -> Result<Option<u64>, HostError> {
        let key = (server.to_owned(), account.to_owned());
        if let Some(known) = self.people.borrow().get(&key) {
            return Ok(*known);
        }
        let failed = |detail: String| HostError { code: people::CODE, detail };
        let said = people_file.map(|file| self.of_site(file, server, account)).transpose().map_err(failed)?;
        let known = match said.flatten() {
            Some(user_id) => Some(user_id),
            None => people::known(&self.system, server, account).map_err(failed)?,
        };
        self.people.borrow_mut().insert(key, known);
        Ok(known)
    }

    /// A host alone knows of no job that a server could be asked about.
    fn server_user(&self, _: &Subject) -> Result<ServerUser, HostError> {
        Err(HostError { code: Code::UserCheck, detail: "no server can be asked without a job".to_owned() })
    }
}

impl<S: System> ThisHost<S> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        files::content(path, self.system.file(path)?).map_err(|e| e.to_string())
    }

    /// Who the account belongs to by the site's own file.
    fn of_site(&self, file: &Path, server: &str, account: &str) -> Result<Option<u64>, String> {
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        let bytes = self.read(file)?;
        let text = String::from_utf8(bytes).map_err(|e| explain(&e))?;
        nunbird_policy::find_person(&text, server, account)
            .map_err(|e| format!("{}:{}:{}: {}", file.display(), e.line, e.column, e.message))
    }
}

fn look_up(system: &impl System, name: &str) -> Result<Option<AccountFacts>, HostError> {
    let entry = system.account(name).map_err(silent)?;
    Ok(entry.map(|entry| AccountFacts {
        name: entry.name,
        uid: entry.uid,
        gid: entry.gid,
        groups: entry.groups,
        home: entry.home,
        shell: entry.shell,
        name_of_uid: entry.name_of_uid,
    }))
}

fn silent(detail: String) -> HostError {
    HostError { code: Code::UserDatabase, detail }
}

/// An account that has been admitted before, judged again by what no configuration can change.
///
/// # Errors
/// As [`refuse`] and [`unanswered`].
pub fn again(name: &str, min_uid: u32, system: &impl System) -> Result<AccountFacts, Refusal> {
    let facts = look_up(system, name).map_err(|trouble| unanswered(&trouble))?;
    let facts = facts.ok_or_else(|| refuse(name, &Violation::Missing))?;
    let accounts = Accounts { min_uid, ..Accounts::default() };
    nunbird_policy::check_account(name, &facts, &accounts).map_err(|violation| refuse(name, &violation))?;
    Ok(facts)
}

/// An account that has been admitted before, judged again by all of what the configuration says of accounts now: an admin
/// who denies it stops the job's next stage.
///
/// # Errors
/// As [`refuse`] and [`unanswered`].
pub fn permitted(name: &str, policy: &Policy, host: &dyn Host, caller: u32) -> Result<AccountFacts, Refusal> {
    let checked = nunbird_policy::check(policy, name, host, caller);
    checked.map_err(|trouble| unanswered(&trouble))?.map_err(|violation| refuse(name, &violation))
}

/// Whether the account's time is not over, where this process can know: with file capabilities it may not read shadow(5), nor
/// where root's file has mode 0000. An expired password does not matter to a job, which does not log in with it.
///
/// # Errors
/// A denial for an account that has expired; a system refusal where the database does not answer.
pub fn check_expiry(name: &str, system: &impl System) -> Result<(), Refusal> {
    match system.expiry(name).map_err(|e| unanswered(&silent(e)))? {
        Expiry::Valid | Expiry::Unknown => Ok(()),
        Expiry::Expired => {
            let detail =
                format!("account `{name}`: the day of its end in shadow(5) has come (chage -l {name})");
            Err(Refusal::denied(Code::AccountExpired, "your account on this host has expired", detail)
                .help("ask your site's admins to extend it"))
        }
    }
}

/// Seconds since the epoch.
///
/// # Errors
/// A system refusal when the clock does not answer.
pub fn now() -> Result<u64, Refusal> {
    nunbird_sys::clock::now().map_err(|e| Refusal::system(Code::Clock, "this host's clock cannot be read", e))
}

/// A denial that does not reveal to the CI user whether the account exists; the detail does, for the admin.
pub fn refuse(name: &str, violation: &Violation) -> Refusal {
    let detail = format!("account `{name}`: {violation}");
    if let Violation::Name = violation {
        // The user's own word, which says nothing about accounts.
        let message = format!("`{}` is not a name of an account that may run CI jobs", Untrusted(name));
        return Refusal::denied(Code::Account, message, detail).help(
            "such names have lower-case letters, digits, `_`, `.` and `-`, at most 32, and begin with a letter or `_`; ask your site's admins to map your \
             GitLab login to an account",
        );
    }
    Refusal::denied(Code::Account, "you have no account on this host that may run CI jobs", detail).help(
        "unless your site maps them, your login here must equal your GitLab login; ask your site's admins with the decision id",
    )
}

/// A decision that needs an answer which the host did not give is a no, and not the job's fault.
pub fn unanswered(trouble: &HostError) -> Refusal {
    let message = match trouble.code {
        Code::UserDatabase => "this host's user database does not answer",
        Code::Group => "this host does not know a group that its policy names",
        people::CODE => "this host's list of people cannot be used",
        Code::UserCheck => "the GitLab server does not say who started this job",
        _ => "this host's tables of accounts cannot be used",
    };
    let refusal = Refusal::system(trouble.code, message, &trouble.detail);
    match trouble.code {
        Code::UserCheck => refusal
            .help("retry the job in a minute; if that does not help, give your site's admins the id of this decision"),
        _ => refusal,
    }
}
