//! Events: what was decided and what became of each stage, for the site's admins.
//!
//! Called in every stage: with privilege for decisions and starts, by the shepherd without any for ends. Every event goes to
//! every sink that the configuration names; `docs/audit.md` is the schema.

mod encode;
mod event;
pub(crate) mod sinks;
mod trace;
mod unverified;

use crate::context::Context;
use crate::refusal::{Code, Refusal, print_error};
use event::{Account, End, Given, SCHEMA, Used, job, rfc3339};
pub(crate) use event::{Claims, Event, Job, Outcome};
use nunbird_handover::Summary;
use nunbird_sys::fork::Ended;
use nunbird_sys::{clock, process};
pub(crate) use sinks::{Sinks, turn};
use std::time::Duration;
pub(crate) use trace::leave as leave_trace;
pub(crate) use unverified::Turn;

impl<'a> Event<'a> {
    /// An event of this call, with what its record says where there is one.
    pub(crate) fn of(context: &'a Context<'_>, outcome: Outcome) -> Self {
        let time = clock::now().unwrap_or(0);
        let record = context.record.as_ref();
        let over = record.filter(|_| outcome == Outcome::StageEnded && context.stage == "cleanup");
        Event {
            schema: SCHEMA,
            time,
            timestamp: rfc3339(time),
            outcome,
            decision_id: &context.decision_id,
            host: process::short_host_name(),
            stage: context.stage,
            script: context.script.as_ref(),
            end: None,
            usage: context.usage.filter(|_| outcome == Outcome::StageEnded).map(Used::of),
            queued_s: record
                .filter(|_| over.is_some() || outcome == Outcome::Admitted)
                .and_then(|record| record.queued_s),
            job_s: over.map(|record| time.saturating_sub(record.admitted_at)),
            given: over.and_then(|record| record.limits.as_ref()).map(Given::of),
            code: None,
            detail: None,
            job: record.map(job),
            account: record.map(|r| Account { name: &r.account.name, uid: r.account.uid }),
            executor: record.map(|r| r.batch.as_ref().map_or("shell", |batch| batch.name.as_str())),
            rule: record.map(|r| &r.rule),
            policy_digest: record.map(|r| r.policy_digest.as_str()),
            runner_uid: context.privilege.caller.uid,
            privilege: context.privilege.source.name(),
            left_out: None,
            claims_left_out: false,
            not_written: None,
        }
    }
}

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
