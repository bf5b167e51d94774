//! HTCondor 23.9: `condor_submit condor_q condor_rm condor_history condor_hold condor_release`.
//!
//! Of a submit description the vanilla universe is there, with one job in a cluster. A job that exceeds its time or its
//! memory is held (codes 47 and 34) and leaves only by `periodic_remove`, which is evaluated as in the real one.

use super::classad::{Value, evaluate, is_true};
use super::command::{Call, Said};
use super::queue::{Cause, Job, JobState, MomRequest};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

const HOST: &str = "condorhost";

pub(super) fn run(call: &mut Call, command: &str) -> io::Result<Said> {
    match command {
        "condor_submit" => submit(call),
        "condor_q" => Ok(q(call)),
        "condor_history" => Ok(history(call)),
        "condor_hold" => act(call, "hold", "held"),
        "condor_release" => act(call, "release", "released"),
        _ => act(call, "remove", "marked for removal"),
    }
}

fn submit(call: &mut Call) -> io::Result<Said> {
    let mut terse = false;
    let (mut assignments, mut appended, mut file) = (Vec::new(), Vec::new(), None);
    let mut words = call.arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-terse" => terse = true,
            "-append" | "-a" => appended.extend(words.next().cloned()),
            "-" => file = Some("-".to_owned()),
            word if word.starts_with('-') => {
                return Ok(Said::error(
                    1,
                    format!(
                        "Usage: condor_submit [options] [<attrib>=<value>] [- | <submit-file>]\nunknown option {word}"
                    ),
                ));
            }
            word if word.contains('=') => assignments.push(word.to_owned()),
            word => file = Some(word.to_owned()),
        }
    }
    let text = match file.as_deref() {
        None | Some("-") => String::from_utf8_lossy(&call.stdin()?).into_owned(),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) => {
                return Ok(Said::error(
                    1,
                    format!("\nERROR: Failed to open command file ({path}) (No such file or directory)"),
                ));
            }
        },
    };
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    // What stands on the command line is read first; -append goes before `queue`.
    let lines = text.lines().map(str::to_owned);
    for line in assignments.into_iter().chain(lines.clone().filter(|line| !is_queue(line))).chain(appended) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = line.split_once('=') {
            keys.insert(
                name.trim().to_lowercase().trim_start_matches('+').to_owned(),
                value.trim().to_owned(),
            );
        }
    }
    if !lines.clone().any(|line| is_queue(&line)) {
        return Ok(Said::error(1, "\nERROR: no 'queue' command in submit file"));
    }
    let job = match described(call, &keys)? {
        Ok(job) => job,
        Err(text) => {
            let begun = if terse { String::new() } else { "Submitting job(s)".to_owned() };
            return Ok(Said { out: begun, err: format!("\n{text}\n"), code: 1 });
        }
    };
    let number = job.number;
    call.add(&job, None)?;
    Ok(Said::out(if terse {
        format!("{number}.0 - {number}.0\n")
    } else {
        format!("Submitting job(s).\n1 job(s) submitted to cluster {number}.\n")
    }))
}

fn is_queue(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("queue"))
}

/// The job, or the error that the real one prints.
fn described(call: &Call, keys: &BTreeMap<String, String>) -> io::Result<Result<Job, String>> {
    let get = |name: &str| keys.get(name).map(String::as_str);
    if let Some(universe) = get("universe").filter(|universe| *universe != "vanilla") {
        return Ok(Err(format!("ERROR: I don't know about the '{universe}' universe.")));
    }
    let nothing = |_: &str| Value::Undefined;
    for (key, attribute) in [
        ("request_memory", "RequestMemory"),
        ("request_cpus", "RequestCpus"),
        ("periodic_remove", "PeriodicRemove"),
    ] {
        let readable = |text: &str| {
            let plain = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            evaluate(text, &nothing).is_some() || plain.trim().parse::<f64>().is_ok()
        };
        if let Some(text) = get(key).filter(|text| !readable(text)) {
            return Ok(Err(format!("ERROR: Parse error in expression: \n\t{attribute} = {text}\n\t")));
        }
    }
    let here = std::env::current_dir()?;
    let directory = get("initialdir").map_or_else(|| here.clone(), |name| here.join(name));
    let executable = get("executable").unwrap_or_default();
    let program =
        if Path::new(executable).is_absolute() { executable.into() } else { directory.join(executable) };
    if !program.is_file() {
        return Ok(Err(format!("ERROR: Executable file {executable} does not exist")));
    }
    let mut job = call.new_job()?;
    let expand = |text: &str| {
        let id = job.number.to_string();
        text.replace("$(ClusterId)", &id).replace("$(Cluster)", &id).replace("$(Process)", "0")
    };
    let path = |name: &str| get(name).map(|name| directory.join(expand(name)));
    let (output, error) = (path("output").unwrap_or_else(|| "/dev/null".into()), path("error"));
    let mut environment = BTreeMap::new();
    for part in get("environment").unwrap_or_default().trim_matches('"').split_whitespace() {
        if let Some((name, value)) = part.split_once('=') {
            environment.insert(name.to_owned(), expand(value.trim_matches('\'')));
        }
    }
    let arguments = get("arguments").unwrap_or_default().split_whitespace().map(expand);
    job.program = std::iter::once(program.display().to_string()).chain(arguments).collect();
    job.directory = directory;
    job.environment = environment;
    job.error = error.filter(|error| *error != output);
    job.output = output;
    job.name = get("batch_name").or(get("jobbatchname")).unwrap_or_default().trim_matches('"').to_owned();
    job.limit = get("allowed_execute_duration").and_then(|text| text.parse().ok());
    for key in ["periodic_remove", "description"] {
        if let Some(text) = get(key) {
            job.more.insert(key.to_owned(), text.to_owned());
        }
    }
    if get("hold").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        hold(&mut job, 15, "submitted on hold at user's request");
    }
    Ok(Ok(job))
}

