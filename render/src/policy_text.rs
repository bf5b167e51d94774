//! A policy as the text of a native configuration: for `nunbirdctl show` and `nunbirdctl migrate`.
//!
//! Reading the text again gives a policy that decides the same. Every key is written, defaults too, so that the text says
//! what is in force.

use crate::writer::{Writer, inline, numbers, path, seconds, texts, toml_key, toml_string};
use nunbird_handover::{Audit, DiskLimit, Pam, Rlimits, SessionSpan, Standing, Syslog, UNLIMITED};
use nunbird_policy::*;

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
    out.key("downscope", &toml_string(downscope));
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
    batch_keys(&mut out, &policy.job.batch);
    for (name, limits) in &policy.limits {
        out.open(&format!("limits.{}", toml_key(name)));
        limits_keys(&mut out, limits);
    }
    for (name, scheduler) in &policy.schedulers {
        out.open(&format!("scheduler.{}", toml_key(name)));
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
        out.open(&format!("profile.{}", toml_key(name)));
        out.key("data_dir", &toml_string(&profile.directories.data_dir));
        out.job(&profile.job);
        out.open(&format!("profile.{}.batch", toml_key(name)));
        batch_keys(&mut out, &profile.job.batch);
    }
    for (name, map) in &policy.maps {
        out.open(&format!("map.{}", toml_key(name)));
        out.key("file", &path(&map.file));
        out.key("key", &toml_string(map.key.name()));
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
pub fn limits_to_toml(limits: &Limits) -> String {
    let mut out = Writer::new(&|_| None);
    limits_keys(&mut out, limits);
    out.text
}

impl Writer<'_> {
    fn server(&mut self, server: &GitLabServer) {
        self.key("name", &toml_string(&server.name));
        self.key("url", &toml_string(&server.url));
        self.key("issuer", &toml_string(&server.issuer));
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
        self.key("user_check", &toml_string(server.user_check.name()));
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
        self.key("authorized_projects", &toml_string(word));
        let pinning = match accounts.pinning {
            Pinning::Off => "off",
            Pinning::Remember => "remember",
            Pinning::Known => "known",
        };
        self.key("pinning", &toml_string(pinning));
        if let Some(file) = &accounts.people_file {
            self.key("people_file", &path(file));
        }
    }

    fn directories(&mut self, directories: &Directories) {
        let Directories { data_dir, user_builds_dir, per_job, upkeep } = directories;
        self.open("directories");
        self.key("data_dir", &toml_string(data_dir));
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
            self.key("min_free", &toml_string(&size_text(bytes)));
        }
        self.key("remove_at_once", &upkeep.at_once.unwrap_or(0).to_string());
    }

    fn job(&mut self, job: &Job) {
        self.key("executor", &toml_string(job.executor.name()));
        self.key("shell", &path(&job.shell));
        self.key("login_shell", &job.login_shell.to_string());
        self.key("no_new_privileges", &job.isolation.no_new_privileges.to_string());
        self.key("block_tty_injection", &job.isolation.block_tty_injection.to_string());
        self.key("limit_setuid", &job.isolation.limit_setuid.to_string());
        self.key("environment", &inline(&job.environment));
        self.key("message", &toml_string(job.message.as_deref().unwrap_or("")));
        self.key("stages", &texts(&job.stages));
        self.key("raise_stack_limit", &job.raise_stack_limit.to_string());
        self.key("images", &toml_string(job.images.name()));
        self.key("limits", &toml_string(job.limits.as_ref().map_or("", |limits| limits.name.as_str())));
    }

    fn audit(&mut self, audit: &Audit) {
        self.open("audit");
        self.key("file", &audit.file.as_deref().map_or_else(|| "false".to_owned(), path));
        self.key("journald", &audit.journald.to_string());
        match &audit.syslog {
            None => {}
            Some(Syslog::Local) => self.key("syslog", &toml_string("local")),
            Some(Syslog::Udp(address)) => self.key("syslog", &toml_string(&format!("udp://{address}"))),
            Some(Syslog::Tcp(address)) => self.key("syslog", &toml_string(&format!("tcp://{address}"))),
        }
        self.key("required", &audit.required.to_string());
    }

    fn validation(&mut self, validation: &Validation) {
        self.open("validation");
        self.key("script", &path(&validation.script));
        self.key("user", &toml_string(&validation.user));
        if let Some(sha256) = &validation.sha256 {
            self.key("sha256", &toml_string(sha256));
        }
        if let Some(variable) = &validation.user_variable {
            self.key("user_variable", &toml_string(variable));
        }
        self.key("environment", &inline(&validation.environment));
        self.key("timeout", &seconds(validation.timeout));
        self.key("rules_first", &validation.rules_first.to_string());
    }

    fn pam(&mut self, pam: &Pam) {
        self.open("pam");
        self.key("service", &toml_string(&pam.service));
        self.key("timeout", &seconds(pam.timeout));
        self.key("environment", &texts(&pam.environment));
        let span = match pam.session {
            SessionSpan::Stage => "stage",
            SessionSpan::Job => "job",
        };
        self.key("session", &toml_string(span));
    }

    fn rule(&mut self, rule: &Rule) {
        self.key("name", &toml_string(&rule.name));
        for condition in &rule.conditions {
            self.key(&format!("when.{}", condition.key()), &value_of(condition));
        }
        for exception in &rule.exceptions {
            self.key(&format!("unless.{}", exception.key()), &value_of(exception));
        }
        match &rule.outcome {
            Outcome::Deny(message) => self.key("deny", &toml_string(message)),
            Outcome::RunAs(run_as) => self.key("run_as", &run_as_of(run_as)),
        }
        if let Some(profile) = &rule.profile {
            self.key("profile", &toml_string(profile));
        }
        if let Some(own) = &rule.limits {
            self.key("limits", &toml_string(own.limits.as_ref().map_or("", |limits| limits.name.as_str())));
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
            self.key("local.shell", &path(&local.shell));
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

fn value_of(condition: &Condition) -> String {
    match condition.wanted() {
        Wanted::Patterns(patterns) => {
            let all: Vec<String> = patterns.iter().map(pattern).collect();
            format!("[{}]", all.join(", "))
        }
        Wanted::Ids(ids) => numbers(ids),
        Wanted::Flag(wanted) => wanted.to_string(),
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

/// Writes the keys of one table.
fn limits_keys(out: &mut Writer<'_>, limits: &Limits) {
    let Limits { amounts, maximum, .. } = limits;
    let sizes = [("memory", amounts.memory), ("swap", amounts.swap), ("max_memory", maximum.memory)];
    for (key, bytes) in sizes {
        if let Some(bytes) = bytes {
            out.key(key, &toml_string(&amount_text(bytes)));
        }
    }
    for (key, thousandths) in [("cpus", amounts.cpu), ("max_cpus", maximum.cpu)] {
        if let Some(thousandths) = thousandths {
            out.key(key, &toml_string(&cpus_text(thousandths)));
        }
    }
    let numbers = [("pids", amounts.pids), ("max_pids", maximum.pids), ("io_weight", amounts.io_weight)];
    for (key, number) in numbers {
        if let Some(number) = number {
            out.key(key, &number.to_string());
        }
    }
    disks_keys(out, &limits.disks);
    rlimits_keys(out, &limits.rlimits, limits.standing);
    out.key("above", &toml_string(if limits.above == Above::Refuse { "refuse" } else { "clamp" }));
    out.key("require", &limits.require.to_string());
    out.key("way", &toml_string(limits.way.name()));
}

/// Writes the keys.
fn rlimits_keys(out: &mut Writer<'_>, rlimits: &Rlimits, standing: Standing) {
    let Rlimits { nofile, nproc, fsize, core, stack, stack_hard, memlock, address_space, cpu_time } = rlimits;
    let sizes = [
        ("fsize", fsize),
        ("core", core),
        ("stack", stack),
        ("stack_hard", stack_hard),
        ("memlock", memlock),
        ("as", address_space),
    ];
    for (key, bytes) in sizes {
        if let Some(bytes) = *bytes {
            let text = if bytes == UNLIMITED { "unlimited".to_owned() } else { amount_text(bytes) };
            out.key(key, &toml_string(&text));
        }
    }
    if let Some(time) = *cpu_time {
        out.key("cpu_time", &seconds(time));
    }
    let numbers = [
        ("nofile", *nofile),
        ("nproc", *nproc),
        ("nice", standing.nice.map(u64::from)),
        ("oom_score_adj", standing.oom_score_adj.map(u64::from)),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            out.key(key, &number.to_string());
        }
    }
}

/// Writes the key, inline: the keys of `[limits.NAME]` go on behind it.
fn disks_keys(out: &mut Writer<'_>, disks: &[DiskLimit]) {
    if disks.is_empty() {
        return;
    }
    let all: Vec<String> = disks.iter().map(disk).collect();
    out.key("io_max", &format!("[{}]", all.join(", ")));
}

fn disk(limit: &DiskLimit) -> String {
    let mut parts = vec![format!("device = {}", path(&limit.device))];
    for (key, bytes) in [("read", limit.read), ("write", limit.write)] {
        parts.extend(bytes.map(|bytes| format!("{key} = {}", toml_string(&amount_text(bytes)))));
    }
    for (key, operations) in [("read_ops", limit.read_ops), ("write_ops", limit.write_ops)] {
        parts.extend(operations.map(|operations| format!("{key} = {operations}")));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// What a profile says otherwise than `[batch]` is written whole: every key of it is in force.
fn batch_keys(out: &mut Writer<'_>, batch: &BatchSettings) {
    out.key("stages", &texts(&batch.stages));
    if let Some(directory) = &batch.scheduler_bin {
        out.key("scheduler_bin", &path(directory));
    }
    out.key("environment", &inline(&batch.environment));
    out.key("arguments_variables", &texts(&batch.arguments_variables));
    out.key("allow_illegal_arguments", &batch.allow_illegal_arguments.to_string());
    out.key("job_prefix", &batch.job_prefix.to_string());
    let rules = &batch.rules;
    out.key("default_arguments", &texts(&rules.default));
    out.key("forced_arguments", &texts(&rules.forced));
    if let Some(most) = rules.most_time {
        out.key("max_time", &seconds(most));
    }
    if let Some(most) = rules.most_nodes {
        out.key("max_nodes", &most.to_string());
    }
    if let Some(most) = rules.most_memory {
        out.key("max_memory", &toml_string(&format!("{most}MiB")));
    }
    for (key, names) in
        [("partitions", &rules.partitions), ("accounts", &rules.accounts), ("qos", &rules.qos)]
    {
        if let Some(names) = names {
            out.key(key, &texts(names));
        }
    }
    out.key("poll_interval", &seconds(batch.poll_interval));
    out.key("nfs_timeout", &seconds(batch.nfs_timeout));
    out.key("grace", &seconds(batch.grace));
}

/// Powers of 1024.
fn size_text(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M")];
    let whole = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{}K", bytes >> 10),
    }
}
