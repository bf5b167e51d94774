//! Events: what was decided and what became of each stage, for the site's admins.
//!
//! Called in every stage: with privilege for decisions and starts, by the shepherd without any for ends. Every event goes to
//! every sink that the configuration names; `docs/audit.md` is the schema.

mod encode;
mod event;
mod sinks;
mod trace;
mod unverified;

use crate::context::Context;
use crate::refusal::{Code, Refusal, print_error};
use event::End;
pub(crate) use event::{Claims, Event, Job, Outcome, Script};
use nunbird_handover::Summary;
use nunbird_sys::fork::Ended;
pub(crate) use sinks::{Sinks, turn};
use std::time::Duration;
pub(crate) use trace::leave as leave_trace;
pub(crate) use unverified::Turn;

/// Writes an event without which nothing may go on.
///
/// # Errors
/// A system refusal when a sink does not have it and the site requires that.
pub(crate) fn demand(sinks: &Sinks, event: &Event<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    match sinks.write(event, event.outcome == Outcome::Admitted) {
        Ok(()) => Ok(()),
        Err(troubles) if sinks.required => {
            let message = "this cannot be written down on this host, so the job does not run";
            Err(Refusal::system(Code::Audit, message, troubles))
        }
        Err(troubles) => {
            tell(&troubles, context);
            Ok(())
        }
    }
}

/// A stage is about to start.
///
/// # Errors
/// As [`demand`]; never for `cleanup`, which takes things away and must not wait for a full disk.
pub(crate) fn stage_started(context: &Context<'_>) -> Result<(), Refusal> {
    let event = Event::of(context, Outcome::StageStarted);
    if context.stage == "cleanup" {
        note(&event, context);
        return Ok(());
    }
    demand(&context.sinks, &event, context)
}

/// A stage has ended. The shepherd calls it without any privilege left.
///
/// `batch` is what the job's account says of a stage in the batch scheduler.
pub(crate) fn stage_ended(context: &Context<'_>, ended: Ended, duration: Duration, batch: Option<Summary>) {
    let (exit_code, signal) = match ended {
        Ended::Exited(code) => (Some(code), None),
        Ended::Killed(signal) => (None, Some(signal)),
    };
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let end = Some(End { exit_code, signal, duration_ms, batch });
    note(&Event { end, ..Event::of(context, Outcome::StageEnded) }, context);
}

/// Writes an event about something that nobody can undo; where that fails, the job log says so.
fn note(event: &Event<'_>, context: &Context<'_>) {
    if let Err(troubles) = context.sinks.write(event, false) {
        tell(&troubles, context);
    }
}

/// The job log is the CI user's: it learns that something was not written down, the admin's words only with `-u`.
fn tell(troubles: &str, context: &Context<'_>) {
    let mut text = "nunbird: warning: this could not be written down on this host [audit]\n".to_owned();
    if context.unobfuscated {
        for line in crate::refusal::clean(troubles).lines() {
            text.push_str(&format!("  = note: {line}\n"));
        }
    }
    text.push_str("  = help: give your site's admins the id of this decision\n");
    text.push_str(&format!("  = decision: {}\n", context.decision_id));
    print_error(&text);
}

#[cfg(test)]
mod tests;
