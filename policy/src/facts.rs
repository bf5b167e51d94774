//! The facts of a job, each defined once.
//!
//! [`FACTS`] is the table from which everything about a fact comes: reading and writing a condition and a test's claims, whether
//! a condition holds, what `nunbirdctl` shows and remarks on, the claims of audit events, the JSON schema, and the entries of
//! docs/policy-reference.md. docs/howto/condition.md says how to add one.

use crate::lens::{Lens, lens};
use crate::{IdentitySource, Subject};
use std::fmt;

/// One fact that rules, tests or audit events name.
pub struct Fact {
    /// The key of a condition on it, under `when` and `unless`. None where no rule can ask for the fact.
    pub key: Option<&'static str>,
    /// GitLab's name of it, in tests, in `explain --claims` and in audit events.
    pub claim: &'static str,
    /// What it is, without a full stop. Markdown.
    pub doc: &'static str,
    /// Further sentences of the reference. Markdown.
    pub note: &'static str,
    /// Its type, and where a [`Subject`] has it.
    pub field: Field,
    /// What the server's answer to a job token says of it. An id token may prove every fact.
    pub by_job_token: ByJobToken,
    /// Whether GitLab users choose the value, so that it can pass to another user.
    pub user_chosen: bool,
    /// Whether neither a bot nor a user who took another's name can satisfy a condition on it.
    pub proves_person: bool,
    /// Whether a rule with a condition on it says which bots it admits.
    pub names_bots: bool,
    /// Whether the job is known not to have the fact at all. Conditions on it then do not hold, which is known.
    absent: fn(&Subject) -> bool,
}

/// What the server's answer to a job token says of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByJobToken {
    /// The value.
    Proven,
    /// Only `false`, for some jobs.
    OnlyFalse,
    /// Nothing.
    Unknown,
}

/// The type of a fact and its place in a [`Subject`].
#[derive(Clone, Copy)]
pub enum Field {
    /// Conditions have patterns.
    Text(TextField, Content),
    /// Conditions have numbers.
    Id(IdField),
    /// Conditions have `true` or `false`.
    Flag(Lens<Subject, Option<bool>>),
    /// What proved the identity.
    Source(Lens<Subject, IdentitySource>),
}

/// Where a [`Subject`] has a fact whose conditions have patterns.
#[derive(Clone, Copy)]
pub enum TextField {
    /// One text, always known.
    Known(Lens<Subject, String>),
    /// One text, where it is known.
    Maybe(Lens<Subject, Option<String>>),
    /// Several texts, where they are known. A condition holds when one of them fits.
    List(Lens<Subject, Option<Vec<String>>>),
    /// Names by identity provider; conditions ask for the providers. A user without any and one who keeps them from jobs
    /// look alike: none is unknown.
    Providers(Lens<Subject, Vec<(String, String)>>),
}

/// Where a [`Subject`] has a number.
#[derive(Clone, Copy)]
pub enum IdField {
    /// Always known.
    Known(Lens<Subject, u64>),
    /// Where it is known.
    Maybe(Lens<Subject, Option<u64>>),
}

/// What a text is, by which `nunbirdctl check` judges the patterns of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The configured name of a server.
    ServerName,
    /// Full path of a project.
    ProjectPath,
    /// Full path of a group or a user's namespace.
    NamespacePath,
    /// GitLab login.
    Login,
    /// E-mail address.
    Email,
    /// Role in a project.
    Role,
    /// Branch or tag.
    Ref,
    /// `branch` or `tag`.
    RefType,
    /// What started a pipeline.
    PipelineSource,
    /// Name of an identity provider.
    ProviderName,
    /// Name of an environment.
    EnvironmentName,
    /// Name of a local account.
    AccountName,
}

impl Content {
    /// Whether a value never has a `/`, so that the pattern `*` matches every one.
    pub(crate) fn is_one_component(self) -> bool {
        match self {
            Content::ServerName
            | Content::Login
            | Content::Role
            | Content::RefType
            | Content::PipelineSource
            | Content::ProviderName
            | Content::AccountName => true,
            Content::ProjectPath
            | Content::NamespacePath
            | Content::Email
            | Content::Ref
            | Content::EnvironmentName => false,
        }
    }
}

/// A fact as a claim has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'s> {
    /// A text.
    Text(&'s str),
    /// A number.
    Id(u64),
    /// `true` or `false`.
    Flag(bool),
    /// Several texts.
    Texts(&'s [String]),
    /// Pairs of an identity provider and a name.
    Identities(&'s [(String, String)]),
}

impl fmt::Display for Claim<'_> {
    /// As a condition looks at it: of identities only the providers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Text(text) => f.write_str(text),
            Claim::Id(id) => id.fmt(f),
            Claim::Flag(flag) => flag.fmt(f),
            Claim::Texts(all) => f.write_str(&all.join(", ")),
            Claim::Identities(all) => {
                let providers: Vec<&str> = all.iter().map(|(provider, _)| provider.as_str()).collect();
                f.write_str(&providers.join(", "))
            }
        }
    }
}

