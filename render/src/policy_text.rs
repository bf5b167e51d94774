//! A policy as the text of a native configuration: for `nunbirdctl show` and `nunbirdctl migrate`.
//!
//! Reading the text again gives a policy that decides the same. Every key is written, defaults too, so that the text has all
//! that decides.

use crate::writer::{Writer, inline, numbers, setting, texts, toml_key, toml_string};
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
        out.rule(rule);
    }
    for (index, test) in policy.tests.iter().enumerate() {
        out.array_table("test", index);
        out.test(test);
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
            if let Some(value) = key.value(of) {
                self.key(key.name(), &setting(&value));
            }
        }
    }

    fn rule(&mut self, rule: &Rule) {
        self.key("name", &toml_string(&rule.name));
        for condition in &rule.conditions {
            self.key(&format!("when.{}", condition.key()), &wanted(&condition.wanted()));
        }
        for exception in &rule.exceptions {
            self.key(&format!("unless.{}", exception.key()), &wanted(&exception.wanted()));
        }
        match &rule.outcome {
            RuleOutcome::Deny(message) => self.key("deny", &toml_string(message)),
            RuleOutcome::RunAs(run_as) => self.key("run_as", &run_as_of(run_as)),
        }
        if let Some(profile) = &rule.profile {
            self.key("profile", &toml_string(profile));
        }
        if let Some(own) = &rule.limits {
            let name = own.limits.as_ref().map_or("", |limits| limits.name.as_str());
            self.key("limits", &toml_string(name));
        }
        if !rule.pinning {
            self.key("pinning", &toml_string("off"));
        }
        if rule.bots {
            self.key("bots", "true");
        }
        if let Some(check) = rule.user_check {
            self.key("user_check", &toml_string(check.name()));
        }
    }

    fn test(&mut self, test: &TestCase) {
        self.key("name", &toml_string(&test.name));
        for fact in FACTS {
            if let Some(value) = fact.claim(&test.subject) {
                self.key(&format!("claims.{}", fact.claim), &claim(value));
            }
        }
        if let Some(local) = &test.local {
            self.key("local.uid", &local.uid.to_string());
            self.key("local.groups", &texts(&local.groups));
            self.key("local.shell", &toml_string(&local.shell.to_string_lossy()));
        }
        if let Some(user_id) = test.pinned {
            self.key("pinned", &user_id.to_string());
        }
        let user = &test.server_user;
        self.key("server_user.id", &user.id.to_string());
        self.key("server_user.username", &toml_string(&user.username));
        if let Some(bot) = user.bot {
            self.key("server_user.bot", &bot.to_string());
        }
        if let Some(state) = &user.state {
            self.key("server_user.state", &toml_string(state));
        }
        let expect = match &test.expect {
            Expectation::Account(account) => account.clone(),
            Expectation::Denied => "deny".to_owned(),
            Expectation::DeniedBy(rule) => format!("deny: {rule}"),
        };
        self.key("expect", &toml_string(&expect));
    }
}

fn run_as_of(run_as: &RunAs) -> String {
    match run_as {
        RunAs::UserLogin => toml_string("$user_login"),
        RunAs::Validated => toml_string("$validated"),
        RunAs::Account(name) => toml_string(name),
        RunAs::Map(name) => format!("{{ map = {} }}", toml_string(name)),
        RunAs::Identity { provider, attribute: None } => {
            format!("{{ identity = {} }}", toml_string(provider))
        }
        RunAs::Identity { provider, attribute: Some(attribute) } => {
            format!("{{ identity = {}, attribute = {} }}", toml_string(provider), toml_string(attribute))
        }
    }
}

fn wanted(wanted: &Wanted<'_>) -> String {
    match wanted {
        Wanted::Patterns(patterns) => {
            let all: Vec<String> = patterns.iter().map(pattern).collect();
            format!("[{}]", all.join(", "))
        }
        Wanted::Ids(ids) => numbers(ids),
        Wanted::Flag(flag) => flag.to_string(),
        Wanted::Word(word) => toml_string(word),
        Wanted::Texts(all) => texts(all),
    }
}

fn claim(claim: Claim<'_>) -> String {
    match claim {
        Claim::Text(text) => toml_string(text),
        Claim::Id(id) => id.to_string(),
        Claim::Flag(flag) => flag.to_string(),
        Claim::Texts(all) => texts(all),
        Claim::Identities(all) => inline(&all.iter().cloned().collect()),
    }
}

/// A text that matches itself alone although it has a glob's characters becomes a regular expression.
fn pattern(pattern: &Pattern) -> String {
    let source = pattern.to_string();
    if pattern.is_regex() {
        format!("{{ regex = {} }}", toml_string(&source))
    } else if Pattern::new(&source).is_ok_and(|read| read == *pattern) {
        toml_string(&source)
    } else {
        format!("{{ regex = {} }}", toml_string(&regex_lite::escape(&source)))
    }
}
