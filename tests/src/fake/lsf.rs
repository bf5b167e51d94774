//! LSF: `bsub bjobs bkill bhist bstop bresume bqueues`.
//!
//! Tables, refusals and `bhist` are OpenLava's, which was recorded; `bjobs -o … -json` and the reasons TERM_* are those
//! of IBM's manual pages for 10.1. There are the queues `normal` (default), `short` (an hour at most) and `priv`.

mod answers;

use super::command::{Call, Said, inherited};
use super::options::{Words, dashed};
use super::queue::{Job, MomRequest};
use super::times::signal;
use answers::{bhist, bjobs};
use std::fmt::Write;
use std::io;

const HOST: &str = "lavahost";
const BSUB: &[(&str, usize)] = &[
    ("-J", 1),
    ("-o", 1),
    ("-oo", 1),
    ("-e", 1),
    ("-eo", 1),
    ("-W", 1),
    ("-q", 1),
    ("-n", 1),
    ("-nnodes", 1),
    ("-M", 1),
    ("-R", 1),
    ("-P", 1),
    ("-G", 1),
    ("-m", 1),
    ("-H", 0),
    ("-rn", 0),
    ("-r", 0),
    ("-cwd", 1),
    ("-env", 1),
    ("-x", 0),
    ("-N", 0),
    ("-B", 0),
    ("-w", 1),
    ("-app", 1),
    ("-g", 1),
    ("-L", 1),
    ("-i", 1),
    ("-K", 0),
    ("-Jd", 1),
    ("-We", 1),
];

pub(super) fn run(call: &mut Call, command: &str) -> io::Result<Said> {
    match command {
        "bsub" => bsub(call),
        "bjobs" => Ok(bjobs(call)),
        "bhist" => Ok(bhist(call)),
        "bqueues" => Ok(Said::out(
            "QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP \n\
             normal           30  Open:Active       -    -    -    -     0     0     0     0\n\
             short            35  Open:Active       -    -    -    -     0     0     0     0\n",
        )),
        _ => act(call, command),
    }
}

fn refused(text: &str) -> Said {
    Said::error(255, format!("{text}. Job not submitted."))
}

/// As recorded: the reason, and a screen of usage.
const NO_RN: &str = "bsub: option cannot have an argument -- r
Usage: bsub [-h] [-V] [-x] [-H] [-r] [-N] [-B] [-I | -K | -Ip | -Is]
\t\t[-L login_shell] [-c cpu_limit[/host_spec]] [-F file_limit]
\t\t[-W run_limit[/host_spec]] [-k chkpnt_dir [chkpnt_period] [method=chkpnt_dir]]
\t\t[-i in_file | -is in_file] [-o out_file] [-e err_file]
\t\t[[-f \"lfile op [rfile]\"] ...] [-w depend_cond]";

fn bsub(call: &mut Call) -> io::Result<Said> {
    if call.queue.is_openlava() {
        if call.arguments.iter().any(|word| word == "-rn") {
            return Ok(Said::error(255, NO_RN));
        }
        // `-oo LOG` is `-o o` and the command LOG.
        for word in call.arguments.iter_mut().filter(|word| *word == "-oo") {
            word.clear();
            word.push_str("-o=o");
        }
        let apart = |word: &String| match word.as_str() {
            "-o=o" => vec!["-o".to_owned(), "o".to_owned()],
            _ => vec![word.clone()],
        };
        call.arguments = call.arguments.iter().flat_map(apart).collect();
    }
    // bsub takes what it does not know without a word.
    let known: Vec<String> = {
        let mut rest = Vec::new();
        let mut words = call.arguments.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                rest.push(word.clone());
                rest.extend(words.by_ref().cloned());
            } else if let Some((_, values)) = BSUB.iter().find(|(name, _)| name == word) {
                rest.push(word.clone());
                rest.extend(words.by_ref().take(*values).cloned());
            }
        }
        rest
    };
    let words = dashed(&known, BSUB).unwrap_or_default();
    let mut job = call.new_job()?;
    if let Some(said) = ask(&words, &mut job) {
        return Ok(said);
    }
    let text = if words.rest.is_empty() {
        call.stdin()?
    } else {
        format!("#!/bin/sh\n{}\n", words.rest.join(" ")).into_bytes()
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(refused("No command is specified"));
    }
    if job.name.is_empty() {
        job.name = String::from_utf8_lossy(&text).trim().replace('\n', ";").to_string();
    }
    let here = std::env::current_dir()?;
    let id = job.number.to_string();
    let path = |name: &str| here.join(name.replace("%J", &id));
    let output = words.get("-oo").or(words.get("-o"));
    job.output = output.map_or_else(|| "/dev/null".into(), path);
    job.error = words.get("-eo").or(words.get("-e")).map(path);
    job.directory = words.get("-cwd").map_or_else(|| here.clone(), |name| here.join(name));
    // The whole environment of bsub.
    job.environment = inherited().collect();
    for (name, value) in [
        ("LSB_JOBID", id.clone()),
        ("LSB_JOBNAME", job.name.clone()),
        ("LSB_HOSTS", HOST.to_owned()),
        ("LSB_QUEUE", job.queue.clone()),
        ("LSB_BATCH_JID", id),
    ] {
        job.environment.insert(name.to_owned(), value);
    }
    let default = if words.has("-q") { "" } else { "default " };
    let said = format!("Job <{}> is submitted to {default}queue <{}>.\n", job.number, job.queue);
    let shell = if text.starts_with(b"#!/bin/bash") { "/bin/bash" } else { "/bin/sh" };
    call.submit(job, shell, &text)?;
    Ok(Said::out(said))
}

