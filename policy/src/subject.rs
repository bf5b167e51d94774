//! What a rule may ask about a job: facts that its proof of identity has.

/// What proved a job's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdentitySource {
    /// An id token that the server signed (`id_tokens:` in .gitlab-ci.yml).
    #[default]
    IdToken,
    /// The server's answer to the job's own token.
    JobToken,
}

impl IdentitySource {
    /// Every source with its name in configurations and audit events.
    pub(crate) const NAMES: [(&'static str, IdentitySource); 2] =
        [("id_token", IdentitySource::IdToken), ("job_token", IdentitySource::JobToken)];

    /// As configurations and audit events write it.
    pub fn name(self) -> &'static str {
        match self {
            IdentitySource::IdToken => "id_token",
            IdentitySource::JobToken => "job_token",
        }
    }

    /// The source of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    }
}

/// The verified facts of one job. Filled by `nunbird-auth` from a token whose signature, issuer, audience,
/// time and binding to this very job have been checked; never from a CI variable.
///
/// `None`, and no identities, mean unknown: no condition of `when` on such a fact holds, and none of
/// `unless` counts as failing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// The configured name of the GitLab server that vouches for it.
    pub server: String,
    /// What proved the identity.
    pub source: IdentitySource,
    /// GitLab's login name of the user. Users can change it; see [`Subject::user_id`].
    pub user_login: String,
    /// GitLab's numeric id of the user, which never changes.
    pub user_id: u64,
    /// Primary e-mail address in GitLab.
    pub user_email: Option<String>,
    /// The user's role in the project.
    pub access_level: Option<String>,
    /// Full paths of the groups that the user is a direct member of.
    pub groups: Option<Vec<String>>,
    /// The user's accounts with identity providers, each with the provider's name.
    pub identities: Vec<(String, String)>,
    /// Full path of the project that runs the job.
    pub project_path: String,
    /// GitLab's id of that project.
    pub project_id: u64,
    /// Full path of the project's group or user namespace.
    pub namespace_path: String,
    /// Branch or tag name.
    pub git_ref: String,
    /// `branch` or `tag`.
    pub ref_type: Option<String>,
    /// Whether the branch or tag is protected in GitLab.
    pub ref_protected: Option<bool>,
    /// What started the pipeline: `push`, `web`, `schedule`, `merge_request_event`, …
    pub pipeline_source: Option<String>,
    /// Whether the sources come from another project than the one that runs the job: a merge request from a fork.
    pub fork: Option<bool>,
    /// The environment the job deploys to, where it names one.
    pub environment: Option<String>,
    /// Whether that environment is protected in GitLab.
    pub environment_protected: Option<bool>,
    /// GitLab's id of the runner, where the server sends it.
    pub runner_id: Option<u64>,
    /// The account that the site's validation program named, where one was asked.
    pub validated: Option<String>,
}
