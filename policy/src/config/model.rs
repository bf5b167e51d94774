//! A site's configuration, complete, with every default filled in.

use super::executor::SchedulerFile;
use super::{
    Accounts, ContainerPolicy, Directories, GitLabServer, IdentitySettings, Job, MapFile, SiteCredential,
    UserCheck, Validation,
};
use crate::{Condition, Location, ServerUser, Subject};
use nunbird_handover::{Audit, Pam};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A site's whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file it was read from; those beside it in `conf.d` follow it.
    pub file: PathBuf,
    /// Whose keys the files use.
    pub dialect: Dialect,
    /// How a job gets its account.
    pub downscope: Downscope,
    /// Where `nunbird-keys` keeps the servers' signing keys.
    pub keys_dir: PathBuf,
    /// The servers whose jobs may run, at least one, names unique.
    pub gitlab: Vec<GitLabServer>,
    /// Where the identity comes from and how long it holds.
    pub identity: IdentitySettings,
    /// What no rule can override.
    pub accounts: Accounts,
    /// Where jobs work.
    pub directories: Directories,
    /// How scripts run, where a rule names no profile.
    pub job: Job,
    /// What jobs may use, by name.
    pub limits: BTreeMap<String, crate::Limits>,
    /// Containers, by name.
    pub containers: BTreeMap<String, ContainerPolicy>,
    /// Passwords of the site's for registries, by name.
    pub credentials: BTreeMap<String, SiteCredential>,
    /// Other ways, by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Batch schedulers that the site describes, by name.
    pub schedulers: BTreeMap<String, SchedulerFile>,
    /// Tables from facts to accounts, by name.
    pub maps: BTreeMap<String, MapFile>,
    /// Where events are written.
    pub audit: Audit,
    /// The site's own program that decides on the account.
    pub validation: Option<Validation>,
    /// The PAM session around each stage, where the site wants one.
    pub pam: Option<Pam>,
    /// Who may run as whom; the first rule that matches decides, and without one the job is denied.
    pub rules: Vec<Rule>,
    /// What the site expects of its rules.
    pub tests: Vec<TestCase>,
}

/// Whose keys a configuration uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Nunbird's own.
    Native,
    /// Jacamar CI's.
    Jacamar,
}

/// How a job gets its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downscope {
    /// `nunbird-auth` has the privilege to become the user and gives it up for good.
    Setuid,
    /// `nunbird-auth` has no privilege, and sudo changes the user.
    Sudo,
    /// Jobs run as the account that runs gitlab-runner; its owner's jobs only.
    None,
}

/// How the jobs of some rules run: `[job]` and `[directories]` with what the profile says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its place in the configuration.
    pub place: Location,
    /// How scripts run.
    pub job: Job,
    /// Where they work.
    pub directories: Directories,
    /// The place of its own key `limits`; none where those of `[job]` apply.
    pub limits: Option<Location>,
}

/// What the site expects of its rules: `[[test]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCase {
    /// Unique.
    pub name: String,
    /// Its place in the configuration.
    pub place: Location,
    /// The job.
    pub subject: Subject,
    /// What the host is to know about the account, in place of the user database.
    pub local: Option<LocalFacts>,
    /// The GitLab user that the account belongs to; none for an account that no job has had yet.
    pub pinned: Option<u64>,
    /// What the GitLab server is to say about the user.
    pub server_user: ServerUser,
    /// What must come out.
    pub expect: Expectation,
}

/// Facts about an account that a test makes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFacts {
    /// User id.
    pub uid: u32,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// Login shell.
    pub shell: PathBuf,
}

/// What a test expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The job runs as this account.
    Account(String),
    /// The job is denied, whatever for.
    Denied,
    /// The job is denied by the rule of this name.
    DeniedBy(String),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique.
    pub name: String,
    /// Its place in the configuration.
    pub place: Location,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// None may hold. Of a rule that gives an account, each must be known not to hold.
    pub exceptions: Vec<Condition>,
    /// What happens then.
    pub outcome: RuleOutcome,
    /// The profile that the job runs by, a key of [`Policy::profiles`].
    pub profile: Option<String>,
    /// What its jobs may use, whatever the profile and `[job]` say; none where the rule says nothing.
    pub limits: Option<RuleLimits>,
    /// Whether [`Accounts::pinning`] holds for its jobs.
    pub pinning: bool,
    /// Whether bots run by it whatever [`Accounts::allow_bots`] says. Such a rule has a condition on the user's id, the
    /// project or the namespace.
    pub bots: bool,
    /// Whether the server is asked about the user, whatever the server's own setting is; none where the rule says nothing.
    pub user_check: Option<UserCheck>,
}

/// What a rule does with a job that fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// Run it.
    RunAs(RunAs),
    /// Refuse it, with words for the user.
    Deny(String),
}

/// The account of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The account named like the GitLab login, byte for byte (`run_as = "$user_login"`).
    UserLogin,
    /// The account that the validation program names (`run_as = "$validated"`).
    Validated,
    /// The account that a map has for the job; a rule whose map has none does not fit.
    Map(String),
    /// The account that an identity provider of GitLab's has for the user; a rule whose user has none does not fit.
    Identity {
        /// GitLab's name of the provider: `ldapmain`, `saml`, …
        provider: String,
        /// For an LDAP provider, whose uid is a distinguished name: the attribute of its first part.
        attribute: Option<String>,
    },
    /// A fixed account.
    Account(String),
}

/// The `limits` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLimits {
    /// One of [`Policy::limits`]; none where the rule takes the limits away.
    pub limits: Option<crate::Limits>,
    /// The key's place.
    pub place: Location,
}

/// What sets the limits of a rule's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsSaidBy<'p> {
    /// The rule, and the key's place.
    Rule(&'p Location),
    /// The profile of this name, and the key's place.
    Profile(&'p str, &'p Location),
    /// `[job]`, which may set none.
    Job,
}
