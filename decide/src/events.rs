//! Events of `config`, and the places that the site has set for them.

use crate::call::Call;
use crate::monitor::Monitor;
use nunbird_audit::{Circumstances, Claims, Event, Job, Outcome, ProviderIdentity};
use nunbird_handover::Audit;
use nunbird_policy::Subject;

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
    Claims {
        git_ref: &subject.git_ref,
        namespace_path: &subject.namespace_path,
        ref_type: subject.ref_type.as_deref(),
        ref_protected: subject.ref_protected,
        pipeline_source: subject.pipeline_source.as_deref(),
        fork: subject.fork,
        environment: subject.environment.as_deref(),
        environment_protected: subject.environment_protected,
        runner_id: subject.runner_id,
        user_email: subject.user_email.as_deref(),
        user_access_level: subject.access_level.as_deref(),
        groups_direct: subject.groups.as_deref(),
        user_identities: subject
            .identities
            .iter()
            .map(|(provider, extern_uid)| ProviderIdentity { provider, extern_uid })
            .collect(),
        validated: subject.validated.as_deref(),
    }
}
