//! Whether a condition holds, and the value it looks at.

use crate::host::{Host, Trouble};
use crate::{Condition, IdentitySource, Pattern, Subject};
use std::borrow::Cow;

/// Why a condition cannot be judged by the job's facts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It asks about the local account.
    NeedsAccount,
}

/// None where the source does not tell the fact: the condition neither holds nor fails then.
pub(crate) fn holds(condition: &Condition, subject: &Subject) -> Result<Option<bool>, Failure> {
    let fits = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
    let told = |patterns: &[Pattern], text: &Option<String>| text.as_deref().map(|t| fits(patterns, t));
    let is = |wanted: bool, flag: Option<bool>| flag.map(|flag| flag == wanted);
    // A token has these claims for every job that names an environment, and for no other.
    let without_environment = subject.environment.is_none() && subject.source == IdentitySource::IdToken;
    Ok(match condition {
        Condition::Server(p) => Some(fits(p, &subject.server)),
        Condition::IdentitySource(source) => Some(*source == subject.source),
        Condition::Project(p) => Some(fits(p, &subject.project_path)),
        Condition::ProjectId(ids) => Some(ids.contains(&subject.project_id)),
        Condition::Namespace(p) => Some(fits(p, &subject.namespace_path)),
        Condition::User(p) => Some(fits(p, &subject.user_login)),
        Condition::UserId(ids) => Some(ids.contains(&subject.user_id)),
        Condition::UserEmail(p) => told(p, &subject.user_email),
        Condition::Group(p) => subject.groups.as_ref().map(|groups| groups.iter().any(|g| fits(p, g))),
        Condition::AccessLevel(p) => told(p, &subject.access_level),
        Condition::Ref(p) => Some(fits(p, &subject.git_ref)),
        Condition::RefType(p) => told(p, &subject.ref_type),
        Condition::RefProtected(wanted) => is(*wanted, subject.ref_protected),
        Condition::PipelineSource(p) => told(p, &subject.pipeline_source),
        Condition::Fork(wanted) => is(*wanted, subject.fork),
        // A user without identities and one who keeps them from jobs look alike.
        Condition::Identity(p) => {
            let all = &subject.identities;
            (!all.is_empty()).then(|| all.iter().any(|(provider, _)| fits(p, provider)))
        }
        Condition::Environment(_) | Condition::EnvironmentProtected(_) if without_environment => Some(false),
        Condition::Environment(p) => told(p, &subject.environment),
        Condition::EnvironmentProtected(wanted) => is(*wanted, subject.environment_protected),
        Condition::RunnerId(ids) => subject.runner_id.map(|id| ids.contains(&id)),
        Condition::Account(_) | Condition::LocalGroup(_) | Condition::Uid(_) | Condition::Shell(_) => {
            return Err(Failure::NeedsAccount);
        }
    })
}

/// A condition on the local account `name`: none where this host does not have the account.
///
/// # Errors
/// When the host does not answer.
pub(crate) fn holds_locally(
    condition: &Condition,
    name: &str,
    host: &dyn Host,
) -> Result<Option<bool>, Trouble> {
    if let Condition::Account(patterns) = condition {
        return Ok(Some(patterns.iter().any(|p| p.matches(name))));
    }
    // The user database is not asked about a name that may not even be one.
    if crate::check_name(name).is_err() {
        return Ok(None);
    }
    let Some(facts) = host.account(name)? else { return Ok(None) };
    Ok(Some(match condition {
        Condition::Uid(ranges) => ranges.iter().any(|range| range.contains(&facts.uid)),
        Condition::Shell(shells) => shells.contains(&facts.shell),
        Condition::LocalGroup(groups) => {
            for group in groups {
                if host.is_member(&facts, group)? == Some(true) {
                    return Ok(Some(true));
                }
            }
            false
        }
        _ => false,
    }))
}

