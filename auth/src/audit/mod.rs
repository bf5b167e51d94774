//! Events: what was decided and what became of each stage, for the site's admins.
//!
//! Called in every stage: with privilege for decisions and starts, by the shepherd without any for ends. Every event goes to
//! every sink that the configuration names; `docs/audit.md` is the schema.

mod trace;

use crate::context::Context;
use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal, print_error};
pub(crate) use nunbird_audit::Script;
use nunbird_audit::{Circumstances, End, Event, Outcome};
use nunbird_handover::{Audit, Summary};
use nunbird_host::Places;
#[cfg(test)]
use nunbird_host::{Rights, Sockets};
use nunbird_sys::fork::Ended;
use std::time::Duration;
pub(crate) use trace::leave as leave_trace;

/// All places where events of a job go, open.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    sinks: nunbird_audit::Sinks,
    places: Places,
}

impl Sinks {
    /// Opens every place that is set. One that cannot be opened is a trouble of every event.
    pub(crate) fn open(audit: &Audit, privilege: Privilege) -> Self {
        Self::of(audit, Places::open(&nunbird_audit::destinations(audit), privilege.rights()))
    }

    #[cfg(test)]
    fn open_at(audit: &Audit, rights: Rights, sockets: Sockets<'_>) -> Self {
        Self::of(audit, Places::open_at(&nunbird_audit::destinations(audit), rights, sockets))
    }

    fn of(audit: &Audit, places: Places) -> Self {
        Sinks { sinks: nunbird_audit::Sinks::new(audit, places.closed()), places }
    }

    /// Whether the site has set no place at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Writes an event to every place.
    ///
    /// # Errors
    /// As [`nunbird_audit::Sinks::write`].
    pub(crate) fn write(&self, event: &Event<'_>, durably: bool) -> Result<(), String> {
        self.sinks.write(event, durably, |place, bytes, durably| self.places.send(place, bytes, durably))
    }
}

/// An event of this call, with what its record says where there is one.
pub(crate) fn event<'a>(context: &'a Context<'_>, outcome: Outcome) -> Event<'a> {
    let call = Circumstances {
        decision_id: &context.decision_id,
        stage: context.stage,
        script: context.script.as_ref(),
        usage: context.usage.map(nunbird_audit::Used::of),
        runner_uid: context.privilege.caller.uid,
        privilege: context.privilege.source.name(),
    };
    Event::of(&call, context.record.as_ref(), outcome)
}

/// Writes an event without which nothing may go on.
///
/// # Errors
/// A system refusal when a sink does not have it and the site requires that.
fn demand(sinks: &Sinks, event: &Event<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    match sinks.write(event, false) {
        Ok(()) => Ok(()),
        Err(troubles) if sinks.sinks.required => {
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
    let event = event(context, Outcome::StageStarted);
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
    note(&Event { end, ..event(context, Outcome::StageEnded) }, context);
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