impl Fact {
    /// The value in a job; none where it is unknown.
    pub fn claim<'s>(&self, subject: &'s Subject) -> Option<Claim<'s>> {
        match self.field {
            Field::Text(TextField::Known(lens), _) => Some(Claim::Text((lens.get)(subject))),
            Field::Text(TextField::Maybe(lens), _) => (lens.get)(subject).as_deref().map(Claim::Text),
            Field::Text(TextField::List(lens), _) => (lens.get)(subject).as_deref().map(Claim::Texts),
            Field::Text(TextField::Providers(lens), _) => {
                let all = (lens.get)(subject);
                (!all.is_empty()).then_some(Claim::Identities(all))
            }
            Field::Id(IdField::Known(lens)) => Some(Claim::Id(*(lens.get)(subject))),
            Field::Id(IdField::Maybe(lens)) => (lens.get)(subject).map(Claim::Id),
            Field::Flag(lens) => (lens.get)(subject).map(Claim::Flag),
            Field::Source(lens) => Some(Claim::Text((lens.get)(subject).name())),
        }
    }

    /// Whether the job is known not to have the fact.
    pub(crate) fn is_absent(&self, subject: &Subject) -> bool {
        (self.absent)(subject)
    }

    /// What a condition on it takes, in the words of the reference.
    pub fn takes(&self) -> &'static str {
        match self.field {
            Field::Text(..) => "patterns",
            Field::Id(_) => "numbers",
            Field::Flag(_) => "`true` or `false`",
            Field::Source(_) => "`\"id_token\"` or `\"job_token\"`",
        }
    }

    const fn new(key: &'static str, claim: &'static str, field: Field, doc: &'static str) -> Self {
        Fact {
            key: Some(key),
            claim,
            doc,
            note: "",
            field,
            by_job_token: ByJobToken::Proven,
            user_chosen: false,
            proves_person: false,
            names_bots: false,
            absent: |_| false,
        }
    }
}

impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.claim == other.claim
    }
}

impl Eq for Fact {}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.claim)
    }
}

const fn known(lens: Lens<Subject, String>, content: Content) -> Field {
    Field::Text(TextField::Known(lens), content)
}

const fn maybe(lens: Lens<Subject, Option<String>>, content: Content) -> Field {
    Field::Text(TextField::Maybe(lens), content)
}

/// An id token has the environment's claims for every job that names one, and for no other.
fn names_no_environment(subject: &Subject) -> bool {
    subject.environment.is_none() && subject.source == IdentitySource::IdToken
}

macro_rules! facts {
    ($($name:ident = $fact:expr;)*) => {
        $(pub(crate) static $name: Fact = $fact;)*

        /// Every fact, in the order in which the conditions of a rule are judged.
        pub static FACTS: &[&Fact] = &[$(&$name),*];
    };
}

use ByJobToken::{OnlyFalse, Unknown};

