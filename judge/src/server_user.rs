//! What the job's GitLab server says about its user, asked for by the job's own token: whether it is a bot, and active.
//!
//! Asked when a rule needs it, at most once a job, and before any lock is taken. `nunbird-keys` makes the request without
//! privilege, and what the answer says is judged where the other bytes of strangers are.

use crate::identify::Proof;
use crate::means::Means;
use nunbird_handover::Code;
use nunbird_policy::{AccountFacts, Host, HostError, MapFile, Policy, ServerUser, Subject};
use nunbird_token::JobUser;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::Path;
use zeroize::Zeroizing;

/// The host, and the server of a job whose identity is proven.
pub(crate) struct HostOfJob<'a, M: Means> {
    means: &'a M,
    policy: &'a Policy,
    proof: &'a Proof<'a>,
    /// The server's answer, once it was asked.
    said: OnceCell<Result<ServerUser, HostError>>,
}

impl<'a, M: Means> HostOfJob<'a, M> {
    pub(crate) fn new(means: &'a M, policy: &'a Policy, proof: &'a Proof<'a>) -> Self {
        HostOfJob { means, policy, proof, said: OnceCell::new() }
    }

    fn ask(&self) -> Result<ServerUser, HostError> {
        let (means, response) = (self.means, self.proof.response);
        let admitted = &self.proof.identity.admitted;
        let server = self
            .policy
            .gitlab
            .get(admitted.server)
            .ok_or_else(|| trouble("the verifier named a server that is not configured"))?;
        let unanswered = |why: &dyn std::fmt::Display| {
            trouble(&format!(
                "server {} was asked about the user of job {}\n{why}",
                server.name, admitted.job_id
            ))
        };
        let fetched;
        let answer = match self.proof.identity.answer.as_deref() {
            Some(answer) => answer,
            None => {
                // The server is known: it has signed the job's identity. Its answer is about the job of this token, so a token
                // of another server gets none.
                let found = means
                    .job_token(response, &[server.repositories()])
                    .map_err(|stop| unanswered(&means.unanswered(stop)))?
                    .map_err(|rejection| {
                        unanswered(&format!("no job token in the job response ({})", rejection.code()))
                    })?;
                let token = Zeroizing::new(found.token);
                fetched = means
                    .ask_about_job(server, &token)
                    .map_err(|stop| unanswered(&means.unanswered(stop)))?
                    .map_err(|e| unanswered(&e))?;
                &fetched
            }
        };
        let JobUser { id, username, bot, state } = means
            .job_user(response, answer, server)
            .map_err(|stop| unanswered(&means.unanswered(stop)))?
            .map_err(|rejection| unanswered(&format!("{rejection} ({})", rejection.code())))?;
        Ok(ServerUser { id, username, bot, state })
    }
}

impl<M: Means> Host for HostOfJob<'_, M> {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        self.means.host().account(name)
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        self.means.host().group(name)
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        self.means.host().is_member(account, group)
    }

    fn group_name(&self, gid: u32) -> Option<String> {
        self.means.host().group_name(gid)
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError> {
        self.means.host().map(map)
    }

    fn pinned(
        &self,
        people_file: Option<&Path>,
        server: &str,
        account: &str,
    ) -> Result<Option<u64>, HostError> {
        self.means.host().pinned(people_file, server, account)
    }

    /// The server's answer; the same at each call.
    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        if self.means.assumes_a_person() {
            return Ok(ServerUser::person(job));
        }
        self.said.get_or_init(|| self.ask()).clone()
    }
}

fn trouble(detail: &str) -> HostError {
    HostError { code: Code::UserCheck, detail: detail.to_owned() }
}