fn ask(words: &Words, job: &mut Job) -> Option<Said> {
    job.name = words.get("-J").unwrap_or_default().to_owned();
    job.held = words.has("-H");
    job.queue = words.get("-q").unwrap_or("normal").to_owned();
    match job.queue.as_str() {
        "normal" | "short" => {}
        "priv" => return Some(refused("priv: User cannot use the queue")),
        queue => return Some(refused(&format!("{queue}: No such queue"))),
    }
    if let Some(text) = words.get("-W") {
        let time = text.split('/').next().unwrap_or_default();
        let minutes = match time.split_once(':') {
            Some((hours, minutes)) => {
                hours.parse::<u64>().ok().zip(minutes.parse::<u64>().ok()).map(|(h, m)| h * 60 + m)
            }
            None => time.parse().ok(),
        };
        let Some(minutes) = minutes else {
            return Some(refused(&format!("{text}: Bad RUNLIMIT specification")));
        };
        if job.queue == "short" && minutes > 60 {
            return Some(refused("RUNLIMIT: Cannot exceed queue's hard limit(s)"));
        }
        job.limit = Some(minutes * 60);
    }
    let many = words.get("-n").and_then(|text| text.split(',').next()?.parse::<u64>().ok());
    if many.is_some_and(|many| many > 64) {
        return Some(refused("Too many processors requested"));
    }
    if words.get("-R").is_some_and(|text| text.contains("nosuch") || text.contains("((")) {
        return Some(refused("Bad resource requirement syntax"));
    }
    if let Some(host) = words.get("-m").filter(|host| *host != HOST) {
        return Some(refused(&format!("{host}: Bad host name, host group name or cluster name")));
    }
    None
}

/// The jobs that a command's words mean: by name, by id, or all of the caller's.
fn meant(call: &Call, words: &Words, jobs: Vec<Job>) -> (Vec<Job>, Vec<String>) {
    let all = words.has("-a");
    let user = words.get("-u").unwrap_or(&call.me.name);
    let ids: Vec<&String> = words.rest.iter().filter(|id| *id != "0").collect();
    if ids.is_empty() {
        let fits = |job: &Job| {
            (user == "all" || job.owner == user)
                && words.get("-J").is_none_or(|name| job.name == name)
                && (all || job.is_live())
        };
        return (jobs.into_iter().filter(fits).collect(), Vec::new());
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match jobs.iter().find(|job| job.number.to_string() == *id) {
            Some(job) => found.push(job.clone()),
            None => missing.push(id.clone()),
        }
    }
    (found, missing)
}

fn act(call: &mut Call, command: &str) -> io::Result<Said> {
    let known = [("-s", 1), ("-r", 0), ("-J", 1), ("-u", 1), ("-q", 1), ("-m", 1)];
    let Ok(words) = dashed(&call.arguments, &known) else {
        return Ok(Said::error(
            255,
            format!("Usage: {command} [-h] [-V] [0] [-r | -s sigval] [-J job_name] [jobId]..."),
        ));
    };
    let mut all = Words { options: words.options.clone(), rest: words.rest.clone() };
    all.options.push(("-a".to_owned(), String::new()));
    let (jobs, missing) = meant(call, &all, call.queue.known());
    let mut said = Said::default();
    for id in &missing {
        said.code = 255;
        let text = if id.parse::<u64>().is_ok() {
            format!("Job <{id}>: No matching job found")
        } else {
            format!("{id}: Illegal job ID.")
        };
        writeln!(said.err, "{text}").expect("text");
    }
    let named = all.rest.iter().all(|id| id == "0");
    // `0` means all that live.
    let live: Vec<Job> = jobs.iter().filter(|job| job.is_live()).cloned().collect();
    let chosen = if named && all.rest.contains(&"0".to_owned()) { live } else { jobs };
    if chosen.is_empty() && missing.is_empty() {
        return Ok(Said::error(
            255,
            match words.get("-J") {
                Some(name) => format!("Job <{name}> is not found"),
                None => "No match".to_owned(),
            },
        ));
    }
    for job in chosen {
        let id = job.number;
        if !call.may(&job) {
            said.code = 255;
            writeln!(said.err, "Job <{id}>: User permission denied").expect("text");
        } else if !job.is_live() {
            said.code = 255;
            writeln!(said.err, "Job <{id}>: Job has already finished").expect("text");
        } else if command == "bstop" {
            call.queue.request(id, MomRequest::Hold)?;
            writeln!(said.out, "Job <{id}> is being stopped").expect("text");
        } else if command == "bresume" {
            call.queue.request(id, MomRequest::Release)?;
            writeln!(said.out, "Job <{id}> is being resumed").expect("text");
        } else if let Some(number) = words.get("-s").and_then(signal) {
            call.queue.request(id, MomRequest::Signal(number))?;
            writeln!(said.out, "Job <{id}> is being signaled").expect("text");
        } else {
            call.cancel(&job, words.has("-r"))?;
            writeln!(said.out, "Job <{id}> is being terminated").expect("text");
        }
    }
    Ok(said)
}
