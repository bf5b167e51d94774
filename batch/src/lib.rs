//! Stages in the batch scheduler: submitted, followed, cancelled, cleaned up, as the mapped user.
//!
//! [`run`] serves one stage, [`cleanup`] handles what all stages of a job left. Every action is
//! recorded on disk before it happens (`stage.rs`), so a launcher that is killed at any point
//! leaves nothing that the next one does not find. The state of a job is decided in `machine.rs`
//! alone.

#![forbid(unsafe_code)]

mod agent;
mod amounts;
mod answer_time;
mod cancelling;
mod copies;
mod description;
mod engine;
mod follow;
mod leftovers;
mod log;
mod machine;
mod messages;
mod options;
mod outcome;
mod polling;
mod query;
mod query_state;
mod record;
#[cfg(test)]
mod recorded;
mod retry;
mod session_variables;
mod shared;
mod stage;
mod state;
mod submission;

use answer_time::AnswerTime;
use description::Description;
use engine::Engine;
use follow::{Passed, Tail};
pub use leftovers::{cleanup, job_variable};
use log::Log;
use machine::{ABSENT_FOR, Machine};
use messages::Limits;
use nunbird_handover::{Batch, Handover, Rules, Scheduler, Untrusted};
use nunbird_stage::exit_code::report_exit_code;
use nunbird_stage::shell::{enter_directory, environment};
use nunbird_stage::signals::Signals;
use nunbird_stage::{StageError, StageResult, Timeouts, command, print_message, template, words};
use nunbird_sys::process::set_umask;
use nunbird_unprivileged::waiting::LONG;
use options::Arguments;
use outcome::{By, Ending, RunnerStatus, StageOutcome};
use query_state::QueryState;
use shared::Shared;
use stage::{Intent, Stage, file_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use submission::intend;

/// Stages that gitlab-runner repeats by itself (`GET_SOURCES_ATTEMPTS` and the like). All others
/// run once.
const RETRIED: [&str; 3] = ["get_sources", "restore_cache", "download_artifacts"];

/// The longest grace period in seconds if a scheduler signals and kills by itself: its kill has to
/// come before Nunbird's.
const LONGEST_SCHEDULERS_GRACE: u32 = 30;

/// Runs one stage in the scheduler.
pub fn run(
    handover: &Handover,
    batch: &Batch,
    name: &str,
    script: Option<File>,
    exit_code: Option<File>,
    summary: Option<File>,
    timeouts: Timeouts,
) -> Result<StageResult, StageError> {
    set_umask(0o077);
    let signals = Signals::block().map_err(|e| {
        StageError::new("cannot wait for signals", e, "run the job again, or report it to the administrators")
    })?;
    let description = described(batch)?;
    let arguments = match options::arguments(batch, &handover.account, &description.options) {
        Ok(arguments) => arguments,
        Err(text) => {
            print_message(&text);
            return Ok(StageResult::BuildFailure);
        }
    };
    let stage = Stage::open(handover, batch, &file_name(name), true)?;
    let stage = stage.ok_or_else(|| {
        StageError::new("cannot make the stage's directory", "it is missing", "run the job again")
    })?;
    let Some(_lock) = stage.lock()? else {
        return Err(StageError::at(
            "refusing to follow",
            stage.path(),
            "another launcher does",
            "wait until it ends",
        ));
    };
    if let Some(ending) = stage.ending()? {
        if !RETRIED.contains(&name) || ending.verdict == RunnerStatus::Success || !ending.over {
            print_message("this stage has already ended; it is not run a second time");
            return report(&ending, exit_code.as_ref());
        }
        empty(&stage)?;
    }
    let parts = StageContext { handover, batch, name, stage: &stage, description: &description, timeouts };
    let (ending, intent) = submit_and_follow(&parts, arguments, signals, script.as_ref(), summary.as_ref())?;
    if let Some(directory) = &batch.copy_logs {
        print_message(&copies::copy(directory, &handover.account, &stage, &intent.tag));
    }
    report(&ending, exit_code.as_ref())
}

/// Submits the stage, or finds what an earlier launcher submitted, and follows it to its end. If
/// the scheduler refuses a job for a time limit that the user did not set, the job is submitted
/// once more without one.
fn submit_and_follow(
    parts: &StageContext<'_>,
    arguments: Arguments,
    signals: Signals,
    script: Option<&File>,
    summary: Option<&File>,
) -> Result<(Ending, Intent), StageError> {
    let StageContext { handover, batch, name, stage, description, timeouts } = *parts;
    let earlier = stage.intent()?;
    let mut intent = match &earlier {
        Some(intent) => {
            print_message(&format!(
                "following the job {} that an earlier launcher submitted",
                Untrusted(&intent.tag)
            ));
            intent.clone()
        }
        None => intend(handover, batch, name, description, stage, script)?,
    };
    let machine = Machine::new(description, limits(batch, &intent), earlier.is_some(), stage.job()?);
    enter_directory(handover);
    let streams = (io::stdout(), io::stderr());
    let sinks = [streams.0.as_fd(), streams.1.as_fd()];
    let mut engine = engine(parts, &intent, machine, arguments.clone(), signals, sinks)?;
    let mut outcome = engine.run()?;
    if let Some(remark) = retry::without_time_limit(&engine, &outcome, description, &batch.rules) {
        engine.finish(&format!("nunbird: {remark}\n"), timeouts.abandon);
        let signals = engine.signals;
        empty(stage)?;
        let next = intend(handover, batch, name, description, stage, script)?;
        let machine = Machine::new(description, limits(batch, &next), false, None);
        intent = next;
        engine =
            self::engine(parts, &intent, machine, Arguments { has_time: true, ..arguments }, signals, sinks)?;
        outcome = engine.run()?;
    }
    if stage.read_text("log").is_some_and(|log| description.log.reports_out_of_memory(&log)) {
        outcome = outcome.out_of_memory();
    }
    if let Some(summary) = summary {
        // If this fails, the event of the stage's end has fewer fields, and the job ends as it
        // would.
        drop(summary.write_all_at(&engine.summary(&outcome).to_bytes(), 0));
    }
    let ending = end(&mut engine, &outcome, &description.title, timeouts)?;
    for (tail, which) in engine.tails.iter().zip(["standard output", "standard error"]) {
        if let Some(loss) = tail.loss() {
            print_message(&format!(
                "the last {} bytes of the job's {which} are lost: {}",
                loss.bytes, loss.cause
            ));
        }
    }
    drop(engine);
    Ok((ending, intent))
}

/// Checks that stages can be submitted with these settings, for a check of a configuration before
/// any job.
///
/// # Errors
/// What is wrong with the scheduler's description or with the site's own arguments; the text may
/// quote the file.
pub fn check(scheduler: &Scheduler, rules: &Rules) -> Result<(), String> {
    options::check(rules, &Description::of(scheduler)?.options)
}

/// The programs without which no stage can be submitted, followed to its end or cancelled.
///
/// # Errors
/// As [`check`].
pub fn programs(scheduler: &Scheduler) -> Result<BTreeSet<String>, String> {
    let description = Description::of(scheduler)?;
    let queue = description.many.as_ref().unwrap_or(&description.query);
    let commands = [&description.submit.command, &queue.command, &description.cancel.command];
    Ok(commands.into_iter().filter_map(|words| words.first().cloned()).collect())
}

fn described(batch: &Batch) -> Result<Description, StageError> {
    Description::of(&batch.scheduler).map_err(|e| {
        StageError::new(
            "cannot use the scheduler of the configuration",
            e.trim(),
            "report it to the administrators",
        )
    })
}

fn limits(batch: &Batch, intent: &Intent) -> Limits {
    let left = batch.deadline.map(|deadline| Duration::from_secs(deadline.saturating_sub(log::epoch())));
    Limits {
        absent_for: ABSENT_FOR,
        poll: Duration::from_secs(u64::from(batch.poll_interval.max(1))),
        nfs: Duration::from_secs(u64::from(batch.nfs_timeout)),
        grace: Duration::from_secs(u64::from(batch.grace)),
        deadline: left,
        seed: u64::from_str_radix(intent.nonce.get(..16).unwrap_or("1"), 16).unwrap_or(1),
    }
}

/// The time limit in seconds of a job without one in its arguments; omitting it does not avoid the
/// site's limit. `None` if nothing is known.
fn longest_run(batch: &Batch, now: u64) -> Option<u64> {
    let left = batch.deadline.map(|deadline| deadline.saturating_sub(now));
    [left, batch.rules.most_time].into_iter().flatten().min()
}

/// One stage and the means to submit it.
#[derive(Clone, Copy)]
struct StageContext<'a> {
    handover: &'a Handover,
    batch: &'a Batch,
    /// The runner's name of the stage.
    name: &'a str,
    stage: &'a Stage,
    description: &'a Description,
    timeouts: Timeouts,
}