fn hold(job: &mut Job, code: u32, why: &str) {
    job.held = true;
    job.more.insert("HoldReasonCode".to_owned(), code.to_string());
    job.more.insert("HoldReason".to_owned(), why.to_owned());
}

/// After a run: limits hold a job, a lost or preempted node puts it back. Whether it stays in the queue.
pub(super) fn holds(job: &mut Job, cause: Cause) -> bool {
    match cause {
        Cause::Time => hold(job, 47, "The job exceeded allowed execute duration of 0+00:01:00"),
        Cause::Memory => hold(
            job,
            34,
            "Error from slot1_1@condorhost: Job has gone over cgroup memory limit of 50 megabytes",
        ),
        Cause::Node | Cause::Preempted => {}
        Cause::Itself | Cause::Cancelled | Cause::Infeasible => return false,
    }
    job.standing = JobState::Waiting;
    true
}

/// Whether the job's own policy removes it now.
pub(super) fn periodic_remove(job: &Job) -> bool {
    let policy = job.more("periodic_remove");
    job.standing == JobState::Waiting && !policy.is_empty() && is_true(policy, &|name| value(job, name, None))
}

fn status(job: &Job) -> i32 {
    match (job.standing, job.held, job.cause()) {
        (JobState::Waiting, true, _) => 5,
        (JobState::Waiting, false, _) => 1,
        (JobState::Running, ..) => 2,
        (JobState::Leaving, ..) => 3,
        (JobState::Ended, _, Some(Cause::Itself)) => 4,
        (JobState::Ended, ..) => 3,
    }
}

/// An attribute of the job's ClassAd.
fn value(job: &Job, name: &str, word: Option<&str>) -> Value {
    let text = |text: &str| match text {
        "" => Value::Undefined,
        text => Value::Text(text.to_owned()),
    };
    let number = |value: Option<i32>| value.map_or(Value::Undefined, |value| Value::Number(f64::from(value)));
    let end = job.end.as_ref();
    let itself = job.cause() == Some(Cause::Itself);
    let removed = job.standing == JobState::Ended && !itself;
    let hold_code = job.more("HoldReasonCode").parse::<f64>().map_or(Value::Undefined, Value::Number);
    match name.to_lowercase().as_str() {
        "clusterid" => Value::Number(job.number as f64),
        "procid" => Value::Number(0.0),
        "owner" => text(&job.owner),
        "jobbatchname" => text(&job.name),
        "jobdescription" => text(job.more("description").trim_matches('"')),
        "jobstatus" => match word {
            Some(word) => Value::Text(word.to_owned()),
            None => number(Some(status(job))),
        },
        "numjobstarts" => Value::Number(f64::from(job.runs)),
        "holdreasoncode" if job.held && !removed => hold_code,
        "holdreason" if job.held && !removed => text(job.more("HoldReason")),
        "lastholdreasoncode" if job.held && removed => hold_code,
        "lastholdreason" if job.held && removed => text(job.more("HoldReason")),
        "remotehost" if matches!(job.standing, JobState::Running | JobState::Leaving) => {
            text("slot1_1@condorhost")
        }
        "lastremotehost" if job.started.is_some() => text("slot1_1@condorhost"),
        "exitcode" if itself => number(end.and_then(|end| end.code)),
        "exitsignal" if itself => number(end.and_then(|end| end.signal)),
        "exitbysignal" if itself => Value::Truth(end.is_some_and(|end| end.signal.is_some())),
        "removereason" if removed && job.more.contains_key("policy") => {
            text("The job attribute PeriodicRemove expression evaluated to TRUE")
        }
        "removereason" if removed => {
            let by = end.map_or(0, |end| end.by);
            text(&format!(
                "via condor_rm (by user {})",
                if by == job.uid { job.owner.as_str() } else { "root" }
            ))
        }
        "allowedexecuteduration" => job.limit.map_or(Value::Undefined, |limit| Value::Number(limit as f64)),
        _ => Value::Undefined,
    }
}

