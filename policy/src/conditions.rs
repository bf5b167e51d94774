//! The conditions of rules: whether one holds, what it asks for, and the value that it looks at.

use crate::account::AccountFacts;
use crate::facts::{Fact, IdField, TextField};
use crate::host::{Host, HostError};
use crate::lens::Lens;
use crate::{IdentitySource, Pattern, Subject};
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One condition of a rule. An unknown fact satisfies none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// On a fact of the job.
    Fact(&'static Fact, Matcher),
    /// On the local account that the rule would give. A rule that denies looks at the one that the job would get as itself.
    Local(Local),
}

/// What a fact is compared with, and where the job has it.
#[derive(Clone)]
pub enum Matcher {
    /// One pattern must match.
    Text(TextField, Vec<Pattern>),
    /// One number must be equal.
    Id(IdField, Vec<u64>),
    /// The flag must be equal.
    Flag(Lens<Subject, Option<bool>>, bool),
    /// The source must be equal.
    Source(Lens<Subject, IdentitySource>, IdentitySource),
}

/// A condition on a local account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Its name.
    Account(Vec<Pattern>),
    /// A local group of which it is a member, by exact name.
    Group(Vec<String>),
    /// Its uid.
    Uid(Vec<RangeInclusive<u32>>),
    /// Its login shell.
    Shell(Vec<PathBuf>),
}

