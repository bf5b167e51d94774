//! Which build directories of an account without a job are to be tidied: each of the site's rules for directories, once. Without rules as well:
//! what was kept for a time under rules that have gone since goes when that time is over.

use crate::call::Call;
use crate::monitor::decider_failed;
use crate::settings::Settings;
use crate::stage;
use nunbird_handover::{
    Account, Credentials, ExitCodes, FORMAT_VERSION, Handover, Identity, Shell, SiteRules, Task, Workspace,
};
use nunbird_host::refusal::Refusal;
use nunbird_judge::{account, place};
use nunbird_policy::{AccountFacts, Directories};
use nunbird_requests::{Reply, Request, Tidying};
use nunbird_unprivileged::process;
use std::collections::BTreeSet;

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
        if !places.contains(&directories) {
            places.push(directories);
        }
    }
    let mut all_well = true;
    for directories in places {
        let tidying = launcher(call, settings, directories, &account)?;
        match call.monitor.have(&Request::Tidy(tidying))? {
            Reply::Truth(well) => all_well &= well,
            _ => return Err(decider_failed(&"another reply than was asked for")),
        }
    }
    if all_well { Ok(()) } else { Err(decider_failed(&"a launcher did not end well")) }
}

/// A launcher of no job, which finds the account's directories.
fn launcher(
    call: &Call<'_>,
    settings: &Settings,
    directories: &Directories,
    account: &AccountFacts,
) -> Result<Tidying, Refusal> {
    let policy = &settings.policy;
    let data_dir = place::data_dir(&directories.data_dir, &account.name, &account.home)?;
    let builds_dir = data_dir.join("builds").join(process::short_host_name()).join("none");
    let job = &policy.job;
    let handover = Handover {
        version: FORMAT_VERSION,
        decision_id: call.start.decision_id.clone(),
        job_id: 0,
        task: Task::Tidy,
        account: Account {
            name: account.name.clone(),
            uid: account.uid,
            gid: account.gid,
            home: account.home.clone(),
            shell: account.shell.clone(),
        },
        identity: Identity {
            server: String::new(),
            user_login: String::new(),
            user_id: 0,
            project_path: String::new(),
        },
        workspace: Workspace {
            project_dir: builds_dir.join("none"),
            cache_dir: data_dir.join("cache"),
            builds_root: data_dir.clone(),
            builds_dir,
            data_dir,
        },
        shell: Shell { path: job.shell.clone(), login: job.login_shell },
        environment: job.variables(),
        session_variables: BTreeSet::new(),
        umask: None,
        exit_codes: ExitCodes::default(),
        exit_code_file: false,
        batch: None,
        container: None,
        credentials: Credentials::default(),
        credential_helpers: Vec::new(),
        site: SiteRules { upkeep: directories.upkeep.clone(), ..SiteRules::default() },
        expires_at: call.start.now.0,
        timed_out: false,
    };
    Ok(Tidying {
        account: account.name.clone(),
        launcher: job.launcher.clone(),
        isolation: job.isolation,
        launch: stage::message(&handover, false)?,
    })
}
