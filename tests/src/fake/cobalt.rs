//! Cobalt, by its manual pages: `qsub qstat qdel qhold qrls`. There are the queues `default` and `debug`, and one node.
//!
//! Ended jobs disappear from the queue at once. What is left is the job's own log, `--debuglog`.
//! The exit code of `qstat` for a missing job is not documented; here it prints nothing and exits
//! with 0.

use super::command::{Call, Said, script};
use super::options::{Words, gnu};
use super::queue::{Job, JobState, MomRequest};
use super::times::hms;
use std::fmt::Write;
use std::io;

pub(super) fn run(call: &mut Call, command: &str) -> io::Result<Said> {
    match command {
        "qsub" => qsub(call),
        "qstat" => Ok(qstat(call)),
        _ => act(call, command),
    }
}

const QSUB: &[(&[&str], bool)] = &[
    (&["-A", "--project"], true),
    (&["-q", "--queue"], true),
    (&["-n", "--nodecount"], true),
    (&["-t", "--time"], true),
    (&["-o", "--output"], true),
    (&["-e", "--error"], true),
    (&["-O", "--outputprefix"], true),
    (&["--debuglog"], true),
    (&["--mode"], true),
    (&["--jobname"], true),
    (&["--cwd"], true),
    (&["--env"], true),
    (&["--held", "-h"], false),
    (&["--umask"], true),
    (&["--notify", "-M"], true),
    (&["--attrs"], true),
    (&["--dependencies"], true),
    (&["-i", "--inputfile"], true),
];

