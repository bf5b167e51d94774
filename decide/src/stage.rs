//! A stage of a job that has a record: whether its account may still run jobs, what the launcher gets, and the events at both ends.

use crate::call::Call;
use crate::card::{self, Card, mebibytes};
use crate::denials;
use crate::events::{self, Sinks};
use crate::images;
use crate::monitor::{self, decider_failed};
use crate::settings;
use aws_lc_rs::digest;
use nunbird_audit::{Event, Outcome, Script, Usage};
use nunbird_gauges::{Count, Reading};
use nunbird_handover::{
    Batch, Credentials, ExitCodes, FORMAT_VERSION, Handover, JobSpec, SUMMARY_SIZE, Summary, Task,
};
use nunbird_host::refusal::{Code, Refusal, print_error};
use nunbird_judge::account::{self, ThisHost};
use nunbird_judge::registries;
use nunbird_policy::Policy;
use nunbird_requests::{Counted, Launch, Reply, Request, Stage, StageEnd, StageKind, Status};
use nunbird_sys::clock;
use nunbird_wire::Message;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest variable for a scheduler, in bytes: all of them fit into one [`Launch`].
const LONGEST: usize = 16 << 10;
/// What is read of a script at once, in bytes.
const PIECE: usize = 64 << 10;

/// Serves the stage; a refusal has been written and printed when this returns it.
///
/// # Errors
/// The refusal.
pub(crate) fn serve(call: &mut Call<'_>, stage: &Stage, mut files: Vec<File>) -> Result<(), Refusal> {
    let spec = JobSpec::from_bytes(&stage.body).map_err(|e| decider_failed(&format!("record: {e}")))?;
    call.record = Some(spec);
    let script = if stage.script { files.pop() } else { None };
    let sinks = Sinks::open(&call.spec()?.audit, call.monitor);
    run(call, stage, files, script, &sinks).map_err(|refusal| denials::of_job(call, &sinks, refusal))
}

fn run(
    call: &mut Call<'_>,
    stage: &Stage,
    files: Vec<File>,
    script: Option<File>,
    sinks: &Sinks<'_>,
) -> Result<(), Refusal> {
    if let Some(refused) = &call.start.refused {
        return Err(monitor::refusal(refused.clone()));
    }
    // What clears away goes on for an account that is denied by now, and without the configuration.
    let policy = if matches!(stage.kind, StageKind::Prepare | StageKind::Run(_)) {
        let policy = settings::read(call.start, files)?.policy;
        let name = &call.spec()?.account.name;
        account::permitted(name, &policy, &ThisHost::new(call.monitor), call.start.caller)?;
        Some(policy)
    } else {
        None
    };
    if let (StageKind::Run(name), Some(script)) = (&stage.kind, script) {
        let digest = digest_of(&script)
            .map_err(|e| Refusal::system(Code::Script, "the stage's script could not be read", e))?;
        call.script = Some(Script { name: name.clone(), digest });
    }
    let launch = launch(call, stage, policy.as_ref())?;
    drop(policy);
    let started = events::event(call, Outcome::StageStarted);
    match call.stage {
        // Takes things away, and must not wait for a full disk.
        "cleanup" => events::note(call, sinks, &started),
        _ => events::demand(call, sinks, &started, false)?,
    }
    drop(started);
    let end = match call.monitor.launch(launch)? {
        Reply::Ended(end) => end,
        _ => return Err(decider_failed(&"another reply than was asked for")),
    };
    conclude(call, sinks, &end)?;
    call.monitor.have(&Request::Finish).map(drop)
}

/// What the launcher is started with.
fn launch(call: &Call<'_>, stage: &Stage, policy: Option<&Policy>) -> Result<Launch, Refusal> {
    let spec = call.spec()?;
    let task = match &stage.kind {
        StageKind::Prepare => Task::Prepare,
        StageKind::Run(name) => Task::Run(name.clone()),
        StageKind::Cleanup => Task::Cleanup,
        StageKind::CleanupOfSucceeded => Task::Tidy,
    };
    let batch = batch(call, spec, &task)?;
    let submits = match (&task, &batch) {
        (Task::Run(stage), Some(batch)) => batch.submits(stage),
        _ => false,
    };
    let timed_out = matches!(task, Task::Cleanup) && has_timed_out(call, spec);
    let mut handover = handover(spec, task, batch, stage.exit_codes, stage.exit_code_file);
    handover.timed_out = timed_out;
    images::fill(call, policy, &mut handover)?;
    let message = self::message(&handover, submits);
    handover.credentials.0.iter_mut().for_each(registries::forget);
    message
}

/// The message for a launcher, with the environment that it starts with.
pub(crate) fn message(handover: &Handover, submits: bool) -> Result<Launch, Refusal> {
    let failed = |detail: &dyn std::fmt::Display| {
        Refusal::system(Code::Launcher, "the job's launcher could not be started on this host", detail)
    };
    Ok(Launch {
        message: handover.message().map_err(|e| failed(&e))?,
        environment: handover.launch_environment().map_err(|e| failed(&e))?,
        submits,
    })
}

/// One stage of the job, for its launcher.
pub(crate) fn handover(
    spec: &JobSpec,
    task: Task,
    batch: Option<Batch>,
    exit_codes: ExitCodes,
    exit_code_file: bool,
) -> Handover {
    Handover {
        version: FORMAT_VERSION,
        decision_id: spec.decision_id.clone(),
        job_id: spec.job_id,
        task,
        account: spec.account.clone(),
        identity: spec.identity.clone(),
        workspace: spec.workspace.clone(),
        shell: spec.shell.clone(),
        environment: spec.environment.clone(),
        session_variables: std::collections::BTreeSet::new(),
        umask: None,
        exit_codes,
        exit_code_file,
        batch,
        container: spec.container.clone(),
        credentials: Credentials::default(),
        credential_helpers: Vec::new(),
        site: spec.site.clone(),
        expires_at: spec.expires_at,
        timed_out: false,
    }
}

