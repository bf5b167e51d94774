//! OpenPBS 23.06, with job history: `qsub qstat qdel qsig qselect qhold qrls`.
//!
//! There are the queues `workq` (default), `short` (an hour at most), `priv` (not for this user), `disabled` and
//! `stopped`, and one node of 64 processors. `qstat -F` and `#PBS` lines are not there.

mod whole;

use super::command::{Call, Said, script};
use super::options::{Words, letters};
use super::queue::{Job, JobState, MomRequest};
use super::times::{seconds, signal};
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use whole::whole;

const HOST: &str = "pbshost";
const USAGE: &str = "usage: qsub [-a date_time] [-A account_string] [-c interval]\n\
\t[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]\n\
\t[-k keep] [-l resource_list] [-m mail_options] [-M user_list]\n\
\t[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]\n\
\t[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]\n\
\t[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]\n       qsub --version";

pub(super) fn run(call: &mut Call, command: &str) -> io::Result<Said> {
    match command {
        "qsub" => qsub(call),
        "qstat" => qstat(call),
        "qselect" => Ok(qselect(call)),
        "qdel" => {
            each(call, command, "W:x", |call, words, job| call.cancel(job, words.get("W") == Some("force")))
        }
        "qsig" => each(call, command, "s:", |call, words, job| {
            let number = signal(words.get("s").unwrap_or("TERM")).unwrap_or(15);
            call.queue.request(job.number, MomRequest::Signal(number))
        }),
        "qhold" => each(call, command, "h:", |call, _, job| call.queue.request(job.number, MomRequest::Hold)),
        _ => each(call, command, "h:", |call, _, job| call.queue.request(job.number, MomRequest::Release)),
    }
}

fn qsub(call: &mut Call) -> io::Result<Said> {
    let words = match letters(&call.arguments, "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:W:v:VzX") {
        Ok(words) => words,
        Err(letter) => {
            return Ok(Said::error(2, format!("qsub: invalid option -- '{letter}'\n{USAGE}")));
        }
    };
    let mut job = call.new_job()?;
    let id = format!("{}.{HOST}", job.number);
    if let Some(refused) = ask(&words, &mut job) {
        return Ok(refused);
    }
    // `-- command`: MoM starts it by itself, and no script is read.
    let program = call.arguments.iter().any(|word| word == "--").then(|| words.rest.clone());
    let text = match words.rest.first() {
        Some(_) if program.is_some() => Vec::new(),
        Some(path) => match script(path) {
            Ok(text) => text,
            Err(_) => return Ok(Said::error(1, "qsub: script file:: No such file or directory")),
        },
        None => call.stdin()?,
    };
    if text.contains(&b'\r') {
        return Ok(Said::error(1, "qsub: script contains cr, lf"));
    }
    let here = std::env::current_dir()?;
    let path = |value: Option<&str>, letter: char| -> PathBuf {
        let name = format!("{}.{letter}{}", job.name, job.number);
        match value.map(|value| value.trim_start_matches(':')) {
            Some(value) if value.ends_with('/') => here.join(value).join(name),
            Some(value) => here.join(value),
            None => here.join(name),
        }
    };
    let (output, error) = (path(words.get("o"), 'o'), path(words.get("e"), 'e'));
    let kept = words.get("k").is_some_and(|keep| keep.contains('d'));
    // Without -k oed the output is spooled, and delivered at the end.
    let spool = call.queue.directory(job.number).join("OU");
    job.output = if kept { output.clone() } else { spool };
    job.error = (words.get("j") != Some("oe")).then(|| error.clone());
    job.directory = call.me.dir.clone();
    job.environment = call.login().into_iter().collect();
    for (name, value) in [
        ("PBS_JOBID", id.clone()),
        ("PBS_JOBNAME", job.name.clone()),
        ("PBS_O_WORKDIR", here.display().to_string()),
        ("PBS_QUEUE", job.queue.clone()),
        ("PBS_ENVIRONMENT", "PBS_BATCH".to_owned()),
    ] {
        job.environment.insert(name.to_owned(), value);
    }
    job.more.insert("Error_Path".to_owned(), format!("{HOST}:{}", error.display()));
    job.more.insert("Output_Path".to_owned(), format!("{HOST}:{}", output.display()));
    job.more.insert("Submit_arguments".to_owned(), call.arguments.join(" "));
    match program {
        Some(program) => {
            job.program = program;
            call.add(&job, None)?;
        }
        None => {
            // The account's login shell starts the script's, and has no trap.
            let shell = words.get("S").unwrap_or("/bin/bash").to_owned();
            let copy = call.queue.directory(job.number).join("script").display().to_string();
            let top = ["/bin/sh", "-c", "\"$0\" \"$1\"; exit $?"].map(str::to_owned);
            job.program = top.into_iter().chain([shell, copy]).collect();
            call.add(&job, Some(&text))?;
        }
    }
    Ok(Said::out(if words.has("z") { String::new() } else { format!("{id}\n") }))
}

