//! What a stage's message has of the job's variables for its container: passwords of registries while the job is prepared, and the values of its
//! services' variables. Neither is in the record.

use crate::call::Call;
use nunbird_handover::{Handover, Task, Untrusted};
use nunbird_host::System;
use nunbird_host::refusal::{Code, Refusal, print_error};
use nunbird_judge::{registries, service_variables, site_credentials};
use nunbird_policy::Policy;
use nunbird_sys::clock;
use std::path::Path;

/// Fills them in, where the stage has a use for them.
///
/// # Errors
/// A denial for a variable that cannot be used, and a system refusal where a password of the site's is missing.
pub(crate) fn fill(call: &Call<'_>, policy: Option<&Policy>, handover: &mut Handover) -> Result<(), Refusal> {
    let Some(container) = &mut handover.container else { return Ok(()) };
    let inside = match &handover.task {
        Task::Prepare => true,
        Task::Run(stage) => container.holds(stage),
        Task::Cleanup | Task::Tidy => false,
    };
    if !inside {
        // Nothing is started, and what there is for a service would be of no use.
        container.services.iter_mut().for_each(|service| service.variables.clear());
        return Ok(());
    }
    if handover.task == Task::Prepare {
        let fork = call.spec()?.fork;
        let identity = &handover.identity;
        let of_site = |repository: &str| {
            let Some(policy) = policy.filter(|policy| !policy.credentials.is_empty()) else {
                return Ok(None);
            };
            let unset = |e| Refusal::system(Code::Clock, "the time could not be read on this host", e);
            let read = |directory: &Path, name: &str| call.monitor.keys_file(directory, name);
            let now = clock::now().map_err(unset)?;
            let found = site_credentials::of_site(policy, identity, fork, repository, now, read)?;
            // What is here already may not be pulled at all.
            if let Some(name) = found.as_ref().and_then(|credential| credential.site.as_ref()) {
                print_error(&format!(
                    "nunbird: {} may be pulled with the site's password `{name}`\n",
                    Untrusted(repository)
                ));
            }
            Ok(found)
        };
        let found = registries::credentials(container, of_site, |name| call.monitor.variable(name))?;
        for registry in &found.not_run {
            print_error(&format!(
                "nunbird: warning: DOCKER_AUTH_CONFIG names a helper program for {}, which is not run here: write a password under `auths`, or \
                 ask the administrators for `credential_helpers` of [container.{}]\n",
                Untrusted(registry),
                Untrusted(&container.name)
            ));
        }
        handover.credentials = found.credentials;
        handover.credential_helpers = found.helpers;
    }
    service_variables::fill(container, |name| call.monitor.variable(name))
}
