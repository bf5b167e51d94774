//! What `config` judges a job with: a worker for what strangers wrote, files opened as root or as the runner, unprivileged programs.

use crate::context::Context;
use crate::refusal::{Code, Refusal};
use crate::settings::Settings;
use crate::worker;
use nunbird_files::foreign;
use nunbird_judge::account::{self, ThisHost};
use nunbird_judge::authorized_projects::{self, Owner};
use nunbird_judge::evidence::{Evidence, JobEvidence};
use nunbird_judge::keys::{self, Keys};
use nunbird_judge::validation::{self, Question, Validated};
use nunbird_judge::{Fetched, Means, nologin};
use nunbird_policy::{AuthorizedProjects, GitLabServer, Host, Policy, ProjectFacts, Validation};
use nunbird_token::{Admitted, JobToken, JobUser, MAX_RESPONSE, Rejection};
use std::io::Read;
use zeroize::Zeroizing;

use crate::privilege::Privilege;
use std::path::Path;

/// Everything of this call that the judgement needs.
#[derive(Debug)]
pub(crate) struct WithPrivilege<'a> {
    policy: &'a Policy,
    response: Option<&'a Path>,
    privilege: Privilege,
    host: ThisHost,
}

impl<'a> WithPrivilege<'a> {
    pub(crate) fn new(context: &Context<'a>, settings: &'a Settings) -> Self {
        WithPrivilege {
            policy: &settings.policy,
            response: context.inputs.response.as_deref(),
            privilege: context.privilege,
            host: ThisHost::new(context.privilege.rights()),
        }
    }
}

impl Means for WithPrivilege<'_> {
    type Stop = Refusal;

    fn response(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let refuse = |detail: String| {
            Refusal::system(Code::ResponseFile, "the runner's job response could not be read", detail)
                .help("gitlab-runner 14.1 or later writes it; see the admin guide")
        };
        let path = self.response.ok_or_else(|| refuse("JOB_RESPONSE_FILE is not set".to_owned()))?;
        let shown = path.display();
        let file = foreign::open_for_reading(path, self.privilege.caller).map_err(|e| {
            refuse(format!("{shown}: not a readable regular file of the runner's account: {e}"))
        })?;
        // Room for all of it at once: growing would leave copies behind that are never wiped.
        let size = file.metadata().map_err(|e| refuse(format!("{shown}: {e}")))?.len().min(MAX_RESPONSE);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
        file.take(MAX_RESPONSE + 1).read_to_end(&mut bytes).map_err(|e| refuse(format!("{shown}: {e}")))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_RESPONSE {
            return Err(refuse(format!("{shown}: larger than {MAX_RESPONSE} bytes")));
        }
        Ok(bytes)
    }

    fn now(&self) -> Result<u64, Refusal> {
        account::now()
    }

    fn keys(&self) -> Result<Keys, Refusal> {
        Ok(keys::read(self.policy, self.privilege.rights()))
    }

    fn fetched_keys(&self) -> Result<Fetched, Refusal> {
        let rights = self.privilege.rights();
        let (done, troubles) = keys::refresh(self.policy, &self.policy.keys_dir, rights);
        let mut keys = keys::read(self.policy, rights);
        keys.troubles.extend(troubles);
        Ok(Fetched { keys, done })
    }

    fn by_id_tokens(&self, evidence: &Evidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        worker::ask(evidence, self.policy, self.privilege)
    }

    fn job_token(
        &self,
        response: &[u8],
        repositories: &[Vec<String>],
    ) -> Result<Result<JobToken, Rejection>, Refusal> {
        worker::find_job_token(response, repositories, self.privilege)
    }

    fn job_user(
        &self,
        response: &[u8],
        answer: &[u8],
        server: &GitLabServer,
    ) -> Result<Result<JobUser, Rejection>, Refusal> {
        worker::judge_job_user(response, answer, server, self.privilege)
    }

    fn unanswered(&self, refusal: Refusal) -> String {
        refusal.detail
    }

    fn ask_about_job(&self, server: &GitLabServer, token: &str) -> Result<Result<Vec<u8>, String>, Refusal> {
        Ok(keys::ask_about_job(self.policy, server, token, self.privilege.rights()))
    }

    fn by_job_answer(&self, evidence: &JobEvidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        worker::judge_job_answer(evidence, self.policy, self.privilege)
    }

    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn caller(&self) -> u32 {
        self.privilege.caller.uid
    }

    fn validate(&self, program: &Validation, question: &Question<'_>) -> Result<Validated, Refusal> {
        validation::ask(program, question, self.privilege.rights())
    }

    fn nologin(&self) -> Result<(), Refusal> {
        nologin::check(self.privilege.rights())
    }

    fn authorized_projects(
        &self,
        mode: AuthorizedProjects,
        owner: &Owner<'_>,
        facts: &ProjectFacts<'_>,
    ) -> Result<(), Refusal> {
        authorized_projects::check(mode, owner, facts, self.privilege.rights()).map(drop)
    }

    fn expiry(&self, account: &str) -> Result<(), Refusal> {
        account::check_expiry(account, self.privilege.rights())
    }
}