fn engine<'a>(
    parts: &StageContext<'a>,
    intent: &'a Intent,
    mut machine: Machine<'a>,
    mut arguments: Arguments,
    signals: Signals,
    sinks: [std::os::fd::BorrowedFd<'a>; 2],
) -> Result<Engine<'a>, StageError> {
    let StageContext { handover, batch, name, stage, description, timeouts } = *parts;
    if !arguments.has_size {
        arguments.words.extend_from_slice(&description.submit.size);
    }
    if let (false, Some(most)) = (arguments.has_nodes, batch.rules.most_nodes) {
        let values = BTreeMap::from([("nodes", most.to_string())]);
        arguments.words.extend(template::fill(&description.submit.nodes, &values, &[]));
    }
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let values = BTreeMap::from([
        ("tag", intent.tag.clone()),
        ("comment", format!("Nunbird: stage {} of CI job {}", file_name(name), handover.job_id)),
        ("user", handover.account.name.clone()),
        ("uid", handover.account.uid.to_string()),
        ("directory", text(&handover.workspace.builds_dir)),
        ("stage", text(stage.path())),
        ("agent", text(&stage.path().join("agent"))),
        ("log", text(&stage.path().join("log"))),
        ("signal", signal_name(batch.cancel_signal.as_deref())),
        ("grace", batch.grace.clamp(1, LONGEST_SCHEDULERS_GRACE).to_string()),
    ]);
    let settable = !arguments.has_time && !description.submit.time.is_empty();
    let remaining = longest_run(batch, log::epoch()).filter(|_| settable);
    if remaining.is_some() && description.limits.is_some() {
        machine.query_limits();
    }
    let passed_path = stage.path().join("passed");
    let passed_failed = |e: io::Error| {
        StageError::at("cannot use", &passed_path, e, "run the job again, or report it to the administrators")
    };
    let passed = Passed::open(&passed_path).map_err(passed_failed)?;
    let tail = |name: &str, number: u64| -> Result<Tail<'a>, StageError> {
        let from = passed.get(number).map_err(passed_failed)?;
        Ok(Tail::new(stage.path().join(name), number, sinks[usize::from(number == 1)], from))
    };
    let mut tails = [tail("out", 0)?, tail("err", 1)?];
    let log = Log::new(&description.title, &intent.tag);
    for remark in &arguments.remarks {
        log.remark(&mut tails[1], remark);
    }
    let stored_id = machine.id.clone();
    let mut environment = environment(handover, name);
    environment.extend(description.environment.iter().map(|(name, value)| (name.into(), value.into())));
    environment.extend(batch.environment.iter().map(|(name, value)| (name.into(), value.into())));
    let queries =
        QueryState::new(description, values, arguments.words, handover.account.uid, intent.tag.clone());
    Ok(Engine {
        stage,
        intent,
        machine,
        shared: shared_answers(handover, batch, &queries),
        pending_query: None,
        last_event: shared::now(),
        queries,
        bin: batch.scheduler_bin.clone(),
        environment,
        remaining,
        chosen_limit: None,
        partition: arguments.partition,
        log,
        signals,
        tails,
        passed,
        clock: Instant::now(),
        answer_time: AnswerTime::new(),
        watch: None,
        reported: false,
        output_watch: None,
        shared_watch: None,
        command: None,
        stored_id,
        log_size: Some(0),
        checked: None,
        changed: Instant::now(),
        idle: Some(Instant::now() + LONG),
        err_first: false,
        cancel_requested: None,
        repeat: timeouts.repeat,
    })
}

