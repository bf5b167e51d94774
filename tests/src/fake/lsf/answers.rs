//! What LSF says of jobs: `bjobs`, also as JSON, and `bhist`.

use super::{HOST, meant};
use crate::fake::command::{Call, Said};
use crate::fake::options::dashed;
use crate::fake::queue::{Cause, Job, JobState};
use crate::fake::times::Date;
use serde_json::{Value, json};
use std::fmt::Write;

fn stat(job: &Job) -> &'static str {
    match (job.standing, job.held) {
        (JobState::Waiting, true) => "PSUSP",
        (JobState::Waiting, false) => "PEND",
        (JobState::Running | JobState::Leaving, _) => "RUN",
        (JobState::Ended, _) if job.cause() == Some(Cause::Itself) && job.code() == Some(0) => "DONE",
        (JobState::Ended, _) => "EXIT",
    }
}

fn exit_reason(job: &Job) -> &'static str {
    match job.cause() {
        Some(Cause::Cancelled) if job.end.as_ref().is_some_and(|end| end.by != job.uid) => {
            "TERM_ADMIN: job killed by root or LSF administrator"
        }
        Some(Cause::Cancelled) => "TERM_OWNER: job killed by owner",
        Some(Cause::Time) => "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
        Some(Cause::Memory) => "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit",
        Some(Cause::Preempted) => "TERM_PREEMPT: job killed after preemption",
        Some(Cause::Node) => "TERM_ZOMBI: job exited while LSF is not available",
        Some(Cause::Itself | Cause::Infeasible) | None => "",
    }
}

pub(super) fn bjobs(call: &mut Call) -> Said {
    let known = [
        ("-a", 0),
        ("-w", 0),
        ("-l", 0),
        ("-d", 0),
        ("-p", 0),
        ("-r", 0),
        ("-UF", 0),
        ("-o", 1),
        ("-json", 0),
        ("-noheader", 0),
        ("-J", 1),
        ("-u", 1),
        ("-q", 1),
    ];
    let known: Vec<(&str, usize)> = known
        .into_iter()
        .filter(|(name, _)| !(call.queue.is_openlava() && ["-o", "-json", "-noheader"].contains(name)))
        .collect();
    let words = match dashed(&call.arguments, &known) {
        Ok(words) => words,
        Err(word) => {
            return Said::error(
                255,
                format!("bjobs: invalid option -- '{}'\nUsage: bjobs [-h] [-V]", &word[1..]),
            );
        }
    };
    let (jobs, missing) = meant(call, &words, call.queue.known());
    if let (Some(format), true) = (words.get("-o"), words.has("-json")) {
        return json_answer(call, format, &jobs, &missing, words.get("-J"));
    }
    let mut said = Said::default();
    for id in &missing {
        said.code = 255;
        writeln!(said.err, "Job <{id}> is not found").expect("text");
    }
    if jobs.is_empty() {
        if missing.is_empty() {
            said.code = 255;
            said.err = match words.get("-J") {
                Some(name) => format!("Job <{name}> is not found\n"),
                None if words.has("-a") => "No job found\n".to_owned(),
                None => "No unfinished job found\n".to_owned(),
            };
        }
        return said;
    }
    said.out.push_str("JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n");
    for job in jobs {
        let stat = call.queue.word(job.number, stat(&job));
        let cut = |text: &str, width: usize| match text.chars().count() {
            n if n > width && !words.has("-w") => {
                format!("*{}", text.chars().skip(n + 1 - width).collect::<String>())
            }
            _ => text.to_owned(),
        };
        let node = if job.started.is_some() { HOST } else { "   -    " };
        writeln!(
            said.out,
            "{:<7} {:<7} {stat:<5} {:<10} {HOST:<11} {node:<11} {:<10} {}",
            job.number,
            cut(&job.owner, 7),
            job.queue,
            cut(&job.name, 10),
            Date::of(job.submitted).short()
        )
        .expect("text");
    }
    said
}

