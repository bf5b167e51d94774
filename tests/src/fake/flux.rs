//! Flux 0.88, a system instance: `flux batch jobs cancel job`.
//!
//! There are the queues `batch` (default) and `debug`, and four nodes.

use super::command::{Call, Said, inherited, script};
use super::options::{Words, gnu};
use super::queue::{Cause, Job, JobState, MomRequest};
use super::times::signal;
use std::fmt::Write;
use std::io;

const HOST: &str = "fluxhost";
const NODES: u32 = 4;
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Ids are times; the queue's numbers become such by this.
const EPOCH: u64 = 16_777_216;

pub(super) fn run(call: &mut Call) -> io::Result<Said> {
    let Some((first, rest)) = call.arguments.split_first() else {
        return Ok(Said::error(2, "Usage: flux [OPTIONS] COMMAND ARGS"));
    };
    let (first, rest) = (first.clone(), rest.to_vec());
    match first.as_str() {
        "batch" => batch(call, &rest),
        "jobs" => Ok(jobs(call, &rest)),
        "cancel" => cancel(call, &rest),
        "job" => job(call, &rest),
        other => Ok(Said::error(1, format!("flux: `{other}' is not a flux command.  See 'flux --help'"))),
    }
}

/// As printed: `fBqbkVD`, or with the letter ƒ in a UTF-8 locale.
fn f58(number: u64) -> String {
    let mut digits = Vec::new();
    let mut left = number * EPOCH;
    while left > 0 || digits.is_empty() {
        digits.push(BASE58[usize::try_from(left % 58).unwrap_or(0)]);
        left /= 58;
    }
    let ascii = std::env::var_os("FLUX_F58_FORCE_ASCII").is_some_and(|value| value == "1") || !is_utf8();
    let text: String = digits.iter().rev().map(|digit| char::from(*digit)).collect();
    format!("{}{text}", if ascii { 'f' } else { 'ƒ' })
}

fn is_utf8() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(std::env::var_os);
    value.is_some_and(|value| value.to_string_lossy().to_uppercase().replace('-', "").ends_with("UTF8"))
}

/// The queue's number in an id, in decimal or in base 58.
pub(super) fn number(id: &str) -> Option<u64> {
    let value = match id.strip_prefix(['f', 'ƒ']) {
        Some(digits) => digits.bytes().try_fold(0_u64, |sum, digit| {
            let value = BASE58.iter().position(|known| *known == digit)?;
            sum.checked_mul(58)?.checked_add(u64::try_from(value).ok()?)
        })?,
        None => id.parse().ok()?,
    };
    value.is_multiple_of(EPOCH).then_some(value / EPOCH)
}

const BATCH: &[(&[&str], bool)] = &[
    (&["--nslots", "-n"], true),
    (&["--cores-per-slot", "-c"], true),
    (&["--gpus-per-slot", "-g"], true),
    (&["--nodes", "-N"], true),
    (&["--exclusive", "-x"], false),
    (&["--time-limit", "-t"], true),
    (&["--job-name"], true),
    (&["--queue", "-q"], true),
    (&["--bank", "-B"], true),
    (&["--urgency"], true),
    (&["--output"], true),
    (&["--error"], true),
    (&["--env"], true),
    (&["--cwd"], true),
    (&["--dependency"], true),
    (&["--begin-time"], true),
    (&["--requires"], true),
    (&["--setattr", "-S"], true),
    (&["--setopt", "-o"], true),
    (&["--flags"], true),
    (&["--broker-opts"], true),
    (&["--conf"], true),
    (&["--dump"], true),
    (&["--quiet"], false),
    (&["--wrap"], false),
];

/// `90`, `5m`, `2h`, `1d`, `30s`: minutes where there is no letter.
fn duration(text: &str) -> Option<u64> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit() && c != '.') {
        Some(at) => text.split_at(at),
        None => return text.parse::<f64>().ok().map(|minutes| (minutes * 60.0) as u64),
    };
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|value| (value * seconds) as u64)
}

