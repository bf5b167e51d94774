//! A site's configuration, complete, with every default filled in.

use super::executor::{BatchSettings, Executor, SchedulerFile};
use crate::{Condition, IdentitySource, Place, ServerUser, Subject};
use nunbird_handover::{Audit, Isolation, Pam, Upkeep};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A site's whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file it was read from; those beside it in `conf.d` follow it.
    pub file: PathBuf,
    /// Whose keys the files have.
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
    /// Other ways, by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Batch schedulers that the site describes, by name.
    pub schedulers: BTreeMap<String, SchedulerFile>,
    /// Tables from facts to accounts, by name.
    pub maps: BTreeMap<String, MapFile>,
    /// What is written down.
    pub audit: Audit,
    /// The site's own program that has a say in the account.
    pub validation: Option<Validation>,
    /// The PAM session around each stage, where the site wants one.
    pub pam: Option<Pam>,
    /// Whether users have a say in who may run as them.
    pub authorized_projects: AuthorizedProjects,
    /// Who may run as whom; the first rule that fits decides, and none means no.
    pub rules: Vec<Rule>,
    /// What the site expects of its rules.
    pub tests: Vec<TestCase>,
}

/// Whose keys a configuration has.
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

/// A signature algorithm that a GitLab server may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, the one that GitLab uses.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

/// One GitLab server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLabServer {
    /// Names the keys file and appears in audit lines: lower-case letters, digits, `-`.
    pub name: String,
    /// Where discovery starts. HTTPS, or HTTP on loopback.
    pub url: String,
    /// The exact `iss` of its tokens; the URL unless the server sets another.
    pub issuer: String,
    /// A token must name at least one of these in `aud`.
    pub audience: Vec<String>,
    /// PEM file with the authorities for the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Algorithms accepted for its signatures.
    pub algorithms: Vec<Algorithm>,
    /// When not empty, the token's `runner_id` must be one of these.
    pub runner_ids: Vec<u64>,
    /// URLs below which its repositories are, besides its own.
    pub repository_urls: Vec<String>,
    /// Seconds after which a key that the server no longer shows is not used.
    pub keys_max_age: u64,
    /// Whether it is asked about the user of a job.
    pub user_check: UserCheck,
}

/// Whether the GitLab server is asked about the user of a job before the job gets an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserCheck {
    /// It must say that the user is the token's, active, and a person.
    #[default]
    Required,
    /// It is not asked.
    Off,
}

/// Seconds for which a key holds that the server no longer shows, unless the site says otherwise.
///
/// GitLab signs a job's token when it hands the job out, minutes before `config` reads it, so a key that it changed is
/// needed for minutes; the rest is patience with a host that cannot fetch keys for two days. A key that the server had to
/// withdraw holds as long.
pub const DEFAULT_KEYS_MAX_AGE: u64 = 48 * 3600;

impl GitLabServer {
    /// A server of which only the URL is known: named after its host, and without an audience.
    pub fn with_url(url: String) -> Self {
        GitLabServer {
            name: server_name(&url),
            issuer: url.clone(),
            url,
            audience: Vec::new(),
            ca_file: None,
            algorithms: vec![Algorithm::Rs256],
            runner_ids: Vec::new(),
            repository_urls: Vec::new(),
            keys_max_age: DEFAULT_KEYS_MAX_AGE,
            user_check: UserCheck::Required,
        }
    }

    /// All URLs below which its repositories are.
    pub fn repositories(&self) -> Vec<String> {
        std::iter::once(&self.url).chain(&self.repository_urls).cloned().collect()
    }
}

/// The host's name as a server's: it names the keys file.
fn server_name(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap_or("").split('/').next().unwrap_or("");
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().map(label).take(64).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "gitlab".to_owned() } else { name.to_owned() }
}

/// Where the identity comes from and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySettings {
    /// What may prove an identity, in the order they are tried.
    pub sources: Vec<IdentitySource>,
    /// Names of the job's `id_tokens:`, each tried in order.
    pub token_variables: Vec<String>,
    /// Seconds by which this host's clock and the server's may differ.
    pub clock_skew: u64,
    /// Seconds after the token's expiry during which the job's late stages still run.
    pub late_stages: u64,
}

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
    /// The site's own list of which GitLab user an account belongs to; its word goes before the host's memory.
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
    /// As [`Pinning::Remember`], and accounts that nobody is remembered for are given to nobody.
    Known,
}

impl Default for Accounts {
    /// What holds where a site says nothing: uids from 1000, people's accounts with any login shell.
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
            people_file: None,
        }
    }
}