/// The values of a condition, as a configuration has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted<'c> {
    /// One of these must match.
    Patterns(&'c [Pattern]),
    /// One of these must be equal.
    Ids(&'c [u64]),
    /// This must be equal.
    Flag(bool),
    /// This word must be equal.
    Word(&'static str),
    /// One of these must be equal.
    Texts(Vec<Cow<'c, str>>),
}

impl PartialEq for Matcher {
    /// By the values: the condition's fact says where the job has its value.
    fn eq(&self, other: &Self) -> bool {
        self.wanted() == other.wanted()
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.wanted(), f)
    }
}

impl Matcher {
    /// Whether the job's value fits; none where it is unknown.
    fn holds(&self, subject: &Subject) -> Option<bool> {
        let fits = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
        match self {
            Matcher::Text(TextField::Known(lens), p) => Some(fits(p, (lens.get)(subject))),
            Matcher::Text(TextField::Maybe(lens), p) => (lens.get)(subject).as_deref().map(|t| fits(p, t)),
            Matcher::Text(TextField::List(lens), p) => {
                (lens.get)(subject).as_ref().map(|all| all.iter().any(|t| fits(p, t)))
            }
            Matcher::Text(TextField::Providers(lens), p) => {
                let all = (lens.get)(subject);
                (!all.is_empty()).then(|| all.iter().any(|(provider, _)| fits(p, provider)))
            }
            Matcher::Id(IdField::Known(lens), ids) => Some(ids.contains((lens.get)(subject))),
            Matcher::Id(IdField::Maybe(lens), ids) => (lens.get)(subject).map(|id| ids.contains(&id)),
            Matcher::Flag(lens, wanted) => (lens.get)(subject).map(|flag| flag == *wanted),
            Matcher::Source(lens, source) => Some((lens.get)(subject) == source),
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        match self {
            Matcher::Text(_, patterns) => Wanted::Patterns(patterns),
            Matcher::Id(_, ids) => Wanted::Ids(ids),
            Matcher::Flag(_, wanted) => Wanted::Flag(*wanted),
            Matcher::Source(_, source) => Wanted::Word(source.name()),
        }
    }
}

impl Local {
    /// Every key, in the order in which conditions are judged, with what it takes and what it asks for. Markdown.
    pub const KEYS: [(&'static str, &'static str, &'static str); 4] = [
        ("account", "patterns", "name of the local account that the rule would give"),
        (
            "local_group",
            "names",
            "a local group of which the account is a member. In a rule that denies, a group that this host does not have denies \
             every job that reaches the rule",
        ),
        ("uid", "ranges", "its uid: `\"5000-59999\"`, or one uid"),
        ("shell", "paths", "its login shell"),
    ];

    fn key(&self) -> &'static str {
        match self {
            Local::Account(_) => "account",
            Local::Group(_) => "local_group",
            Local::Uid(_) => "uid",
            Local::Shell(_) => "shell",
        }
    }

    /// Whether an account that does not exist keeps the condition from being known: all but its name.
    pub(crate) fn needs_existing_account(&self) -> bool {
        match self {
            Local::Account(_) => false,
            Local::Group(_) | Local::Uid(_) | Local::Shell(_) => true,
        }
    }

    /// Whether it holds of the account `name`; none where this host does not have the account.
    ///
    /// # Errors
    /// When the host does not answer.
    pub(crate) fn holds(&self, name: &str, host: &dyn Host) -> Result<Option<bool>, HostError> {
        let with = |test: &dyn Fn(&AccountFacts) -> Result<bool, HostError>| {
            account(name, host)?.map(|facts| test(&facts)).transpose()
        };
        match self {
            Local::Account(patterns) => Ok(Some(patterns.iter().any(|p| p.matches(name)))),
            Local::Uid(ranges) => with(&|facts| Ok(ranges.iter().any(|range| range.contains(&facts.uid)))),
            Local::Shell(shells) => with(&|facts| Ok(shells.contains(&facts.shell))),
            Local::Group(groups) => with(&|facts| {
                for group in groups {
                    if host.is_member(facts, group)? == Some(true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }),
        }
    }

    /// The value that it looks at, for an explanation; none where this host does not have the account. Unchecked: show it
    /// through `Untrusted`.
    ///
    /// # Errors
    /// When the host does not answer.
    pub(crate) fn seen(&self, name: &str, host: &dyn Host) -> Result<Option<String>, HostError> {
        Ok(match self {
            Local::Account(_) => Some(name.to_owned()),
            Local::Uid(_) => account(name, host)?.map(|facts| facts.uid.to_string()),
            Local::Shell(_) => account(name, host)?.map(|facts| facts.shell.display().to_string()),
            Local::Group(_) => account(name, host)?.map(|facts| {
                let named = |gid: &u32| match host.group_name(*gid) {
                    Some(name) => format!("{name} ({gid})"),
                    None => gid.to_string(),
                };
                facts.groups.iter().map(named).collect::<Vec<_>>().join(", ")
            }),
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        match self {
            Local::Account(patterns) => Wanted::Patterns(patterns),
            Local::Group(groups) => Wanted::Texts(groups.iter().map(Cow::from).collect()),
            Local::Uid(ranges) => Wanted::Texts(
                ranges.iter().map(|range| Cow::from(format!("{}-{}", range.start(), range.end()))).collect(),
            ),
            Local::Shell(shells) => {
                Wanted::Texts(shells.iter().map(|shell| shell.to_string_lossy()).collect())
            }
        }
    }
}

/// The user database is not asked about a text that cannot be an account's name.
fn account(name: &str, host: &dyn Host) -> Result<Option<AccountFacts>, HostError> {
    if crate::check_name(name).is_err() { Ok(None) } else { host.account(name) }
}

impl Condition {
    /// Whether it holds of the job; none where the fact is unknown: the condition then neither holds nor fails.
    ///
    /// # Errors
    /// The condition on the local account that it is, of which a job's facts say nothing.
    pub(crate) fn holds(&self, subject: &Subject) -> Result<Option<bool>, &Local> {
        match self {
            Condition::Fact(fact, _) if fact.is_absent(subject) => Ok(Some(false)),
            Condition::Fact(_, matcher) => Ok(matcher.holds(subject)),
            Condition::Local(local) => Err(local),
        }
    }

    /// The job's value of the fact; none where it is unknown, and for a condition on the local account.
    /// Unchecked: show it through `Untrusted`.
    pub(crate) fn seen(&self, subject: &Subject) -> Option<String> {
        self.fact()?.claim(subject).map(|claim| claim.to_string())
    }

    /// The condition's key in the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Condition::Fact(fact, _) => fact.key.unwrap_or(fact.claim),
            Condition::Local(local) => local.key(),
        }
    }

    /// The fact that it asks for; none for a condition on the local account.
    pub fn fact(&self) -> Option<&'static Fact> {
        match self {
            Condition::Fact(fact, _) => Some(fact),
            Condition::Local(_) => None,
        }
    }

    /// The values that it accepts.
    pub fn wanted(&self) -> Wanted<'_> {
        match self {
            Condition::Fact(_, matcher) => matcher.wanted(),
            Condition::Local(local) => local.wanted(),
        }
    }

    /// The patterns of which one must fit; none for a condition of another kind.
    pub fn patterns(&self) -> Option<&[Pattern]> {
        if let Wanted::Patterns(patterns) = self.wanted() { Some(patterns) } else { None }
    }
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn join<T: ToString>(values: &[T]) -> String {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
        }
        f.write_str(&match self {
            Wanted::Patterns(patterns) => join(patterns),
            Wanted::Ids(ids) => join(ids),
            Wanted::Flag(wanted) => wanted.to_string(),
            Wanted::Word(word) => (*word).to_owned(),
            Wanted::Texts(texts) => join(texts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Local, Wanted};

    #[test]
    fn what_a_condition_accepts_is_written_as_in_the_configuration() {
        let group = Local::Group(vec!["hpc".to_owned(), "lab".to_owned()]);
        let uid = Local::Uid(vec![1000..=1999, 5000..=5000]);
        let shell = Local::Shell(vec!["/bin/sh".into(), "/bin/bash".into()]);
        for (wanted, expected) in [
            (Wanted::Ids(&[3, 4]), "3 or 4"),
            (Wanted::Flag(true), "true"),
            (Wanted::Flag(false), "false"),
            (Wanted::Word("id_token"), "id_token"),
            (group.wanted(), "hpc or lab"),
            (uid.wanted(), "1000-1999 or 5000-5000"),
            (shell.wanted(), "/bin/sh or /bin/bash"),
        ] {
            assert_eq!(wanted.to_string(), expected);
        }
    }
}
