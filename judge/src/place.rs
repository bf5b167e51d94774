//! Where an admitted job works: the last answers of `config` that depend on the account and on what the user wrote.

use crate::refusal::{Code, Refusal};
use nunbird_handover::Untrusted;
use nunbird_policy::{AccountFacts, BUILDS_VARIABLE, Directories, Limits, Policy, RequestRefused, Rule};
use nunbird_token::Admitted;
use std::path::{Path, PathBuf};

/// A job's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDirectories {
    /// The account's, below which everything of its jobs lies.
    pub data_dir: PathBuf,
    /// The one that the user named for builds, where the site lets users name one.
    pub builds_root: Option<PathBuf>,
}

/// The directories of a job of this rule. `validated` is the one that the site's program named.
///
/// # Errors
/// For a home directory that a shell would interpret, and for a directory of the user's that jobs cannot work in.
pub fn of(
    policy: &Policy,
    rule: &Rule,
    account: &AccountFacts,
    admitted: &Admitted,
    validated: Option<&str>,
) -> Result<JobDirectories, Refusal> {
    let (_, directories) = policy.job_of(rule);
    let template = validated.unwrap_or(&directories.data_dir);
    let data_dir = data_dir(template, &account.name, &account.home)?;
    Ok(JobDirectories { data_dir, builds_root: users_builds_root(admitted, directories, account)? })
}

/// The directory of the account's jobs.
///
/// # Errors
/// For a home directory that a shell would interpret.
pub fn data_dir(template: &str, user: &str, home: &Path) -> Result<PathBuf, Refusal> {
    nunbird_policy::data_dir(template, user, home).ok_or_else(|| {
        let detail = format!(
            "home directory {} of `{user}` has characters that a shell would interpret",
            home.display()
        );
        Refusal::denied(Code::Home, "your home directory on this host cannot hold CI jobs", detail)
            .help("ask your site's admins for a home directory without blanks and other characters of shells, or a `data_dir` elsewhere")
    })
}

/// The directory that the user names for builds, where the site lets users name one. Nothing is looked at here: the
/// launcher does that, as the user.
fn users_builds_root(
    admitted: &Admitted,
    directories: &Directories,
    account: &AccountFacts,
) -> Result<Option<PathBuf>, Refusal> {
    let asked = admitted.requested_builds_dir.as_deref().filter(|_| directories.user_builds_dir);
    let Some(asked) = asked else { return Ok(None) };
    let root = nunbird_policy::builds_root(asked, &account.name, &account.home);
    root.map(Some).ok_or_else(|| {
        let message = format!("{BUILDS_VARIABLE} of this job names no directory that jobs can work in");
        Refusal::denied(Code::BuildsDir, message, format!("{BUILDS_VARIABLE} is `{}`", Untrusted(asked))).help(
            "write an absolute path of letters, digits and -_.+@,=: (`$HOME` and `$USER` are your account's), or remove the variable",
        )
    })
}

/// A user's request for more than the site's limits give, refused.
pub fn limits_refused(limits: &Limits, RequestRefused(why): &RequestRefused) -> Refusal {
    Refusal::denied(Code::Limits, why.clone(), format!("[limits.{}]: {why}", limits.name))
        .help("change or remove the variable in .gitlab-ci.yml")
}
