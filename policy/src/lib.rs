//! The site's policy: reading it, judging a job by it, and the rules that no policy can override.
//!
//! Pure: no file is opened, no clock read, no user database asked. Whoever calls hands in text and facts and
//! gets a value back, so that `nunbird-auth`, `nunbirdctl explain` and the tests run the very same functions.

#![forbid(unsafe_code)]

mod account;
mod config;
mod decide;
mod diagnostic;
mod duration;
mod pattern;
mod subject;
mod suggest;
mod url;

pub use account::{AccountFacts, AccountRules, Violation, check_account, check_name};
pub use config::{
    Accounts, Algorithm, Audit, AuthorizedProjects, Condition, Directories, Downscope, GitLabServer,
    IdentitySettings, Job, Outcome, Policy, Rule, RunAs, Syslog, Validation,
};
pub use decide::{Decision, Step, Verdict, decide};
pub use diagnostic::{Diagnostic, Place};
pub use pattern::Pattern;
pub use subject::Subject;
pub use url::{check_url, origin};

/// Where the configuration lies when `--configuration` does not say otherwise.
pub const DEFAULT_CONFIGURATION: &str = "/etc/nunbird/config.toml";
/// Where `nunbird-keys` writes what `nunbird-auth` verifies tokens with.
pub const DEFAULT_KEYS_DIR: &str = "/var/lib/nunbird/keys";
/// Where decisions are written, one JSON object a line.
pub const DEFAULT_AUDIT_FILE: &str = "/var/log/nunbird/audit.jsonl";
/// The launcher of a packaged installation.
pub const DEFAULT_LAUNCHER: &str = "/opt/nunbird/bin/nunbird";
