//! Searches the audit file. docs/audit.md lists the events.

use crate::arguments::Audit;
use crate::audit_summary::{Counts, Jobs};
use crate::event::{Event, plain, shown};
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use crate::replay;
use jiff::Timestamp;
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(options: &Audit, format: Format) -> Result<u8, CtlError> {
    let story = options.job.is_some() || options.decision.is_some();
    let mut found = VecDeque::new();
    let mut count = 0_usize;
    let (mut jobs, mut counts) = (Jobs::default(), Counts::default());
    let mut text_so_far = String::new();
    let (mut notes, mut unread_lines) = (String::new(), Vec::new());
    let stream = format == Format::Text && !story && options.lines.is_none();
    let mut files = replay::with_rotated(&options.file, options.since)?;
    // What is written between a first reading and the following would be printed twice or never.
    let follows_whole = options.follow && options.lines.is_none();
    if follows_whole {
        files.pop();
    }
    for file in &files {
        let unread = replay::events(file, |_, event| {
            if !is_selected(options, &event) {
                return Ok(());
            }
            count += 1;
            if options.jobs {
                jobs.add(&event);
            } else if options.counts {
                counts.add(&event);
            } else if stream {
                text_so_far.push_str(&line(&event));
                // An audit file can be larger than memory.
                if text_so_far.len() > 1 << 16 {
                    print(&std::mem::take(&mut text_so_far))?;
                }
            } else {
                found.push_back(event);
                if options.lines.is_some_and(|lines| found.len() > lines) {
                    found.pop_front();
                }
            }
            Ok(())
        })?;
        notes.push_str(&replay::unread_note(file, &unread));
        unread_lines.extend(unread);
    }
    let found: Vec<Event> = found.into();
    match format {
        Format::Text if options.jobs => print(&(jobs.text(options.lines) + &notes))?,
        Format::Text if options.counts => print(&(counts.text() + &notes))?,
        Format::Text if story => print(&(print_jobs(&found) + &notes))?,
        Format::Text => print(&(text_so_far + &found.iter().map(line).collect::<String>() + &notes))?,
        Format::Json if options.jobs => {
            print_json(&json!({ "jobs": jobs.machine(options.lines), "unread_lines": unread_lines }))?;
        }
        Format::Json if options.counts => {
            print_json(&json!({ "counts": counts.machine(), "unread_lines": unread_lines }))?;
        }
        Format::Json if options.follow => {
            print(&found.iter().map(|event| format!("{}\n", json!(event))).collect::<String>())?;
        }
        Format::Json => print_json(&json!({ "events": found, "unread_lines": unread_lines }))?,
    }
    if options.follow {
        return follow(options, follows_whole, format);
    }
    // As grep(1): no match is not success.
    Ok(if count == 0 { FAILURE } else { OK })
}

