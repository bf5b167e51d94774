//! Refusals of this program: written down before they are printed.

use crate::audit::{self, Sinks};
use crate::context::Context;
use crate::refusal::{Refusal, clean};
use nunbird_audit::{Event, Outcome};
use nunbird_handover::Audit;
use nunbird_host::Turn;
use std::path::Path;

/// Where a packaged installation has its audit file.
const DEFAULT_AUDIT_FILE: &str = "/var/log/nunbird/audit.jsonl";

/// Writes down that this call was refused, and gives the refusal back. Of an admitted job the decision's id leads to
/// the event that admitted it; a call for no job leaves a line of syslog.
pub(crate) fn write(context: &Context<'_>, refusal: Refusal) -> Refusal {
    let Some(_) = context.record else { return without_record(context, refusal) };
    let result = send(context, &context.sinks, &refusal, None, None);
    written(context, &context.sinks, result, refusal)
}

/// Where no configuration says otherwise, `config` writes to where a packaged installation has it: the admin must learn why a broken
/// configuration denies every job. Anybody who may call this program could have the disk wait for them.
fn without_record(context: &Context<'_>, refusal: Refusal) -> Refusal {
    let (left_out, uncounted) = match turn(context) {
        Ok(Turn::Write(left_out)) => (left_out, None),
        Ok(Turn::LeaveOut) => return one_of_too_many(refusal),
        // Without a count a file could be filled without bound; daemons limit their own logs.
        Err(trouble) => (0, Some(trouble)),
    };
    if context.stage != "config" {
        leave_trace(context, &refusal);
        return refusal;
    }
    let file = Path::new(DEFAULT_AUDIT_FILE);
    let default =
        (context.privilege.source.is_privileged() && uncounted.is_none()).then(|| file.to_path_buf());
    let sinks = Sinks::open(&Audit { file: default, ..Audit::default() }, context.privilege);
    let left_out = Some(left_out).filter(|left_out| *left_out > 0);
    let result = send(context, &sinks, &refusal, left_out, uncounted.clone());
    written(context, &sinks, uncounted.map_or(Ok(()), Err).and(result), refusal)
}

fn send(
    context: &Context<'_>,
    sinks: &Sinks,
    refusal: &Refusal,
    left_out: Option<u64>,
    not_written: Option<String>,
) -> Result<(), String> {
    let event = Event {
        code: Some(refusal.code.name()),
        detail: Some(&refusal.detail),
        left_out,
        not_written,
        ..audit::event(context, Outcome::Denied)
    };
    sinks.write(&event, context.record.is_some())
}

/// The refusal, which says so where it could not be written down. Syslog has it then, and where there is no place for events.
fn written(context: &Context<'_>, sinks: &Sinks, result: Result<(), String>, refusal: Refusal) -> Refusal {
    match result {
        Ok(()) => {
            if sinks.is_empty() {
                leave_trace(context, &refusal);
            }
            refusal
        }
        Err(troubles) => {
            let detail = format!("{}\n(not written down: {})", refusal.detail, clean(&troubles));
            let refusal = Refusal { detail, ..refusal };
            leave_trace(context, &refusal);
            refusal
        }
    }
}

/// Whether this refusal is written. A caller without privilege writes to files of its own.
fn turn(context: &Context<'_>) -> Result<Turn, String> {
    if !context.privilege.source.is_privileged() {
        return Ok(Turn::Write(0));
    }
    nunbird_host::turn(Path::new(DEFAULT_AUDIT_FILE), context.privilege.rights())
}

/// The refusal, which says that it was one of too many.
fn one_of_too_many(refusal: Refusal) -> Refusal {
    let detail = format!(
        "{}\n(not written down: too many refusals without a verified identity in this minute)",
        refusal.detail
    );
    Refusal { detail, ..refusal }
}

fn leave_trace(context: &Context<'_>, refusal: &Refusal) {
    audit::leave_trace(context.stage, Some(context.privilege.caller), refusal, &context.decision_id);
}
