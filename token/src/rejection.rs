//! Why a job's identity was not verified.

use nunbird_handover::Code;
use std::fmt;

/// Why no token of the job was accepted, in the order of the checks that a token passed.
///
/// If several tokens fail, the one that passed the most checks is reported: most likely it is the
/// intended one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// The job response is not the runner's JSON.
    Response,
    /// No keys file could be read for any server.
    Keys,
    /// The job has no variable of a configured name.
    NoToken,
    /// The variable is there, but empty.
    Empty,
    /// Not three base64url parts, or longer than [`crate::MAX_TOKEN`].
    Malformed,
    /// No known key made the signature.
    UnknownKey,
    /// The header names another algorithm, or has parts that GitLab never sends (`jwk`, `jku`, `crit`, …).
    Header,
    /// The claims are not an object with GitLab's names and types, or contain characters that
    /// deceive a reader.
    Claims,
    /// Another issuer than the key's server.
    Issuer,
    /// None of the server's configured audiences.
    Audience,
    /// Past its expiry.
    Expired,
    /// Before its time, or issued in the future.
    NotYetValid,
    /// The job's repository is on another server than the one whose key signed.
    OtherServer,
    /// The server's answer about the job's token is not GitLab's entity of a running job of its
    /// own.
    JobAnswer,
    /// Genuine, but from another job: a replay.
    OtherJob(Bound),
    /// From this job, but with a runner that is not among the server's configured ones.
    OtherRunner {
        /// Index of the server among [`crate::Question::servers`].
        server: usize,
        /// The runner's id, if the server reports it.
        runner_id: Option<u64>,
    },
}

/// Which of the token's ids does not belong to this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// `job_id`.
    Job,
    /// `job_project_id`, or `project_id` if the server does not send the first.
    Project,
    /// `pipeline_id`.
    Pipeline,
    /// `user_id`.
    User,
}

impl Bound {
    /// The claim's name.
    pub fn claim(self) -> &'static str {
        match self {
            Bound::Job => "job_id",
            Bound::Project => "project_id",
            Bound::Pipeline => "pipeline_id",
            Bound::User => "user_id",
        }
    }
}

impl Rejection {
    /// The code of the refusal.
    pub fn code(self) -> Code {
        match self {
            Rejection::Response => Code::ResponseMalformed,
            Rejection::Keys => Code::NoKeys,
            Rejection::NoToken => Code::NoToken,
            Rejection::Empty => Code::TokenEmpty,
            Rejection::Malformed => Code::TokenMalformed,
            Rejection::UnknownKey => Code::TokenUnknownKey,
            Rejection::Header => Code::TokenHeader,
            Rejection::Claims => Code::TokenClaims,
            Rejection::Issuer => Code::TokenIssuer,
            Rejection::Audience => Code::TokenAudience,
            Rejection::Expired => Code::TokenExpired,
            Rejection::NotYetValid => Code::TokenNotYetValid,
            Rejection::OtherServer => Code::TokenOfAnotherServer,
            Rejection::JobAnswer => Code::JobAnswer,
            Rejection::OtherRunner { .. } => Code::RunnerIds,
            Rejection::OtherJob(_) => Code::TokenOfAnotherJob,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::Response => "the runner's job response could not be read",
            Rejection::Keys => "no signing key of a GitLab server is known on this host",
            Rejection::NoToken => "the job has no id token",
            Rejection::Empty => "the job's id token is empty",
            Rejection::Malformed => "the job's id token is not a signed token",
            Rejection::UnknownKey => "the job's id token was not signed by a known key of the GitLab server",
            Rejection::Header => "the job's id token has a header that GitLab does not send",
            Rejection::Claims => "the job's id token does not hold the claims that GitLab sends",
            Rejection::Issuer => "the job's id token was issued by another server",
            Rejection::Audience => "the job's id token is meant for another audience",
            Rejection::Expired => "the job's id token has expired",
            Rejection::NotYetValid => "the job's id token is not valid yet; check the clocks of both hosts",
            Rejection::OtherServer => {
                "the job's id token was issued by another server than the one the job is from"
            }
            Rejection::JobAnswer => "the GitLab server does not state whose running job this is",
            Rejection::OtherRunner { .. } => "this host does not accept jobs of this job's runner",
            Rejection::OtherJob(bound) => {
                return write!(f, "the token belongs to another job (its {} differs)", bound.claim());
            }
        })
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::{Bound, Rejection};

    #[test]
    fn a_replay_names_the_claim_that_differs() {
        let bounds = [Bound::Job, Bound::Project, Bound::Pipeline, Bound::User];
        let claims = ["job_id", "project_id", "pipeline_id", "user_id"];
        assert_eq!(bounds.map(Bound::claim), claims);
        for (bound, claim) in bounds.into_iter().zip(claims) {
            let text = Rejection::OtherJob(bound).to_string();
            assert_eq!(text, format!("the token belongs to another job (its {claim} differs)"));
        }
    }
}
