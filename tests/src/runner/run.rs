//! The sequence of a whole job, like `Build.Run` of gitlab-runner.

use super::job::Job;
use super::outcome::{Outcome, Reason, StageOutcome, Status};
use super::session::{Places, Session};
use super::stage::Cancel;
use super::variables::SHORT_TOKEN;
use crate::world::Exit;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;

/// Attempts to prepare a job.
const ATTEMPTS: usize = 3;

pub(super) fn run(job: &Job<'_>) -> Outcome {
    let mut stages = Vec::new();
    let mut status = Status::failed(Reason::SystemFailure);
    for _ in 0..ATTEMPTS {
        let mut session = Session::begin(job);
        match prepare(&mut session, &mut stages) {
            Ok(()) => {
                let status = build(&mut session, &mut stages);
                stages.push(session.cleanup());
                return Outcome { status, stages, project_dir: session.places.project_dir.clone() };
            }
            Err(failure) => {
                stages.push(session.cleanup());
                status = cancelled(job).unwrap_or(failure);
                if status != Status::failed(Reason::SystemFailure) {
                    break;
                }
            }
        }
    }
    Outcome { status, stages, project_dir: String::new() }
}

/// `config` and `prepare` of one attempt.
fn prepare(session: &mut Session<'_>, stages: &mut Vec<StageOutcome>) -> Result<(), Status> {
    let config = session.config();
    let (judged, answer) = (judge(&config, session), config.stdout.clone());
    stages.push(config);
    judged?;
    take_answer(&answer, session).map_err(Status::failed)?;
    if session.places.builds_dir.is_empty() {
        return Err(Status::failed(Reason::ConfigurationError));
    }
    let prepare = session.prepare();
    let judged = judge(&prepare, session);
    stages.push(prepare);
    judged
}

/// Applies the output of `config`: one JSON object, or nothing.
pub(super) fn take_answer(stdout: &str, session: &mut Session<'_>) -> Result<(), Reason> {
    let answer: Value = match stdout.trim() {
        "" => Value::Object(serde_json::Map::new()),
        text => serde_json::from_str(text).map_err(|_| Reason::SystemFailure)?,
    };
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let mut job_env = Vec::new();
    for (name, value) in answer["job_env"].as_object().into_iter().flatten() {
        let value = value.as_str().ok_or(Reason::SystemFailure)?;
        job_env.push((OsString::from(name), OsString::from(value)));
    }
    let builds_dir = text("builds_dir");
    let project = &session.job().facts.project_path;
    let project_dir = match (builds_dir.is_empty(), answer["builds_dir_is_shared"].as_bool()) {
        (true, _) => String::new(),
        (false, Some(true)) => format!("{builds_dir}/{SHORT_TOKEN}/0/{project}"),
        (false, _) => format!("{builds_dir}/{project}"),
    };
    session.set_answer(Places { builds_dir, project_dir, status: "running" }, job_env);
    Ok(())
}

/// The stages between `prepare` and `cleanup`.
fn build(session: &mut Session<'_>, stages: &mut Vec<StageOutcome>) -> Status {
    let job = session.job();
    let mut call = |session: &mut Session<'_>, name: &str| {
        let outcome = session.stage(name);
        let judged = judge(&outcome, session);
        stages.push(outcome);
        // After an immediate cancel no further stage is generated, whatever the exit code was.
        match job.canceller.cancelled() {
            Some(Cancel::AtOnce) => Err((Status::failed(Reason::Canceled), false)),
            Some(Cancel::Timeout) => Err((Status::failed(Reason::Timeout), false)),
            _ => judged.map_err(|status| (status, true)),
        }
    };
    if let Err((status, _)) = call(session, "prepare_script") {
        return cancelled(job).unwrap_or(status);
    }
    let sources = call(session, "get_sources");
    let mut result = sources.clone();
    if sources.is_ok() {
        result = call(session, "build_script");
        // Where the job's time is over, the runner sees a script that has failed.
        session.set_status(match (&result, job.canceller.cancelled()) {
            (_, Some(Cancel::Gracefully)) => "canceled",
            (Ok(()), _) => "success",
            (Err(_), _) => "failed",
        });
        let goes_on = !matches!(result, Err((_, false)));
        if goes_on && !job.after_script.is_empty() {
            // Its failure never fails the job.
            if let Err((status, false)) = call(session, "after_script") {
                return status;
            }
        }
    }
    if result.is_ok() && !job.artifacts.is_empty() {
        result = call(session, "upload_artifacts_on_success");
    }
    if !matches!(result, Err((_, false))) {
        // Nor does this one's.
        let _ignored = call(session, "cleanup_file_variables");
    }
    match (cancelled(job), result) {
        (Some(status), _) | (None, Err((status, _))) => status,
        (None, Ok(())) => Status::Success,
    }
}

fn cancelled(job: &Job<'_>) -> Option<Status> {
    job.canceller.cancelled().map(|how| match how {
        Cancel::Gracefully | Cancel::AtOnce => Status::failed(Reason::Canceled),
        Cancel::Timeout => Status::failed(Reason::Timeout),
    })
}

/// What an exit code means. The exit-code file counts only beside `BUILD_FAILURE_EXIT_CODE`; an empty or
/// unreadable number in it is a system failure; it is never reset between stages.
fn judge(outcome: &StageOutcome, session: &Session<'_>) -> Result<(), Status> {
    match outcome.exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(1) if session.job().version.has_exit_code_file() => {
            let Ok(text) = fs::read_to_string(session.exit_code_file()) else {
                return Err(Status::script_failure(1));
            };
            let number = text.split('\n').next().and_then(|line| line.parse().ok());
            Err(number.map_or(Status::failed(Reason::SystemFailure), Status::script_failure))
        }
        Exit::Code(1) => Err(Status::script_failure(1)),
        _ => Err(Status::failed(Reason::SystemFailure)),
    }
}
