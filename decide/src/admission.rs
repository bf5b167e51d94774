//! The `config` stage: who the job belongs to, whether it may run, and as whom.

use crate::call::Call;
use crate::events::{self, Sinks};
use crate::limits;
use crate::means::WithoutPrivilege;
use crate::monitor::decider_failed;
use crate::settings::Settings;
use crate::verifier::Verifier;
use nunbird_audit::{Event, Outcome};
use nunbird_handover::{
    Account, Container, JobSpec, MachineTree, RuleRef, Shell, SiteRules, UNLIMITED, Workspace,
};
use nunbird_host::refusal::{Code, Refusal};
use nunbird_judge::{Course, Judged, Proof, batch, containers, judgement, people, place, token_help};
use nunbird_messages::{AccountIds, Group, MachineOrder, Record, Version};
use nunbird_order::{Machine, MachineBind};
use nunbird_policy::{MACHINES, Rule};
use nunbird_requests::{Reply, Request, Slot};
use nunbird_token::Admitted;
use nunbird_unprivileged::process;
use nunbird_wire::Message;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// What GitLab calls itself in a job.
const SERVER_URL: &str = "CI_SERVER_URL";
/// The variable by which users ask for the output of their services.
const DEBUG_SERVICES: &str = "CI_DEBUG_SERVICES";

/// Admits the job: its audit event is written, and its record. What gitlab-runner reads from `config`'s standard output.
///
/// # Errors
/// Every way in which the answer is no. Nothing but an audit event is left behind then.
pub(crate) fn admit(
    call: &mut Call<'_>,
    settings: &Settings,
    verifier: &Verifier,
) -> Result<Vec<u8>, Refusal> {
    let policy = &settings.policy;
    let means = WithoutPrivilege::new(policy, call.monitor, verifier, call.start.caller);
    let identity = nunbird_judge::identify(&means, policy, &[]).map_err(|refusal| {
        let server_url = call.monitor.variable(SERVER_URL).ok().flatten().unwrap_or_default();
        // Step 16a.
        token_help::add(refusal, &server_url, policy)
    })?;
    let admitted = identity.admitted.clone();
    let subject = nunbird_judge::subject(&admitted, policy)?;
    call.subject = Some(subject.clone());
    call.admitted = Some(admitted.clone());
    let mut course = Course { subject, decision: None };
    let proof = Proof { response: &[], identity: &identity };
    // Step 18.
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
    let (mut spec, image_rule) = spec(call, settings, &admitted, &judged, slot)?;
    let (group, unlimited) = limits::establish(call, policy.limits_of(judged.rule), &mut spec)?;
    let record = record(call, settings, &judged, &spec, slot, group)?;
    if let Some(person) = &judged.first {
        people::remember(&call.monitor, person, &admitted.user_login)?;
    }
    let answer = answer(&spec)?;
    call.record = Some(spec);
    let event = Event {
        detail: unlimited.as_deref(),
        image_rule: image_rule.as_deref(),
        ..events::event(call, Outcome::Admitted)
    };
    let sinks = Sinks::open(&policy.audit, call.monitor);
    events::demand(call, &sinks, &event, true)?;
    call.monitor.have(&Request::Admit(record.to_bytes()))?;
    Ok(answer)
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

fn unsaid(e: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Stdout, "the runner does not listen", format!("standard output: {e}"))
}

fn answer(spec: &JobSpec) -> Result<Vec<u8>, Refusal> {
    let answer = Answer {
        driver: BTreeMap::from([("name", "Nunbird"), ("version", concat!("v", env!("CARGO_PKG_VERSION")))]),
        hostname: process::short_host_name(),
        builds_dir: &spec.workspace.builds_dir,
        cache_dir: &spec.workspace.cache_dir,
        builds_dir_is_shared: false,
        job_env: BTreeMap::from([("NUNBIRD_DECISION_ID", spec.decision_id.as_str())]),
    };
    let mut json = serde_json::to_vec(&answer).map_err(|e| unsaid(&e))?;
    json.push(b'\n');
    Ok(json)
}

/// Prints the answer for gitlab-runner.
///
/// # Errors
/// A system refusal when standard output is closed.
pub(crate) fn print(answer: &[u8]) -> Result<(), Refusal> {
    // Step 22.
    std::io::stdout().write_all(answer).map_err(|e| unsaid(&e))
}

/// What `nunbird-auth` goes by in later stages.
fn record(
    call: &Call<'_>,
    settings: &Settings,
    judged: &Judged<'_>,
    spec: &JobSpec,
    slot: u16,
    group: Option<Group>,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let Some(job_directory) = call.start.job_directory.clone() else {
        return Err(decider_failed(&"no directory of the job"));
    };
    let (epoch, boottime) = call.start.now;
    let (job, directories) = policy.job_of(judged.rule);
    let template = judged.data_dir.as_deref().unwrap_or(&directories.data_dir);
    let Account { name, uid, gid, home, .. } = &spec.account;
    let own = nunbird_policy::own_directory(template, name, home);
    Ok(Record {
        version: Version,
        closed: false,
        decision_id: spec.decision_id.clone(),
        job_id: spec.job_id,
        server: spec.identity.server.clone(),
        runner_uid: call.start.caller,
        runner: call.start.runner.clone(),
        job_directory,
        boot_id: call.start.boot_id.clone(),
        expires_at: spec.expires_at,
        expires_at_boottime: boottime.saturating_add(spec.expires_at.saturating_sub(epoch)),
        slot,
        account: AccountIds { name: name.clone(), uid: *uid, gid: *gid },
        policy_path: policy.file.clone(),
        launcher: job.launcher.clone(),
        builds_dir: spec.workspace.builds_dir.clone(),
        own_directory: own.filter(|_| directories.upkeep.create),
        isolation: job.isolation,
        pam: policy.pam.clone(),
        processes: spec.limits.as_ref().map(limits::of_processes).unwrap_or_default(),
        group,
        machine: machine(settings, judged.rule, spec)?,
        scheduler: spec.batch.is_some(),
        body: spec.to_bytes().map_err(|e| decider_failed(&e))?,
    })
}

