//! Son of Grid Engine 8.1.9: `qsub qstat qdel qacct qhold qrls`.
//!
//! There is the queue `all.q`, the parallel environment `mpi` and one host of 64 slots. `#$` lines are not read.

use super::command::{Call, Said, inherited, script};
use super::options::{Words, dashed};
use super::queue::{Cause, Job, JobState, MomRequest};
use super::times::{Date, seconds};
use std::fmt::Write;
use std::io;

const HOST: &str = "sgehost";
const QSUB: &[(&str, usize)] = &[
    ("-terse", 0),
    ("-cwd", 0),
    ("-wd", 1),
    ("-N", 1),
    ("-o", 1),
    ("-e", 1),
    ("-j", 1),
    ("-S", 1),
    ("-l", 1),
    ("-q", 1),
    ("-pe", 2),
    ("-r", 1),
    ("-w", 1),
    ("-h", 0),
    ("-V", 0),
    ("-v", 1),
    ("-P", 1),
    ("-A", 1),
    ("-b", 1),
    ("-notify", 0),
    ("-p", 1),
    ("-m", 1),
    ("-M", 1),
    ("-a", 1),
    ("-hold_jid", 1),
    ("-R", 1),
    ("-js", 1),
    ("-hard", 0),
    ("-soft", 0),
    ("-masterq", 1),
    ("-sync", 1),
    ("-t", 1),
    ("-i", 1),
    ("-c", 1),
    ("-ac", 1),
    ("-dc", 1),
    ("-sc", 1),
    ("-clear", 0),
    ("-C", 1),
];

pub(super) fn run(call: &mut Call, command: &str) -> io::Result<Said> {
    match command {
        "qsub" => qsub(call),
        "qstat" => Ok(qstat(call)),
        "qacct" => Ok(qacct(call)),
        "qhold" => act(call, Some(MomRequest::Hold)),
        "qrls" => act(call, Some(MomRequest::Release)),
        _ => act(call, None),
    }
}

fn refused(text: &str) -> Said {
    Said::error(1, format!("Unable to run job: {text}\nExiting."))
}

fn qsub(call: &mut Call) -> io::Result<Said> {
    let words = match dashed(&call.arguments, QSUB) {
        Ok(words) => words,
        Err(word) => return Ok(Said::error(2, format!("qsub: invalid option argument \"{word}\""))),
    };
    let text = match words.rest.first() {
        Some(path) => match script(path) {
            Ok(text) => text,
            Err(_) => {
                let text = format!(
                    "Unable to read script file because of error: error opening {path}: No such file or directory"
                );
                return Ok(Said::error(14, text));
            }
        },
        None => call.stdin()?,
    };
    let mut job = call.new_job()?;
    if let Some(said) = ask(&words, &mut job) {
        return Ok(said);
    }
    let id = job.number.to_string();
    let here = std::env::current_dir()?;
    job.directory = match words.get("-wd") {
        Some(name) => here.join(name),
        None if words.has("-cwd") => here,
        None => call.me.dir.clone(),
    };
    let file = |option: &str, letter: char| {
        let default = format!("{}.{letter}{id}", job.name);
        match words.get(option) {
            Some(path) if path.ends_with('/') => job.directory.join(path).join(default),
            Some(path) => job.directory.join(path),
            None => job.directory.join(default),
        }
    };
    let (output, error) = (file("-o", 'o'), file("-e", 'e'));
    job.output = output;
    job.error = (words.get("-j") != Some("y")).then_some(error);
    job.environment = call.login().into_iter().collect();
    if words.has("-V") {
        job.environment.extend(inherited());
    }
    for (name, value) in [
        ("JOB_ID", id.as_str()),
        ("JOB_NAME", job.name.clone().as_str()),
        ("QUEUE", "all.q"),
        ("SGE_TASK_ID", "undefined"),
        ("RESTARTED", "0"),
    ] {
        job.environment.insert(name.to_owned(), value.to_owned());
    }
    let shell = words.get("-S").unwrap_or("/bin/sh").to_owned();
    let said = match words.has("-terse") {
        true => format!("{id}\n"),
        false => format!("Your job {id} (\"{}\") has been submitted\n", job.name),
    };
    call.submit(job, &shell, &text)?;
    Ok(Said::out(said))
}

