//! The host's user database and the site's maps, as a decision asks for them.

use crate::privilege::{Privilege, Source};
use crate::refusal::{Code, Refusal};
use crate::settings;
use crate::store;
use nunbird_policy::{AccountFacts, Accounts, Host, MapFile, Trouble, Violation};
use nunbird_sys::shadow::{self, Expiry};
use nunbird_sys::users;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Asks the name service switch and reads map files. Each name is looked up once, so that all of a decision sees the
/// same facts.
#[derive(Debug)]
pub(crate) struct ThisHost {
    privilege: Privilege,
    accounts: RefCell<BTreeMap<String, Option<AccountFacts>>>,
    groups: RefCell<BTreeMap<String, Option<u32>>>,
}

impl ThisHost {
    pub(crate) fn new(privilege: Privilege) -> Self {
        ThisHost { privilege, accounts: RefCell::default(), groups: RefCell::default() }
    }
}

impl Host for ThisHost {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble> {
        if let Some(known) = self.accounts.borrow().get(name) {
            return Ok(known.clone());
        }
        let facts = look_up(name)?;
        self.accounts.borrow_mut().insert(name.to_owned(), facts.clone());
        Ok(facts)
    }

    fn group(&self, name: &str) -> Result<Option<u32>, Trouble> {
        if let Some(known) = self.groups.borrow().get(name) {
            return Ok(*known);
        }
        let gid = users::group_by_name(name).map_err(|e| silent(&format!("group `{name}`"), &e))?;
        self.groups.borrow_mut().insert(name.to_owned(), gid);
        Ok(gid)
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble> {
        let failed = |detail: String| Trouble { code: Code::Map, detail };
        let bytes = settings::read_bytes(&map.file, self.privilege).map_err(|e| failed(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|e| failed(format!("{}: {e}", map.file.display())))?;
        Ok(Cow::Owned(text))
    }
}

fn look_up(name: &str) -> Result<Option<AccountFacts>, Trouble> {
    let entry = users::by_name(name).map_err(|e| silent(&format!("`{name}`"), &e))?;
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

fn silent(what: &str, error: &dyn std::fmt::Display) -> Trouble {
    Trouble { code: Code::UserDatabase, detail: format!("looking up {what}: {error}") }
}

/// An account that has been admitted before, judged again by what no configuration can change.
///
/// # Errors
/// As [`refuse`] and [`unanswered`].
pub(crate) fn again(name: &str, min_uid: u32) -> Result<AccountFacts, Refusal> {
    let facts = look_up(name).map_err(|trouble| unanswered(&trouble))?;
    let facts = facts.ok_or_else(|| refuse(name, &Violation::Missing))?;
    let accounts = Accounts { min_uid, ..Accounts::default() };
    nunbird_policy::check_account(name, &facts, &accounts).map_err(|violation| refuse(name, &violation))?;
    Ok(facts)
}

/// Whether the account's time is not over, where this process can know: with file capabilities it may not read shadow(5), nor
/// where root's file has mode 0000. That a password has expired is nothing to a job: nobody logs in with it.
///
/// # Errors
/// A denial for an account that has expired; a system refusal where the database does not answer.
pub(crate) fn check_expiry(name: &str, privilege: Privilege) -> Result<(), Refusal> {
    if !matches!(privilege.source, Source::Root | Source::Setuid) {
        return Ok(());
    }
    let now = store::now()?.epoch;
    match shadow::expiry(name, now).map_err(|e| unanswered(&silent(&format!("`{name}`"), &e)))? {
        Expiry::Valid | Expiry::Unknown => Ok(()),
        Expiry::Expired => {
            let detail =
                format!("account `{name}`: the day of its end in shadow(5) has come (chage -l {name})");
            Err(Refusal::denied(Code::AccountExpired, "your account on this host has expired", detail)
                .help("ask your site's admins to extend it"))
        }
    }
}

/// A denial that does not tell the CI user whether the account exists; the detail does, for the admin.
pub(crate) fn refuse(name: &str, violation: &Violation) -> Refusal {
    let message = "you have no account on this host that may run CI jobs";
    Refusal::denied(Code::Account, message, format!("account `{name}`: {violation}")).help(
        "your login here must equal your GitLab login, unless your site maps it; ask your site's admins",
    )
}

/// A decision that needs an answer which the host did not give is a no, and not the job's fault.
pub(crate) fn unanswered(trouble: &Trouble) -> Refusal {
    let message = match trouble.code {
        Code::UserDatabase => "this host's user database does not answer",
        Code::Group => "this host does not know a group that its policy names",
        _ => "this host's tables of accounts cannot be used",
    };
    Refusal::system(trouble.code, message, &trouble.detail)
}