/// Options of condor_q and its like: a constraint, attributes, ids.
struct Asked {
    constraints: Vec<String>,
    attributes: Vec<String>,
    json: bool,
    limit: usize,
    ids: Vec<u64>,
    all: bool,
}

fn asked(arguments: &[String]) -> Asked {
    let mut asked = Asked {
        constraints: Vec::new(),
        attributes: Vec::new(),
        json: false,
        limit: usize::MAX,
        ids: Vec::new(),
        all: false,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-constraint" | "-const" => asked.constraints.extend(words.next().cloned()),
            "-attributes" => {
                let list = words.next().map_or("", String::as_str);
                asked.attributes = list.split(',').map(|name| name.trim().to_owned()).collect();
            }
            "-limit" | "-match" => {
                asked.limit = words.next().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
            }
            "-scanlimit" | "-reason" => drop(words.next()),
            "-json" => asked.json = true,
            "-allusers" => asked.all = true,
            word => asked.ids.extend(word.split('.').next().and_then(|id| id.parse::<u64>().ok())),
        }
    }
    asked
}

impl Asked {
    fn fits(&self, job: &Job) -> bool {
        (self.ids.is_empty() || self.ids.contains(&job.number))
            && self.constraints.iter().all(|text| is_true(text, &|name| value(job, name, None)))
    }
}

fn q(call: &mut Call) -> Said {
    let asked = asked(&call.arguments);
    let fits = |job: &Job| job.is_live() && (asked.all || call.may(job)) && asked.fits(job);
    let jobs: Vec<Job> = call.queue.known().into_iter().filter(fits).collect();
    if !asked.json {
        let mut text = format!(
            "\n\n-- Schedd: {HOST} : <10.99.0.31:9618?...\n ID      OWNER            SUBMITTED     RUN_TIME ST PRI SIZE CMD\n"
        );
        for job in &jobs {
            writeln!(text, "{:4}.0   {:<14} {}", job.number, job.owner, status(job)).expect("text");
        }
        return Said::out(text);
    }
    // Nothing at all where there are no jobs.
    if jobs.is_empty() { Said::default() } else { Said::out(ads(call, &jobs, &asked.attributes)) }
}

fn history(call: &mut Call) -> Said {
    let asked = asked(&call.arguments);
    let mut jobs: Vec<Job> = call.queue.recorded().into_iter().filter(|job| asked.fits(job)).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.ended));
    jobs.truncate(asked.limit);
    match (asked.json, jobs.is_empty()) {
        (true, true) => Said::out("[\n]\n"),
        (true, false) => Said::out(ads(call, &jobs, &asked.attributes)),
        (false, _) => {
            Said::out(" ID     OWNER          SUBMITTED   RUN_TIME     ST COMPLETED   CMD            \n")
        }
    }
}

fn ads(call: &Call, jobs: &[Job], attributes: &[String]) -> String {
    let objects: Vec<String> = jobs
        .iter()
        .map(|job| {
            let plain = status(job).to_string();
            let word = call.queue.word(job.number, &plain);
            let word = (word != plain).then_some(word);
            let mut sorted: Vec<&String> = attributes.iter().collect();
            sorted.sort_by_key(|name| name.to_lowercase());
            let lines: Vec<String> = sorted
                .into_iter()
                .filter_map(|name| {
                    let json: Json = match value(job, name, word.as_deref()) {
                        Value::Undefined => return None,
                        // Whole numbers, as all of these attributes are.
                        Value::Number(number) => json!(number as i64),
                        Value::Text(text) => json!(text),
                        Value::Truth(truth) => json!(truth),
                    };
                    Some(format!("  \"{name}\": {json}"))
                })
                .collect();
            format!("{{\n{}\n}}\n", lines.join(",\n"))
        })
        .collect();
    format!("[\n{}]\n", objects.join(",\n"))
}

fn act(call: &mut Call, verb: &str, done: &str) -> io::Result<Said> {
    let asked = asked(&call.arguments);
    let force = call.arguments.iter().any(|word| word == "-forcex");
    let fits = |job: &Job| job.is_live() && call.may(job) && asked.fits(job);
    let jobs: Vec<Job> = call.queue.known().into_iter().filter(fits).collect();
    let whom = match (asked.constraints.first(), asked.ids.as_slice()) {
        (Some(text), _) => format!("matching constraint ({text})"),
        (None, [id]) => format!("in cluster {id}"),
        (None, _) => format!("of user \"{}\"", call.arguments.join(" ")),
    };
    if jobs.is_empty() {
        return Ok(Said::error(1, format!("\nCouldn't find/{verb} all jobs {whom}")));
    }
    for job in &jobs {
        match verb {
            "hold" => call.queue.request(job.number, MomRequest::Hold)?,
            "release" => call.queue.request(job.number, MomRequest::Release)?,
            _ => call.cancel(job, force)?,
        }
    }
    Ok(Said::out(format!("All jobs {whom} have been {done}\n")))
}