fn batch(call: &mut Call, arguments: &[String]) -> io::Result<Said> {
    // argparse: `-N=1` is `-N 1`, and `-N` with `=1` has the value `=1`.
    let apart = |word: &String| match word.as_bytes() {
        [b'-', letter, b'=', ..] if letter.is_ascii_alphabetic() => {
            vec![word[..2].to_owned(), word[3..].to_owned()]
        }
        _ => vec![word.clone()],
    };
    let arguments: Vec<String> = arguments.iter().flat_map(apart).collect();
    // What follows the script is the script's.
    let words = match gnu(&arguments, BATCH) {
        Ok(words) => words,
        Err(word) => {
            return Ok(Said::error(
                2,
                format!(
                    "usage: flux batch [OPTIONS...] [SCRIPT] [ARGS...]\nflux batch: error: unrecognized arguments: {word}"
                ),
            ));
        }
    };
    let refuse = |text: &str| Ok(Said::error(1, format!("flux-batch: ERROR: {text}")));
    let text = match words.rest.first() {
        Some(path) => match script(path) {
            Ok(text) => text,
            Err(_) => return refuse(&format!("[Errno 2] No such file or directory: '{path}'")),
        },
        None => call.stdin()?,
    };
    if !text.starts_with(b"#!") {
        return refuse("batch does not appear to start with '#!'");
    }
    if !words.has("--nslots") && !words.has("--nodes") {
        return refuse("Number of slots to allocate must be specified");
    }
    let nodes = words.get("--nodes").unwrap_or("1");
    let Ok(nodes) = nodes.parse::<u32>() else {
        return refuse(&format!("argument -N/--nodes: invalid int value: '{nodes}'"));
    };
    let queue = words.get("--queue").unwrap_or("batch").to_owned();
    if !["batch", "debug"].contains(&queue.as_str()) {
        return refuse(&format!("'{queue}' is not a valid queue"));
    }
    let limit = words.get("--time-limit").map(duration);
    if limit == Some(None) {
        return refuse("invalid Flux standard duration");
    }
    let mut job = call.new_job()?;
    job.limit = limit.flatten();
    if queue == "debug" && job.limit.is_some_and(|limit| limit > 3600) {
        return refuse("[Errno 22] requested duration exceeds policy limit of 1h for queue debug");
    }
    if nodes > NODES {
        let note = format!("unsatisfiable request: need {nodes} exclusive node(s), only {NODES} eligible");
        job.more.insert("infeasible".to_owned(), note);
    }
    job.queue = queue;
    job.name = words.get("--job-name").unwrap_or("batch").to_owned();
    job.held = matches!(words.get("--urgency"), Some("hold" | "0"));
    job.directory = std::env::current_dir()?;
    let id = f58(job.number);
    let here = job.directory.clone();
    let path = |name: Option<&str>| {
        let name = name?.replace("{{id}}", &id).replace("{{jobid}}", &id);
        Some(here.join(name))
    };
    job.output = path(words.get("--output")).unwrap_or_else(|| here.join(format!("flux-{id}.out")));
    job.error = path(words.get("--error"));
    job.environment = inherited().collect();
    job.environment.insert("FLUX_JOB_ID".to_owned(), id.clone());
    job.environment.insert("FLUX_ENCLOSING_ID".to_owned(), id.clone());
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    let interpreter = line.trim_start_matches("#!").split_whitespace().next().unwrap_or("/bin/sh").to_owned();
    call.submit(job, &interpreter, &text)?;
    Ok(Said::out(if words.has("--quiet") { String::new() } else { format!("{id}\n") }))
}

/// State, status, result, as `flux jobs` has them.
fn words_of(job: &Job) -> (&'static str, &'static str, &'static str) {
    match job.standing {
        JobState::Waiting => ("SCHED", "SCHED", ""),
        JobState::Running | JobState::Leaving => ("RUN", "RUN", ""),
        JobState::Ended => {
            let result = match job.cause() {
                Some(Cause::Cancelled) => "CANCELED",
                Some(Cause::Time) => "TIMEOUT",
                Some(Cause::Itself) if job.code() == Some(0) => "COMPLETED",
                _ => "FAILED",
            };
            ("INACTIVE", result, result)
        }
    }
}

fn exception(job: &Job) -> (&'static str, String) {
    match job.cause() {
        Some(Cause::Cancelled) => ("cancel", String::new()),
        Some(Cause::Time) => ("timeout", "resource allocation expired".to_owned()),
        Some(Cause::Node) => ("exec", format!("node failure on {HOST} (rank 0)")),
        Some(Cause::Preempted) => ("preempt", String::new()),
        Some(Cause::Infeasible) => ("alloc", job.more("infeasible").to_owned()),
        _ => ("", String::new()),
    }
}

fn field(call: &Call, job: &Job, name: &str) -> String {
    let (state, status, result) = words_of(job);
    let (exception, note) = exception(job);
    let ended = |value: Option<i32>| value.map(|value| value.to_string()).unwrap_or_default();
    match name {
        "id" | "id.f58" => f58(job.number),
        "id.dec" => (job.number * EPOCH).to_string(),
        "userid" => job.uid.to_string(),
        "username" => job.owner.clone(),
        "name" => job.name.clone(),
        "queue" => job.queue.clone(),
        "state" => call.queue.word(job.number, state),
        "status" => call.queue.word(job.number, status),
        "result" => result.to_owned(),
        "urgency" => if job.held { "0" } else { "16" }.to_owned(),
        "returncode" if job.is_live() => String::new(),
        "returncode" if job.started.is_none() && job.cause() != Some(Cause::Infeasible) => "-128".to_owned(),
        "returncode" => ended(job.code()),
        "waitstatus" => ended(job.end.as_ref().and_then(|end| end.code.map(|code| code << 8).or(end.signal))),
        "exception.type" => exception.to_owned(),
        "exception.severity" => if exception.is_empty() { "" } else { "0" }.to_owned(),
        "exception.note" => note,
        "nodelist" if job.started.is_some() => HOST.to_owned(),
        "duration" => format!("{}.0", job.limit.unwrap_or(0)),
        "ntasks" | "nnodes" => "1".to_owned(),
        _ => String::new(),
    }
}

