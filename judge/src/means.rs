//! What differs between the callers of the judgement.

use crate::evidence::{Evidence, JobEvidence};
use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::validation::{Question, Validated};
use nunbird_policy::{AccountFacts, AuthorizedProjects, GitLabServer, Host, ProjectFacts, Validation};
use nunbird_token::{Admitted, JobToken, JobUser, Rejection};
use zeroize::Zeroizing;

/// What a caller judges a job with: its reading of files, its processes, its rights.
///
/// A question that a caller may not answer is its own kind of [`Means::Stop`], never a yes; `nunbird-auth` has no such kind.
pub trait Means {
    /// How a judgement ends early.
    type Stop: From<Refusal>;

    /// The bytes of `JOB_RESPONSE_FILE`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn response(&self) -> Result<Zeroizing<Vec<u8>>, Self::Stop>;

    /// Seconds since the epoch.
    ///
    /// # Errors
    /// When the clock does not answer.
    fn now(&self) -> Result<u64, Self::Stop>;

    /// The keys files as they lie on this host.
    ///
    /// # Errors
    /// When the caller may not read them. One that the program could not read either is among the troubles.
    fn keys(&self) -> Result<Keys, Self::Stop>;

    /// The keys as they are after asking the servers.
    ///
    /// # Errors
    /// When the caller may not ask.
    fn fetched_keys(&self) -> Result<Fetched, Self::Stop>;

    /// [`crate::evidence::by_id_tokens`].
    ///
    /// # Errors
    /// When there is no answer. The inner error is a rejection.
    fn by_id_tokens(&self, evidence: &Evidence<'_>) -> Result<Result<Admitted, Rejection>, Self::Stop>;

    /// [`nunbird_token::job_token`].
    ///
    /// # Errors
    /// As [`Means::by_id_tokens`].
    fn job_token(
        &self,
        response: &[u8],
        repositories: &[Vec<String>],
    ) -> Result<Result<JobToken, Rejection>, Self::Stop>;

    /// [`crate::evidence::job_user`].
    ///
    /// # Errors
    /// As [`Means::by_id_tokens`].
    fn job_user(
        &self,
        response: &[u8],
        answer: &[u8],
        server: &GitLabServer,
    ) -> Result<Result<JobUser, Rejection>, Self::Stop>;

    /// Whether an active person is assumed where there is no job that the server could be asked about. Never with privilege.
    fn assumes_a_person(&self) -> bool {
        false
    }

    /// Why a question of the rules has no answer. A stop that is no refusal is remembered by the caller.
    fn unanswered(&self, stop: Self::Stop) -> String;

    /// Asks a server whose running job this token is of. The inner error is the admin's to read.
    ///
    /// # Errors
    /// When the caller may not ask.
    fn ask_about_job(
        &self,
        server: &GitLabServer,
        token: &str,
    ) -> Result<Result<Vec<u8>, String>, Self::Stop>;

    /// [`crate::evidence::by_job_answer`].
    ///
    /// # Errors
    /// As [`Means::by_id_tokens`].
    fn by_job_answer(&self, evidence: &JobEvidence<'_>) -> Result<Result<Admitted, Rejection>, Self::Stop>;

    /// The user database and the maps.
    fn host(&self) -> &dyn Host;

    /// Uid of the account that runs gitlab-runner.
    fn caller(&self) -> u32;

    /// Asks the site's program.
    ///
    /// # Errors
    /// As [`crate::validation::ask`], and when the caller may not run it.
    fn validate(&self, program: &Validation, question: &Question<'_>) -> Result<Validated, Self::Stop>;

    /// Whether jobs are kept out for the moment.
    ///
    /// # Errors
    /// As [`crate::nologin::check`].
    fn nologin(&self) -> Result<(), Self::Stop>;

    /// Whether the account's owner lets the project in.
    ///
    /// # Errors
    /// As [`crate::authorized_projects::check`].
    fn authorized_projects(
        &self,
        mode: AuthorizedProjects,
        account: &AccountFacts,
        facts: &ProjectFacts<'_>,
    ) -> Result<(), Self::Stop>;

    /// Whether the account has not expired.
    ///
    /// # Errors
    /// As [`crate::account::check_expiry`].
    fn expiry(&self, account: &str) -> Result<(), Self::Stop>;
}

/// Keys after asking the servers for them.
#[derive(Debug)]
pub struct Fetched {
    /// What the keys files hold now, with the troubles of the fetch.
    pub keys: Keys,
    /// Whether every server that may be asked has answered.
    pub done: bool,
}
