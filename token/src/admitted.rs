//! The verified identity of a job, whatever its source.

use crate::Containers;
use std::path::PathBuf;

/// The source of a verified identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An id token that the server signed.
    IdToken,
    /// The server's answer to the job's own token.
    JobToken,
}

/// An account of the user with an identity provider of GitLab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// GitLab's name of the provider.
    pub provider: String,
    /// The user's name there.
    pub extern_uid: String,
}

/// The verified identity of a job. `None` stands for facts that the source does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Index of the server.
    pub server: usize,
    /// The source.
    pub source: Source,
    /// Seconds since the epoch at which the proof expires.
    pub expires_at: u64,
    /// Job.
    pub job_id: u64,
    /// Pipeline.
    pub pipeline_id: u64,
    /// Project that runs the job.
    pub project_id: u64,
    /// User.
    pub user_id: u64,
    /// Runner.
    pub runner_id: Option<u64>,
    /// Login of the user.
    pub user_login: String,
    /// Primary e-mail address of the user.
    pub user_email: Option<String>,
    /// The user's role in the project that runs the job. Unknown in a merge request from a fork.
    pub access_level: Option<String>,
    /// Full paths of the groups that the user is a direct member of.
    pub groups: Option<Vec<String>>,
    /// The user's accounts with identity providers; empty if the source contains none.
    pub identities: Vec<UserIdentity>,
    /// Whether the sources come from another project than the one that runs the job: a merge request from a fork.
    pub fork: Option<bool>,
    /// Full path of the project that runs the job.
    pub project_path: String,
    /// Full path of its namespace.
    pub namespace_path: String,
    /// Id of that namespace.
    pub namespace_id: Option<u64>,
    /// Branch or tag.
    pub git_ref: String,
    /// `branch` or `tag`.
    pub ref_type: Option<String>,
    /// Whether the branch or tag is protected.
    pub ref_protected: Option<bool>,
    /// What started the pipeline.
    pub pipeline_source: Option<String>,
    /// Environment, if the job names one.
    pub environment: Option<String>,
    /// Whether that environment is protected.
    pub environment_protected: Option<bool>,
    /// The project's directory below `builds_dir`.
    pub project_dir: PathBuf,
    /// Seconds that the job waited for a runner, as the server reported to gitlab-runner. No
    /// decision depends on it.
    pub queued: Option<u64>,
    /// What the job asks for besides its script: a request, not a fact.
    pub containers: Containers,
    /// The account that the user requests by the CI variable that the question named: a request,
    /// not a fact.
    pub requested_account: Option<String>,
    /// The directory that the user requests by the CI variable that the question named. Likewise.
    pub requested_builds_dir: Option<String>,
}
