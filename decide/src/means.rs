//! What the decider judges a job with: `nunbird-auth` for what takes privilege, the verifier for what strangers wrote.

use crate::monitor::Monitor;
use crate::verifier::{self, Verifier};
use nunbird_host::refusal::Refusal;
use nunbird_judge::account::{self, ThisHost};
use nunbird_judge::evidence::{Evidence, JobEvidence};
use nunbird_judge::keys::{self, Keys};
use nunbird_judge::questions::{Asked, ByAnswer, ByTokens, Project};
use nunbird_judge::validation::{self, Question, Validated};
use nunbird_judge::{Fetched, Means, authorized_projects, nologin};
use nunbird_policy::{
    AccountFacts, AuthorizedProjects, GitLabServer, Host, Policy, ProjectFacts, Validation,
};
use nunbird_token::{Admitted, JobToken, JobUser, Rejection, Source};
use zeroize::Zeroizing;

/// The two other processes.
#[derive(Debug)]
pub(crate) struct WithoutPrivilege<'a> {
    policy: &'a Policy,
    monitor: &'a Monitor,
    verifier: &'a Verifier,
    host: ThisHost<&'a Monitor>,
    caller: u32,
}

impl<'a> WithoutPrivilege<'a> {
    pub(crate) fn new(policy: &'a Policy, monitor: &'a Monitor, verifier: &'a Verifier, caller: u32) -> Self {
        WithoutPrivilege { policy, monitor, verifier, host: ThisHost::new(monitor), caller }
    }
}

impl Means for WithoutPrivilege<'_> {
    type Stop = Refusal;

    /// The verifier has it.
    fn response(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        Ok(Zeroizing::default())
    }

    fn now(&self) -> Result<u64, Refusal> {
        account::now()
    }

    fn keys(&self) -> Result<Keys, Refusal> {
        Ok(keys::read(self.policy, &self.monitor))
    }

    fn fetched_keys(&self) -> Result<Fetched, Refusal> {
        let (done, troubles) = keys::refresh(self.policy, &self.policy.keys_dir, &self.monitor);
        let mut keys = keys::read(self.policy, &self.monitor);
        keys.troubles.extend(troubles);
        Ok(Fetched { keys, done })
    }

    fn by_id_tokens(&self, evidence: &Evidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        let question = ByTokens::of(self.policy, evidence.keys, evidence.now);
        let answer = self.verifier.ask(&Asked::Tokens(question))?;
        match nunbird_token::decode(&answer).map_err(|_| verifier::malformed())? {
            Ok(admitted) if admitted.source != Source::IdToken => Err(another_question()),
            other => Ok(other),
        }
    }

    fn job_token(
        &self,
        _response: &[u8],
        repositories: &[Vec<String>],
    ) -> Result<Result<JobToken, Rejection>, Refusal> {
        let answer = self.verifier.ask(&Asked::JobToken(repositories.to_vec()))?;
        nunbird_token::decode_job_token(&answer).map_err(|_| verifier::malformed())
    }

    fn job_user(
        &self,
        _response: &[u8],
        answer: &[u8],
        server: &GitLabServer,
    ) -> Result<Result<JobUser, Rejection>, Refusal> {
        let asked = Asked::JobUser(answer.to_vec(), server.runner_ids.clone());
        nunbird_token::decode_job_user(&self.verifier.ask(&asked)?).map_err(|_| verifier::malformed())
    }

    fn unanswered(&self, refusal: Refusal) -> String {
        refusal.detail
    }

    fn ask_about_job(&self, server: &GitLabServer, token: &str) -> Result<Result<Vec<u8>, String>, Refusal> {
        Ok(keys::ask_about_job(self.policy, server, token, &self.monitor))
    }

    fn by_job_answer(&self, evidence: &JobEvidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        let question = ByAnswer::of(self.policy, evidence.answer, evidence.server, evidence.now);
        let answer = self.verifier.ask(&Asked::JobAnswer(question))?;
        // A verifier that was taken over must not turn one server's job into another's.
        match nunbird_token::decode(&answer).map_err(|_| verifier::malformed())? {
            Ok(admitted) if admitted.server != evidence.server || admitted.source != Source::JobToken => {
                Err(another_question())
            }
            other => Ok(other),
        }
    }

    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn caller(&self) -> u32 {
        self.caller
    }

    fn validate(&self, program: &Validation, question: &Question<'_>) -> Result<Validated, Refusal> {
        validation::ask(program, question, &self.monitor)
    }

    fn nologin(&self) -> Result<(), Refusal> {
        nologin::check(&self.monitor)
    }

    fn authorized_projects(
        &self,
        mode: AuthorizedProjects,
        account: &AccountFacts,
        facts: &ProjectFacts<'_>,
    ) -> Result<(), Refusal> {
        let read = |content| self.verifier.word(&Asked::Projects(content, Project::of(facts)));
        authorized_projects::check(mode, &account.name, &self.monitor, read).map(drop)
    }

    fn expiry(&self, account: &str) -> Result<(), Refusal> {
        account::check_expiry(account, &self.monitor)
    }
}

fn another_question() -> Refusal {
    verifier::failed(&"the verifier answered another question")
}
