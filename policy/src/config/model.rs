//! A site's configuration, complete, with every default filled in.

use crate::{Pattern, Place};
use nunbird_handover::Isolation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A site's whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file it was read from.
    pub file: PathBuf,
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
    /// How scripts run.
    pub job: Job,
    /// What is written down.
    pub audit: Audit,
    /// The site's own program that has a say in the account.
    pub validation: Option<Validation>,
    /// Whether users have a say in who may run as them.
    pub authorized_projects: AuthorizedProjects,
    /// Who may run as whom; the first rule that fits decides, and none means no.
    pub rules: Vec<Rule>,
}

/// How a job gets its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downscope {
    /// `nunbird-auth` has the privilege to become the user and gives it up for good.
    Setuid,
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
    /// Seconds after which a key that the server no longer shows is not used.
    pub keys_max_age: u64,
}

/// Where the identity comes from and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySettings {
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
    /// Accounts that no job becomes.
    pub deny: Vec<String>,
    /// Whether GitLab's project, group and service bots may run jobs.
    pub allow_bots: bool,
}

/// Where jobs work. `$HOME` and `$USER` stand for the account's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Root of all that Nunbird keeps for an account.
    pub data_dir: String,
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
    /// Environment of every job beside `HOME`, `USER`, `LOGNAME` and `SHELL`; holds `PATH` at least.
    pub environment: BTreeMap<String, String>,
}

/// Where decisions and ends of stages are written down. Each event goes to every place that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// JSON lines.
    pub file: Option<PathBuf>,
    /// systemd-journald's native socket (systemd.io/JOURNAL_NATIVE_PROTOCOL).
    pub journald: bool,
    /// The local syslog daemon, or one on another host.
    pub syslog: Option<Syslog>,
    /// A job whose decision cannot be written to every place does not run.
    pub required: bool,
}

/// A syslog daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syslog {
    /// `/dev/log`.
    Local,
    /// RFC 5424 over UDP (RFC 5426). An address and a port: no name is looked up with privilege.
    Udp(SocketAddr),
    /// RFC 5424 over TCP with octet counting (RFC 6587).
    Tcp(SocketAddr),
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
    /// What happens then.
    pub outcome: Outcome,
}

/// One condition of a rule: a fact about the job, and the patterns of which one must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The configured name of the server.
    Server(Vec<Pattern>),
    /// Full path of the project.
    Project(Vec<Pattern>),
    /// Full path of the project's namespace.
    Namespace(Vec<Pattern>),
    /// GitLab login.
    User(Vec<Pattern>),
    /// GitLab's numeric id of the user.
    UserId(Vec<u64>),
    /// Branch or tag.
    Ref(Vec<Pattern>),
    /// Protected or not.
    RefProtected(bool),
    /// What started the pipeline.
    PipelineSource(Vec<Pattern>),
    /// The environment; a job without one never fits.
    Environment(Vec<Pattern>),
    /// GitLab's id of the runner; a token without one never fits.
    RunnerId(Vec<u64>),
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
    /// A fixed account.
    Account(String),
}
