//! Counters for Prometheus, from the audit file and what this host has now.
//!
//! Each run reads what was written since the last one and adds it to the counts of the state file, so that counters only
//! grow although audit files are rotated and removed.

mod counts;
mod exposition;
mod progress;

use crate::arguments::Metrics;
use crate::event::Event;
use crate::output::{CtlError, Format, OK, print, print_json};
use crate::replace::replace;
use crate::sweep::records;
use crate::{files, token};
use exposition::Families;
use progress::State;
use serde_json::Value;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

pub(crate) fn run(options: &Metrics, format: Format) -> Result<u8, CtlError> {
    let at =
        |path: &std::path::Path, e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", path.display()));
    // Two runs at once would count the same lines twice.
    let beside = options.state.with_extension("lock");
    let mut open = OpenOptions::new();
    let lock = open.write(true).create(true).truncate(false).mode(0o600).open(&beside);
    let lock = lock.map_err(|e| at(&beside, &e))?;
    lock.lock().map_err(|e| at(&beside, &e))?;
    let mut state = State::read(&options.state)?;
    let State { counts, position } = &mut state;
    let read = position.advance(&options.file, |event: Option<&Event>| match event {
        Some(event) => counts.add(event),
        None => counts.unread(),
    })?;
    if read.has_gap {
        counts.gap();
    }
    let mut families = counts.families();
    now(options, &mut families);
    let text = families.text();
    match &options.output {
        Some(file) => replace(file, text.as_bytes()).map_err(|e| at(file, &e))?,
        None if format == Format::Json => print_json(&families.machine())?,
        None => print(&text)?,
    }
    state.write(&options.state).map_err(|e| at(&options.state, &e))?;
    Ok(OK)
}

/// What is so at this moment. What cannot be looked at is left out, which an alert can ask for (`absent()`).
fn now(options: &Metrics, families: &mut Families) {
    let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
    families.gauge("nunbird_build_info", "Version of Nunbird; always 1.", &version, 1);
    let policy = files::read(&options.configuration.configuration, Format::Text);
    let valid = u64::from(policy.is_ok());
    families.gauge(
        "nunbird_configuration_valid",
        "Whether the configuration is valid: 0 denies every job.",
        &[],
        valid,
    );
    let Ok(clock) = nunbird_sys::clock::now() else { return };
    for server in policy.iter().flat_map(|read| &read.policy.gitlab) {
        let Ok(read) = &policy else { break };
        let Ok(keys) = token::stored(&read.policy, server) else { continue };
        let Some(seen) = keys.iter().map(|key| key.last_seen).max() else { continue };
        let labels = [("server", server.name.clone())];
        let help = "Seconds since the server's signing keys were last seen at the server.";
        families.gauge("nunbird_keys_age_seconds", help, &labels, clock.saturating_sub(seen));
    }
    let Ok(found) = records::now().and_then(|now| records::read(&now)) else { return };
    let help = "Jobs that this host has records of: admitted and not yet cleaned up.";
    families.gauge("nunbird_jobs", help, &[], found.len() as u64);
}

/// A number of an event, where it has one.
fn number(event: &Event, name: &str) -> Option<u64> {
    event.get(name).and_then(Value::as_u64)
}

/// A text of an event, or nothing.
fn text<'e>(event: &'e Event, name: &str) -> &'e str {
    event.get(name).and_then(Value::as_str).unwrap_or("")
}