/// The batch scheduler's settings with what the job's variables say. Clean-up ignores a variable that it cannot read.
fn batch(call: &Call<'_>, spec: &JobSpec, task: &Task) -> Result<Option<Batch>, Refusal> {
    let Some(plan) = &spec.batch else { return Ok(None) };
    let variable = |name: &str| match call.monitor.variable(name) {
        Ok(Some(text)) if text.len() > LONGEST => {
            Err(("a variable of this job is too long", name.to_owned()))
        }
        other => other.map_err(|_| ("a variable of this job is not UTF-8", name.to_owned())),
    };
    let takes_away = matches!(task, Task::Cleanup | Task::Tidy);
    let batch = plan.with(|name| if takes_away { variable(name).or(Ok(None)) } else { variable(name) });
    let batch = batch.map_err(|(message, name)| {
        let detail = format!("the variable {name}; the most are {LONGEST} bytes of UTF-8");
        Refusal::denied(Code::Variable, message, detail)
    })?;
    Ok(Some(batch))
}

/// How long before the end of a job's time its end counts as that of its time: gitlab-runner's clock starts before `config`.
const BEFORE_TIMEOUT: u64 = 60;

/// Whether the job that is cleaned up has ended because its time was over. gitlab-runner ends a script for that as for a cancelled job, and names
/// the cause in `CI_JOB_STATUS` only where `RUNNER_SCRIPT_TIMEOUT` was the limit: at that of the whole job it says `failed`, or nothing new.
/// The user can set both variables: all that depends on it is whether files of theirs are kept that they have asked to be kept.
fn has_timed_out(call: &Call<'_>, spec: &JobSpec) -> bool {
    if spec.site.keep.is_none() {
        return false;
    }
    let variable = |name: &str| call.monitor.variable(name).ok().flatten();
    let is_over = || {
        let seconds: u64 = variable("CI_JOB_TIMEOUT")?.parse().ok()?;
        let end = spec.admitted_at.saturating_add(seconds);
        Some(clock::now().ok()?.saturating_add(BEFORE_TIMEOUT) >= end)
    };
    match variable("CI_JOB_STATUS").as_deref() {
        Some("timedout") => true,
        Some("failed" | "running") => is_over().unwrap_or(false),
        _ => false,
    }
}

/// SHA-256 of the script, in hexadecimal. It is a sealed copy: these bytes are the ones that run.
fn digest_of(script: &File) -> io::Result<String> {
    let mut digest = digest::Context::new(&digest::SHA256);
    // The job's variables are in it.
    let mut buffer = Zeroizing::new(vec![0; PIECE]);
    let mut offset = 0;
    loop {
        let count = script.read_at(&mut buffer, offset)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        digest.update(piece);
        offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the job's control group had used before the stage, and has used now; none where `nunbird-limits` describes its counters in no known way.
pub(crate) fn used(counted: &Counted) -> Option<(Usage, Usage)> {
    let files: Vec<(Count, Reading)> = Message::from_bytes(&counted.described).ok()?;
    Some((nunbird_audit::usage(&files, &counted.before), nunbird_audit::usage(&files, &counted.now)))
}

/// Writes the event, and shows the user what the job has used.
fn conclude(call: &Call<'_>, sinks: &Sinks<'_>, end: &StageEnd) -> Result<(), Refusal> {
    let spec = call.spec()?;
    let summary = end.summary.as_deref().and_then(|bytes| {
        let bytes: &[u8; SUMMARY_SIZE] = bytes.try_into().ok()?;
        Summary::parse(bytes)
    });
    // First: who reads the job log may be slow.
    let (exit_code, signal) = match end.end {
        Status::Exited(code) => (Some(code), None),
        Status::Killed(signal) => (None, Some(signal)),
    };
    let ended =
        nunbird_audit::End { exit_code, signal, duration_ms: end.duration_ms, batch: summary.clone() };
    let event = Event { end: Some(ended), ..events::event(call, Outcome::StageEnded) };
    events::note(call, sinks, &event);
    let usage = end.counted.as_ref().and_then(used);
    let kills = |usage: Usage| usage.oom_kills.unwrap_or(0);
    let kills = usage.map_or(0, |(before, now)| kills(now).saturating_sub(kills(before)));
    if kills > 0 {
        let limit = spec.limits.as_ref().and_then(|job| job.amounts.memory);
        let limit = limit.map_or_else(String::new, |bytes| format!(" of {}", mebibytes(bytes)));
        print_error(&format!(
            "nunbird: out of memory: the kernel killed {kills} process(es) of this job at its limit{limit}\n"
        ));
    }
    let stage = call.script.as_ref().map_or("", |script| script.name.as_str());
    if card::is_due(stage) && (usage.is_some() || summary.is_some()) {
        let now = clock::now().ok();
        let card = Card {
            job: spec.limits.as_ref().filter(|_| usage.is_some()),
            usage,
            script: Duration::from_millis(end.duration_ms),
            since: now.map(|now| now.saturating_sub(spec.admitted_at)),
            queued: spec.queued_s,
            batch: summary.as_ref(),
        };
        card.print();
    }
    Ok(())
}
