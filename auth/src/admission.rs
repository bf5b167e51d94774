//! The `config` stage: who the job belongs to, whether it may run, and as whom.

use crate::audit::{self, Claims, Event, Outcome, Sinks};
use crate::context::Context;
use crate::identify;
use crate::judgement::{self, Judged};
use crate::limits;
use crate::refusal::{Code, Refusal, clean};
use crate::settings::Settings;
use crate::store::{self, Claim, Store, job_directory};
use crate::token_help;
use nunbird_handover::{
    Account, Audit, Batch, BatchPlan, FORMAT_VERSION, Identity, JobDirectory, Now, Record, RuleRef,
    Scheduler, Shell, SiteRules, UNLIMITED, Untrusted, Workspace,
};
use nunbird_policy::{AccountFacts, BUILDS_VARIABLE, DEFAULT_AUDIT_FILE, Directories, Executor, Job, Policy};
use nunbird_sys::process;
use nunbird_token::Admitted;
use std::path::{Path, PathBuf};

/// Admits the job: writes its audit line and its record.
///
/// # Errors
/// Every way in which the answer is no. Nothing but an audit line is left behind then.
pub(crate) fn admit(context: &mut Context<'_>, settings: &Settings) -> Result<Record, Refusal> {
    let privilege = context.privilege;
    let directory = job_directory(context.inputs.job_directory(), privilege)?;
    let store = Store::open(privilege)?;
    let admitted = identify::identify(context, settings)
        .map_err(|refusal| token_help::add(refusal, context.inputs, &settings.policy))?;
    context.subject = Some(judgement::subject(&admitted, settings)?);
    context.admitted = Some(admitted.clone());
    let judged = judgement::judge(context, &admitted, settings)?;
    let lock = store.lock()?;
    let server = settings.policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str());
    let claim = Claim { job_directory: &directory, server, job_id: admitted.job_id, uid: judged.account.uid };
    let slot = store.free_slot(&claim, &lock)?;
    let limits = settings.policy.limits_of(judged.rule);
    let mut record = record(context, settings, &admitted, &judged, directory, slot)?;
    limits::establish(context, limits, &mut record)?;
    let written = write_admission(context, &record).and_then(|()| store.write(&record, &lock));
    if written.is_err() {
        limits::abandon(privilege, &record);
    }
    written.map(|()| record)
}

fn record(
    context: &Context<'_>,
    settings: &Settings,
    admitted: &Admitted,
    judged: &Judged<'_>,
    job_directory: JobDirectory,
    slot: u16,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let Now { epoch, boottime, boot_id } = store::now()?;
    let expires_at = admitted.expires_at.saturating_add(policy.identity.late_stages);
    let Judged { rule, account: entry, .. } = judged;
    let (job, directories) = policy.job_of(rule);
    let template = judged.data_dir.as_deref().unwrap_or(&directories.data_dir);
    let data_dir = data_dir(template, &entry.name, &entry.home)?;
    let server = policy.gitlab.get(admitted.server).map(|s| s.name.clone()).unwrap_or_default();
    let directory = data_dir.join("batch").join(&context.decision_id);
    let batch = batch(policy, job, directory, admitted.expires_at)?;
    let own = nunbird_policy::own_directory(template, &entry.name, &entry.home);
    let builds_root = users_builds_root(admitted, directories, entry)?;
    let place = match directories.per_job {
        true => format!("{server}-{}", admitted.job_id),
        false => format!("{slot:03}"),
    };
    let raised = job.raise_stack_limit.then_some(UNLIMITED);
    let host = process::short_host_name();
    let builds_dir = match &builds_root {
        Some(root) => root.join(host).join(place),
        None => data_dir.join("builds").join(host).join(place),
    };
    Ok(Record {
        version: FORMAT_VERSION,
        decision_id: context.decision_id.clone(),
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        identity: Identity {
            server,
            user_login: admitted.user_login.clone(),
            user_id: admitted.user_id,
            project_path: admitted.project_path.clone(),
        },
        rule: RuleRef { name: rule.name.clone(), file: rule.place.file.clone(), line: rule.place.line },
        policy_path: policy.file.clone(),
        policy_digest: settings.digest.clone(),
        account: Account {
            name: entry.name.clone(),
            uid: entry.uid,
            gid: entry.gid,
            home: entry.home.clone(),
            shell: entry.shell.clone(),
        },
        min_uid: policy.accounts.min_uid,
        runner_uid: context.privilege.caller.uid,
        job_directory,
        boot_id,
        admitted_at: epoch,
        expires_at,
        expires_at_boottime: boottime.saturating_add(expires_at.saturating_sub(epoch)),
        slot,
        workspace: Workspace {
            project_dir: builds_dir.join(&admitted.project_dir),
            cache_dir: data_dir.join("cache"),
            builds_root: builds_root.unwrap_or_else(|| data_dir.clone()),
            builds_dir,
            data_dir,
        },
        shell: Shell { path: job.shell.clone(), login: job.login_shell },
        launcher: job.launcher.clone(),
        isolation: job.isolation,
        queued_s: admitted.queued,
        limits: limits::decide(context, policy.limits_of(rule))?,
        site: SiteRules {
            message: job.message.clone(),
            stages: job.stages.clone(),
            stack: policy.limits_of(rule).and_then(|limits| limits.rlimits.stack).or(raised),
            own_directory: own.filter(|_| directories.upkeep.create),
            upkeep: directories.upkeep.clone(),
        },
        pam: policy.pam.clone(),
        environment: job.environment.clone(),
        batch,
        identity_source: judgement::source(admitted).name().to_owned(),
        audit: policy.audit.clone(),
        closed: false,
    })
}

