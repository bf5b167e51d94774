//! The `config` stage: who the job belongs to, whether it may run, and as whom.

use crate::audit::{self, Claims, Event, Outcome, Turn, sinks::Sinks};
use crate::context::Context;
use crate::limits;
use crate::means::WithPrivilege;
use crate::refusal::{Code, Refusal, clean};
use crate::settings::Settings;
use crate::slots::{self, Wanted};
use crate::store::{self, Store, job_directory};
use nunbird_handover::{
    Account, Audit, Batch, BatchPlan, FORMAT_VERSION, JobDirectory, Now, Record, RuleRef, Scheduler, Shell,
    SiteRules, UNLIMITED, Unserved, Workspace,
};
use nunbird_judge::{Course, Judged, Means, Proof, containers, judgement, people, place, runner, token_help};
use nunbird_policy::{DEFAULT_AUDIT_FILE, Executor, Job, Policy};
use nunbird_sys::process;
use nunbird_token::Admitted;
use std::path::{Path, PathBuf};

/// What GitLab calls itself in a job.
const SERVER_URL: &str = "CI_SERVER_URL";

/// Admits the job: writes its audit line and its record.
///
/// # Errors
/// Every way in which the answer is no. Nothing but an audit line is left behind then.
pub(crate) fn admit(context: &mut Context<'_>, settings: &Settings) -> Result<Record, Refusal> {
    let privilege = context.privilege;
    let directory = job_directory(context.inputs.job_directory(), privilege)?;
    let store = Store::open(privilege)?;
    let means = WithPrivilege::new(context, settings);
    let response = means.response()?;
    let server_url = context.inputs.job_variable(SERVER_URL).ok().flatten().unwrap_or_default();
    let identity = nunbird_judge::identify(&means, &settings.policy, &response)
        .map_err(|refusal| token_help::add(refusal, &server_url, &settings.policy))?;
    let admitted = identity.admitted.clone();
    let subject = nunbird_judge::subject(&admitted, &settings.policy)?;
    context.subject = Some(subject.clone());
    context.admitted = Some(admitted.clone());
    let mut course = Course { subject, decision: None };
    let proof = Proof { response: &response, identity: &identity };
    let judged = nunbird_judge::judge(&means, &settings.policy, &proof, &mut course);
    context.subject = Some(course.subject);
    let judged = judged?;
    let server = settings.policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str());
    let decision_id = context.decision_id.clone();
    let wanted = Wanted {
        decision_id: &decision_id,
        runner_uid: privilege.caller.uid,
        server,
        job_id: admitted.job_id,
        uid: judged.account.uid,
    };
    let slot = slots::take(&store, &wanted)?;
    // From here on without a lock: systemd, the network and the runner's own pipes may take their time.
    let written = write(context, settings, &admitted, &judged, directory, slot.number, &store);
    if written.is_err() {
        slots::give_back(&store, &slot);
    }
    written
}

