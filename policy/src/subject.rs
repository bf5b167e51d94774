//! What a rule may ask about a job: facts that the token proves.

/// The verified facts of one job. Filled by `nunbird-auth` from a token whose signature, issuer, audience,
/// time and binding to this very job have been checked; never from a CI variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The configured name of the GitLab server that issued the token.
    pub server: String,
    /// GitLab's login name of the user. Users can change it; see [`Subject::user_id`].
    pub user_login: String,
    /// GitLab's numeric id of the user, which never changes.
    pub user_id: u64,
    /// Full path of the project that runs the job.
    pub project_path: String,
    /// GitLab's id of that project.
    pub project_id: u64,
    /// Full path of the project's group or user namespace.
    pub namespace_path: String,
    /// Branch or tag name.
    pub git_ref: String,
    /// Whether the branch or tag is protected in GitLab.
    pub ref_protected: bool,
    /// What started the pipeline: `push`, `web`, `schedule`, `merge_request_event`, …
    pub pipeline_source: String,
    /// The environment the job deploys to, where it names one.
    pub environment: Option<String>,
    /// GitLab's id of the runner, where the server sends it.
    pub runner_id: Option<u64>,
}
