//! Events of `config`, and the places that the site has set for them.

use crate::call::Call;
use crate::monitor::Monitor;
use nunbird_audit::{Circumstances, Claim, Claims, Event, Job, Outcome, ProviderIdentity};
use nunbird_handover::Audit;
use nunbird_host::refusal::{Code, Refusal, clean, print_error};
use nunbird_policy::{FACTS, Subject};

/// Places that `nunbird-auth` has opened.
#[derive(Debug)]
pub(crate) struct Sinks<'a> {
    sinks: nunbird_audit::Sinks,
    monitor: &'a Monitor,
}

impl<'a> Sinks<'a> {
    pub(crate) fn open(audit: &Audit, monitor: &'a Monitor) -> Self {
        let closed = monitor.places(nunbird_audit::destinations(audit));
        Sinks { sinks: nunbird_audit::Sinks::new(audit, closed), monitor }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    pub(crate) fn required(&self) -> bool {
        self.sinks.required
    }

    /// Writes an event to every place.
    ///
    /// # Errors
    /// As [`nunbird_audit::Sinks::write`].
    pub(crate) fn write(&self, event: &Event<'_>, durably: bool) -> Result<(), String> {
        self.sinks.write(event, durably, |place, bytes, durably| self.monitor.send(place, bytes, durably))
    }
}

/// An event of this call.
pub(crate) fn event<'a>(call: &'a Call<'_>, outcome: Outcome) -> Event<'a> {
    let circumstances = Circumstances {
        decision_id: &call.start.decision_id,
        stage: call.stage,
        script: call.script.as_ref(),
        usage: call.used.map(nunbird_audit::Used::of),
        runner_uid: call.start.caller,
        privilege: call.start.privileges.name(),
    };
    let event = Event::of(&circumstances, call.record.as_ref(), outcome);
    // What has been verified just now has the claims.
    match job(call) {
        Some(job) => Event { job: Some(job), ..event },
        None => event,
    }
}

/// Writes an event without which nothing may go on.
///
/// # Errors
/// A system refusal where a place does not have it and the site requires that.
pub(crate) fn demand(
    call: &Call<'_>,
    sinks: &Sinks<'_>,
    event: &Event<'_>,
    durably: bool,
) -> Result<(), Refusal> {
    match sinks.write(event, durably) {
        Ok(()) => Ok(()),
        Err(troubles) if sinks.required() => {
            let message = "this cannot be written down on this host, so the job does not run";
            Err(Refusal::system(Code::Audit, message, troubles))
        }
        Err(troubles) => {
            warn_of_no_event(call, &troubles);
            Ok(())
        }
    }
}

/// Writes an event of something that cannot be undone; where that fails, the job log says so.
pub(crate) fn note(call: &Call<'_>, sinks: &Sinks<'_>, event: &Event<'_>) {
    if let Err(troubles) = sinks.write(event, false) {
        warn_of_no_event(call, &troubles);
    }
}

/// The job log is the CI user's: the cause, which is for the admin, is shown with `-u` alone.
fn warn_of_no_event(call: &Call<'_>, troubles: &str) {
    let mut text = "nunbird: warning: this could not be written down on this host [audit]\n".to_owned();
    if call.start.unobfuscated {
        for line in clean(troubles).lines() {
            text.push_str(&format!("  = note: {line}\n"));
        }
    }
    text.push_str("  = help: give your site's admins the id of this decision\n");
    text.push_str(&format!("  = decision: {}\n", call.start.decision_id));
    print_error(&text);
}

/// What is known of the job.
fn job<'a>(call: &'a Call<'_>) -> Option<Job<'a>> {
    let (admitted, subject) = call.admitted.as_ref().zip(call.subject.as_ref())?;
    Some(Job {
        server: &subject.server,
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        project_path: &admitted.project_path,
        user_login: &admitted.user_login,
        user_id: admitted.user_id,
        identity_source: subject.source.name(),
        claims: Some(claims(subject)),
    })
}

fn claims(subject: &Subject) -> Claims<'_> {
    let others = FACTS.iter().filter(|fact| !Job::FACTS.contains(&fact.claim));
    Claims(others.filter_map(|fact| Some((fact.claim, claim(fact.claim(subject)?)))).collect())
}

fn claim(claim: nunbird_policy::Claim<'_>) -> Claim<'_> {
    match claim {
        nunbird_policy::Claim::Text(text) => Claim::Text(text),
        nunbird_policy::Claim::Id(id) => Claim::Number(id),
        nunbird_policy::Claim::Flag(flag) => Claim::Flag(flag),
        nunbird_policy::Claim::Texts(all) => Claim::Texts(all),
        nunbird_policy::Claim::Identities(all) => Claim::Identities(
            all.iter().map(|(provider, extern_uid)| ProviderIdentity { provider, extern_uid }).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, claims};
    use nunbird_policy::{FACTS, Subject};

    #[test]
    fn an_event_has_every_fact_of_its_job_once() {
        let text = || Some("x".to_owned());
        let subject = Subject {
            user_email: text(),
            access_level: text(),
            groups: Some(vec!["x".to_owned()]),
            identities: vec![("x".to_owned(), "x".to_owned())],
            ref_type: text(),
            ref_protected: Some(true),
            pipeline_source: text(),
            fork: Some(true),
            environment: text(),
            environment_protected: Some(true),
            runner_id: Some(1),
            validated: text(),
            ..Subject::default()
        };
        let mut names: Vec<&str> = claims(&subject).0.iter().map(|(name, _)| *name).collect();
        names.extend(Job::FACTS);
        names.sort_unstable();
        let mut known: Vec<&str> = FACTS.iter().map(|fact| fact.claim).collect();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
