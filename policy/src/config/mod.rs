//! The configuration as the rest of the program sees it: complete, with every default filled in.
//!
//! [`Policy::read`] takes the text of every file, in either dialect, and gives a [`Policy`] or every finding there is.
//! [`reader`] knows TOML and types; the other modules know one part of the configuration each.

mod accounts;
mod audit;
mod batch;
mod conditions;
mod container;
mod credentials;
mod directories;
mod disks;
mod document;
mod executor;
mod identity;
mod jacamar;
mod job;
mod keys;
mod limits;
mod listed;
mod maps;
mod model;
mod native;
mod pam;
mod reader;
mod rules;
mod servers;
mod test_cases;
mod toml_text;
mod validation;
mod values;

use crate::{Diagnostic, Location};
pub use accounts::{ACCOUNTS_KEYS, Accounts, AuthorizedProjects, Pinning};
pub use audit::AUDIT_KEYS;
pub use batch::{BATCH_KEYS, BatchSettings, SCHEDULER_KEYS};
pub use container::{BindPolicy, CONTAINER_KEYS, ContainerPolicy, MACHINES, Network, pull_policy_name};
pub use credentials::{CREDENTIAL_KEYS, CREDENTIALS_DIR, SiteCredential};
pub use directories::{
    BUILDS_VARIABLE, DIRECTORIES_KEYS, Directories, KEEP_VARIABLE, PROFILE_DIRECTORIES_KEYS,
};
pub use disks::DISK_KEYS;
use document::{Document, Shared};
pub use document::{FormerName, Kind, SourceFile};
pub use executor::{Executor, SchedulerFile};
pub use identity::{IDENTITY_KEYS, IdentitySettings};
pub use jacamar::NO_GITLAB_SERVER;
pub use job::{Images, JOB_KEYS, Job, LAUNCHER_KEYS};
pub use keys::{Key, KeyInfo, Setting, Table};
pub use limits::LIMITS_KEYS;
pub use listed::{CONFIGURATIONS, listed};
pub use maps::{MAP_KEYS, MapFile, MapKey};
pub use model::*;
pub use native::{TOP_LEVEL_KEYS, TopLevel};
pub use pam::PAM_KEYS;
use reader::Section;
pub use rules::RULE_KEYS;
use rules::RUN_AS_KEYS;
pub use servers::{Algorithm, DEFAULT_KEYS_MAX_AGE, GITLAB_KEYS, GitLabServer, UserCheck};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
pub use test_cases::TEST_KEYS;
use test_cases::{LOCAL_KEYS, SERVER_USER_KEYS};
pub use toml_text::{toml_key, toml_string};
pub use validation::{VALIDATION_KEYS, Validation};

/// The keys of every table, with the table's path. A profile has those of `[job]` and `[batch]`, and [`crate::FACTS`] are those of `when`,
/// `unless` and `claims`.
pub fn key_info() -> Vec<(&'static str, Vec<KeyInfo>)> {
    vec![
        (TOP_LEVEL_KEYS.path, TOP_LEVEL_KEYS.info()),
        (GITLAB_KEYS.path, GITLAB_KEYS.info()),
        (IDENTITY_KEYS.path, IDENTITY_KEYS.info()),
        (ACCOUNTS_KEYS.path, ACCOUNTS_KEYS.info()),
        (DIRECTORIES_KEYS.path, DIRECTORIES_KEYS.info()),
        (JOB_KEYS.path, LAUNCHER_KEYS.info().into_iter().chain(JOB_KEYS.info()).collect()),
        (BATCH_KEYS.path, BATCH_KEYS.info()),
        (SCHEDULER_KEYS.path, SCHEDULER_KEYS.info()),
        (CONTAINER_KEYS.path, CONTAINER_KEYS.info()),
        (CREDENTIAL_KEYS.path, CREDENTIAL_KEYS.info()),
        (LIMITS_KEYS.path, LIMITS_KEYS.info()),
        (DISK_KEYS.path, DISK_KEYS.info()),
        (PROFILE_DIRECTORIES_KEYS.path, PROFILE_DIRECTORIES_KEYS.info()),
        (AUDIT_KEYS.path, AUDIT_KEYS.info()),
        (VALIDATION_KEYS.path, VALIDATION_KEYS.info()),
        (PAM_KEYS.path, PAM_KEYS.info()),
        (MAP_KEYS.path, MAP_KEYS.info()),
        (RULE_KEYS.path, RULE_KEYS.info()),
        (RUN_AS_KEYS.path, RUN_AS_KEYS.info()),
        (TEST_KEYS.path, TEST_KEYS.info()),
        (LOCAL_KEYS.path, LOCAL_KEYS.info()),
        (SERVER_USER_KEYS.path, SERVER_USER_KEYS.info()),
    ]
}

