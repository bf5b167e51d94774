//! The site's policy: reading it, judging a job by it, and the rules that no policy can override.
//!
//! Pure: no file is opened, no clock read, no user database asked. Callers pass text and facts and
//! gets a value back, so that `nunbird-auth`, `nunbirdctl explain` and the tests run the very same functions.

#![forbid(unsafe_code)]

mod absent;
mod account;
mod amount;
mod authorized_projects;
mod commands;
mod conditions;
mod config;
mod decide;
mod diagnostic;
mod duration;
mod explain;
mod facts;
mod host;
mod image;
mod lens;
mod limits;
mod lint;
#[cfg(test)]
mod made_up;
mod map;
mod pattern;
mod people;
mod pinning;
mod server_user;
mod subject;
mod suggest;
mod url;
mod workplace;

pub use account::{AccountFacts, Violation, check_account, check_name};
pub use amount::{amount_text, cpus_text};
pub use authorized_projects::{
    LineFault, MAX_AUTHORIZED_PROJECTS, ProjectFacts, ProjectsAnswer, projects_answer,
};
pub use commands::{program_command, refresh_command, shell_word};
pub use conditions::{Condition, Local, Matcher, Wanted};
pub use config::{
    ACCOUNTS_KEYS, AUDIT_KEYS, Accounts, Algorithm, AuthorizedProjects, BATCH_KEYS, BUILDS_VARIABLE,
    BatchSettings, BindPolicy, CONFIGURATIONS, CONTAINER_KEYS, CREDENTIAL_KEYS, CREDENTIALS_DIR,
    ContainerPolicy, DEFAULT_KEYS_MAX_AGE, DIRECTORIES_KEYS, DISK_KEYS, Dialect, Directories, Downscope,
    Executor, Expectation, FormerName, GITLAB_KEYS, GitLabServer, IDENTITY_KEYS, IdentitySettings, Images,
    JOB_KEYS, Job, KEEP_VARIABLE, Key, KeyInfo, Kind, LAUNCHER_KEYS, LIMITS_KEYS, LimitsSaidBy, LocalFacts,
    MACHINES, MAP_KEYS, MapFile, MapKey, NO_GITLAB_SERVER, Network, PAM_KEYS, PROFILE_DIRECTORIES_KEYS,
    PartialReading, Pinning, Policy, Profile, RULE_KEYS, Reading, Rule, RuleLimits, RuleOutcome, RunAs,
    SCHEDULER_KEYS, SchedulerFile, Setting, SiteCredential, SourceFile, TEST_KEYS, TOP_LEVEL_KEYS, Table,
    TestCase, TopLevel, UserCheck, VALIDATION_KEYS, Validation, conf_d, every_key, key_info, listed,
    pull_policy_name, toml_key, toml_string,
};
pub use decide::{Decision, Mismatch, Step, Verdict, check, decide};
pub use diagnostic::{Diagnostic, Location};
pub use duration::{duration_text, seconds as read_duration, seconds_option};
pub use explain::{Predicate, explain_rule};
pub use facts::{ByJobToken, Claim, Content, FACTS, Fact, Field, IdField, TextField};
pub use host::{Host, HostError};
pub use image::{ImageName, repository_name, service_names};
pub use lens::Lens;
pub use limits::{CgroupDriver, Limits, Maximum, OnExcess, RequestRefused};
pub use lint::{Lint, lint};
pub use map::{MapFinding, check_map};
pub use nunbird_handover::{Audit, Syslog};
pub use pattern::Pattern;
pub use people::{
    PeopleFinding, Person, find_person, is_server_name, person_file, read_people, read_person_file,
};
pub use pinning::{gives_by_choice, is_pinned};
pub use server_user::{ServerUser, UserViolation};
pub use subject::{IdentitySource, Subject};
pub use suggest::nearest;
pub use url::{check_proxy, check_url, origin};
pub use workplace::{account_path, builds_root, data_dir, own_directory};

/// Where the configuration lies when `--configuration` does not say otherwise.
pub const DEFAULT_CONFIGURATION: &str = "/etc/nunbird/config.toml";
/// Where `nunbird-keys` writes what `nunbird-auth` verifies tokens with.
pub const DEFAULT_KEYS_DIR: &str = "/var/lib/nunbird/keys";
/// Where decisions are written, one JSON object a line.
pub const DEFAULT_AUDIT_FILE: &str = "/var/log/nunbird/audit.jsonl";
/// The launcher of a packaged installation.
pub const DEFAULT_LAUNCHER: &str = "/opt/nunbird/bin/nunbird";
