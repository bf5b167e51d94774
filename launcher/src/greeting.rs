//! The first lines of every job log that are ours: who, as whom, where, and what to quote when asking.
//!
//! Names come from GitLab and from users, so everything goes through [`Untrusted`].

use nunbird_handover::{Handover, Untrusted};
use nunbird_sys::process::short_host_name;

/// The greeting, lines ending in a newline.
pub(crate) fn greeting(handover: &Handover) -> String {
    let Handover { identity, account, workspace, .. } = handover;
    let mut text = format!(
        "Nunbird {version}: job {job} of {login} (GitLab user {id} on {server}), project {project}\n\
         runs as {account} on {host} in {directory}\n\
         decision {decision} (quote it when you ask the administrators about this job)\n",
        version = env!("CARGO_PKG_VERSION"),
        job = handover.job_id,
        login = Untrusted(&identity.user_login),
        id = identity.user_id,
        server = Untrusted(&identity.server),
        project = Untrusted(&identity.project_path),
        account = Untrusted(&account.name),
        host = short_host_name(),
        directory = Untrusted(&workspace.project_dir.to_string_lossy()),
        decision = Untrusted(&handover.decision_id),
    );
    for line in handover.site.message.iter().flat_map(|message| message.lines()) {
        text.push_str(&format!("{}\n", Untrusted(line)));
    }
    text
}
