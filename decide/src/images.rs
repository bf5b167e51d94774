//! What a stage's message has of the job's variables for its container: passwords of registries while the job is prepared, and the values of its
//! services' variables. Neither is in the record.

use crate::call::Call;
use nunbird_handover::{Handover, Task, Untrusted};
use nunbird_host::refusal::{Refusal, print_error};
use nunbird_judge::{registries, service_variables};

/// Fills them in, where the stage has a use for them.
///
/// # Errors
/// A denial for a variable that cannot be used.
pub(crate) fn fill(call: &Call<'_>, handover: &mut Handover) -> Result<(), Refusal> {
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
        let found = registries::credentials(container, |name| call.monitor.variable(name))?;
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
