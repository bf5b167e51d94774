//! What the job's GitLab server says about its user, asked for by the job's own token: whether it is a bot, and active.
//!
//! Asked when a rule needs it, at most once a job, and before any lock is taken. `nunbird-keys` makes the request without
//! privilege, and a fresh worker reads the answer.

use crate::keys;
use crate::privilege::Privilege;
use crate::refusal::Refusal;
use crate::worker;
use nunbird_policy::{Policy, ServerUser, Trouble};
use nunbird_token::{Admitted, JobUser};
use std::cell::OnceCell;
use zeroize::Zeroizing;

/// A job whose identity is proven.
pub(crate) struct Asking<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) privilege: Privilege,
    /// The bytes of `JOB_RESPONSE_FILE`.
    pub(crate) response: &'a [u8],
    pub(crate) admitted: &'a Admitted,
    /// The server's answer about the job, where it has proven the identity.
    pub(crate) answer: Option<&'a [u8]>,
    /// What the server said, once it was asked.
    said: OnceCell<Result<ServerUser, Trouble>>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        policy: &'a Policy,
        privilege: Privilege,
        response: &'a [u8],
        admitted: &'a Admitted,
        answer: Option<&'a [u8]>,
    ) -> Self {
        Asking { policy, privilege, response, admitted, answer, said: OnceCell::new() }
    }

    /// The server's word; the same at each call.
    ///
    /// # Errors
    /// When there is no answer, or none about this job.
    pub(crate) fn user(&self) -> Result<ServerUser, Trouble> {
        self.said.get_or_init(|| self.ask()).clone()
    }

    fn ask(&self) -> Result<ServerUser, Trouble> {
        let Asking { policy, privilege, response, admitted, .. } = *self;
        let server = policy
            .gitlab
            .get(admitted.server)
            .ok_or_else(|| trouble("the worker named a server that is not configured"))?;
        let unanswered = |why: &dyn std::fmt::Display| {
            trouble(&format!(
                "server {} was asked about the user of job {}\n{why}",
                server.name, admitted.job_id
            ))
        };
        let fetched;
        let answer = match self.answer {
            Some(answer) => answer,
            None => {
                // The server is known: it has signed the job's identity. Its answer is about the job of this token, so a token
                // of another server gets none.
                let found = worker::find_job_token(response, std::slice::from_ref(&server.url), privilege)
                    .map_err(|refusal| unanswered(&refusal.detail))?
                    .map_err(|rejection| {
                        unanswered(&format!("no job token in the job response ({})", rejection.code()))
                    })?;
                let token = Zeroizing::new(found.token);
                fetched =
                    keys::ask_about_job(policy, server, &token, privilege).map_err(|e| unanswered(&e))?;
                &fetched
            }
        };
        let judged = worker::judge_job_user(response, answer, server, privilege);
        let JobUser { id, username, bot, state } = judged
            .map_err(|Refusal { detail, .. }| unanswered(&detail))?
            .map_err(|rejection| unanswered(&format!("{rejection} ({})", rejection.code())))?;
        Ok(ServerUser { id, username, bot, state })
    }
}

fn trouble(detail: &str) -> Trouble {
    Trouble { code: "user-check", detail: detail.to_owned() }
}
