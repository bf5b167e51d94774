//! Old build directories of accounts, by the rules of the site's configuration: `nunbird-auth tidy`
//! removes them as the account. Each job's own cleanup does the same; this is for users who no
//! longer start jobs.

use super::{Action, Item, auth};
use crate::arguments::Sweep;
use crate::output::{CtlError, Format};
use crate::{files, replay};
use nix::unistd::geteuid;
use nunbird_accounts::users;
use nunbird_policy::{Downscope, Policy};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Cleans up the directories of every known account.
pub(super) fn sweep(options: &Sweep, format: Format) -> Result<Vec<Item>, CtlError> {
    let file = &options.configuration.configuration;
    if !file.exists() {
        return Ok(Vec::new());
    }
    let policy = files::read(file, format)?.policy;
    let profiles = policy.profiles.values().map(|profile| &profile.directories);
    let mut all = std::iter::once(&policy.directories).chain(profiles);
    // Without rules only where an admin names an account: what was kept under rules that have gone since is still to go.
    let accounts = match all.any(|directories| directories.upkeep.is_in_force()) {
        true => accounts(options, &policy)?,
        false => options.account.iter().cloned().collect(),
    };
    Ok(accounts.iter().filter_map(|account| tidy(account, file, options.dry_run)).collect())
}

/// The named accounts, and those whose jobs were admitted according to the audit file.
fn accounts(options: &Sweep, policy: &Policy) -> Result<BTreeSet<String>, CtlError> {
    let mut accounts: BTreeSet<String> = options.account.iter().cloned().collect();
    if !geteuid().is_root() {
        let own = users::by_uid(geteuid().as_raw()).map_err(CtlError::new)?;
        let mine = own.filter(|_| policy.downscope == Downscope::None).map(|own| own.name);
        return Ok(mine.into_iter().collect());
    }
    if let Some(file) = policy.audit.file.as_deref().filter(|file| file.exists()) {
        replay::events(file, |_, event| {
            let admitted = event.get("outcome").and_then(Value::as_str) == Some("admitted");
            if let Some(account) = event.get("account").and_then(Value::as_str).filter(|_| admitted) {
                accounts.insert(account.to_owned());
            }
            Ok(())
        })?;
    }
    Ok(accounts)
}

/// `None` if there was nothing to do.
fn tidy(account: &str, configuration: &Path, dry_run: bool) -> Option<Item> {
    let item = |action, reason: &str, said| Item {
        kind: "build-directories",
        path: format!("~{account}").into(),
        action,
        reason: reason.to_owned(),
        said,
    };
    if dry_run {
        return Some(item(
            Action::Kept,
            "its build directories would be inspected, as the account",
            Vec::new(),
        ));
    }
    let words = [
        "-u".as_ref(),
        "tidy".as_ref(),
        account.as_ref(),
        "--configuration".as_ref(),
        configuration.as_os_str(),
    ];
    let (done, said) = auth(&words);
    match (done, said.is_empty()) {
        // In the audit file, but not in the user database.
        (false, _) if said.iter().any(|line| line.ends_with("[account]")) => {
            Some(item(Action::Kept, "jobs may no longer run as this account", said))
        }
        (false, _) => Some(item(Action::Failed, "its build directories could not be cleaned up", said)),
        (true, true) => None,
        (true, false) if said.iter().any(|line| line.contains("removed the build directory")) => {
            Some(item(Action::Removed, "old build directories", said))
        }
        (true, false) => Some(item(Action::Kept, "old build directories", said)),
    }
}
