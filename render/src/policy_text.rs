//! A policy as the text of a native configuration: for `nunbirdctl show` and `nunbirdctl migrate`.
//!
//! Reading the text again gives a policy that decides the same. Every key is written, defaults too, so that the text has all
//! that decides.

use crate::writer::{Writer, setting, toml_key};
use nunbird_policy::*;

/// Writes a policy.
///
/// `comment` gives the comment after a key, which is named by its path (`accounts.min_uid`, `rule[0].name`).
pub fn to_toml(policy: &Policy, comment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = Writer::new(comment);
    out.keys(&TOP_LEVEL_KEYS, &policy.top_level());
    for (index, server) in policy.gitlab.iter().enumerate() {
        out.array_table("gitlab", index);
        out.keys(&GITLAB_KEYS, server);
    }
    out.table(&IDENTITY_KEYS, &policy.identity);
    out.table(&ACCOUNTS_KEYS, &policy.accounts);
    out.table(&DIRECTORIES_KEYS, &policy.directories);
    out.table(&LAUNCHER_KEYS, &policy.job);
    out.keys(&JOB_KEYS, &policy.job);
    out.table(&BATCH_KEYS, &policy.job.batch);
    for (name, container) in &policy.containers {
        out.open(&format!("container.{}", toml_key(name)));
        out.keys(&CONTAINER_KEYS, container);
    }
    for (name, credential) in &policy.credentials {
        out.open(&format!("credential.{}", toml_key(name)));
        out.keys(&CREDENTIAL_KEYS, credential);
    }
    for (name, limits) in &policy.limits {
        out.open(&format!("limits.{}", toml_key(name)));
        out.keys(&LIMITS_KEYS, limits);
    }
    for (name, scheduler) in &policy.schedulers {
        out.open(&format!("scheduler.{}", toml_key(name)));
        out.keys(&SCHEDULER_KEYS, scheduler);
    }
    out.table(&AUDIT_KEYS, &policy.audit);
    if let Some(validation) = &policy.validation {
        out.table(&VALIDATION_KEYS, validation);
    }
    if let Some(pam) = &policy.pam {
        out.table(&PAM_KEYS, pam);
    }
    for (name, profile) in &policy.profiles {
        out.open(&format!("profile.{}", toml_key(name)));
        out.keys(&PROFILE_DIRECTORIES_KEYS, &profile.directories);
        out.keys(&JOB_KEYS, &profile.job);
        // What a profile leaves out is as in [batch], and is written all the same.
        out.open(&format!("profile.{}.batch", toml_key(name)));
        out.keys(&BATCH_KEYS, &profile.job.batch);
    }
    for (name, map) in &policy.maps {
        out.open(&format!("map.{}", toml_key(name)));
        out.keys(&MAP_KEYS, map);
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        out.array_table("rule", index);
        out.keys(&RULE_KEYS, rule);
    }
    for (index, test) in policy.tests.iter().enumerate() {
        out.array_table("test", index);
        out.keys(&TEST_KEYS, test);
    }
    out.text
}

/// Writes the keys of one set of limits, a line each, as in the configuration.
pub fn limits_to_toml(limits: &Limits) -> String {
    let mut out = Writer::new(&|_| None);
    out.keys(&LIMITS_KEYS, limits);
    out.text
}

impl Writer<'_> {
    fn table<T>(&mut self, table: &Table<T>, of: &T) {
        self.open(table.path);
        self.keys(table, of);
    }

    fn keys<T>(&mut self, table: &Table<T>, of: &T) {
        for key in table.keys {
            match key.value(of) {
                Some(Setting::Dotted(below)) => {
                    for (name, value) in below {
                        self.key(&format!("{}.{name}", key.name()), &setting(&value));
                    }
                }
                Some(value) => self.key(key.name(), &setting(&value)),
                None => {}
            }
        }
    }
}
