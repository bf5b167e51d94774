//! Jobs that ask for an image, services or steps, none of which is run.

use crate::refusal::{Code, Refusal};
use nunbird_policy::{Images, Policy, Rule};
use nunbird_token::{Admitted, Containers};

/// What the job asks for and does not get, where its user is to read of it.
///
/// # Errors
/// A denial where the site's `images` says `refuse`.
pub fn unserved<'a>(
    policy: &Policy,
    rule: &Rule,
    admitted: &'a Admitted,
) -> Result<Option<&'a Containers>, Refusal> {
    let asked = &admitted.containers;
    let (job, _) = policy.job_of(rule);
    match job.images {
        _ if asked.is_empty() => Ok(None),
        Images::Ignore => Ok(None),
        Images::Warn => Ok(Some(asked)),
        Images::Refuse => {
            let message = format!("this site does not run {}", words(asked));
            let detail =
                format!("image {:?}, services {:?}, steps {}", asked.image, asked.services, asked.steps);
            Err(Refusal::denied(Code::Images, message, detail)
                .help("remove them from the job in .gitlab-ci.yml, or choose another runner by `tags:`"))
        }
    }
}

fn words(asked: &Containers) -> String {
    let parts = [
        asked.image.as_ref().map(|_| "an image (`image:`)"),
        asked.services.as_ref().map(|_| "services (`services:`)"),
        asked.steps.then_some("steps (`run:`)"),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    parts.join(", ")
}
