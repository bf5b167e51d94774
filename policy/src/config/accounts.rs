//! `[accounts]`: what no rule can override.

use super::keys::{Form, Key, Table, Word, form};
use super::reader::{At, Section};
use super::values;
use std::path::PathBuf;

/// The greatest uid; the one above it means "no uid" to system calls.
const MOST_UID: u64 = u32::MAX as u64 - 1;

/// What no rule can override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The least uid of a job.
    pub min_uid: u32,
    /// The greatest.
    pub max_uid: u32,
    /// Accounts that no job becomes.
    pub deny: Vec<String>,
    /// Local groups whose members no job becomes.
    pub deny_groups: Vec<String>,
    /// The login shells of accounts that jobs may become; all that let a user log in when empty.
    pub shells: Vec<PathBuf>,
    /// Whether `/etc/nologin` and `/run/nologin` keep jobs out.
    pub nologin: bool,
    /// Whether GitLab's project, group and service bots may run jobs by every rule that fits them.
    pub allow_bots: bool,
    /// Whether an account stays with the GitLab user whose job had it first.
    pub pinning: Pinning,
    /// Whether users decide who may run as them.
    pub authorized_projects: AuthorizedProjects,
    /// The site's own list of which GitLab user an account belongs to; it overrides what the host remembers.
    pub people_file: Option<PathBuf>,
}

/// Whether an account stays with the GitLab user whose job had it first. It concerns accounts that a GitLab user can choose: see
/// [`crate::is_pinned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Accounts are given by name alone.
    Off,
    /// The first job of an account is remembered, and no other GitLab user's jobs get the account.
    #[default]
    Remember,
    /// As [`Pinning::Remember`], and an account without a known user runs nothing.
    Known,
}

impl Word for Pinning {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Pinning::Off), ("remember", Pinning::Remember), ("known", Pinning::Known)];
}

/// Whether `~/.config/nunbird/authorized_projects` is asked who may run as its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthorizedProjects {
    /// It is not read.
    #[default]
    Off,
    /// It is read; where there is none, everything that the policy admits may run.
    Optional,
    /// It is read; where there is none, nothing may run.
    Required,
}

impl Word for AuthorizedProjects {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", AuthorizedProjects::Off),
        ("optional", AuthorizedProjects::Optional),
        ("required", AuthorizedProjects::Required),
    ];
}

impl Default for Accounts {
    /// Uids from 1000, people's accounts with any login shell.
    fn default() -> Self {
        Accounts {
            min_uid: 1000,
            max_uid: u32::MAX - 1,
            deny: Vec::new(),
            deny_groups: Vec::new(),
            shells: Vec::new(),
            nologin: false,
            allow_bots: false,
            pinning: Pinning::default(),
            authorized_projects: AuthorizedProjects::default(),
            people_file: None,
        }
    }
}

/// `[accounts]`.
#[rustfmt::skip]
pub static ACCOUNTS_KEYS: Table<Accounts> = Table {
    path: "accounts",
    defaults: Accounts::default,
    keys: &[
        Key::<Accounts>::new("min_uid", form!(Number: min_uid, 0, MOST_UID),
            "the least uid of a job, at least 100; below 1000 `/etc/nunbird/floor` must allow it, too"),
        Key::<Accounts>::new("max_uid", form!(Number: max_uid, 0, MOST_UID), "the greatest uid of a job").or("none"),
        Key::<Accounts>::new("deny", Form::Texts { get: |t| Some(t.deny.clone()), set: |t, at| t.deny = texts(at) },
            "accounts that no job gets").or("none"),
        Key::<Accounts>::new("deny_groups", Form::Texts { get: |t| Some(t.deny_groups.clone()), set: |t, at| t.deny_groups = texts(at) },
            "local groups whose members get no jobs; a group that this host does not have denies every job").or("none"),
        Key::<Accounts>::new("shells",
            Form::Texts { get: |t| Some(t.shells.iter().map(|shell| shell.to_string_lossy().into_owned()).collect()), set: |t, at| t.shells = at.value.iter().map(values::path).collect() },
            "the login shells of accounts that jobs may get").or("all that let a user log in"),
        Key::<Accounts>::new("nologin", form!(Flag: nologin), "`/etc/nologin` and `/run/nologin` refuse jobs, and the user reads their text"),
        Key::<Accounts>::new("allow_bots", form!(Flag: allow_bots),
            "project, group and service bots of GitLab may run jobs by every rule; `bots = true` in one rule is narrower"),
        Key::<Accounts>::new("authorized_projects", form!(Word: authorized_projects, AuthorizedProjects),
            "whether `~/.config/nunbird/authorized_projects` is read; with `\"required\"` an account without one runs nothing"),
        Key::<Accounts>::new("pinning", form!(Word: pinning, Pinning),
            "whether an account stays with the GitLab user whose job had it first, see \"Pinning\""),
        Key::<Accounts>::new("people_file", form!(PathOrNone: people_file),
            "lines `account server user_id`, which override what this host remembers, see \"Pinning\"").or("none"),
    ],
};

pub(super) fn read(mut table: Section<'_>) -> Accounts {
    let t = &mut table;
    let mut accounts = Accounts::default();
    ACCOUNTS_KEYS.read(t, &mut accounts);
    if accounts.min_uid < 100 {
        let help = "uids below 100 belong to the system; sites start at 500 or 1000";
        t.find_at("min_uid", "`min_uid` lets system accounts run jobs", help);
    }
    if accounts.max_uid < accounts.min_uid {
        let help = "write a number above `min_uid`";
        t.clash_at("max_uid", "min_uid", "`max_uid` is less than `min_uid`", help);
    }
    table.finish();
    accounts
}

fn texts(all: At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    all.value.into_iter().map(|at| at.value.to_owned()).collect()
}
