//! Refusals: written before they are printed.

use crate::call::Call;
use crate::events::{self, Sinks};
use crate::settings::Settings;
use nunbird_audit::{Event, Outcome, encode};
use nunbird_handover::{Audit, Untrusted};
use nunbird_host::Turn;
use nunbird_host::refusal::{Refusal, clean};
use nunbird_policy::DEFAULT_AUDIT_FILE;
use nunbird_requests::Request;
use std::path::{Path, PathBuf};

/// Writes down that a job was denied, and gives the refusal back. Where that fails the refusal says so, too.
///
/// Without settings the line goes where a packaged installation has it: the admin must learn why a broken
/// configuration denies every job.
pub(crate) fn write(call: &Call<'_>, settings: Option<&Settings>, refusal: Refusal) -> Refusal {
    let default = call.start.privileges.is_privileged().then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
    let default = Audit { file: default, ..Audit::default() };
    let mut destinations = settings.map_or(default, |settings| settings.policy.audit.clone());
    let verified = call.admitted.is_some();
    let (left_out, uncounted) = match turn(call, destinations.file.as_deref(), verified) {
        Ok(Turn::Write(left_out)) => (left_out, None),
        Ok(Turn::LeaveOut) => return one_of_too_many(refusal),
        // Without a count a file could be filled without bound; daemons limit their own logs.
        Err(trouble) => {
            destinations.file = None;
            (0, Some(trouble))
        }
    };
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        policy_digest: settings.map(|settings| settings.digest.as_str()),
        left_out: Some(left_out).filter(|left_out| *left_out > 0),
        ..events::event(call, Outcome::Denied)
    };
    // Anybody who may call this program could have the disk wait for them.
    let sinks = Sinks::open(&destinations, call.monitor);
    let result = sinks.write(&Event { not_written: uncounted.clone(), ..event }, verified);
    written(call, &sinks, uncounted.map_or(Ok(()), Err).and(result), refusal)
}

/// Writes that a stage of an admitted job was refused, to the places of the job's events.
pub(crate) fn of_job(call: &Call<'_>, sinks: &Sinks<'_>, refusal: Refusal) -> Refusal {
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        ..events::event(call, Outcome::Denied)
    };
    let result = sinks.write(&event, true);
    written(call, sinks, result, refusal)
}

/// Whether this refusal is written. A caller without privilege writes to files of its own.
fn turn(call: &Call<'_>, file: Option<&Path>, verified: bool) -> Result<Turn, String> {
    if verified || !call.start.privileges.is_privileged() {
        return Ok(Turn::Write(0));
    }
    call.monitor.turn(file.unwrap_or(Path::new(DEFAULT_AUDIT_FILE)))
}

/// The refusal, which says that it was one of too many.
fn one_of_too_many(refusal: Refusal) -> Refusal {
    let detail = format!(
        "{}\n(not written down: too many refusals without a verified identity in this minute)",
        refusal.detail
    );
    Refusal { detail, ..refusal }
}

/// The refusal, which says so where it could not be written down. Syslog has it then, and where there is no place for events.
fn written(call: &Call<'_>, sinks: &Sinks<'_>, result: Result<(), String>, refusal: Refusal) -> Refusal {
    match result {
        Ok(()) => {
            if sinks.is_empty() {
                leave_trace(call, &refusal);
            }
            refusal
        }
        Err(troubles) => {
            let detail = format!("{}\n(not written down: {})", refusal.detail, clean(&troubles));
            let refusal = Refusal { detail, ..refusal };
            leave_trace(call, &refusal);
            refusal
        }
    }
}

/// A line of syslog about a refusal that no event reports.
fn leave_trace(call: &Call<'_>, refusal: &Refusal) {
    let detail = refusal.detail.replace('\n', "; ");
    let uid = call.start.caller;
    let what =
        format!("denied in {} for runner uid {uid}: [{}] {}", call.stage, refusal.code, escaped(&detail));
    let _done = call.monitor.ask(&Request::Trace(encode::trace(&what, &call.start.decision_id)));
}

/// A detail is clean already; this holds for whatever comes to be put into it.
fn escaped(text: &str) -> String {
    let each = |c: char| {
        if Untrusted::is_deceptive(c) {
            Untrusted(c.encode_utf8(&mut [0; 4])).to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().take(1000).map(each).collect()
}