facts! {
    SERVER = Fact::new("server", "server", known(lens!(server), Content::ServerName),
        "the configured name of the GitLab server");
    SOURCE = Fact::new("identity_source", "identity_source", Field::Source(lens!(source)),
        "what proved the identity");
    PROJECT = Fact { names_bots: true,
        ..Fact::new("project", "project_path", known(lens!(project_path), Content::ProjectPath),
            "full path of the project that runs the job") };
    PROJECT_ID = Fact { names_bots: true,
        ..Fact::new("project_id", "project_id", Field::Id(IdField::Known(lens!(project_id))),
            "GitLab's id of the project") };
    NAMESPACE = Fact { names_bots: true,
        ..Fact::new("namespace", "namespace_path", known(lens!(namespace_path), Content::NamespacePath),
            "full path of the project's group or user namespace") };
    USER = Fact { user_chosen: true,
        ..Fact::new("user", "user_login", known(lens!(user_login), Content::Login), "GitLab login") };
    USER_ID = Fact { names_bots: true,
        ..Fact::new("user_id", "user_id", Field::Id(IdField::Known(lens!(user_id))),
            "GitLab's numeric id of the user, which never changes") };
    USER_EMAIL = Fact { user_chosen: true, by_job_token: Unknown,
        ..Fact::new("user_email", "user_email", maybe(lens!(user_email), Content::Email),
            "primary e-mail address in GitLab") };
    GROUP = Fact { by_job_token: Unknown,
        note: "GitLab sends it only to projects that ask (`groups_direct`)",
        ..Fact::new("group", "groups_direct",
            Field::Text(TextField::List(lens!(groups)), Content::NamespacePath),
            "full path of a GitLab group of which the user is a direct member") };
    ACCESS_LEVEL = Fact { by_job_token: Unknown,
        note: "In a pipeline of a merge request from a fork GitLab sends the role in the fork, which counts as unknown",
        ..Fact::new("access_level", "user_access_level", maybe(lens!(access_level), Content::Role),
            "the user's role in the project: `developer`, `maintainer`, `owner`, …") };
    GIT_REF = Fact {
        note: "In a merge request's pipeline an id token has the source branch, also that of a fork; the answer to a job \
               token has `refs/merge-requests/…`",
        ..Fact::new("ref", "ref", known(lens!(git_ref), Content::Ref), "branch or tag") };
    REF_TYPE = Fact::new("ref_type", "ref_type", maybe(lens!(ref_type), Content::RefType), "`branch` or `tag`");
    REF_PROTECTED = Fact { by_job_token: Unknown,
        ..Fact::new("ref_protected", "ref_protected", Field::Flag(lens!(ref_protected)),
            "whether the branch or tag is protected") };
    PIPELINE_SOURCE = Fact {
        note: "`external_pull_request_event` is a pull request of a GitHub repository, not a merge request from a fork",
        ..Fact::new("pipeline_source", "pipeline_source", maybe(lens!(pipeline_source), Content::PipelineSource),
            "what started the pipeline: `push`, `web`, `schedule`, `merge_request_event`, …") };
    FORK = Fact { by_job_token: OnlyFalse,
        note: "An id token of GitLab 18.4 or later has it. A job token and older servers prove only `false`, for pipelines \
               that cannot belong to a merge request (`push`, `web`, `schedule`, `api`, `trigger`, `chat`, `webide`)",
        ..Fact::new("fork", "fork", Field::Flag(lens!(fork)),
            "whether the sources come from another project than the one that runs the job, as in a merge request from a fork") };
    IDENTITY = Fact { proves_person: true, by_job_token: Unknown,
        note: "Service accounts and bots have none. GitLab sends it only for users who allow it in their preferences; a user \
               without any counts as unknown",
        ..Fact::new("identity", "user_identities",
            Field::Text(TextField::Providers(lens!(identities)), Content::ProviderName),
            "name of an identity provider with which the user has an account (`user_identities` of the id token): `\"ldapmain\"`") };
    ENVIRONMENT = Fact { by_job_token: Unknown, absent: names_no_environment,
        note: "A job without one never matches",
        ..Fact::new("environment", "environment", maybe(lens!(environment), Content::EnvironmentName),
            "the environment to which the job deploys") };
    ENVIRONMENT_PROTECTED = Fact { by_job_token: Unknown, absent: names_no_environment,
        ..Fact::new("environment_protected", "environment_protected", Field::Flag(lens!(environment_protected)),
            "whether the environment is protected") };
    RUNNER_ID = Fact {
        note: "A token without it never matches",
        ..Fact::new("runner_id", "runner_id", Field::Id(IdField::Maybe(lens!(runner_id))),
            "GitLab's id of the runner") };
    VALIDATED = Fact { key: None,
        ..Fact::new("", "validated", maybe(lens!(validated), Content::AccountName),
            "the account that the site's validation program named") };
}

#[cfg(test)]
mod tests {
    use super::{FACTS, Field, IdField, TextField};
    use crate::{IdentitySource, Subject};
    use std::collections::BTreeSet;

    #[test]
    fn each_fact_has_names_of_its_own() {
        let claims: BTreeSet<_> = FACTS.iter().map(|fact| fact.claim).collect();
        let keys: BTreeSet<_> = FACTS.iter().filter_map(|fact| fact.key).collect();
        assert_eq!((claims.len(), keys.len()), (FACTS.len(), FACTS.len() - 1), "only `validated` has no key");
        assert!(!keys.contains(""));
    }

    /// Fills each field by the table alone. A field of `Subject` without a fact stays empty, and two facts that share a field
    /// leave one of the texts out.
    #[test]
    fn every_field_of_a_subject_is_a_fact() {
        let mut subject = Subject::default();
        for fact in FACTS {
            let text = || fact.claim.to_owned();
            match fact.field {
                Field::Text(TextField::Known(lens), _) => *(lens.get_mut)(&mut subject) = text(),
                Field::Text(TextField::Maybe(lens), _) => *(lens.get_mut)(&mut subject) = Some(text()),
                Field::Text(TextField::List(lens), _) => *(lens.get_mut)(&mut subject) = Some(vec![text()]),
                Field::Text(TextField::Providers(lens), _) => {
                    *(lens.get_mut)(&mut subject) = vec![(text(), text())];
                }
                Field::Id(IdField::Known(lens)) => *(lens.get_mut)(&mut subject) = 1,
                Field::Id(IdField::Maybe(lens)) => *(lens.get_mut)(&mut subject) = Some(1),
                Field::Flag(lens) => *(lens.get_mut)(&mut subject) = Some(true),
                Field::Source(lens) => *(lens.get_mut)(&mut subject) = IdentitySource::JobToken,
            }
        }
        let shown = format!("{subject:?}");
        assert!(!shown.contains("None") && !shown.contains("\"\"") && !shown.contains("[]"), "{shown}");
        assert!(!shown.contains(": 0"), "{shown}");
        for fact in FACTS {
            assert!(fact.claim(&subject).is_some(), "{fact:?}");
            if let Field::Text(..) = fact.field {
                assert!(shown.contains(&format!("{:?}", fact.claim)), "{fact:?}: {shown}");
            }
        }
    }
}
