//! Removing an account's old build directories without a job: for `nunbirdctl sweep`, so that the directories of people who
//! start no jobs any more go, too.
//!
//! Only the keeper of the records may ask. Nothing is decided here: the launcher removes, as the user, what the site's rules say
//! and no job has.

use crate::account;
use crate::arguments::Call;
use crate::context::Context;
use crate::launch::Start;
use crate::opened::Opened;
use crate::refusal::{Code, Refusal};
use crate::settings::{self, Settings};
use crate::store;
use nunbird_handover::{
    Account, Audit, FORMAT_VERSION, Identity, JobDirectory, Now, Record, RuleRef, Shell, SiteRules, Task,
    Workspace,
};
use nunbird_judge::place;
use nunbird_policy::{AccountFacts, Directories};
use nunbird_sys::fork::Ended;
use nunbird_sys::process;

/// Tidies the account's build directories, by each of the site's rules for directories.
///
/// # Errors
/// A refusal for any other caller than the keeper, for an account that no job may become, and when the launcher does not start.
pub(crate) fn tidy(call: &Call, context: &Context<'_>, name: &str) -> Result<Ended, Refusal> {
    let (caller, keeper) = (context.privilege.caller, context.privilege.keeper());
    let refuse = |detail: &dyn std::fmt::Display| {
        Refusal::denied(Code::NotTheKeeper, "this is for nunbirdctl sweep, run by root", detail)
    };
    if caller.uid != keeper.uid {
        return Err(refuse(&format!("uid {} does not keep the records", caller.uid)));
    }
    let settings = settings::read(call.configuration.as_deref(), context.privilege)?;
    let policy = &settings.policy;
    let account = account::again(name, policy.accounts.min_uid)?;
    if !context.privilege.source.is_privileged() && account.uid != caller.uid {
        return Err(refuse(&format!("uid {} cannot become `{name}`", caller.uid)));
    }
    let profiles = policy.profiles.values().map(|profile| &profile.directories);
    let mut places: Vec<&Directories> = Vec::new();
    for directories in std::iter::once(&policy.directories).chain(profiles) {
        if directories.upkeep.is_in_force() && !places.contains(&directories) {
            places.push(directories);
        }
    }
    let mut worst = Ended::Exited(0);
    for directories in places {
        let record = no_job(context, &settings, directories, &account)?;
        let start = Start::prepare(context, &record, Task::Tidy, Opened::default(), account.groups.clone())?;
        let ended = start.run_and_wait(context)?;
        if ended != Ended::Exited(0) {
            worst = ended;
        }
    }
    Ok(worst)
}

/// What the launcher is told: where the account's directories are, and of no job.
fn no_job(
    context: &Context<'_>,
    settings: &Settings,
    directories: &Directories,
    account: &AccountFacts,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let Now { epoch, boottime, boot_id } = store::now()?;
    let data_dir = place::data_dir(&directories.data_dir, &account.name, &account.home)?;
    let builds_dir = data_dir.join("builds").join(process::short_host_name()).join("none");
    let job = &policy.job;
    Ok(Record {
        version: FORMAT_VERSION,
        decision_id: context.decision_id.clone(),
        job_id: 0,
        pipeline_id: 0,
        project_id: 0,
        identity: Identity {
            server: String::new(),
            user_login: String::new(),
            user_id: 0,
            project_path: String::new(),
        },
        rule: RuleRef { name: String::new(), file: policy.file.clone(), line: 0 },
        policy_path: policy.file.clone(),
        policy_digest: settings.digest.clone(),
        account: Account {
            name: account.name.clone(),
            uid: account.uid,
            gid: account.gid,
            home: account.home.clone(),
            shell: account.shell.clone(),
        },
        min_uid: policy.accounts.min_uid,
        runner_uid: context.privilege.caller.uid,
        runner: None,
        job_directory: JobDirectory { path: "/".into(), device: 0, inode: 0 },
        boot_id,
        admitted_at: epoch,
        expires_at: epoch,
        expires_at_boottime: boottime,
        slot: 0,
        workspace: Workspace {
            project_dir: builds_dir.join("none"),
            cache_dir: data_dir.join("cache"),
            builds_root: data_dir.clone(),
            builds_dir,
            data_dir,
        },
        shell: Shell { path: job.shell.clone(), login: job.login_shell },
        launcher: job.launcher.clone(),
        environment: job.environment.clone(),
        isolation: job.isolation,
        site: SiteRules { upkeep: directories.upkeep.clone(), ..SiteRules::default() },
        batch: None,
        queued_s: None,
        limits: None,
        pam: None,
        identity_source: String::new(),
        audit: Audit::default(),
        closed: true,
    })
}