fn qsub(call: &mut Call) -> io::Result<Said> {
    let words = match gnu(&call.arguments, QSUB) {
        Ok(words) => words,
        Err(word) => {
            return Ok(Said::error(2, format!("Usage: qsub --help\nqsub: error: no such option: {word}")));
        }
    };
    let refuse = |text: &str| Ok(Said::error(1, text));
    let Some(time) = words.get("-t") else { return refuse("'time' not provided") };
    let Some(nodes) = words.get("-n") else { return refuse("'nodecount' not provided") };
    let parts: Option<Vec<u64>> = time.split(':').map(|part| part.parse().ok()).collect();
    let limit = match parts.as_deref() {
        Some([minutes]) => minutes * 60,
        Some([hours, minutes]) => hours * 3600 + minutes * 60,
        Some([hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        _ => return refuse(&format!("jobtime '{time}' is invalid")),
    };
    if nodes.parse::<u64>().is_ok_and(|nodes| nodes > 4) {
        return refuse(&format!("nodecount '{nodes}' greater than maximum"));
    }
    let queue = words.get("-q").unwrap_or("default");
    if !["default", "debug"].contains(&queue) {
        return refuse(&format!("queue '{queue}' does not exist"));
    }
    let Some(path) = words.rest.first() else { return refuse("No executable specified") };
    let here = std::env::current_dir()?;
    let full = here.join(path);
    let Ok(text) = script(&full.display().to_string()) else {
        return refuse(&format!("command {path} not found, or is not a file"));
    };
    if words.get("--mode") == Some("script") {
        use std::os::unix::fs::PermissionsExt;
        if std::fs::metadata(&full)?.permissions().mode() & 0o100 == 0 {
            return refuse(&format!("command {path} is not executable"));
        }
    }
    let mut job = call.new_job()?;
    let id = job.number.to_string();
    job.limit = Some(limit);
    job.queue = queue.to_owned();
    job.held = words.has("--held");
    job.name = words.get("--jobname").unwrap_or("N/A").to_owned();
    job.directory = words.get("--cwd").map_or_else(|| here.clone(), |name| here.join(name));
    let file = |option: &str, ending: &str| here.join(words.get(option).unwrap_or(&format!("{id}.{ending}")));
    job.output = file("-o", "output");
    job.error = Some(file("-e", "error"));
    let log = file("--debuglog", "cobaltlog");
    std::fs::write(
        &log,
        format!(
            "Jobid: {id}\n\nqsub {}\n\nsubmitted with cwd set to: {}\n",
            call.arguments.join(" "),
            here.display()
        ),
    )?;
    job.more.insert("debuglog".to_owned(), log.display().to_string());
    job.environment = call.login().into_iter().collect();
    job.environment.insert("COBALT_JOBID".to_owned(), id.clone());
    job.environment.insert("COBALT_PARTNAME".to_owned(), "0".to_owned());
    call.submit(job, "/bin/sh", &text)?;
    Ok(Said::out(format!("{id}\n")))
}

fn state(job: &Job) -> &'static str {
    match (job.standing, job.held) {
        (JobState::Waiting, true) => "user_hold",
        (JobState::Waiting, false) => "queued",
        (JobState::Running, _) => "running",
        (JobState::Leaving, _) => "killing",
        (JobState::Ended, _) => "done",
    }
}

fn field(call: &Call, job: &Job, name: &str) -> String {
    match name {
        "JobID" | "JobId" => job.number.to_string(),
        "JobName" => job.name.clone(),
        "User" => job.owner.clone(),
        "WallTime" => job.limit.map(hms).unwrap_or_default(),
        "State" => call.queue.word(job.number, state(job)),
        "Location" if job.started.is_some() => "nid00001".to_owned(),
        "Location" => "None".to_owned(),
        "Queue" => job.queue.clone(),
        "Nodes" => "1".to_owned(),
        _ => "-".to_owned(),
    }
}

fn qstat(call: &mut Call) -> Said {
    let known: &[(&[&str], bool)] =
        &[(&["-f"], false), (&["-l"], false), (&["-u"], true), (&["--header"], true), (&["--sort"], true)];
    let words = gnu(&call.arguments, known).unwrap_or_else(|_| Words::default());
    let fits = |job: &Job| {
        job.is_live()
            && words.get("-u").is_none_or(|user| job.owner == user)
            && (words.rest.is_empty() || words.rest.contains(&job.number.to_string()))
    };
    let jobs: Vec<Job> = call.queue.known().into_iter().filter(fits).collect();
    let header = words.get("--header").unwrap_or("JobID:User:WallTime:Nodes:State:Location");
    let names: Vec<&str> = header.split(':').collect();
    let mut text = String::new();
    for job in jobs {
        if words.has("-l") {
            for (at, name) in names.iter().enumerate() {
                let value = field(call, &job, name);
                match at {
                    0 => writeln!(text, "{name}: {value}"),
                    _ => writeln!(text, "    {name:<18}: {value}"),
                }
                .expect("text");
            }
            text.push('\n');
        } else {
            let values: Vec<String> = names.iter().map(|name| field(call, &job, name)).collect();
            writeln!(text, "{}", values.join("  ")).expect("text");
        }
    }
    Said::out(text)
}

fn act(call: &mut Call, command: &str) -> io::Result<Said> {
    let known: &[(&[&str], bool)] = &[(&["-f"], false)];
    let words = gnu(&call.arguments, known).unwrap_or_else(|_| Words::default());
    let mut said = Said::default();
    for id in &words.rest {
        let job = call.queue.known().into_iter().find(|job| job.number.to_string() == *id && job.is_live());
        let Some(job) = job.filter(|job| call.may(job)) else {
            said.code = 1;
            writeln!(said.err, "{command}: No match found for job {id}: not found").expect("text");
            continue;
        };
        match command {
            "qhold" => call.queue.request(job.number, MomRequest::Hold)?,
            "qrls" => call.queue.request(job.number, MomRequest::Release)?,
            _ => {
                call.cancel(&job, false)?;
                writeln!(
                    said.out,
                    "      Deleted Jobs\nJobID  User\n==================\n{id:<6} {}",
                    job.owner
                )
                .expect("text");
            }
        }
    }
    Ok(said)
}

/// The last lines of the job's own log.
pub(super) fn write_log(job: &Job) {
    let Some(code) = job.code() else { return };
    let how = if code == 0 { "normally" } else { "abnormally" };
    let text =
        format!("task completed {how} with an exit code of {code}; initiating job cleanup and removal\n");
    let file = std::fs::OpenOptions::new().append(true).open(job.more("debuglog"));
    // ENOENT: the directory is gone, and its log with it.
    if let Ok(mut file) = file {
        drop(io::Write::write_all(&mut file, text.as_bytes()));
    }
}
