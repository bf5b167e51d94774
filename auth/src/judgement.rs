//! The `config` stage's judgement: the site's program, the policy, and the user's own word, in this order.

use crate::account::{self, ThisHost};
use crate::authorized_projects::{self, Owner};
use crate::context::Context;
use crate::nologin;
use crate::refusal::{Code, Refusal, clean};
use crate::settings::Settings;
use crate::validation::{self, Claims, Question};
use nunbird_policy::{
    AccountFacts, IdentitySource, Policy, ProjectFacts, Rule, Subject, Validation, Verdict, decide, origin,
};
use nunbird_token::{Admitted, Source, UserIdentity};

/// A job that may run.
#[derive(Debug)]
pub(crate) struct Judged<'p> {
    pub(crate) rule: &'p Rule,
    pub(crate) account: AccountFacts,
    /// The data directory that the site's program names, in place of the configured one.
    pub(crate) data_dir: Option<String>,
}

/// Judges the job. What the site's program answers goes into the context's facts, where rules and audit events see it.
///
/// # Errors
/// Every way in which the answer is no.
pub(crate) fn judge<'p>(
    context: &mut Context<'_>,
    admitted: &Admitted,
    settings: &'p Settings,
) -> Result<Judged<'p>, Refusal> {
    let (policy, privilege) = (&settings.policy, context.privilege);
    let host = ThisHost::new(privilege);
    let caller = privilege.caller.uid;
    let mut subject = subject(admitted, settings)?;
    let mut data_dir = None;
    if let Some(program) = &policy.validation {
        if program.rules_first {
            let alone = Subject { validated: Some(subject.user_login.clone()), ..subject.clone() };
            by_rules(policy, &alone, &host, caller)?;
        }
        let (account, directory) = validated(program, admitted, &subject, policy, context)?;
        subject.validated = Some(account);
        data_dir = directory;
        context.subject = Some(subject.clone());
    }
    let (rule, account) = by_rules(policy, &subject, &host, caller)?;
    if policy.accounts.nologin {
        nologin::check(privilege)?;
    }
    let owner = Owner { uid: account.uid, gid: account.gid, groups: &account.groups, home: &account.home };
    let facts = ProjectFacts {
        server: &subject.server,
        project_path: &subject.project_path,
        git_ref: Some(&subject.git_ref),
        ref_protected: subject.ref_protected,
        pipeline_source: subject.pipeline_source.as_deref(),
    };
    authorized_projects::check(policy.authorized_projects, &owner, &facts, privilege)?;
    account::check_expiry(&account.name, privilege)?;
    Ok(Judged { rule, account, data_dir })
}

