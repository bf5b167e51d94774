//! Our first lines in every job log: which user, which account, which host, and the id to quote to
//! the administrators.
//!
//! Names come from GitLab and from users, so everything goes through [`Untrusted`].

use nunbird_handover::{Handover, Unserved, Untrusted};
use nunbird_unprivileged::process::short_host_name;

/// What the job asks for in .gitlab-ci.yml and Nunbird does not support.
fn unsupported(asked: &Unserved) -> String {
    let mut text = String::new();
    let mut warn = |what: String| {
        text.push_str(&format!("warning: {what}\n"));
    };
    if let Some(image) = &asked.image {
        let image = Untrusted(image);
        warn(format!(
            "`image: {image}` is not used: the script runs with the software of this host or its cluster"
        ));
    }
    if let Some(services) = &asked.services {
        warn(format!("`services:` ({}) are not started", Untrusted(services)));
    }
    if asked.steps {
        warn(
            "`run:` needs the program step-runner in the job's PATH, which Nunbird does not \
              include: use `script:`"
                .to_owned(),
        );
    }
    text
}

/// The greeting; its lines end in a newline.
pub(crate) fn greeting(handover: &Handover) -> String {
    let Handover { identity, account, workspace, .. } = handover;
    // Ids of GitLab's begin at 1: this job is not GitLab's.
    if identity.user_id == 0 {
        return format!(
            "Nunbird {}: a job by hand of project {}\nruns as {} on {} in {}\n",
            env!("CARGO_PKG_VERSION"),
            Untrusted(&identity.project_path),
            Untrusted(&account.name),
            short_host_name(),
            Untrusted(&workspace.project_dir.to_string_lossy()),
        );
    }
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
    if let Some(asked) = &handover.site.unserved {
        text.push_str(&unsupported(asked));
    }
    for line in handover.site.message.iter().flat_map(|message| message.lines()) {
        text.push_str(&format!("{}\n", Untrusted(line)));
    }
    text
}