/// Where jobs work. `$HOME` and `$USER` stand for the account's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Root of all that Nunbird keeps for an account.
    pub data_dir: String,
    /// Whether users name a directory for their builds by [`BUILDS_VARIABLE`].
    pub user_builds_dir: bool,
    /// Whether each job has a build directory of its own instead of its slot's.
    pub per_job: bool,
    /// How the directories are made and kept.
    pub upkeep: Upkeep,
}

/// The CI variable by which users name a directory for their builds, as Jacamar CI has it.
pub const BUILDS_VARIABLE: &str = "CUSTOM_CI_BUILDS_DIR";

/// What a job gets that asks for an image, services or steps, which Nunbird does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Images {
    /// It runs without, and nothing is said.
    Ignore,
    /// It runs without, and the job log says so.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

impl Images {
    /// The values of the key `images`.
    pub(crate) const WORDS: [(&'static str, Images); 3] =
        [("ignore", Images::Ignore), ("warn", Images::Warn), ("refuse", Images::Refuse)];

    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, images)| *images == self).map_or("", |(name, _)| *name)
    }
}

/// How scripts run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The unprivileged launcher.
    pub launcher: PathBuf,
    /// The shell that runs stage scripts.
    pub shell: PathBuf,
    /// Whether it reads the user's profile.
    pub login_shell: bool,
    /// What is taken away from jobs.
    pub isolation: Isolation,
    /// Where the user's script runs.
    pub executor: Executor,
    /// The batch scheduler's settings; they count where `executor` is not [`Executor::Shell`].
    pub batch: BatchSettings,
    /// Environment of every job beside `HOME`, `USER`, `LOGNAME` and `SHELL`; holds `PATH` at least.
    pub environment: BTreeMap<String, String>,
    /// What the user reads when the job is prepared.
    pub message: Option<String>,
    /// The stages that run, as [`nunbird_handover::SiteRules`] has them; all when empty.
    pub stages: Vec<String>,
    /// Whether the soft limit of the stack is the hard one.
    pub raise_stack_limit: bool,
    /// What a job gets that asks for an image, services or steps.
    pub images: Images,
    /// What a job may use, one of [`Policy::limits`]; nothing is limited where there is none.
    pub limits: Option<crate::Limits>,
}

/// How the jobs of some rules run: `[job]` and `[directories]` with what the profile says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Where it stands.
    pub place: Place,
    /// How scripts run.
    pub job: Job,
    /// Where they work.
    pub directories: Directories,
    /// Where its own `limits` stand; none where those of `[job]` hold.
    pub limits: Option<Place>,
}

/// A table from a fact to an account: lines `value account`, `#` begins a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFile {
    /// Where it stands in the configuration.
    pub place: Place,
    /// The file: root's, writable by nobody else.
    pub file: PathBuf,
    /// Which fact its first column has.
    pub key: MapKey,
}

/// The fact that a map's first column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKey {
    /// GitLab login.
    UserLogin,
    /// GitLab's numeric id of the user.
    UserId,
    /// Primary e-mail address in GitLab.
    UserEmail,
    /// Full path of the project.
    Project,
    /// Full path of its namespace.
    Namespace,
}

/// What the site expects of its rules: `[[test]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCase {
    /// Unique.
    pub name: String,
    /// Where it stands.
    pub place: Place,
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

/// The site's own program that has a say in the account of a job, as Jacamar's RunAs script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The program: root's, writable by nobody else.
    pub script: PathBuf,
    /// SHA-256 of its content in lower-case hexadecimal, checked before each run.
    pub sha256: Option<String>,
    /// The CI variable in which a user may name the account that the job should get.
    pub user_variable: Option<String>,
    /// Environment of the program beside the claims.
    pub environment: BTreeMap<String, String>,
    /// Seconds that it may take.
    pub timeout: u64,
    /// The account that it runs as; `root` where the site says so.
    pub user: String,
    /// Whether the rules must admit the GitLab login, too, before the program is asked.
    pub rules_first: bool,
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

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// None may hold. Of a rule that gives an account, each must be known not to hold.
    pub exceptions: Vec<Condition>,
    /// What happens then.
    pub outcome: Outcome,
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
pub enum Outcome {
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
    /// Where the key stands.
    pub place: Place,
}

/// Whose word on the limits of a rule's jobs holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsSaidBy<'p> {
    /// The rule's own, and where it stands.
    Rule(&'p Place),
    /// That of the profile of this name, and where it stands.
    Profile(&'p str, &'p Place),
    /// `[job]`'s, which may say nothing.
    Job,
}

impl UserCheck {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            UserCheck::Required => "required",
            UserCheck::Off => "off",
        }
    }
}

impl MapKey {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            MapKey::UserLogin => "user_login",
            MapKey::UserId => "user_id",
            MapKey::UserEmail => "user_email",
            MapKey::Project => "project_path",
            MapKey::Namespace => "namespace_path",
        }
    }
}
