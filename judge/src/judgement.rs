//! The judgement of a job whose identity is known: the site's program, the policy, and the user's own list, in this order.

use crate::account;
use crate::identify::Proof;
use crate::means::Means;
use crate::people;
use crate::refusal::{Code, Refusal, clean};
use crate::server_user::HostOfJob;
use crate::validation::{Claims, Question};
use nunbird_policy::{
    AccountFacts, Decision, Host, IdentitySource, Person, Policy, ProjectFacts, Rule, Subject, UserViolation,
    Validation, Verdict, decide, is_pinned, origin,
};
use nunbird_token::{Admitted, Source, UserIdentity};

/// A job that may run.
#[derive(Debug)]
pub struct Judged<'p> {
    /// The rule that decided.
    pub rule: &'p Rule,
    /// The account, which has passed every invariant.
    pub account: AccountFacts,
    /// The data directory that the site's program names, in place of the configured one.
    pub data_dir: Option<String>,
    /// The user to whom the account belongs from now on, where none was known.
    pub first: Option<Person>,
}

/// What is known on the way of a judgement, also of one that ends early.
#[derive(Debug)]
pub struct Course<'p> {
    /// What rules may ask about the job, with what the site's program answered once it has.
    pub subject: Subject,
    /// The last decision of the rules.
    pub decision: Option<Decision<'p>>,
}

/// Judges the job.
///
/// # Errors
/// Every way in which the answer is no.
pub fn judge<'p, M: Means>(
    means: &M,
    policy: &'p Policy,
    proof: &Proof<'_>,
    course: &mut Course<'p>,
) -> Result<Judged<'p>, M::Stop> {
    let admitted = &proof.identity.admitted;
    let host = HostOfJob::new(means, policy, proof);
    let mut data_dir = None;
    if let Some(program) = &policy.validation {
        if program.rules_first {
            let alone =
                Subject { validated: Some(course.subject.user_login.clone()), ..course.subject.clone() };
            by_rules(means, policy, &alone, &host, &mut course.decision)?;
        }
        let (account, directory) = validated(means, program, admitted, &course.subject, policy)?;
        course.subject.validated = Some(account);
        data_dir = directory;
    }
    let (rule, account) = by_rules(means, policy, &course.subject, &host, &mut course.decision)?;
    if policy.accounts.nologin {
        means.nologin()?;
    }
    let subject = &course.subject;
    let facts = ProjectFacts {
        server: &subject.server,
        project_path: &subject.project_path,
        git_ref: Some(&subject.git_ref),
        ref_protected: subject.ref_protected,
        pipeline_source: subject.pipeline_source.as_deref(),
    };
    means.authorized_projects(policy.accounts.authorized_projects, &account, &facts)?;
    means.expiry(&account.name)?;
    let first = first(means, policy, rule, &course.subject, &account)?;
    Ok(Judged { rule, account, data_dir, first })
}

/// What there is to remember of this job's account; nothing where it is known already. The host has answered before, so that a
/// change in between is not seen here.
fn first<M: Means>(
    means: &M,
    policy: &Policy,
    rule: &Rule,
    subject: &Subject,
    account: &AccountFacts,
) -> Result<Option<Person>, Refusal> {
    if !is_pinned(policy, rule, subject, &account.name) {
        return Ok(None);
    }
    let known = means.host().pinned(policy.accounts.people_file.as_deref(), &subject.server, &account.name);
    Ok(known.map_err(|trouble| account::unanswered(&trouble))?.is_none().then(|| person(subject, account)))
}

fn person(subject: &Subject, account: &AccountFacts) -> Person {
    Person { account: account.name.clone(), server: subject.server.clone(), user_id: subject.user_id }
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
fn validated<M: Means>(
    means: &M,
    program: &Validation,
    admitted: &Admitted,
    subject: &Subject,
    policy: &Policy,
) -> Result<(String, Option<String>), M::Stop> {
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
            fork: subject.fork,
            issuer_host,
            identities: &subject.identities,
        },
        target: admitted.requested_account.as_deref(),
    };
    let answer = means.validate(program, &question)?;
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

/// The policy's decision: the rule, and the account.
fn by_rules<'p, M: Means>(
    means: &M,
    policy: &'p Policy,
    subject: &Subject,
    host: &dyn Host,
    decision: &mut Option<Decision<'p>>,
) -> Result<(&'p Rule, AccountFacts), Refusal> {
    let decided = decision.insert(decide(policy, subject, host, means.caller()));
    match decided.verdict.clone() {
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
        Verdict::DeniedPin { rule, account, pinned } => {
            let person = person(subject, &account);
            let (login, file) = (&subject.user_login, policy.accounts.people_file.as_deref());
            let refusal = match pinned {
                Some(pinned) => people::mismatch(&person, login, pinned, file),
                None => people::unknown(&person, login, file),
            };
            let detail = format!("rule `{}` at {}: {}", rule.name, rule.place, refusal.detail);
            Err(Refusal { detail: clean(&detail), ..refusal })
        }
        Verdict::DeniedUser { rule, violation } => Err(refuse_user(rule, subject, &violation)),
        Verdict::NoRule => {
            let message = "this job may not run here: no rule of this site admits it";
            Err(Refusal::denied(Code::NoRule, message, format!("none of {} rules fits", policy.rules.len())))
        }
        Verdict::Failed(trouble) => Err(account::unanswered(&trouble)),
    }
}

/// A denial of the job's user. The CI user does not see the server's answer; the detail has it, for the admin.
fn refuse_user(rule: &Rule, subject: &Subject, violation: &UserViolation) -> Refusal {
    let message = match violation {
        UserViolation::BotLogin | UserViolation::Bot => {
            "this job was started by a bot of GitLab, and only people's jobs run here"
        }
        UserViolation::Unrecorded(_) => "the GitLab server does not say whether a person started this job",
        UserViolation::OtherId(_) | UserViolation::OtherLogin(_) => {
            "the GitLab server names another user for this job"
        }
        UserViolation::Inactive(_) => "the GitLab user who started this job is not active",
    };
    let (server, login, id) = (&subject.server, &subject.user_login, subject.user_id);
    let (name, place) = (&rule.name, &rule.place);
    // Each line is bounded by itself.
    let detail = format!("rule `{name}` at {place}\nserver {server}, user `{login}` (id {id})\n{violation}");
    Refusal::denied(violation.code(), message, detail)
}

/// What rules may ask about the job.
///
/// # Errors
/// A system refusal for a server that is not configured: no sound verifier names one.
pub fn subject(admitted: &Admitted, policy: &Policy) -> Result<Subject, Refusal> {
    let server = policy.gitlab.get(admitted.server).ok_or_else(|| {
        let message = "the job's identity could not be checked on this host";
        Refusal::system(Code::Worker, message, "the verifier named a server that is not configured")
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
        fork: admitted.fork,
        environment: admitted.environment.clone(),
        environment_protected: admitted.environment_protected,
        runner_id: admitted.runner_id,
        validated: None,
    })
}

/// The source's name in policies and audit events.
pub fn source(admitted: &Admitted) -> IdentitySource {
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
        for issuer in ["https://[::1]:8443", "https://[::1]"] {
            assert_eq!(host_name(issuer), "[::1]", "{issuer}");
        }
    }
}
