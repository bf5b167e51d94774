//! Which build directories of an account without a job are to be tidied: each of the site's rules for directories, once.

use crate::call::{self, Call};
use crate::monitor::decider_failed;
use crate::settings::Settings;
use nunbird_handover::{
    Account, Audit, FORMAT_VERSION, Identity, JobDirectory, Record, RuleRef, Shell, SiteRules, Workspace,
};
use nunbird_host::refusal::Refusal;
use nunbird_judge::{account, place};
use nunbird_policy::{AccountFacts, Directories};
use nunbird_requests::{Reply, Request};
use nunbird_sys::process;

/// Has them tidied.
///
/// # Errors
/// A refusal for an account that no job may become, and when a launcher did not start or end well.
pub(crate) fn tidy(call: &Call<'_>, settings: &Settings, name: &str) -> Result<(), Refusal> {
    let policy = &settings.policy;
    let account = account::again(name, policy.accounts.min_uid, &call.monitor)?;
    let profiles = policy.profiles.values().map(|profile| &profile.directories);
    let mut places: Vec<&Directories> = Vec::new();
    for directories in std::iter::once(&policy.directories).chain(profiles) {
        if directories.upkeep.is_in_force() && !places.contains(&directories) {
            places.push(directories);
        }
    }
    let mut all_well = true;
    for directories in places {
        let record = no_job(call, settings, directories, &account)?;
        match call.monitor.have(&Request::Tidy(call::bytes(&record)?))? {
            Reply::Truth(well) => all_well &= well,
            _ => return Err(decider_failed(&"another reply than was asked for")),
        }
    }
    if all_well { Ok(()) } else { Err(decider_failed(&"a launcher did not end well")) }
}

/// A record of no job, by which the launcher finds the account's directories.
fn no_job(
    call: &Call<'_>,
    settings: &Settings,
    directories: &Directories,
    account: &AccountFacts,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let (epoch, boottime) = call.start.now;
    let data_dir = place::data_dir(&directories.data_dir, &account.name, &account.home)?;
    let builds_dir = data_dir.join("builds").join(process::short_host_name()).join("none");
    let job = &policy.job;
    Ok(Record {
        version: FORMAT_VERSION,
        decision_id: call.start.decision_id.clone(),
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
        runner_uid: call.start.caller,
        runner: None,
        job_directory: JobDirectory { path: "/".into(), device: 0, inode: 0 },
        boot_id: call.start.boot_id.clone(),
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
