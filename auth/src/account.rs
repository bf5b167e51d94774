//! The local account of a job: looked up, judged, compared with the caller.

use crate::privilege::Privilege;
use crate::refusal::Refusal;
use nunbird_policy::{AccountFacts, AccountRules, Downscope, check_account};
use nunbird_sys::users::{self, UserEntry};

/// An account that passed, with all its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) entry: UserEntry,
}

/// What to look for and how to judge it.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) rules: AccountRules<'a>,
    pub(crate) downscope: Downscope,
}

/// Looks the account up and judges it.
///
/// # Errors
/// A denial that does not tell the CI user whether the account exists; the detail does, for the admin. A
/// system refusal when the user database does not answer.
pub(crate) fn resolve(wanted: &Wanted<'_>, privilege: Privilege) -> Result<Target, Refusal> {
    let name = wanted.name;
    let deny = |detail: String| {
        let message = "you have no account on this host that may run CI jobs";
        Refusal::denied("account", message, format!("account `{name}`: {detail}")).help(
            "your login here must equal your GitLab login, unless your site maps it; ask your site's admins",
        )
    };
    let entry = users::by_name(name)
        .map_err(|e| {
            let message = "this host's user database does not answer";
            Refusal::system("user-database", message, format!("looking up `{name}`: {e}"))
        })?
        .ok_or_else(|| deny("not in the user database".to_owned()))?;
    let facts = AccountFacts {
        name: entry.name.clone(),
        uid: entry.uid,
        gid: entry.gid,
        groups: entry.groups.clone(),
        home: entry.home.clone(),
        shell: entry.shell.clone(),
        name_of_uid: entry.name_of_uid.clone(),
    };
    check_account(name, &facts, wanted.rules).map_err(|violation| deny(violation.to_string()))?;
    let own = entry.uid == privilege.caller.uid;
    match wanted.downscope {
        Downscope::Setuid if own => Err(deny("it is the account that runs gitlab-runner".to_owned())),
        Downscope::None if !own => {
            let caller = privilege.caller.uid;
            Err(deny(format!(
                "this runner belongs to uid {caller} and serves nobody else (downscope = \"none\")"
            )))
        }
        _ => Ok(Target { entry }),
    }
}