fn ask(words: &Words, job: &mut Job) -> Option<Said> {
    job.name = words.get("-N").unwrap_or("STDIN").to_owned();
    if job.name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(Said::error(
            1,
            format!("qsub: \"{}\" is not a valid object name (cannot start with a digit)", job.name),
        ));
    }
    job.held = words.has("-h");
    job.queue = "all.q".to_owned();
    if let Some(queue) = words.get("-q").filter(|queue| *queue != "all.q") {
        return Some(refused(&format!("Job was rejected because job requests unknown queue \"{queue}\"")));
    }
    if let Some(name) =
        words.get("-pe").map(|pe| pe.split(' ').next().unwrap_or_default()).filter(|pe| *pe != "mpi")
    {
        return Some(refused(&format!(
            "job rejected: the requested parallel environment \"{name}\" does not exist"
        )));
    }
    for one in words.all("-l").flat_map(|list| list.split(',')) {
        let (name, value) = one.split_once('=').unwrap_or((one, "1"));
        match name {
            "h_rt" => match seconds(value) {
                Some(limit) => job.limit = Some(limit),
                None => return Some(refused("attribute \"h_rt\" is not a time value")),
            },
            "s_rt" | "h_vmem" | "s_vmem" | "mem_free" | "virtual_free" | "hostname" | "h_cpu" => {}
            "num_proc" if value.parse::<u64>().is_ok_and(|many| many > 64) => {
                if words.get("-w") == Some("e") {
                    return Some(refused("error: no suitable queues"));
                }
                job.held = true;
            }
            "num_proc" => {}
            name => return Some(refused(&format!("unknown resource \"{name}\""))),
        }
    }
    None
}

fn state(job: &Job) -> &'static str {
    match (job.standing, job.held, job.runs) {
        (JobState::Waiting, true, _) => "hqw",
        (JobState::Waiting, false, 0) => "qw",
        (JobState::Waiting, false, _) => "Rq",
        (JobState::Running, _, 2..) => "Rr",
        (JobState::Running, ..) => "r",
        (JobState::Leaving, ..) => "dr",
        (JobState::Ended, ..) => "",
    }
}

fn qstat(call: &mut Call) -> Said {
    let known = [("-u", 1), ("-xml", 0), ("-s", 1), ("-j", 1), ("-f", 0), ("-q", 1), ("-ext", 0)];
    let words = dashed(&call.arguments, &known).unwrap_or_default();
    let user = words.get("-u").unwrap_or(&call.me.name);
    let fits = |job: &Job| job.is_live() && (user == "*" || job.owner == user);
    if let Some(id) = words.get("-j") {
        let known = call.queue.known().into_iter().find(|job| job.number.to_string() == id);
        return match known {
            Some(job) => Said::out(format!(
                "{:=<62}\njob_number:                 {id}\nowner:                      {}\njob_name:                   {}\n",
                "", job.owner, job.name
            )),
            None => Said::error(1, format!("Following jobs do not exist: \n{id}")),
        };
    }
    let jobs: Vec<Job> = call.queue.known().into_iter().filter(fits).collect();
    if words.has("-xml") {
        return Said::out(xml(call, &jobs));
    }
    let mut text = String::new();
    for (at, job) in jobs.iter().enumerate() {
        if at == 0 {
            text.push_str("job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID \n");
            writeln!(text, "{:-<113}", "").expect("text");
        }
        let (started, queue) = match job.started {
            Some(time) => (time, format!("all.q@{HOST}")),
            None => (job.submitted, String::new()),
        };
        writeln!(
            text,
            "{:7} 0.50000 {:<10.10} {:<12.12} {:<5} {} {queue:<30} {:5} {:8}",
            job.number,
            job.name,
            job.owner,
            call.queue.word(job.number, state(job)),
            Date::of(started).american(),
            1,
            ""
        )
        .expect("text");
    }
    Said::out(text)
}

fn xml(call: &Call, jobs: &[Job]) -> String {
    let list = |runs: bool| -> String {
        let mut text = String::new();
        for job in jobs.iter().filter(|job| (job.standing != JobState::Waiting) == runs) {
            let (kind, time) = match job.started.filter(|_| runs) {
                Some(time) => {
                    ("running", format!("<JAT_start_time>{}</JAT_start_time>", Date::of(time).iso()))
                }
                None => (
                    "pending",
                    format!("<JB_submission_time>{}</JB_submission_time>", Date::of(job.submitted).iso()),
                ),
            };
            let queue = if runs { format!("all.q@{HOST}") } else { String::new() };
            write!(
                text,
                "    <job_list state=\"{kind}\">\n      <JB_job_number>{}</JB_job_number>\n      <JAT_prio>0.50000</JAT_prio>\n      \
                 <JB_name>{}</JB_name>\n      <JB_owner>{}</JB_owner>\n      <state>{}</state>\n      {time}\n      \
                 <queue_name>{queue}</queue_name>\n      <slots>1</slots>\n    </job_list>\n",
                job.number,
                job.name,
                job.owner,
                call.queue.word(job.number, state(job))
            )
            .expect("text");
        }
        text
    };
    format!(
        "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd\">\n  \
         <queue_info>\n{}  </queue_info>\n  <job_info>\n{}  </job_info>\n</job_info>\n",
        list(true),
        list(false)
    )
}

