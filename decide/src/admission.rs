//! The `config` stage: who the job belongs to, whether it may run, and as whom.

use crate::call::{self, Call};
use crate::events::{self, Sinks};
use crate::limits;
use crate::means::WithoutPrivilege;
use crate::monitor::decider_failed;
use crate::settings::Settings;
use crate::verifier::Verifier;
use nunbird_audit::{Event, Outcome};
use nunbird_handover::{
    Account, Batch, BatchPlan, FORMAT_VERSION, JobDirectory, Record, RuleRef, RunnerProcess, Scheduler,
    Shell, SiteRules, UNLIMITED, Unserved, Workspace,
};
use nunbird_host::refusal::{Code, Refusal, clean, print_error};
use nunbird_judge::{Course, Judged, Proof, containers, judgement, people, place, token_help};
use nunbird_policy::{Executor, Job, Policy};
use nunbird_requests::{Reply, Request, Runner, Slot};
use nunbird_sys::process;
use nunbird_token::Admitted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What GitLab calls itself in a job.
const SERVER_URL: &str = "CI_SERVER_URL";

/// Admits the job: its audit event is written, and its record.
///
/// # Errors
/// Every way in which the answer is no. Nothing but an audit event is left behind then.
pub(crate) fn admit(
    call: &mut Call<'_>,
    settings: &Settings,
    verifier: &Verifier,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let means = WithoutPrivilege::new(policy, call.monitor, verifier, call.start.caller);
    let identity = nunbird_judge::identify(&means, policy, &[]).map_err(|refusal| {
        let server_url = call.monitor.variable(SERVER_URL).ok().flatten().unwrap_or_default();
        token_help::add(refusal, &server_url, policy)
    })?;
    let admitted = identity.admitted.clone();
    let subject = nunbird_judge::subject(&admitted, policy)?;
    call.subject = Some(subject.clone());
    call.admitted = Some(admitted.clone());
    let mut course = Course { subject, decision: None };
    let proof = Proof { response: &[], identity: &identity };
    let judged = nunbird_judge::judge(&means, policy, &proof, &mut course);
    call.subject = Some(course.subject);
    let judged = judged?;
    let server = policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str());
    let slot =
        Slot { server: server.to_owned(), job_id: admitted.job_id, account: judged.account.name.clone() };
    let slot = match call.monitor.have(&Request::Slot(slot))? {
        Reply::Number(number) => u16::try_from(number).map_err(|e| decider_failed(&e))?,
        _ => return Err(decider_failed(&"another reply than was asked for")),
    };
    let mut record = record(call, settings, &admitted, &judged, slot)?;
    let unlimited = limits::establish(call, policy.limits_of(judged.rule), &mut record)?;
    if let Some(person) = &judged.first {
        people::remember(&call.monitor, person, &admitted.user_login)?;
    }
    write_admission(call, &record, unlimited.as_deref())?;
    call.monitor.have(&Request::Admit(call::bytes(&record)?))?;
    Ok(record)
}

/// What gitlab-runner reads from `config`'s standard output.
#[derive(Serialize)]
struct Answer<'a> {
    driver: BTreeMap<&'static str, &'static str>,
    hostname: String,
    builds_dir: &'a Path,
    cache_dir: &'a Path,
    builds_dir_is_shared: bool,
    job_env: BTreeMap<&'static str, &'a str>,
}

/// Prints the answer for gitlab-runner.
///
/// # Errors
/// A system refusal when standard output is closed.
pub(crate) fn answer(record: &Record) -> Result<(), Refusal> {
    let answer = Answer {
        driver: BTreeMap::from([("name", "Nunbird"), ("version", concat!("v", env!("CARGO_PKG_VERSION")))]),
        hostname: process::short_host_name(),
        builds_dir: &record.workspace.builds_dir,
        cache_dir: &record.workspace.cache_dir,
        builds_dir_is_shared: false,
        job_env: BTreeMap::from([("NUNBIRD_DECISION_ID", record.decision_id.as_str())]),
    };
    let unsaid = |e: &dyn std::fmt::Display| {
        Refusal::system(Code::Stdout, "the runner does not listen", format!("standard output: {e}"))
    };
    let mut json = serde_json::to_vec(&answer).map_err(|e| unsaid(&e))?;
    json.push(b'\n');
    std::io::stdout().write_all(&json).map_err(|e| unsaid(&e))
}

fn runner(runner: &Runner) -> nunbird_handover::Runner {
    let process = |(pid, start): &(i32, u64)| RunnerProcess { pid: *pid, start: *start };
    nunbird_handover::Runner {
        pid_namespace: runner.pid_namespace,
        processes: runner.processes.iter().map(process).collect(),
    }
}

fn record(
    call: &Call<'_>,
    settings: &Settings,
    admitted: &Admitted,
    judged: &Judged<'_>,
    slot: u16,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let (epoch, boottime) = call.start.now;
    let Some((path, device, inode)) = call.start.job_directory.clone() else {
        return Err(decider_failed(&"no directory of the job"));
    };
    let expires_at = admitted.expires_at.saturating_add(policy.identity.late_stages);
    let Judged { rule, account: entry, .. } = judged;
    let (job, directories) = policy.job_of(rule);
    let template = judged.data_dir.as_deref().unwrap_or(&directories.data_dir);
    let place::JobDirectories { data_dir, builds_root } =
        place::of(policy, rule, entry, admitted, judged.data_dir.as_deref())?;
    let server = policy.gitlab.get(admitted.server).map(|s| s.name.clone()).unwrap_or_default();
    let directory = data_dir.join("batch").join(&call.start.decision_id);
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
        decision_id: call.start.decision_id.clone(),
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
        runner_uid: call.start.caller,
        runner: call.start.runner.as_ref().map(runner),
        job_directory: JobDirectory { path, device, inode },
        boot_id: call.start.boot_id.clone(),
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
        limits: limits::decide(call, policy.limits_of(rule))?,
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
fn write_admission(call: &mut Call<'_>, record: &Record, unlimited: Option<&str>) -> Result<(), Refusal> {
    call.record = Some(record.clone());
    let event = Event { detail: unlimited, ..events::event(call, Outcome::Admitted) };
    let sinks = Sinks::open(&record.audit, call.monitor);
    match sinks.write(&event, true) {
        Ok(()) => Ok(()),
        Err(troubles) if sinks.required() => {
            let message = "this cannot be written down on this host, so the job does not run";
            Err(Refusal::system(Code::Audit, message, troubles))
        }
        Err(troubles) => {
            say_not_written(call, &troubles);
            Ok(())
        }
    }
}

/// The job log is the CI user's: it learns that something was not written down, the admin's words only with `-u`.
fn say_not_written(call: &Call<'_>, troubles: &str) {
    let mut text = "nunbird: warning: this could not be written down on this host [audit]\n".to_owned();
    if call.start.unobfuscated {
        for line in clean(troubles).lines() {
            text.push_str(&format!("  = note: {line}\n"));
        }
    }
    text.push_str("  = help: give your site's admins the id of this decision\n");
    text.push_str(&format!("  = decision: {}\n", call.start.decision_id));
    print_error(&text);
}