/// The job's machine, where its container is one.
fn machine(settings: &Settings, rule: &Rule, spec: &JobSpec) -> Result<Option<MachineOrder>, Refusal> {
    let of_policy = settings.policy.container_of(rule).filter(|container| container.is_by(MACHINES));
    let (Some(from), Some(container)) = (of_policy, &spec.container) else { return Ok(None) };
    if spec.batch.is_some() {
        let message = "the machine of this job is not configured correctly on this host";
        let detail = format!(
            "[container.{}]: a machine is on the runner's host, and stages of the job go to a batch scheduler",
            from.name
        );
        return Err(Refusal::system(Code::Executor, message, detail));
    }
    let image = container.image.as_ref().map(|image| image.name.as_str()).unwrap_or_default();
    let MachineTree { tree, version } = MachineTree::of(image);
    let binds =
        container.all_binds(&spec.workspace, &spec.account.home).into_iter().map(|bind| MachineBind {
            source: bind.source,
            target: bind.target,
            writable: bind.writable,
            optional: bind.optional,
        });
    let machine = Machine {
        tree,
        version,
        directory: container.inside(),
        binds: binds.collect(),
        host_network: container.host_network,
        root: container.root,
        layer: from.layer_size.unwrap_or_default(),
        nested: from.nested,
        suppress_sync: from.suppress_sync,
    };
    Ok(Some(MachineOrder { ready: from.ready_timeout, bytes: machine.to_bytes() }))
}

/// What the decider keeps of the job, and what let its image pass.
fn spec(
    call: &Call<'_>,
    settings: &Settings,
    admitted: &Admitted,
    judged: &Judged<'_>,
    slot: u16,
) -> Result<(JobSpec, Option<String>), Refusal> {
    let policy = &settings.policy;
    let expires_at = admitted.expires_at.saturating_add(policy.identity.late_stages);
    let Judged { rule, account: entry, .. } = judged;
    let (job, directories) = policy.job_of(rule);
    let place::JobDirectories { data_dir, builds_root } =
        place::of(policy, rule, entry, admitted, judged.data_dir.as_deref())?;
    let server = policy.gitlab.get(admitted.server).map(|s| s.name.clone()).unwrap_or_default();
    let directory = data_dir.join("batch").join(&call.start.decision_id);
    let batch = batch::of(policy, job, directory, Some(admitted.expires_at))?;
    let is_elsewhere = builds_root.is_some() || judged.data_dir.is_some();
    let variable = |name: &str| call.monitor.variable(name).map_err(|why| why.to_string());
    let keep = place::keep(directories, is_elsewhere, variable)?;
    // What is kept must be no later job's.
    let name = match directories.per_job || keep.is_some() {
        true => format!("{server}-{}", admitted.job_id),
        false => format!("{slot:03}"),
    };
    // Step 19f.
    let place =
        containers::Place { account: entry, data_dir: &data_dir, decision_id: &call.start.decision_id };
    let given = containers::of(policy, rule, &admitted.containers, &place)?;
    let container = match given.container {
        Some(container) => Some(Container { service_logs: service_logs(call, &container)?, ..container }),
        None => None,
    };
    let unserved = given.unserved;
    let raised = job.raise_stack_limit.then_some(UNLIMITED);
    let host = process::short_host_name();
    let builds_dir = match &builds_root {
        Some(root) => root.join(host).join(name),
        None => data_dir.join("builds").join(host).join(name),
    };
    let spec = JobSpec {
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
        fork: admitted.fork.filter(|_| !policy.credentials.is_empty()),
        rule: RuleRef { name: rule.name.clone(), file: rule.place.file.clone(), line: rule.place.line },
        policy_digest: settings.digest.clone(),
        account: Account {
            name: entry.name.clone(),
            uid: entry.uid,
            gid: entry.gid,
            home: entry.home.clone(),
            shell: entry.shell.clone(),
        },
        admitted_at: call.start.now.0,
        expires_at,
        workspace: Workspace {
            project_dir: builds_dir.join(&admitted.project_dir),
            cache_dir: data_dir.join("cache"),
            builds_root: builds_root.unwrap_or_else(|| data_dir.clone()),
            builds_dir,
            data_dir,
        },
        shell: Shell { path: job.shell.clone(), login: job.login_shell },
        queued_s: admitted.queued,
        limits: limits::decide(call, policy.limits_of(rule))?,
        site: SiteRules {
            message: job.message.clone(),
            stages: job.stages.clone(),
            unserved,
            stack: policy.limits_of(rule).and_then(|limits| limits.rlimits.stack).or(raised),
            upkeep: directories.upkeep.clone(),
            keep,
        },
        environment: job.variables(),
        batch,
        container,
        identity_source: judgement::source(admitted).name().to_owned(),
        audit: policy.audit.clone(),
    };
    Ok((spec, given.image_rule))
}

/// Whether the user wants to read what the services write, as gitlab-runner understands it.
fn service_logs(call: &Call<'_>, container: &Container) -> Result<bool, Refusal> {
    if container.services.is_empty() {
        return Ok(false);
    }
    let value = call.monitor.variable(DEBUG_SERVICES).map_err(|why| {
        let detail = format!("{DEBUG_SERVICES}: {why}");
        Refusal::denied(Code::Variable, "a variable of this job is not UTF-8", detail)
    })?;
    Ok(value.is_some_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value.as_str())))
}
