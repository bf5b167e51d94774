//! What the GitLab server says about the user of a running job, and when a rule needs it.
//!
//! A login can be chosen: by a person who renames themselves, and since GitLab 18.11 by every Maintainer of a project, who
//! may create a service account under any free name (CVE-2026-107589 in Jacamar CI). No claim of an id token has the kind
//! of a user. The job's own entity does (`GET /api/v4/job`, docs.gitlab.com/api/jobs).

use crate::account::is_bot;
use crate::host::{Host, HostError};
use crate::{Condition, GitLabServer, MapKey, Policy, Rule, RuleOutcome, RunAs, Subject, UserCheck};
use nunbird_handover::Code;
use nunbird_handover::Untrusted;
use std::fmt;

/// The `user` of GitLab's `Job` entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUser {
    /// GitLab's id of the user.
    pub id: u64,
    /// Login.
    pub username: String,
    /// Whether it is a bot: a service account, or the user of a project or group access token. None where the server does
    /// not say.
    pub bot: Option<bool>,
    /// `active`, `blocked`, `deactivated`, …; none where the server does not say.
    pub state: Option<String>,
}

impl ServerUser {
    /// The answer of a server for which the job's user is an active person.
    pub fn person(subject: &Subject) -> Self {
        ServerUser {
            id: subject.user_id,
            username: subject.user_login.clone(),
            bot: Some(false),
            state: Some(ACTIVE.to_owned()),
        }
    }
}

const ACTIVE: &str = "active";

/// Why the job's user may not run jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserViolation {
    /// The login is one that GitLab gives to bots.
    BotLogin,
    /// The server says that the user is a bot.
    Bot,
    /// The server does not say this about the user: the name of the missing field.
    Unrecorded(&'static str),
    /// The server names a user with another id.
    OtherId(u64),
    /// The server names a user with another login.
    OtherLogin(String),
    /// The state of the user, which is not active.
    Inactive(String),
}

impl UserViolation {
    /// The code of the refusal.
    pub fn code(&self) -> Code {
        match self {
            UserViolation::BotLogin | UserViolation::Bot => Code::Bot,
            UserViolation::Unrecorded(_) => Code::UserKind,
            UserViolation::OtherId(_) | UserViolation::OtherLogin(_) => Code::UserMismatch,
            UserViolation::Inactive(_) => Code::UserInactive,
        }
    }
}

impl fmt::Display for UserViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserViolation::BotLogin => f.write_str(
                "the login is a bot's, accounts.allow_bots is false and the rule does not have `bots = true`",
            ),
            UserViolation::Bot => f.write_str(
                "the server says that this user is a bot, accounts.allow_bots is false and the rule does not have `bots = true`",
            ),
            UserViolation::Unrecorded(field) => write!(
                f,
                "the server's answer has no `user.{field}`: upgrade GitLab, or set `user_check = \"off\"` and map accounts by `user_id`"
            ),
            UserViolation::OtherId(id) => write!(f, "the server says that the job belongs to user id {id}"),
            UserViolation::OtherLogin(login) => {
                write!(f, "the server says that the user's login is `{}`", Untrusted(login))
            }
            UserViolation::Inactive(state) => {
                write!(f, "the server says that the user's state is `{}`", Untrusted(state))
            }
        }
    }
}

/// What a rule needs to hear from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerQuestion {
    /// Nothing.
    None,
    /// That this job is its own, and whose. An account that follows from the user's id, or from an identity provider of the site,
    /// is none that a GitLab user can choose; but another configured server writes the job response of its jobs, and could use a
    /// live id token of this server's in it. It does not have this server's job token.
    Job,
    /// That, and that the user is an active person.
    User,
}

impl Policy {
    /// Whether the server must be asked about the user before this rule gives an account to a job of `server`.
    pub fn asks_about_user(&self, rule: &Rule, server: Option<&GitLabServer>) -> bool {
        self.question(rule, server) != ServerQuestion::None
    }

    fn question(&self, rule: &Rule, server: Option<&GitLabServer>) -> ServerQuestion {
        let RuleOutcome::RunAs(run_as) = &rule.outcome else { return ServerQuestion::None };
        match rule.user_check {
            Some(UserCheck::Required) => return ServerQuestion::User,
            Some(UserCheck::Off) => return ServerQuestion::None,
            None => {}
        }
        if server.is_some_and(|server| server.user_check == UserCheck::Off) {
            return ServerQuestion::None;
        }
        let by_id = match run_as {
            RunAs::Map(name) => self.maps.get(name).is_some_and(|map| map.key == MapKey::UserId),
            RunAs::Identity { .. } => true,
            RunAs::UserLogin | RunAs::Validated | RunAs::Account(_) => false,
        };
        match (by_id && !rule.conditions.iter().any(can_be_chosen), self.gitlab.len()) {
            (false, _) => ServerQuestion::User,
            (true, 0 | 1) => ServerQuestion::None,
            (true, _) => ServerQuestion::Job,
        }
    }

    /// Whether names that a GitLab user can choose decide the account that this rule gives, or who gets it.
    pub(crate) fn goes_by_chosen_name(&self, rule: &Rule) -> bool {
        let RuleOutcome::RunAs(run_as) = &rule.outcome else { return false };
        let by_name = match run_as {
            RunAs::UserLogin | RunAs::Validated => true,
            RunAs::Map(name) => self
                .maps
                .get(name)
                .is_some_and(|map| matches!(map.key, MapKey::UserLogin | MapKey::UserEmail)),
            RunAs::Identity { .. } | RunAs::Account(_) => false,
        };
        by_name || rule.conditions.iter().any(can_be_chosen)
    }

    fn admits_bots(&self, rule: &Rule) -> bool {
        rule.bots || self.accounts.allow_bots
    }
}

fn can_be_chosen(condition: &Condition) -> bool {
    condition.fact().is_some_and(|fact| fact.user_chosen)
}

/// What the login alone says against the user.
pub(crate) fn check_login(policy: &Policy, rule: &Rule, subject: &Subject) -> Option<UserViolation> {
    (is_bot(&subject.user_login) && !policy.admits_bots(rule)).then_some(UserViolation::BotLogin)
}

/// What the server says against the user, where the rule needs its answer.
///
/// # Errors
/// When there is no answer about this job.
pub(crate) fn check(
    policy: &Policy,
    rule: &Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<UserViolation>, HostError> {
    let question = policy.question(rule, policy.server(&subject.server));
    if question == ServerQuestion::None {
        return Ok(None);
    }
    let user = host.server_user(subject)?;
    let another = another_user(&user, subject);
    let asked = question == ServerQuestion::User;
    Ok(another.or_else(|| violation(&user, policy.admits_bots(rule)).filter(|_| asked)))
}

fn another_user(user: &ServerUser, subject: &Subject) -> Option<UserViolation> {
    if user.id != subject.user_id {
        return Some(UserViolation::OtherId(user.id));
    }
    if user.username != subject.user_login {
        return Some(UserViolation::OtherLogin(user.username.clone()));
    }
    None
}

fn violation(user: &ServerUser, bots: bool) -> Option<UserViolation> {
    match user.state.as_deref() {
        None => return Some(UserViolation::Unrecorded("state")),
        Some(ACTIVE) => {}
        Some(state) => return Some(UserViolation::Inactive(state.to_owned())),
    }
    match user.bot {
        _ if bots => None,
        Some(false) => None,
        Some(true) => Some(UserViolation::Bot),
        None => Some(UserViolation::Unrecorded("bot")),
    }
}

#[cfg(test)]
#[path = "server_user_tests.rs"]
mod tests;