/// The directory in which the account's launchers on this host share the scheduler's query results;
/// `None` if it is queried job by job.
fn shared_answers(handover: &Handover, batch: &Batch, queries: &QueryState<'_>) -> Option<Shared> {
    let mut question = queries.command_for_all_jobs()?.words;
    // The same words refer to another cluster if these differ.
    question.extend(batch.scheduler_bin.iter().map(|bin| bin.to_string_lossy().into_owned()));
    let variables = [&handover.environment, &batch.environment];
    question.extend(variables.into_iter().flatten().map(|(name, value)| format!("{name}={value}")));
    Some(Shared::new(batch.directory.parent()?, &question))
}

/// A signal's name as scheduler commands accept it; `None` if the text is not a signal name.
fn signal_name(wanted: Option<&str>) -> String {
    let name = wanted.map(|name| name.trim().to_ascii_uppercase()).unwrap_or_default();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "CONT", "XCPU", "ALRM", "KILL"];
    if known.contains(&name) {
        return name.to_owned();
    }
    if wanted.is_some_and(|wanted| !wanted.trim().is_empty()) {
        print_message("SCHEDULER_SIGNAL is not a signal that can be sent to a job; using TERM");
    }
    "TERM".to_owned()
}

/// Stores the end, reports it, and removes the script.
fn end(
    engine: &mut Engine<'_>,
    outcome: &StageOutcome,
    title: &str,
    timeouts: Timeouts,
) -> Result<Ending, StageError> {
    let machine = &engine.machine;
    let code = machine.record.as_ref().map(|record| record.code);
    let ending = outcome.ending(code, title);
    let mut text = String::new();
    if ending.verdict != RunnerStatus::Success
        && code.is_none_or(|code| code == 0)
        && let Some(log) = engine.stage.read_text("log")
    {
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(10)..] {
            text.push_str(&format!("nunbird: {title}'s log: {}\n", Untrusted(line)));
        }
    }
    if ending.verdict == RunnerStatus::BuildFailure {
        text.push_str(&format!("nunbird: {}\n", ending.text));
    }
    let summary = log::summary(
        title,
        machine.id.as_deref(),
        engine.intent.time,
        machine.began.as_ref(),
        machine.record.as_ref(),
    );
    if let Some(summary) = summary {
        text.push_str(&format!("nunbird: {summary}\n"));
    }
    let stored = engine.stage.store("ending", &ending);
    let removed = engine.stage.remove("script");
    engine.finish(&text, timeouts.abandon);
    stored.and(removed)?;
    Ok(ending)
}

