//! A policy as the text of a native configuration: for `nunbirdctl show` and `nunbirdctl migrate`.
//!
//! Reading the text again gives a policy that decides the same. Every key is written, defaults too, so that the text says
//! what is in force.

use super::directories::size_text;
use super::model::*;
use super::toml_text::{Writer, bare_or_quoted, inline, numbers, path, quote, seconds, texts};
use crate::{Claim, Condition, FACTS, Pattern, Wanted};
use nunbird_handover::{Audit, Pam, Syslog};

/// Writes a policy.
///
/// `comment` gives the words that stand behind a key, which is named by its path (`accounts.min_uid`, `rule[0].name`).
pub fn to_toml(policy: &Policy, comment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = Writer::new(comment);
    let downscope = match policy.downscope {
        Downscope::Setuid => "setuid",
        Downscope::Sudo => "sudo",
        Downscope::None => "none",
    };
    out.key("downscope", &quote(downscope));
    out.key("keys_dir", &path(&policy.keys_dir));
    for (index, server) in policy.gitlab.iter().enumerate() {
        out.array_table("gitlab", index);
        out.server(server);
    }
    out.identity(&policy.identity);
    out.accounts(&policy.accounts, policy.authorized_projects);
    out.directories(&policy.directories);
    out.open("job");
    out.key("launcher", &path(&policy.job.launcher));
    out.job(&policy.job);
    out.open("batch");
    super::batch::write(&mut out, &policy.job.batch);
    for (name, limits) in &policy.limits {
        out.open(&format!("limits.{}", bare_or_quoted(name)));
        super::limits::write(&mut out, limits);
    }
    for (name, scheduler) in &policy.schedulers {
        out.open(&format!("scheduler.{}", bare_or_quoted(name)));
        out.key("description", &path(&scheduler.description));
    }
    out.audit(&policy.audit);
    if let Some(validation) = &policy.validation {
        out.validation(validation);
    }
    if let Some(pam) = &policy.pam {
        out.pam(pam);
    }
    for (name, profile) in &policy.profiles {
        out.open(&format!("profile.{}", bare_or_quoted(name)));
        out.key("data_dir", &quote(&profile.directories.data_dir));
        out.job(&profile.job);
        out.open(&format!("profile.{}.batch", bare_or_quoted(name)));
        super::batch::write(&mut out, &profile.job.batch);
    }
    for (name, map) in &policy.maps {
        out.open(&format!("map.{}", bare_or_quoted(name)));
        out.key("file", &path(&map.file));
        out.key("key", &quote(map.key.name()));
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

/// Writes the keys of one set of limits, a line each, as they would stand in the configuration.
pub fn limits_to_toml(limits: &crate::Limits) -> String {
    let mut out = Writer::new(&|_| None);
    super::limits::write(&mut out, limits);
    out.text
}

impl Writer<'_> {
    fn server(&mut self, server: &GitLabServer) {
        self.key("name", &quote(&server.name));
        self.key("url", &quote(&server.url));
        self.key("issuer", &quote(&server.issuer));
        self.key("audience", &texts(&server.audience));
        if let Some(file) = &server.ca_file {
            self.key("ca_file", &path(file));
        }
        let name = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
        };
        self.key("algorithms", &texts(server.algorithms.iter().map(name)));
        self.key("runner_ids", &numbers(&server.runner_ids));
        if !server.repository_urls.is_empty() {
            self.key("repository_urls", &texts(&server.repository_urls));
        }
        self.key("keys_max_age", &seconds(server.keys_max_age));
        self.key("user_check", &quote(server.user_check.name()));
    }

    fn identity(&mut self, identity: &IdentitySettings) {
        self.open("identity");
        self.key("sources", &texts(identity.sources.iter().map(|source| source.name())));
        self.key("token_variables", &texts(&identity.token_variables));
        self.key("clock_skew", &seconds(identity.clock_skew));
        self.key("late_stages", &seconds(identity.late_stages));
    }

    fn accounts(&mut self, accounts: &Accounts, word: AuthorizedProjects) {
        self.open("accounts");
        self.key("min_uid", &accounts.min_uid.to_string());
        self.key("max_uid", &accounts.max_uid.to_string());
        self.key("deny", &texts(&accounts.deny));
        self.key("deny_groups", &texts(&accounts.deny_groups));
        self.key("shells", &texts(accounts.shells.iter().map(|shell| shell.to_string_lossy())));
        self.key("nologin", &accounts.nologin.to_string());
        self.key("allow_bots", &accounts.allow_bots.to_string());
        let word = match word {
            AuthorizedProjects::Off => "off",
            AuthorizedProjects::Optional => "optional",
            AuthorizedProjects::Required => "required",
        };
        self.key("authorized_projects", &quote(word));
        let pinning = super::native::PINNING.iter().find(|(_, pinning)| *pinning == accounts.pinning);
        self.key("pinning", &quote(pinning.map_or("remember", |(name, _)| name)));
        if let Some(file) = &accounts.people_file {
            self.key("people_file", &path(file));
        }
    }

    fn directories(&mut self, directories: &Directories) {
        let Directories { data_dir, user_builds_dir, per_job, upkeep } = directories;
        self.open("directories");
        self.key("data_dir", &quote(data_dir));
        self.key("user_builds_dir", &user_builds_dir.to_string());
        self.key("per_job", &per_job.to_string());
        self.key("create", &upkeep.create.to_string());
        self.key("group_access", &upkeep.group_access.to_string());
        if let Some(age) = upkeep.max_age {
            self.key("max_age", &seconds(age));
        }
        if let Some(most) = upkeep.max_dirs {
            self.key("max_dirs", &most.to_string());
        }
        if let Some(bytes) = upkeep.min_free {
            self.key("min_free", &quote(&size_text(bytes)));
        }
        self.key("remove_at_once", &upkeep.at_once.unwrap_or(0).to_string());
    }

    fn job(&mut self, job: &Job) {
        self.key("executor", &quote(job.executor.name()));
        self.key("shell", &path(&job.shell));
        self.key("login_shell", &job.login_shell.to_string());
        self.key("no_new_privileges", &job.isolation.no_new_privileges.to_string());
        self.key("block_tty_injection", &job.isolation.block_tty_injection.to_string());
        self.key("limit_setuid", &job.isolation.limit_setuid.to_string());
        self.key("environment", &inline(&job.environment));
        self.key("message", &quote(job.message.as_deref().unwrap_or("")));
        self.key("stages", &texts(&job.stages));
        self.key("raise_stack_limit", &job.raise_stack_limit.to_string());
        self.key("images", &quote(job.images.name()));
        self.key("limits", &quote(job.limits.as_ref().map_or("", |limits| limits.name.as_str())));
    }

    fn audit(&mut self, audit: &Audit) {
        self.open("audit");
        self.key("file", &audit.file.as_deref().map_or_else(|| "false".to_owned(), path));
        self.key("journald", &audit.journald.to_string());
        match &audit.syslog {
            None => {}
            Some(Syslog::Local) => self.key("syslog", &quote("local")),
            Some(Syslog::Udp(address)) => self.key("syslog", &quote(&format!("udp://{address}"))),
            Some(Syslog::Tcp(address)) => self.key("syslog", &quote(&format!("tcp://{address}"))),
        }
        self.key("required", &audit.required.to_string());
    }

    fn validation(&mut self, validation: &Validation) {
        self.open("validation");
        self.key("script", &path(&validation.script));
        self.key("user", &quote(&validation.user));
        if let Some(sha256) = &validation.sha256 {
            self.key("sha256", &quote(sha256));
        }
        if let Some(variable) = &validation.user_variable {
            self.key("user_variable", &quote(variable));
        }
        self.key("environment", &inline(&validation.environment));
        self.key("timeout", &seconds(validation.timeout));
        self.key("rules_first", &validation.rules_first.to_string());
    }

    fn pam(&mut self, pam: &Pam) {
        self.open("pam");
        self.key("service", &quote(&pam.service));
        self.key("timeout", &seconds(pam.timeout));
        self.key("environment", &texts(&pam.environment));
        let span = super::pam::SPANS.iter().find(|(_, span)| *span == pam.session);
        self.key("session", &quote(span.map_or("stage", |(name, _)| name)));
    }

    fn rule(&mut self, rule: &Rule) {
        self.key("name", &quote(&rule.name));
        for condition in &rule.conditions {
            self.key(&format!("when.{}", condition.key()), &value_of(condition));
        }
        for exception in &rule.exceptions {
            self.key(&format!("unless.{}", exception.key()), &value_of(exception));
        }
        match &rule.outcome {
            Outcome::Deny(message) => self.key("deny", &quote(message)),
            Outcome::RunAs(run_as) => self.key("run_as", &run_as_of(run_as)),
        }
        if let Some(profile) = &rule.profile {
            self.key("profile", &quote(profile));
        }
        if let Some(own) = &rule.limits {
            self.key("limits", &quote(own.limits.as_ref().map_or("", |limits| limits.name.as_str())));
        }
        if !rule.pinning {
            self.key("pinning", &quote("off"));
        }
        if rule.bots {
            self.key("bots", "true");
        }
        if let Some(check) = rule.user_check {
            self.key("user_check", &quote(check.name()));
        }
    }

    fn test(&mut self, test: &TestCase) {
        self.key("name", &quote(&test.name));
        for fact in FACTS {
            if let Some(value) = fact.claim(&test.subject) {
                self.key(&format!("claims.{}", fact.claim), &claim(value));
            }
        }
        if let Some(local) = &test.local {
            self.key("local.uid", &local.uid.to_string());
            self.key("local.groups", &texts(&local.groups));
            self.key("local.shell", &path(&local.shell));
        }
        if let Some(user_id) = test.pinned {
            self.key("pinned", &user_id.to_string());
        }
        let user = &test.server_user;
        self.key("server_user.id", &user.id.to_string());
        self.key("server_user.username", &quote(&user.username));
        if let Some(bot) = user.bot {
            self.key("server_user.bot", &bot.to_string());
        }
        if let Some(state) = &user.state {
            self.key("server_user.state", &quote(state));
        }
        let expect = match &test.expect {
            Expectation::Account(account) => account.clone(),
            Expectation::Denied => "deny".to_owned(),
            Expectation::DeniedBy(rule) => format!("deny: {rule}"),
        };
        self.key("expect", &quote(&expect));
    }
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

fn run_as_of(run_as: &RunAs) -> String {
    match run_as {
        RunAs::UserLogin => quote("$user_login"),
        RunAs::Validated => quote("$validated"),
        RunAs::Account(name) => quote(name),
        RunAs::Map(name) => format!("{{ map = {} }}", quote(name)),
        RunAs::Identity { provider, attribute: None } => format!("{{ identity = {} }}", quote(provider)),
        RunAs::Identity { provider, attribute: Some(attribute) } => {
            format!("{{ identity = {}, attribute = {} }}", quote(provider), quote(attribute))
        }
    }
}

fn value_of(condition: &Condition) -> String {
    match condition.wanted() {
        Wanted::Patterns(patterns) => {
            let all: Vec<String> = patterns.iter().map(pattern).collect();
            format!("[{}]", all.join(", "))
        }
        Wanted::Ids(ids) => numbers(ids),
        Wanted::Flag(wanted) => wanted.to_string(),
        Wanted::Word(word) => quote(word),
        Wanted::Texts(all) => texts(all),
    }
}

fn claim(claim: Claim<'_>) -> String {
    match claim {
        Claim::Text(text) => quote(text),
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
        format!("{{ regex = {} }}", quote(&source))
    } else if Pattern::new(&source).is_ok_and(|read| read == *pattern) {
        quote(&source)
    } else {
        format!("{{ regex = {} }}", quote(&regex_lite::escape(&source)))
    }
}