/// Puts the job's limits in force and writes its audit line and its record.
fn write(
    context: &mut Context<'_>,
    settings: &Settings,
    admitted: &Admitted,
    judged: &Judged<'_>,
    directory: JobDirectory,
    slot: u16,
    store: &Store,
) -> Result<Record, Refusal> {
    let limits = settings.policy.limits_of(judged.rule);
    let mut record = record(context, settings, admitted, judged, directory, slot)?;
    let unlimited = limits::establish(context, limits, &mut record)?;
    let rights = context.privilege.rights();
    let remembered =
        judged.first.as_ref().map_or(Ok(()), |person| people::remember(rights, person, &admitted.user_login));
    let written = remembered
        .and_then(|()| write_admission(context, &record, unlimited.as_deref()))
        .and_then(|()| store.write(&record));
    if written.is_err() {
        limits::abandon(context.privilege, &record);
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
    let place::Place { data_dir, builds_root } =
        place::of(policy, rule, entry, admitted, judged.data_dir.as_deref())?;
    let server = policy.gitlab.get(admitted.server).map(|s| s.name.clone()).unwrap_or_default();
    let directory = data_dir.join("batch").join(&context.decision_id);
    let batch = batch(policy, job, directory, admitted.expires_at)?;
    let own = nunbird_policy::own_directory(template, &entry.name, &entry.home);
    let name = match directories.per_job {
        true => format!("{server}-{}", admitted.job_id),
        false => format!("{slot:03}"),
    };
    let unserved = containers::unserved(policy, rule, admitted)?.map(|asked| Unserved {
        image: asked.image.clone(),
        services: asked.services.clone(),
        steps: asked.steps,
    });
    let raised = job.raise_stack_limit.then_some(UNLIMITED);
    let host = process::short_host_name();
    let builds_dir = match &builds_root {
        Some(root) => root.join(host).join(name),
        None => data_dir.join("builds").join(host).join(name),
    };
    Ok(Record {
        version: FORMAT_VERSION,
        decision_id: context.decision_id.clone(),
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        identity: nunbird_handover::Identity {
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
        runner: runner::calling().map_err(|e| {
            Refusal::system(Code::Process, "this host does not say which runner runs this job", e)
        })?,
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
            unserved,
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

/// `unlimited` is why the job runs without the site's limits.
fn write_admission(
    context: &mut Context<'_>,
    record: &Record,
    unlimited: Option<&str>,
) -> Result<(), Refusal> {
    context.record = Some(record.clone());
    let event = Event { job: facts(context), detail: unlimited, ..Event::of(context, Outcome::Admitted) };
    audit::demand(&Sinks::open(&record.audit, context.privilege), &event, context)
}

/// Writes down that a job was denied, and gives the refusal back. Where that fails the refusal says so, too.
///
/// Without settings the line goes where a packaged installation has it: the admin must learn why a broken
/// configuration denies every job.
pub(crate) fn write_denial(context: &Context<'_>, settings: Option<&Settings>, refusal: Refusal) -> Refusal {
    let default = context.privilege.source.is_privileged().then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
    let default = Audit { file: default, ..Audit::default() };
    let mut destinations = settings.map_or(default, |settings| settings.policy.audit.clone());
    let verified = context.admitted.is_some();
    let (left_out, uncounted) = match turn(context, destinations.file.as_deref(), verified) {
        Ok(Turn::Write(left_out)) => (left_out, None),
        Ok(Turn::LeaveOut) => return one_of_too_many(refusal),
        // Without a count a file could be filled without bound; daemons limit their own logs.
        Err(trouble) => {
            destinations.file = None;
            (0, Some(trouble))
        }
    };
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        job: facts(context),
        policy_digest: settings.map(|settings| settings.digest.as_str()),
        left_out: Some(left_out).filter(|left_out| *left_out > 0),
        ..Event::of(context, Outcome::Denied)
    };
    // Anybody who may call this program could have the disk wait for them.
    let sinks = Sinks::open(&destinations, context.privilege);
    let result = sinks.write(&Event { not_written: uncounted.clone(), ..event }, verified);
    written(context, &sinks, uncounted.map_or(Ok(()), Err).and(result), refusal)
}

/// Writes down that a later stage was refused, and gives the refusal back. Of an admitted job the decision's id leads to
/// the event that admitted it; a call for no job leaves a line of syslog.
pub(crate) fn write_late_denial(context: &Context<'_>, refusal: Refusal) -> Refusal {
    if context.record.is_none() {
        return match turn(context, None, false) {
            Ok(Turn::LeaveOut) => one_of_too_many(refusal),
            Ok(Turn::Write(_)) | Err(_) => {
                leave_trace(context, &refusal);
                refusal
            }
        };
    }
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        ..Event::of(context, Outcome::Denied)
    };
    let result = context.sinks.write(&event, true);
    written(context, &context.sinks, result, refusal)
}

/// Whether this refusal is written. Who runs it without privilege writes to files of its own.
fn turn(context: &Context<'_>, file: Option<&Path>, verified: bool) -> Result<Turn, String> {
    if verified || !context.privilege.source.is_privileged() {
        return Ok(Turn::Write(0));
    }
    let file = file.unwrap_or(Path::new(DEFAULT_AUDIT_FILE));
    audit::turn(file, context.privilege).map_err(|e| format!("counter beside {}: {e}", file.display()))
}

/// The refusal, which says that it was one of too many.
fn one_of_too_many(refusal: Refusal) -> Refusal {
    let detail = format!(
        "{}\n(not written down: too many refusals without a verified identity in this minute)",
        refusal.detail
    );
    Refusal { detail, ..refusal }
}

/// The refusal, which says so where it could not be written down. Syslog has it then, and where there is no place for events.
fn written(context: &Context<'_>, sinks: &Sinks, result: Result<(), String>, refusal: Refusal) -> Refusal {
    match result {
        Ok(()) => {
            if sinks.is_empty() {
                leave_trace(context, &refusal);
            }
            refusal
        }
        Err(troubles) => {
            let detail = format!("{}\n(not written down: {})", refusal.detail, clean(&troubles));
            let refusal = Refusal { detail, ..refusal };
            leave_trace(context, &refusal);
            refusal
        }
    }
}

fn leave_trace(context: &Context<'_>, refusal: &Refusal) {
    audit::leave_trace(context.stage, Some(context.privilege.caller), refusal, &context.decision_id);
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