/// A configuration, and where its files have which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it means.
    pub policy: Policy,
    /// The place of each key outside of rules and tests: `accounts.min_uid`, `gitlab[0].url`, `profile.big.shell`.
    pub origins: BTreeMap<String, Location>,
    /// Every key that the configuration could have had, inside the tables that it has; `[]` is an element of an
    /// array of tables or for a name of the site's choice.
    pub keys: BTreeMap<String, Kind>,
    /// Keys and values that are written as in an earlier version.
    pub former: Vec<FormerName>,
}

/// What could be read of files that may have findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialReading {
    /// None where the syntax is broken. With findings it has defaults where a file has something else: it is shown to people
    /// and never decides.
    pub policy: Option<Policy>,
    /// Every finding.
    pub findings: Vec<Diagnostic>,
    /// As in [`Reading`].
    pub origins: BTreeMap<String, Location>,
    /// As in [`Reading`].
    pub keys: BTreeMap<String, Kind>,
    /// As in [`Reading`].
    pub former: Vec<FormerName>,
}

impl Policy {
    /// Reads a configuration of one file.
    ///
    /// # Errors
    /// Every finding, in the order of the file. A text with one finding is no policy: the caller denies.
    pub fn parse(file: &Path, text: &str) -> Result<Policy, Vec<Diagnostic>> {
        let source = SourceFile { path: file.to_path_buf(), text: text.to_owned() };
        Policy::of_files(&[source])
    }

    /// As [`Policy::read`], without what only people read: where each key is, and which keys there could have been.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn of_files(files: &[SourceFile]) -> Result<Policy, Vec<Diagnostic>> {
        let PartialReading { policy, findings, .. } = read_all(files, Shared::default());
        policy.filter(|_| findings.is_empty()).ok_or(findings)
    }

    /// Reads a configuration: the file that is named, then those of its `conf.d`, in order.
    ///
    /// Tables of several files are read as one, arrays of tables follow each other, and a key that two files set is a finding.
    /// The file [`CONFIGURATIONS`], if it is there, names the server of a file of Jacamar CI's that names none.
    ///
    /// # Errors
    /// Every finding, by file and line.
    pub fn read(files: &[SourceFile]) -> Result<Reading, Vec<Diagnostic>> {
        let PartialReading { policy, findings, origins, keys, former } = Policy::read_partially(files);
        match policy {
            Some(policy) if findings.is_empty() => Ok(Reading { policy, origins, keys, former }),
            _ => Err(findings),
        }
    }

    /// Reads what can be read of a configuration, for `nunbirdctl migrate`.
    pub fn read_partially(files: &[SourceFile]) -> PartialReading {
        read_all(files, Shared { keeps: true, ..Shared::default() })
    }

    /// Reads files of `[[test]]` tables for this policy, which may be of either dialect, and adds the tests to it.
    ///
    /// # Errors
    /// Every finding: a file of tests has no other key.
    pub fn add_tests(&mut self, files: &[SourceFile]) -> Result<(), Vec<Diagnostic>> {
        let shared = Shared::default();
        let documents: Vec<Document<'_>> =
            files.iter().map(|file| Document::new(&file.path, &file.text, &shared)).collect();
        let tables: Vec<_> = documents.iter().map(Document::parse).collect();
        let mut tests = Vec::new();
        if shared.is_clean() {
            let mut root = Section::root(&documents, &tables, &shared);
            let known = conditions::RuleNames {
                profiles: &self.profiles,
                maps: &self.maps,
                validated: self.validation.is_some(),
                gitlab: &self.gitlab,
                limits: &self.limits,
            };
            tests = test_cases::read(&mut root, &known);
            root.finish();
        }
        drop(tables);
        drop(documents);
        let findings = shared.into_reading(None).findings;
        if findings.is_empty() {
            self.tests.extend(tests);
            Ok(())
        } else {
            Err(findings)
        }
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&GitLabServer> {
        self.gitlab.iter().find(|server| server.name == name)
    }

    /// What the jobs of a rule may use: the rule overrides its profile, and that `[job]`.
    pub fn limits_of<'p>(&'p self, rule: &'p Rule) -> Option<&'p crate::Limits> {
        match &rule.limits {
            Some(own) => own.limits.as_ref(),
            None => self.job_of(rule).0.limits.as_ref(),
        }
    }

    /// What sets [`Policy::limits_of`].
    pub fn limits_said_by<'p>(&'p self, rule: &'p Rule) -> LimitsSaidBy<'p> {
        let profile =
            rule.profile.as_ref().and_then(|name| Some((name, self.profiles.get(name)?.limits.as_ref()?)));
        match (&rule.limits, profile) {
            (Some(own), _) => LimitsSaidBy::Rule(&own.place),
            (None, Some((name, place))) => LimitsSaidBy::Profile(name, place),
            (None, None) => LimitsSaidBy::Job,
        }
    }

    /// The container of a rule's jobs.
    pub fn container_of(&self, rule: &Rule) -> Option<&ContainerPolicy> {
        self.containers.get(self.job_of(rule).0.container.as_ref()?)
    }

    /// How the jobs of a rule run. What they may use [`Policy::limits_of`] has.
    pub fn job_of(&self, rule: &Rule) -> (&Job, &Directories) {
        let profile = rule.profile.as_ref().and_then(|name| self.profiles.get(name));
        profile.map_or((&self.job, &self.directories), |profile| (&profile.job, &profile.directories))
    }
}