fn json_answer(call: &Call, format: &str, jobs: &[Job], missing: &[String], name: Option<&str>) -> Said {
    let fields: Vec<&str> =
        format.split_whitespace().map(|field| field.split(':').next().unwrap_or(field)).collect();
    let mut records: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let pairs = fields.iter().map(|field| (field.to_uppercase(), json!(value(call, job, field))));
            Value::Object(pairs.collect())
        })
        .collect();
    records
        .extend(missing.iter().map(|id| json!({"JOBID": id, "ERROR": format!("Job <{id}> is not found")})));
    if records.is_empty() {
        return match name {
            Some(name) => Said::error(255, format!("Job <{name}> is not found")),
            None => Said::error(255, "No job found"),
        };
    }
    let answer = json!({"COMMAND": "bjobs", "JOBS": records.len(), "RECORDS": records});
    let code = if missing.is_empty() { 0 } else { 255 };
    Said { out: format!("{answer:#}\n"), err: String::new(), code }
}

fn value(call: &Call, job: &Job, field: &str) -> String {
    let date = |time: Option<u64>| time.map(|time| Date::of(time).short()).unwrap_or_default();
    let code = || job.code().filter(|code| *code != 0 && !job.is_live());
    match field {
        "jobid" => job.number.to_string(),
        "user" => job.owner.clone(),
        "stat" => call.queue.word(job.number, stat(job)),
        "queue" => job.queue.clone(),
        "job_name" => job.name.clone(),
        "exit_code" => code().map(|code| code.to_string()).unwrap_or_default(),
        "exit_reason" => exit_reason(job).to_owned(),
        "pend_reason" if job.standing == JobState::Waiting && job.held => {
            "The job was suspended by the user while pending;".to_owned()
        }
        "pend_reason" if job.standing == JobState::Waiting => "New job is waiting for scheduling;".to_owned(),
        "exec_host" if job.started.is_some() => HOST.to_owned(),
        "submit_time" => date(Some(job.submitted)),
        "start_time" => date(job.started),
        "finish_time" => date(job.ended),
        "runtimelimit" => job.limit.map(|limit| format!("{}.0/{HOST}", limit / 60)).unwrap_or_default(),
        _ => String::new(),
    }
}

pub(super) fn bhist(call: &mut Call) -> Said {
    let known = [("-l", 0), ("-n", 1), ("-a", 0), ("-J", 1), ("-u", 1)];
    let Ok(words) = dashed(&call.arguments, &known) else {
        return Said::error(255, "Usage: bhist [-h] [-V] [-l] [-n number_of_logfiles] [jobId]...");
    };
    let mut jobs = call.queue.recorded();
    jobs.extend(call.queue.known().into_iter().filter(Job::is_live));
    let chosen: Vec<Job> =
        jobs.into_iter().filter(|job| words.rest.contains(&job.number.to_string())).collect();
    if chosen.is_empty() {
        return Said { out: "No matching job found\n".to_owned(), err: String::new(), code: 255 };
    }
    let mut text = String::new();
    for job in chosen {
        let name = format!(
            "Job <{}>, Job Name <{}>, User <{}>, Project <default>, Command <#!/bin/sh>",
            job.number, job.name, job.owner
        );
        let event = |time: Option<u64>, what: &str| match time {
            Some(time) => folded(&format!("{}: {what}", Date::of(time).without_year())),
            None => String::new(),
        };
        text.push('\n');
        text.push_str(&folded(&name));
        text.push_str(&event(
            Some(job.submitted),
            &format!("Submitted from host <{HOST}>, to Queue <{}>, CWD <$HOME>;", job.queue),
        ));
        text.push_str(&event(job.started, &format!("Dispatched to <{HOST}>;")));
        text.push_str(&event(job.started, "Starting (Pid 508);"));
        let how = match (job.cause(), job.code()) {
            (Some(Cause::Itself), Some(0)) => "Done successfully.".to_owned(),
            (Some(Cause::Itself), Some(code)) if code < 128 => format!("Exited with exit code {code}."),
            (_, Some(code)) if code > 128 => format!("Exited by signal {}.", code - 128),
            _ => "Exited;".to_owned(),
        };
        let reason = match exit_reason(&job) {
            "" => String::new(),
            reason => format!(" {reason};"),
        };
        text.push_str(&event(job.ended, &format!("{how} The CPU time used is 0.0 seconds;{reason}")));
        text.push_str("\nSummary of time in seconds spent in various states\n  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL\n\n");
    }
    Said::out(text)
}

/// Lines of 79 columns, the next ones behind 21 blanks.
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut room = 79;
    for letter in line.chars() {
        if room == 0 {
            write!(text, "\n{:21}", "").expect("text");
            room = 58;
        }
        text.push(letter);
        room -= 1;
    }
    text + "\n"
}
