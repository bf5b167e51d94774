//! What has to hold for a later stage of an admitted job, whatever the decider answers.

use crate::arguments::Call;
use crate::context::Context;
use crate::refusal::{Code, Refusal};
use crate::store;
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::UserEntry;
use nunbird_host::{Floor, System, runner};
use nunbird_messages::Record;

/// The configuration that the caller names, if it names one, must be the one by which the job was admitted.
///
/// # Errors
/// A system refusal for another one.
pub(crate) fn same_configuration(call: &Call, record: &Record) -> Result<(), Refusal> {
    match &call.configuration {
        Some(path) if *path != record.policy_path => {
            let detail =
                format!("admitted by {}, called with {}", record.policy_path.display(), path.display());
            Err(Refusal::system(Code::ConfigurationDiffers, "this job was admitted under another configuration", detail)
                .help("name the same --configuration in every *_args of the runner's config.toml, or in config_args alone"))
        }
        _ => Ok(()),
    }
}

/// A runner that was killed cancels nothing any more: what began now would run on unwatched, beside the job that GitLab starts instead.
///
/// # Errors
/// A system refusal where the runner has ended, or the host does not say whether it has.
pub(crate) fn runner_runs(record: &Record) -> Result<(), Refusal> {
    let failed = |e: std::io::Error| {
        Refusal::system(Code::Process, "this host does not say whether the job's runner still runs", e)
    };
    if runner::is_gone(record, &store::now()?).map_err(failed)? {
        let detail = format!("none of {:?} runs", record.runner);
        let message = "the gitlab-runner that started this job has ended";
        return Err(Refusal::system(Code::RunnerGone, message, detail).help("run the job again"));
    }
    Ok(())
}

/// The record's account as it is now, which the floor must still let run jobs.
///
/// # Errors
/// As [`same_account`], and a denial by the floor.
pub(crate) fn permitted_account(context: &Context<'_>, record: &Record) -> Result<UserEntry, Refusal> {
    let (account, here) = (same_account(context, record)?, context.privilege.here());
    Floor::read(here.0)?.check(&record.account.name, &account, here.0, &here)?;
    Ok(account)
}

/// The record's account as it is now: a user who was removed, or whose name went to another, must not run on. For what clears
/// away as well, which goes on for an account that is denied by now, and without the configuration.
///
/// # Errors
/// A denial for an account that does not exist, that has other numbers, or that may never run a job; a system refusal where the user database
/// does not answer.
pub(crate) fn same_account(context: &Context<'_>, record: &Record) -> Result<UserEntry, Refusal> {
    let was = &record.account;
    let now = context.privilege.here().account(&was.name).map_err(|e| silent(&e))?;
    let now = now.ok_or_else(|| missing(&was.name))?;
    Floor::check_ids(&was.name, &now, context.privilege.rights())?;
    if (now.uid, now.gid) == (was.uid, was.gid) {
        return Ok(now);
    }
    let detail = format!(
        "`{}` was uid {} gid {} when the job was admitted, and is uid {} gid {} now",
        was.name, was.uid, was.gid, now.uid, now.gid
    );
    let message = "your account on this host has changed since the job began";
    Err(Refusal::denied(Code::AccountChanged, message, detail))
}

/// Whether the account's time is not over, where this process can know.
///
/// # Errors
/// A denial where it is; a system refusal where the database does not answer.
pub(crate) fn not_expired(name: &str, context: &Context<'_>) -> Result<(), Refusal> {
    match context.privilege.here().expiry(name).map_err(|e| silent(&e))? {
        Expiry::Valid | Expiry::Unknown => Ok(()),
        Expiry::Expired => {
            let detail =
                format!("account `{name}`: the day of its end in shadow(5) has come (chage -l {name})");
            Err(Refusal::denied(Code::AccountExpired, "your account on this host has expired", detail)
                .help("ask your site's admins to extend it"))
        }
    }
}

/// The refusal where the user database does not answer.
pub(crate) fn silent(detail: &str) -> Refusal {
    Refusal::system(Code::UserDatabase, "this host's user database does not answer", detail)
}

/// The refusal of an account that does not exist.
pub(crate) fn missing(name: &str) -> Refusal {
    let message = "you have no account on this host that may run CI jobs";
    Refusal::denied(Code::Account, message, format!("account `{name}`: not in the user database"))
}