/// The host of an issuer, which is a URL, or the bare name of a host on servers that are set so.
fn host_name(issuer: &str) -> &str {
    let origin = origin(issuer);
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The account that the site's program names: its answer's, else the one that the user asked for, else the login.
fn validated(
    program: &Validation,
    admitted: &Admitted,
    subject: &Subject,
    policy: &Policy,
    context: &Context<'_>,
) -> Result<(String, Option<String>), Refusal> {
    let issuer_host = policy.gitlab.get(admitted.server).map_or("", |server| host_name(&server.issuer));
    let question = Question {
        claims: Claims {
            user_login: &subject.user_login,
            user_email: subject.user_email.as_deref(),
            user_id: subject.user_id,
            namespace_id: admitted.namespace_id,
            project_id: subject.project_id,
            project_path: &subject.project_path,
            job_id: admitted.job_id,
            pipeline_id: admitted.pipeline_id,
            pipeline_source: subject.pipeline_source.as_deref(),
            issuer_host,
            identities: &subject.identities,
        },
        target: admitted.requested_account.as_deref(),
    };
    let answer = validation::ask(program, &question, context.privilege)?;
    let asked = admitted.requested_account.clone().unwrap_or_else(|| subject.user_login.clone());
    let directory = answer.data_dir.map(|path| {
        path.into_os_string().into_string().map_err(|path| {
            let message = "the program by which your site validates users cannot be used on this host";
            Refusal::system(
                Code::ValidationProgram,
                message,
                format!("data_dir {} is not UTF-8", path.display()),
            )
        })
    });
    Ok((answer.username.unwrap_or(asked), directory.transpose()?))
}

/// The policy's word: the rule that decided, and the account.
fn by_rules<'p>(
    policy: &'p Policy,
    subject: &Subject,
    host: &ThisHost,
    caller: u32,
) -> Result<(&'p Rule, AccountFacts), Refusal> {
    match decide(policy, subject, host, caller).verdict {
        Verdict::Admitted { rule, account } => Ok((rule, account)),
        Verdict::DeniedByRule { rule, message } => {
            let text = format!("this job may not run here: {message}");
            Err(Refusal::denied(Code::Rule, text, format!("rule `{}` at {}", rule.name, rule.place)))
        }
        Verdict::DeniedAccount { rule, account, violation } => {
            let refusal = account::refuse(&account, &violation);
            let detail = format!("rule `{}` at {}: {}", rule.name, rule.place, refusal.detail);
            Err(Refusal { detail: clean(&detail), ..refusal })
        }
        Verdict::DeniedBot => {
            let message = "this job was started by a bot of GitLab, and only people's jobs run here";
            let detail = format!("login `{}`; accounts.allow_bots is false", subject.user_login);
            Err(Refusal::denied(Code::Bot, message, detail))
        }
        Verdict::NoRule => {
            let message = "this job may not run here: no rule of this site admits it";
            Err(Refusal::denied(Code::NoRule, message, format!("none of {} rules fits", policy.rules.len())))
        }
        Verdict::Failed(trouble) => Err(account::unanswered(&trouble)),
    }
}

/// What rules may ask about the job.
///
/// # Errors
/// A system refusal for a server that is not configured: no sound worker names one.
pub(crate) fn subject(admitted: &Admitted, settings: &Settings) -> Result<Subject, Refusal> {
    let server = settings.policy.gitlab.get(admitted.server).ok_or_else(|| {
        let message = "the job's identity could not be checked on this host";
        Refusal::system(Code::Worker, message, "the worker named a server that is not configured")
    })?;
    let identity = |identity: &UserIdentity| (identity.provider.clone(), identity.extern_uid.clone());
    Ok(Subject {
        server: server.name.clone(),
        source: source(admitted),
        user_login: admitted.user_login.clone(),
        user_id: admitted.user_id,
        user_email: admitted.user_email.clone(),
        access_level: admitted.access_level.clone(),
        groups: admitted.groups.clone(),
        identities: admitted.identities.iter().map(identity).collect(),
        project_path: admitted.project_path.clone(),
        project_id: admitted.project_id,
        namespace_path: admitted.namespace_path.clone(),
        git_ref: admitted.git_ref.clone(),
        ref_type: admitted.ref_type.clone(),
        ref_protected: admitted.ref_protected,
        pipeline_source: admitted.pipeline_source.clone(),
        environment: admitted.environment.clone(),
        environment_protected: admitted.environment_protected,
        runner_id: admitted.runner_id,
        validated: None,
    })
}

/// The source's name in policies and audit events.
pub(crate) fn source(admitted: &Admitted) -> IdentitySource {
    match admitted.source {
        Source::IdToken => IdentitySource::IdToken,
        Source::JobToken => IdentitySource::JobToken,
    }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn the_host_of_an_issuer_has_no_scheme_port_or_path() {
        for issuer in ["https://git.example.org", "https://git.example.org:8443/gitlab", "git.example.org"] {
            assert_eq!(host_name(issuer), "git.example.org", "{issuer}");
        }
        assert_eq!(host_name("https://[::1]:8443"), "[::1]");
    }
}