/// What is reported to the runner.
fn report(ending: &Ending, exit_code: Option<&File>) -> Result<StageResult, StageError> {
    match ending.verdict.verdict() {
        Some(StageResult::BuildFailure) if ending.code != 0 => {
            report_exit_code(exit_code, ending.code)?;
            Ok(match ending.by {
                By::Itself => StageResult::ScriptFailed,
                By::Runner => StageResult::Cancelled,
                By::Nothing => StageResult::BuildFailure,
            })
        }
        Some(verdict) => Ok(verdict),
        None => Err(StageError::sentence(&ending.text)),
    }
}

/// Removes the files of a finished attempt, for the runner's next attempt.
fn empty(stage: &Stage) -> Result<(), StageError> {
    for name in [
        "record",
        "began",
        "refused",
        "out",
        "err",
        "log",
        "passed",
        "script",
        "script-began",
        "agent",
        "times",
        "job",
        // Of Cobalt and of HTCondor.
        "cobaltlog",
        "events",
    ] {
        stage.remove(name)?;
    }
    match fs::remove_dir(stage.path().join("started")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(StageError::at("cannot empty", stage.path(), e, "run the job again"));
        }
        _ => {}
    }
    // Last: until then the old attempt counts.
    stage.remove("intent")?;
    stage.remove("ending")
}

#[cfg(test)]
mod tests {
    use super::longest_run;
    use nunbird_handover::{Batch, Scheduler};

    #[test]
    fn a_job_without_a_time_limit_is_within_the_sites_bound_all_the_same() {
        let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        assert_eq!(longest_run(&batch, 1000), None);
        batch.deadline = Some(4600);
        assert_eq!(longest_run(&batch, 1000), Some(3600));
        batch.rules.most_time = Some(600);
        assert_eq!(longest_run(&batch, 1000), Some(600));
        batch.deadline = None;
        assert_eq!(longest_run(&batch, 1000), Some(600));
    }
}
