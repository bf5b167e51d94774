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
use crate::replace::put;
use crate::sweep::records;
use crate::{files, token};
use exposition::Families;
use nunbird_files::trusted::open_trusted_directory;
use nunbird_policy::DEFAULT_AUDIT_FILE;
use progress::State;
use serde_json::Value;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) fn run(options: &Metrics, format: Format) -> Result<u8, CtlError> {
    let at =
        |path: &std::path::Path, e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", path.display()));
    let output = options.output.as_deref().map(place).transpose()?;
    let kept = place(&options.state)?;
    // Two runs at once would count the same lines twice.
    let beside = kept.with_extension("lock");
    let mut open = OpenOptions::new();
    let lock = open.write(true).create(true).truncate(false).mode(0o600).open(&beside);
    let lock = lock.map_err(|e| at(&beside, &e))?;
    lock.lock().map_err(|e| at(&beside, &e))?;
    let mut state = State::read(&kept)?;
    let audit = audit_file(options, &state);
    let State { counts, position, audit_file } = &mut state;
    let read = position.advance(&audit, |event: Option<&Event>| match event {
        Some(event) => counts.add(event),
        None => counts.unread(),
    })?;
    if read.has_gap {
        counts.gap();
    }
    *audit_file = Some(audit);
    let mut families = counts.families();
    now(options, &mut families);
    let text = families.text();
    // First of all: what was shown once never grows less.
    state.write(&kept).map_err(|e| at(&kept, &e))?;
    match &output {
        Some(file) => put(file, text.as_bytes(), 0o644).map_err(|e| at(file, &e))?,
        None if format == Format::Json => print_json(&families.machine())?,
        None => print(&text)?,
    }
    Ok(OK)
}

/// What is so at this moment. What cannot be looked at is left out, which an alert can ask for (`absent()`).
fn now(options: &Metrics, families: &mut Families) {
    let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
    families.gauge("nunbird_build_info", "Version of Nunbird; always 1.", &version, 1);
    let own = &options.configuration.configuration;
    for path in files::configurations(own).unwrap_or_else(|_| vec![own.clone()]) {
        configuration(&path, families);
    }
    let Ok(found) = records::now().and_then(|now| records::read(&now)) else { return };
    let help = "Jobs that this host has records of: admitted and not yet cleaned up.";
    families.gauge("nunbird_jobs", help, &[], found.len() as u64);
}

/// The path of a file without links on the way, its directory made where that alone is missing. Root writes only where every directory on the way
/// is root's: the account of an exporter could have put a link in the place of its own, and could exchange it later.
fn place(path: &Path) -> Result<PathBuf, CtlError> {
    let name =
        path.file_name().ok_or_else(|| CtlError::new(format!("{}: not a file's name", path.display())))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = match (trusted(directory), directory.parent(), directory.file_name()) {
        (Err((e, _)), Some(parent), Some(own)) if e.kind() == ErrorKind::NotFound => {
            let made = trusted(parent).map_err(|(_, why)| why)?.join(own);
            let at = |e: std::io::Error| CtlError::new(format!("{}: {e}", made.display()));
            DirBuilder::new().mode(0o755).create(&made).map_err(at)?;
            made
        }
        (found, ..) => found.map_err(|(_, why)| why)?,
    };
    Ok(directory.join(name))
}

/// The directory without links on the way, judged where root asks; or why not, with the error of the look-up.
fn trusted(directory: &Path) -> Result<PathBuf, (std::io::Error, CtlError)> {
    let real = directory.canonicalize().map_err(|e| {
        let why = CtlError::new(format!("{}: {e}", directory.display()));
        (e, why)
    })?;
    if nix::unistd::geteuid().is_root() {
        open_trusted_directory(&real, &[0]).map_err(|e| {
            let help = "name a file in a directory of root's, and link to it: docs/monitoring.md";
            (ErrorKind::PermissionDenied.into(), CtlError::new(format!("{e}; {help}")))
        })?;
    }
    Ok(real)
}

fn configuration(path: &Path, families: &mut Families) {
    let shown = path.display().to_string();
    let read = files::read(path, Format::Text);
    let help = "Whether the configuration is valid: with 0, every job by it is denied.";
    let labels = [("configuration", shown.clone())];
    families.gauge("nunbird_configuration_valid", help, &labels, u64::from(read.is_ok()));
    let (Ok(read), Ok(now)) = (read, nunbird_sys::clock::now()) else { return };
    for server in &read.policy.gitlab {
        let Ok(keys) = token::stored(&read.policy, server) else { continue };
        let Some(seen) = keys.iter().map(|key| key.last_seen).max() else { continue };
        let labels = [("configuration", shown.clone()), ("server", server.name.clone())];
        let help = "Seconds since the server's signing keys were last seen at the server.";
        families.gauge("nunbird_keys_age_seconds", help, &labels, now.saturating_sub(seen));
    }
}

/// The audit file of the options, or else of the configuration. While that is not valid, the last run's file stays: to read another
/// one in between would look like a gap. The denials of that time are in the default file.
fn audit_file(options: &Metrics, state: &State) -> PathBuf {
    let of_policy =
        || files::read(&options.configuration.configuration, Format::Text).ok()?.policy.audit.file;
    let known = options.file.clone().or_else(of_policy).or_else(|| state.audit_file.clone());
    known.unwrap_or_else(|| DEFAULT_AUDIT_FILE.into())
}

/// A number of an event, where it has one.
fn number(event: &Event, name: &str) -> Option<u64> {
    event.get(name).and_then(Value::as_u64)
}

/// A text of an event, or nothing.
fn text<'e>(event: &'e Event, name: &str) -> &'e str {
    event.get(name).and_then(Value::as_str).unwrap_or("")
}