/// `failed` and `exit_status` as accounting has them.
fn failed(job: &Job) -> (&'static str, String) {
    let code = job.code().unwrap_or(0);
    let status = match code {
        137 => "137                  (Killed)".to_owned(),
        143 => "143                  (Terminated)".to_owned(),
        code => format!("{code:<20}"),
    };
    let signalled = job.end.as_ref().is_some_and(|end| end.signal.is_some());
    let text = match job.cause() {
        Some(Cause::Time | Cause::Memory) => "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit",
        Some(Cause::Itself) if !signalled => "0    ",
        _ => "100 : assumedly after job",
    };
    (text, status)
}

fn qacct(call: &mut Call) -> Said {
    let known = [("-j", 1), ("-o", 1)];
    let words = dashed(&call.arguments, &known).unwrap_or_default();
    let wanted = words.get("-j").unwrap_or_default();
    let fits = |job: &Job| {
        // A job that was deleted before it started has no record.
        job.started.is_some()
            && words.get("-o").is_none_or(|user| job.owner == user)
            && (job.number.to_string() == wanted || job.name == wanted)
    };
    let jobs: Vec<Job> = call.queue.recorded().into_iter().filter(fits).collect();
    if jobs.is_empty() {
        let kind = if wanted.parse::<u64>().is_ok() { "id" } else { "name" };
        return Said::error(1, format!("error: job {kind} {wanted} not found"));
    }
    let mut text = String::new();
    for job in jobs {
        let (failed, status) = failed(&job);
        let date = |time: Option<u64>| time.map_or_else(|| "-/-".to_owned(), |time| Date::of(time).long());
        let ran = job.ended.unwrap_or(0).saturating_sub(job.started.unwrap_or(0));
        writeln!(text, "{:=<62}", "").expect("text");
        for (name, value) in [
            ("qname", format!("{:<20}", job.queue)),
            ("hostname", format!("{HOST:<20}")),
            ("group", format!("{:<20}", job.owner)),
            ("owner", format!("{:<20}", job.owner)),
            ("project", format!("{:<20}", "NONE")),
            ("department", format!("{:<20}", "defaultdepartment")),
            ("jobname", format!("{:<20}", job.name)),
            ("jobnumber", format!("{:<20}", job.number)),
            ("taskid", "undefined".to_owned()),
            ("account", format!("{:<20}", "sge")),
            ("priority", format!("{:<20}", 0)),
            ("qsub_time", date(Some(job.submitted))),
            ("start_time", date(job.started)),
            ("end_time", date(job.ended)),
            ("granted_pe", format!("{:<20}", "NONE")),
            ("slots", format!("{:<20}", 1)),
            ("failed", failed.to_owned()),
            ("exit_status", status),
            ("ru_wallclock", format!("{ran}s")),
            ("cpu", "0.009s".to_owned()),
            ("maxvmem", "4.863MB".to_owned()),
            ("arid", "undefined".to_owned()),
        ] {
            writeln!(text, "{name:<12} {value}").expect("text");
        }
    }
    Said::out(text)
}

/// Deletes, holds or releases, by id or by name.
fn act(call: &mut Call, request: Option<MomRequest>) -> io::Result<Said> {
    let known = [("-f", 0), ("-h", 1)];
    let words = dashed(&call.arguments, &known).unwrap_or_default();
    let me = call.me.name.clone();
    let mut said = Said::default();
    for wanted in &words.rest {
        let by_id = wanted.parse::<u64>().is_ok();
        let fits = |job: &Job| match by_id {
            true => job.is_live() && job.number.to_string() == *wanted,
            false => job.is_live() && job.name == *wanted && job.owner == me,
        };
        let jobs: Vec<Job> = call.queue.known().into_iter().filter(fits).collect();
        if jobs.is_empty() {
            said.code = 1;
            match by_id {
                true => writeln!(said.out, "denied: job \"{wanted}\" does not exist"),
                false => writeln!(said.out, "The job {wanted} of user(s) {me} does not exist"),
            }
            .expect("text");
        }
        for job in jobs {
            let id = job.number;
            if !call.may(&job) {
                said.code = 1;
                let text =
                    format!("{me} - you do not have the necessary privileges to delete the job \"{id}\"");
                writeln!(said.out, "{text}").expect("text");
            } else if let Some(request) = request {
                call.queue.request(id, request)?;
                let word = if request == MomRequest::Hold { "hold" } else { "hold release" };
                writeln!(said.out, "modified {word} of job {id}").expect("text");
            } else {
                call.cancel(&job, false)?;
                let word = if job.started.is_some() { "has registered the job" } else { "has deleted job" };
                let end = if job.started.is_some() { " for deletion" } else { "" };
                writeln!(said.out, "{me} {word} {id}{end}").expect("text");
            }
        }
    }
    Ok(said)
}