fn read_all(files: &[SourceFile], shared: Shared) -> PartialReading {
    let (lists, files): (Vec<&SourceFile>, Vec<&SourceFile>) =
        files.iter().partition(|file| file.path == Path::new(CONFIGURATIONS));
    let lists: Vec<Document<'_>> =
        lists.iter().map(|file| Document::new(&file.path, &file.text, &shared)).collect();
    let documents: Vec<Document<'_>> =
        files.iter().map(|file| Document::new(&file.path, &file.text, &shared)).collect();
    let tables: Vec<_> = documents.iter().map(Document::parse).collect();
    let parsed = shared.is_clean();
    let policy = {
        let root = Section::root(&documents, &tables, &shared);
        let file = files.first().map_or(Path::new(""), |file| file.path.as_path());
        let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        let server = lists.first().and_then(|list| listed::server(list, &whole));
        // With broken syntax half a table would be read, and its missing half reported as well.
        let of_runner = parsed && is_of_runner(&root);
        if of_runner {
            let help = "name Nunbird's configuration here; `nunbirdctl doctor --runner-config FILE` looks at this one";
            root.find("this is gitlab-runner's own configuration, not Nunbird's or Jacamar's", help);
        }
        (parsed && !of_runner).then(|| {
            if jacamar::is_meant(&root) {
                return jacamar::read(file, root, server);
            }
            if let Some(server) = server {
                let help = "remove what is behind the file's name";
                server.url.spot.find("this configuration has its servers in [[gitlab]]", help);
            }
            native::read(file, root)
        })
    };
    drop(tables);
    drop((documents, lists));
    shared.into_reading(policy)
}

/// Whether this is config.toml of gitlab-runner: its tables would all be unknown keys.
fn is_of_runner(root: &Section<'_>) -> bool {
    root.has("runners") && !["gitlab", "rule", "general", "auth"].iter().any(|table| root.has(table))
}

/// The directory whose `*.toml` files belong to a configuration, read after it in the order of their names: `conf.d`
/// beside a file of the name `config.toml`. Other names have none, so that two configurations in one directory do not share it.
pub fn conf_d(configuration: &Path) -> Option<PathBuf> {
    let is_main = configuration.file_name().is_some_and(|name| name == "config.toml");
    is_main.then(|| configuration.with_file_name("conf.d"))
}

/// Every key of Nunbird's own configuration, with what it holds. `[]` is an element of an array of tables or for
/// a name of the site's choice.
pub fn every_key() -> BTreeMap<String, Kind> {
    let source = SourceFile { path: "sample.toml".into(), text: include_str!("sample.toml").to_owned() };
    Policy::read(&[source]).map(|reading| reading.keys).unwrap_or_default()
}

#[cfg(test)]
mod container_tests;
#[cfg(test)]
mod tests;