fn jobs(call: &mut Call, arguments: &[String]) -> Said {
    let known: &[(&[&str], bool)] = &[
        (&["-a"], false),
        (&["-A"], false),
        (&["-n", "--no-header"], false),
        (&["-o", "--format"], true),
        (&["--name"], true),
        (&["-u", "--user"], true),
        (&["-c", "--count"], true),
        (&["--since"], true),
        (&["-f", "--filter"], true),
    ];
    let words = match gnu(arguments, known) {
        Ok(words) => words,
        Err(word) => {
            return Said::error(
                2,
                format!("usage: flux-jobs [-h] [-a]\nflux-jobs: error: unrecognized arguments: {word}"),
            );
        }
    };
    let mut said = Said::default();
    let all = call.queue.known();
    let mut chosen = Vec::new();
    for id in &words.rest {
        match number(id).and_then(|number| all.iter().find(|job| job.number == number)) {
            Some(job) => chosen.push(job.clone()),
            None => writeln!(said.err, "JobID {id} unknown").expect("text"),
        }
    }
    if words.rest.is_empty() {
        let fits = |job: &Job| {
            (words.has("-A") || job.owner == call.me.name)
                && (words.has("-a") || words.has("-A") || job.is_live())
                && words.get("--name").is_none_or(|name| job.name == name)
        };
        chosen = all.into_iter().rev().filter(fits).collect();
    }
    said.code = u8::from(chosen.is_empty() && !words.rest.is_empty());
    let format = words.get("-o").unwrap_or("{id} {username} {name} {status} {ntasks} {nnodes} {nodelist}");
    if !words.has("-n") {
        said.out.push_str("       JOBID USER     NAME       ST NTASKS NNODES     TIME INFO\n");
    }
    for job in chosen {
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            said.out.push_str(before);
            said.out.push_str(&field(call, &job, name));
            rest = after;
        }
        said.out.push_str(rest);
        said.out.push('\n');
    }
    said
}

/// The caller's own live job of this id, or what the command says instead.
fn own(call: &Call, id: &str, command: &str) -> Result<Job, Said> {
    let known = number(id).and_then(|number| call.queue.known().into_iter().find(|job| job.number == number));
    let text = match known {
        None => "unknown job id",
        Some(job) if !call.may(&job) => "guests can only raise exceptions on their own jobs",
        Some(job) if !job.is_live() => "job is inactive",
        Some(job) => return Ok(job),
    };
    Err(Said::error(1, format!("{command}{id}: {text}")))
}

fn cancel(call: &mut Call, arguments: &[String]) -> io::Result<Said> {
    let known: &[(&[&str], bool)] = &[(&["--message", "-m"], true), (&["--quiet", "-q"], false)];
    let words = gnu(arguments, known).unwrap_or_else(|_| Words::default());
    let mut last = Said::default();
    for id in &words.rest {
        match own(call, id, "flux-cancel: ERROR: ") {
            Ok(job) => call.cancel(&job, false)?,
            Err(said) => last = said,
        }
    }
    Ok(last)
}

fn job(call: &mut Call, arguments: &[String]) -> io::Result<Said> {
    let known: &[(&[&str], bool)] = &[(&["--signal", "-s"], true), (&["--to"], true)];
    let words = gnu(arguments, known).unwrap_or_else(|_| Words::default());
    let ids = words.rest.get(1..).unwrap_or_default();
    match words.rest.first().map(String::as_str) {
        Some("kill") => {
            let number = words.get("--signal").and_then(signal).unwrap_or(15);
            for id in ids {
                match own(call, id, "flux-job: kill ") {
                    Ok(job) => call.queue.request(job.number, MomRequest::Signal(number))?,
                    Err(said) => return Ok(said),
                }
            }
            Ok(Said::default())
        }
        Some("id") => {
            let numbers: String = ids
                .iter()
                .filter_map(|id| number(id))
                .map(|number| format!("{}\n", number * EPOCH))
                .collect();
            Ok(Said::out(numbers))
        }
        Some("urgency") => {
            if let Some(job) = ids.first().and_then(|id| own(call, id, "flux-job: ").ok()) {
                let held = ids.get(1).is_some_and(|value| value == "0" || value == "hold");
                call.queue.request(job.number, if held { MomRequest::Hold } else { MomRequest::Release })?;
            }
            Ok(Said::default())
        }
        _ => Ok(Said::error(2, "Usage: flux job COMMAND")),
    }
}