/// What the options ask for, or the server's refusal.
fn ask(words: &Words, job: &mut Job) -> Option<Said> {
    let refuse = |code: u8, text: &str| Some(Said::error(code, format!("qsub: {text}")));
    let name = words.get("N").unwrap_or("STDIN");
    if name.is_empty() || name.len() > 230 || name.contains([' ', '/']) {
        return Some(Said::error(2, format!("qsub: illegal -N value\n{USAGE}")));
    }
    job.name = name.to_owned();
    job.held = words.has("h");
    let queue = words.get("q").unwrap_or("workq");
    let queue = queue.split('@').next().unwrap_or_default();
    job.queue = queue.to_owned();
    match queue {
        "workq" | "short" | "stopped" => {}
        "priv" => return refuse(159, "Unauthorized Request "),
        "disabled" => return refuse(173, "Queue is not enabled"),
        _ => return refuse(170, "Unknown queue"),
    }
    if queue == "stopped" {
        job.held = true;
    }
    let list: Vec<&str> = words.all("l").flat_map(|list| list.split(',')).collect();
    for one in list {
        let (name, value) = one.split_once('=').unwrap_or((one, ""));
        match name {
            "walltime" => match seconds(value) {
                Some(limit) => job.limit = Some(limit),
                None => return refuse(166, "Illegal attribute or resource value Resource_List.walltime"),
            },
            "select" => {
                let (chunks, rest) = value.split_once(':').unwrap_or((value, ""));
                let processors = rest.split(':').find_map(|part| part.strip_prefix("ncpus="));
                let (Ok(chunks), Ok(processors)) =
                    (chunks.parse::<u64>(), processors.unwrap_or("1").parse::<u64>())
                else {
                    return refuse(166, "Illegal attribute or resource value Resource_List.select");
                };
                if chunks > 1 || processors > 64 {
                    let asked = chunks * processors;
                    job.reason = format!(
                        "Can Never Run: Insufficient amount of resource: ncpus (R: {asked} A: 64 T: 64)"
                    );
                }
                job.more.insert("select".to_owned(), value.to_owned());
            }
            "mem" | "ncpus" | "nodes" | "place" | "vmem" | "cput" | "file" => {
                job.more.insert(name.to_owned(), value.to_owned());
            }
            name => return refuse(187, &format!("Unknown resource Resource_List.{name}")),
        }
    }
    if queue == "short" && job.limit.is_some_and(|limit| limit > 3600) {
        return refuse(188, "Job violates queue and/or server resource limits");
    }
    for attribute in words.all("W") {
        let name = attribute.split('=').next().unwrap_or_default();
        if !["umask", "block", "depend", "group_list", "stagein", "stageout", "sandbox", "run_count"]
            .contains(&name)
        {
            return refuse(154, "Error (15002) submitting job");
        }
    }
    // What can never run waits; nothing else starts it.
    if !job.reason.is_empty() {
        job.more.insert("never".to_owned(), "yes".to_owned());
        job.held = true;
    }
    None
}

