//! Events of `config`, and the places that the site has set for them.

use crate::call::Call;
use crate::monitor::Monitor;
use nunbird_audit::{Circumstances, Claim, Claims, Event, Job, Outcome, ProviderIdentity};
use nunbird_handover::Audit;
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
        stage: "config",
        script: call.script.as_ref(),
        usage: None,
        runner_uid: call.start.caller,
        privilege: call.start.privileges.name(),
    };
    Event { job: job(call), ..Event::of(&circumstances, call.record.as_ref(), outcome) }
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
