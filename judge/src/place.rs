//! Where an admitted job works: the last answers of `config` that depend on the account and on what the user wrote.

use crate::refusal::{Code, Refusal};
use nunbird_handover::Untrusted;
use nunbird_policy::{
    AccountFacts, BUILDS_VARIABLE, Directories, KEEP_VARIABLE, Limits, Policy, RequestRefused, Rule,
    duration_text, read_duration,
};
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

/// The shortest time for which files are kept: a prompt takes a login.
const LEAST_KEEP: u64 = 60;

/// For how many seconds what a failed script leaves is kept, where the site lets users ask for it and the user does. `is_elsewhere` says that the
/// job's directory is not where the sweep looks, because the user or the site's program has named it. `variable` gives a variable of the job.
///
/// # Errors
/// A denial for what is no duration, for one out of bounds, and where the time could not be kept.
pub fn keep(
    directories: &Directories,
    is_elsewhere: bool,
    variable: impl FnOnce(&str) -> Result<Option<String>, String>,
) -> Result<Option<u64>, Refusal> {
    let Some(most) = directories.upkeep.keep else { return Ok(None) };
    let refused = |message: String, detail: String| {
        let help =
            format!("write {KEEP_VARIABLE}: \"{}\" or less, or remove the variable", duration_text(most));
        Refusal::denied(Code::Variable, message, detail).help(help)
    };
    let asked = variable(KEEP_VARIABLE).map_err(|why| {
        refused(format!("{KEEP_VARIABLE} of this job is no UTF-8 text"), format!("{KEEP_VARIABLE}: {why}"))
    })?;
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(None) };
    let shown = Untrusted(&asked);
    let detail =
        format!("{KEEP_VARIABLE} is `{shown}`, and keep of the directories is {}", duration_text(most));
    let Some(seconds) = read_duration(&asked) else {
        let message = format!(
            "{KEEP_VARIABLE} of this job is `{shown}`, which is no duration such as `20m` or `1h30m`"
        );
        return Err(refused(message, detail));
    };
    if seconds < LEAST_KEEP.min(most) || seconds > most {
        let message = format!(
            "{KEEP_VARIABLE} of this job asks for {shown}, and this site keeps files for {} to {}",
            duration_text(LEAST_KEEP.min(most)),
            duration_text(most)
        );
        return Err(refused(message, detail));
    }
    if is_elsewhere {
        let message = format!(
            "{KEEP_VARIABLE} has no effect where the user or the site's program names the directory of builds"
        );
        let help = format!("remove {KEEP_VARIABLE}, or {BUILDS_VARIABLE} if the job has it");
        return Err(Refusal::denied(Code::Variable, message, detail).help(help));
    }
    Ok(Some(seconds))
}

/// A user's request for more than the site's limits give, refused.
pub fn limits_refused(limits: &Limits, RequestRefused(why): &RequestRefused) -> Refusal {
    Refusal::denied(Code::Limits, why.clone(), format!("[limits.{}]: {why}", limits.name))
        .help("change or remove the variable in .gitlab-ci.yml")
}