/// Does something to each job that is named, as far as the caller may.
fn each(
    call: &mut Call,
    command: &str,
    known: &str,
    act: impl Fn(&Call, &Words, &Job) -> io::Result<()>,
) -> io::Result<Said> {
    let words = match letters(&call.arguments, known) {
        Ok(words) if !words.rest.is_empty() => words,
        _ => return Ok(Said::error(2, format!("usage: {command} job_identifier..."))),
    };
    let mut said = Said::default();
    for id in &words.rest {
        match find(call, id) {
            None => {
                said.code = 153;
                writeln!(said.err, "{command}: Unknown Job Id {}", full(id)).expect("text");
            }
            Some(job) if !call.may(&job) => {
                said.code = 159;
                writeln!(said.err, "{command}: Unauthorized Request  {}", full(id)).expect("text");
            }
            Some(job) if !job.is_live() => {
                said.code = 35;
                writeln!(said.err, "{command}: Job has finished {}", full(id)).expect("text");
            }
            Some(job) if command == "qsig" && job.standing == JobState::Waiting => {
                said.code = 168;
                writeln!(said.err, "{command}: Request invalid for state of job {}", full(id)).expect("text");
            }
            Some(job) => act(call, &words, &job)?,
        }
    }
    Ok(said)
}

fn full(id: &str) -> String {
    if id.contains('.') { id.to_owned() } else { format!("{id}.{HOST}") }
}

fn find(call: &Call, id: &str) -> Option<Job> {
    let number: u64 = id.split('.').next()?.parse().ok()?;
    call.queue.known().into_iter().find(|job| job.number == number)
}

fn qselect(call: &Call) -> Said {
    let Ok(words) = letters(&call.arguments, "N:u:xs:q:H") else {
        return Said::error(2, "usage: qselect [-N jobname] [-u user_list] [-x]");
    };
    let fits = |job: &Job| {
        words.get("N").is_none_or(|name| job.name == name)
            && words.get("u").is_none_or(|user| job.owner == user)
            && (words.has("x") || job.is_live())
    };
    let ids = call.queue.known().into_iter().filter(fits).map(|job| format!("{}.{HOST}\n", job.number));
    Said::out(ids.collect::<String>())
}

fn qstat(call: &mut Call) -> io::Result<Said> {
    let words = match letters(&call.arguments, "fxHQu:awF:") {
        Ok(words) => words,
        Err(letter) => return Ok(Said::error(2, format!("qstat: invalid option -- '{letter}'"))),
    };
    if words.has("Q") {
        return Ok(queues());
    }
    let mut said = Said::default();
    let mut jobs = Vec::new();
    for id in &words.rest {
        match find(call, id) {
            None => {
                said.code = 153;
                writeln!(said.err, "qstat: Unknown Job Id {}", full(id)).expect("text");
            }
            Some(job) if !job.is_live() && !words.has("x") => {
                said.code = 35;
                let text = "Job has finished, use -x or -H to obtain historical job information";
                writeln!(said.err, "qstat: {} {text}", full(id)).expect("text");
            }
            Some(job) => jobs.push(job),
        }
    }
    if words.rest.is_empty() {
        jobs = call.queue.known();
        jobs.retain(|job| job.is_live() || words.has("x"));
        jobs.retain(|job| words.get("u").is_none_or(|user| job.owner == user));
    }
    if !words.has("f") && !jobs.is_empty() {
        said.out.push_str(
            "Job id            Name             User              Time Use S Queue\n\
             ----------------  ---------------- ----------------  -------- - -----\n",
        );
    }
    for job in jobs {
        let state = call.queue.word(job.number, state(&job));
        if words.has("f") {
            said.out.push_str(&whole(&job, &state));
        } else {
            let used = if job.started.is_some() { "00:00:00" } else { "0" };
            writeln!(
                said.out,
                "{:<17} {:<16.16} {:<16.16} {used:>9} {state} {:<16}",
                format!("{}.{HOST}", job.number),
                job.name,
                job.owner,
                job.queue
            )
            .expect("text");
        }
    }
    Ok(said)
}

fn queues() -> Said {
    let mut text = String::new();
    for (name, limit) in [("workq", ""), ("short", "    resources_max.walltime = 01:00:00\n")] {
        let fixed = "    queue_type = Execution\n    total_jobs = 0\n";
        writeln!(text, "Queue: {name}\n{fixed}{limit}    enabled = True\n    started = True\n")
            .expect("text");
    }
    Said::out(text)
}

fn state(job: &Job) -> &'static str {
    match job.standing {
        JobState::Waiting if job.held && !job.more.contains_key("never") && job.queue != "stopped" => "H",
        JobState::Waiting => "Q",
        // qdel does not show until the job's processes are gone.
        JobState::Running | JobState::Leaving => "R",
        JobState::Ended => "F",
    }
}