/// Prints the file's events, or only new ones, and continues as they are written. A file that was
/// renamed is read to its end before the new one is opened.
fn follow(options: &Audit, whole: bool, format: Format) -> Result<u8, CtlError> {
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", options.file.display()));
    let mut file = File::open(&options.file).map_err(failed)?;
    if !whole {
        file.seek(SeekFrom::End(0)).map_err(failed)?;
    }
    let mut reader = BufReader::new(file);
    let mut half = Vec::new();
    loop {
        let rotated = replaced(reader.get_ref(), &options.file);
        while reader.read_until(b'\n', &mut half).map_err(failed)? > 0 && half.ends_with(b"\n") {
            if let Ok(Value::Object(event)) = serde_json::from_slice(&half)
                && is_selected(options, &event)
            {
                let text = match format {
                    Format::Text => line(&event),
                    Format::Json => format!("{}\n", Value::Object(event)),
                };
                let mut out = std::io::stdout();
                match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                    Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(OK),
                    written => written.map_err(CtlError::new)?,
                }
            }
            half.clear();
        }
        if rotated && let Ok(new) = File::open(&options.file) {
            reader = BufReader::new(new);
            half.clear();
            continue;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether the name now refers to another file, or the file was truncated.
fn replaced(open: &File, path: &Path) -> bool {
    let (Ok(open_meta), Ok(now)) = (open.metadata(), path.metadata()) else { return false };
    let mut open = open;
    (open_meta.dev(), open_meta.ino()) != (now.dev(), now.ino())
        || open.stream_position().is_ok_and(|position| position > now.len())
}

fn is_selected(options: &Audit, event: &Event) -> bool {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let number = |name: &str| event.get(name).and_then(Value::as_u64);
    let user = |wanted: &String| [text("user_login"), text("account")].contains(&Some(wanted.as_str()));
    let time = number("time").unwrap_or(0);
    options.user.as_ref().is_none_or(user)
        && options.project.as_ref().is_none_or(|wanted| text("project_path") == Some(wanted))
        && options.job.is_none_or(|wanted| number("job_id") == Some(wanted))
        && options
            .decision
            .as_ref()
            .is_none_or(|wanted| text("decision_id").is_some_and(|id| id.starts_with(wanted.as_str())))
        && options.since.is_none_or(|since| time >= since)
        && options.until.is_none_or(|until| time < until)
        && options.account.as_ref().is_none_or(|wanted| text("account") == Some(wanted))
        && options.code.as_ref().is_none_or(|wanted| text("code") == Some(wanted))
        && options
            .stage
            .as_ref()
            .is_none_or(|wanted| [text("stage"), text("script")].contains(&Some(wanted.as_str())))
        && (!options.denied || text("outcome") == Some("denied"))
}

/// One event on one line.
fn line(event: &Event) -> String {
    format!("{} {} {}\n", when(event), subject(event), what(event))
}

/// The events of one job or more, each job with its own heading.
fn print_jobs(events: &[Event]) -> String {
    let mut text = String::new();
    let mut last = "";
    for event in events {
        let id = event.get("decision_id").and_then(Value::as_str).unwrap_or("");
        if id != last {
            text.push_str(&format!("decision {}: {}\n", Untrusted(id), subject(event)));
            last = id;
        }
        text.push_str(&format!("  {} {}\n", when(event), what(event)));
        for detail in shown(event, "detail").iter().flat_map(|detail| detail.lines()) {
            text.push_str(&format!("      {}\n", Untrusted(detail)));
        }
    }
    text
}

fn when(event: &Event) -> String {
    let seconds = event.get("time").and_then(Value::as_i64);
    let stamp = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    stamp.map_or_else(|| "?".to_owned(), |stamp| stamp.to_string())
}

fn subject(event: &Event) -> String {
    let field = |name: &str| shown(event, name).map(|text| Untrusted(&text).to_string());
    match field("job_id") {
        None => "a job".to_owned(),
        Some(id) => {
            let unknown = || "?".to_owned();
            let project = field("project_path").unwrap_or_else(unknown);
            let login = field("user_login").unwrap_or_else(unknown);
            format!("job {id} of {project} by {login}")
        }
    }
}

fn what(event: &Event) -> String {
    let field = |name: &str| shown(event, name).map(|text| Untrusted(&text).to_string()).unwrap_or_default();
    let stage = if event.contains_key("script") { field("script") } else { field("stage") };
    match event.get("outcome").and_then(Value::as_str) {
        Some("admitted") => {
            let rule = event.get("rule");
            let part = |name: &str| rule.and_then(|r| r.get(name)).map(plain).unwrap_or_default();
            let place = format!("{}:{}", part("file"), part("line"));
            let (rule, place) = (part("name"), Untrusted(&place).to_string());
            format!(
                "admitted as {} (uid {}) by rule `{}` at {place}",
                field("account"),
                field("uid"),
                Untrusted(&rule)
            )
        }
        Some("denied") => format!("{stage} denied [{}]", field("code")),
        Some("stage-started") => format!("{stage} started as {}", field("account")),
        Some("stage-ended") => {
            let end = if event.contains_key("signal") {
                format!("signal {}", field("signal"))
            } else {
                format!("exit code {}", field("exit_code"))
            };
            format!("{stage} ended with {end} after {} ms", field("duration_ms"))
        }
        other => format!("{stage}: {}", Untrusted(other.unwrap_or("unknown event"))),
    }
}
