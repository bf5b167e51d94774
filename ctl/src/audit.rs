//! Searching the audit file. docs/audit.md has the events.

use crate::arguments::Audit;
use crate::output::{FAILURE, Format, OK, Trouble, print, print_json};
use crate::replay;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nunbird_handover::Untrusted;
use serde_json::{Map, Value, json};

type Event = Map<String, Value>;

pub(crate) fn run(options: &Audit, format: Format) -> Result<u8, Trouble> {
    let story = options.job.is_some() || options.decision.is_some();
    let (mut found, mut count) = (Vec::new(), 0_usize);
    let mut text_so_far = String::new();
    let unread = replay::events(&options.file, |_, event| {
        if !fits(options, &event) {
            return Ok(());
        }
        count += 1;
        match format {
            Format::Text if !story => {
                text_so_far.push_str(&line(&event));
                // An audit file can be larger than memory.
                if text_so_far.len() > 1 << 16 {
                    print(&std::mem::take(&mut text_so_far))?;
                }
            }
            _ => found.push(event),
        }
        Ok(())
    })?;
    let note = replay::unread_note(&options.file, &unread);
    match format {
        Format::Text if story => print(&(tell(&found) + &note))?,
        Format::Text => print(&(text_so_far + &note))?,
        Format::Json => print_json(&json!({ "events": found, "unread_lines": unread }))?,
    }
    // As grep(1): nothing found is no success.
    Ok(if count == 0 { FAILURE } else { OK })
}

/// A time that an admin writes: a date, an RFC 3339 time, or seconds since the epoch.
///
/// # Errors
/// What may be written.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let wrong = || "write 2026-11-21, 2026-11-21T10:00:00Z or seconds since the epoch".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds);
    }
    let stamp = match text.parse::<Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => {
            let date: Date = text.parse().map_err(|_| wrong())?;
            date.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
        }
    };
    u64::try_from(stamp.as_second()).map_err(|_| wrong())
}

/// A time in seconds since the epoch, as events have it.
pub(crate) fn moment(at: u64) -> String {
    let time = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    time.map_or_else(|| at.to_string(), |time| time.to_string())
}

fn fits(options: &Audit, event: &Event) -> bool {
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
        && (!options.denied || text("outcome") == Some("denied"))
}

/// One event on one line.
fn line(event: &Event) -> String {
    format!("{} {} {}\n", when(event), subject(event), what(event))
}

/// The events of one job or more, each job under its own head.
fn tell(events: &[Event]) -> String {
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

fn shown(event: &Event, name: &str) -> Option<String> {
    event.get(name).map(plain)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("1970-01-02"), Ok(86_400));
        assert_eq!(time("2026-11-21T10:00:00Z"), Ok(1_795_255_200));
        assert_eq!(time("77"), Ok(77));
        for bad in ["yesterday", "2026-13-01", "", "-5"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