/// The scheduler of the job's stages; none where they run on this host.
///
/// # Errors
/// For a scheduler that the policy does not describe, which it does not let happen.
fn batch(
    policy: &Policy,
    job: &Job,
    directory: PathBuf,
    deadline: u64,
) -> Result<Option<BatchPlan>, Refusal> {
    let scheduler = match &job.executor {
        Executor::Shell => return Ok(None),
        Executor::Scheduler(name) => Scheduler::Named(name.clone()),
        Executor::Described(name) => {
            let known = policy.schedulers.get(name);
            let unknown =
                || Refusal::system(Code::Executor, "the job's executor is not configured on this host", name);
            Scheduler::Described(known.ok_or_else(unknown)?.description.clone())
        }
    };
    let small = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
    let from = &job.batch;
    let settings = Batch {
        stages: from.stages.clone(),
        scheduler_bin: from.scheduler_bin.clone(),
        environment: from.environment.clone(),
        grace: small(from.grace),
        rules: from.rules.clone(),
        allow_illegal_args: from.allow_illegal_arguments,
        poll_interval: small(from.poll_interval),
        nfs_timeout: small(from.nfs_timeout),
        // GitLab's tokens live as long as the job may.
        deadline: Some(deadline),
        ..Batch::new(scheduler, directory)
    };
    Ok(Some(BatchPlan {
        name: job.executor.name().to_owned(),
        settings,
        arguments_variables: from.arguments_variables.clone(),
        job_prefix: from.job_prefix,
    }))
}

/// The directory of the account's jobs.
///
/// # Errors
/// For a home directory that a shell would interpret.
pub(crate) fn data_dir(template: &str, user: &str, home: &Path) -> Result<PathBuf, Refusal> {
    nunbird_policy::data_dir(template, user, home).ok_or_else(|| {
        let detail = format!(
            "home directory {} of `{user}` has characters that a shell would interpret",
            home.display()
        );
        Refusal::system(Code::Home, "your home directory on this host cannot hold CI jobs", detail)
    })
}

/// The directory that the user names for builds, where the site lets users name one. Nothing is looked at here: the
/// launcher does that, as the user.
///
/// # Errors
/// For a text that is no path that jobs can work in.
fn users_builds_root(
    admitted: &Admitted,
    directories: &Directories,
    account: &AccountFacts,
) -> Result<Option<PathBuf>, Refusal> {
    let wish = admitted.requested_builds_dir.as_deref().filter(|_| directories.user_builds_dir);
    let Some(wish) = wish else { return Ok(None) };
    let root = nunbird_policy::builds_root(wish, &account.name, &account.home);
    root.map(Some).ok_or_else(|| {
        let message = format!("{BUILDS_VARIABLE} of this job names no directory that jobs can work in");
        Refusal::denied(Code::BuildsDir, message, format!("{BUILDS_VARIABLE} is `{}`", Untrusted(wish))).help(
            "write an absolute path of letters, digits and -_.+@,=: (`$HOME` and `$USER` are your account's), or remove the variable",
        )
    })
}

fn write_admission(context: &mut Context<'_>, record: &Record) -> Result<(), Refusal> {
    context.record = Some(record.clone());
    let event = Event { job: facts(context), ..Event::of(context, Outcome::Admitted) };
    audit::demand(&Sinks::open(&record.audit, context.privilege), &event, context)
}

/// Writes down that a job was denied, and gives the refusal back. Where that fails the refusal says so, too.
///
/// Without settings the line goes where a packaged installation has it: the admin must learn why a broken
/// configuration denies every job.
pub(crate) fn write_denial(context: &Context<'_>, settings: Option<&Settings>, refusal: Refusal) -> Refusal {
    let default = context.privilege.source.is_privileged().then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
    let default = Audit { file: default, ..Audit::default() };
    let destinations = settings.map_or(default, |settings| settings.policy.audit.clone());
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        job: facts(context),
        policy_digest: settings.map(|settings| settings.digest.as_str()),
        ..Event::of(context, Outcome::Denied)
    };
    let written_down = Sinks::open(&destinations, context.privilege).write(&event, true);
    written(written_down, refusal)
}

/// Writes down that a later stage of an admitted job was refused, and gives the refusal back. The decision's id leads to
/// the event that admitted the job.
pub(crate) fn write_late_denial(context: &Context<'_>, refusal: Refusal) -> Refusal {
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        ..Event::of(context, Outcome::Denied)
    };
    let written_down = context.sinks.write(&event, true);
    written(written_down, refusal)
}

/// The refusal, which says so where it could not be written down.
fn written(result: Result<(), String>, refusal: Refusal) -> Refusal {
    match result {
        Ok(()) => refusal,
        Err(troubles) => {
            let detail = format!("{}\n(not written down: {})", refusal.detail, clean(&troubles));
            Refusal { detail, ..refusal }
        }
    }
}

/// What is known of a job that `config` decides about.
fn facts<'a>(context: &'a Context<'_>) -> Option<audit::Job<'a>> {
    let (admitted, subject) = context.admitted.as_ref().zip(context.subject.as_ref())?;
    Some(audit::Job {
        server: &subject.server,
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        project_path: &admitted.project_path,
        user_login: &admitted.user_login,
        user_id: admitted.user_id,
        identity_source: subject.source.name(),
        claims: Some(Claims::of(subject)),
    })
}