impl Condition {
    /// The condition's key in the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Condition::Server(_) => "server",
            Condition::IdentitySource(_) => "identity_source",
            Condition::Project(_) => "project",
            Condition::ProjectId(_) => "project_id",
            Condition::Namespace(_) => "namespace",
            Condition::User(_) => "user",
            Condition::UserId(_) => "user_id",
            Condition::UserEmail(_) => "user_email",
            Condition::Group(_) => "group",
            Condition::AccessLevel(_) => "access_level",
            Condition::Ref(_) => "ref",
            Condition::RefType(_) => "ref_type",
            Condition::RefProtected(_) => "ref_protected",
            Condition::PipelineSource(_) => "pipeline_source",
            Condition::Fork(_) => "fork",
            Condition::Identity(_) => "identity",
            Condition::Environment(_) => "environment",
            Condition::EnvironmentProtected(_) => "environment_protected",
            Condition::RunnerId(_) => "runner_id",
            Condition::Account(_) => "account",
            Condition::LocalGroup(_) => "local_group",
            Condition::Uid(_) => "uid",
            Condition::Shell(_) => "shell",
        }
    }

    /// The patterns of which one must fit; none for a condition of another kind.
    pub fn patterns(&self) -> Option<&[Pattern]> {
        match self {
            Condition::Server(p)
            | Condition::Project(p)
            | Condition::Namespace(p)
            | Condition::User(p)
            | Condition::UserEmail(p)
            | Condition::Group(p)
            | Condition::AccessLevel(p)
            | Condition::Ref(p)
            | Condition::RefType(p)
            | Condition::PipelineSource(p)
            | Condition::Identity(p)
            | Condition::Environment(p)
            | Condition::Account(p) => Some(p),
            _ => None,
        }
    }

    /// The values it accepts, as the configuration writes them.
    pub fn wanted(&self) -> String {
        let join = |values: Vec<String>| values.join(" or ");
        let numbers = |n: &[u64]| join(n.iter().map(ToString::to_string).collect());
        if let Some(patterns) = self.patterns() {
            return join(patterns.iter().map(ToString::to_string).collect());
        }
        match self {
            Condition::ProjectId(n) | Condition::UserId(n) | Condition::RunnerId(n) => numbers(n),
            Condition::RefProtected(wanted)
            | Condition::EnvironmentProtected(wanted)
            | Condition::Fork(wanted) => wanted.to_string(),
            Condition::IdentitySource(source) => source.name().to_owned(),
            Condition::LocalGroup(groups) => join(groups.clone()),
            Condition::Uid(ranges) => {
                join(ranges.iter().map(|r| format!("{}-{}", r.start(), r.end())).collect())
            }
            Condition::Shell(shells) => join(shells.iter().map(|s| s.display().to_string()).collect()),
            _ => String::new(),
        }
    }

    /// The job's value of the fact; none where the source does not tell. Unchecked: show it through `Untrusted`.
    pub(crate) fn seen<'s>(&self, subject: &'s Subject) -> Option<Cow<'s, str>> {
        let number = |n: u64| Some(Cow::Owned(n.to_string()));
        let flag = |f: Option<bool>| f.map(|f| Cow::Owned(f.to_string()));
        let text = |t: &'s str| Some(Cow::Borrowed(t));
        match self {
            Condition::Server(_) => text(&subject.server),
            Condition::IdentitySource(_) => text(subject.source.name()),
            Condition::Project(_) => text(&subject.project_path),
            Condition::ProjectId(_) => number(subject.project_id),
            Condition::Namespace(_) => text(&subject.namespace_path),
            Condition::User(_) => text(&subject.user_login),
            Condition::UserId(_) => number(subject.user_id),
            Condition::UserEmail(_) => subject.user_email.as_deref().and_then(text),
            Condition::Group(_) => subject.groups.as_ref().map(|groups| Cow::Owned(groups.join(", "))),
            Condition::AccessLevel(_) => subject.access_level.as_deref().and_then(text),
            Condition::Ref(_) => text(&subject.git_ref),
            Condition::RefType(_) => subject.ref_type.as_deref().and_then(text),
            Condition::RefProtected(_) => flag(subject.ref_protected),
            Condition::PipelineSource(_) => subject.pipeline_source.as_deref().and_then(text),
            Condition::Fork(_) => flag(subject.fork),
            Condition::Identity(_) => {
                let providers: Vec<&str> =
                    subject.identities.iter().map(|(provider, _)| provider.as_str()).collect();
                (!providers.is_empty()).then(|| Cow::Owned(providers.join(", ")))
            }
            Condition::Environment(_) => subject.environment.as_deref().and_then(text),
            Condition::EnvironmentProtected(_) => flag(subject.environment_protected),
            Condition::RunnerId(_) => subject.runner_id.and_then(number),
            Condition::Account(_) | Condition::LocalGroup(_) | Condition::Uid(_) | Condition::Shell(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::made_up::subject;
    use crate::{Condition, IdentitySource, Subject};

    #[test]
    fn what_a_condition_accepts_is_written_as_in_the_configuration() {
        for (condition, expected) in [
            (Condition::ProjectId(vec![3, 4]), "3 or 4"),
            (Condition::UserId(vec![5]), "5"),
            (Condition::RunnerId(vec![6]), "6"),
            (Condition::RefProtected(true), "true"),
            (Condition::EnvironmentProtected(false), "false"),
            (Condition::Fork(true), "true"),
            (Condition::IdentitySource(IdentitySource::IdToken), IdentitySource::IdToken.name()),
            (Condition::LocalGroup(vec!["hpc".to_owned(), "lab".to_owned()]), "hpc or lab"),
            (Condition::Uid(vec![1000..=1999, 5000..=5000]), "1000-1999 or 5000-5000"),
            (Condition::Shell(vec!["/bin/sh".into(), "/bin/bash".into()]), "/bin/sh or /bin/bash"),
        ] {
            assert_eq!(condition.wanted(), expected, "{condition:?}");
        }
    }

    #[test]
    fn the_providers_of_a_users_identities_are_seen_and_none_where_there_are_none() {
        let condition = Condition::Identity(Vec::new());
        let identities = ["ldap", "saml"].map(|provider| (provider.to_owned(), "a".to_owned())).to_vec();
        let with = Subject { identities, ..subject() };
        assert_eq!(condition.seen(&with).as_deref(), Some("ldap, saml"));
        assert_eq!(condition.seen(&Subject { identities: Vec::new(), ..subject() }), None);
    }
}
