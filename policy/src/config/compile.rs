//! From the file's keys to a [`Policy`]: every value checked, every default filled, every finding kept.

use super::raw::{self, OneOrMany};
use super::{
    Accounts, Algorithm, Audit, AuthorizedProjects, Condition, Directories, Downscope, GitLabServer,
    IdentitySettings, Job, Outcome, Policy, Rule, RunAs,
};
use crate::account::check_name;
use crate::duration::Seconds;
use crate::url::check_url;
use crate::{DEFAULT_AUDIT_FILE, DEFAULT_KEYS_DIR, DEFAULT_LAUNCHER, Diagnostic, Pattern, Place};
use nunbird_handover::Isolation;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Spanned;

const DEFAULT_TOKEN_VARIABLES: [&str; 3] = ["SITE_ID_TOKEN", "NUNBIRD_ID_TOKEN", "CI_JOB_JWT"];
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const HOUR: u64 = 3600;

/// Collects findings while values are converted; a finding's default stands in until the end.
struct Compiler<'a> {
    file: &'a Path,
    text: &'a str,
    findings: Vec<Diagnostic>,
}

pub(super) fn policy(file: &Path, text: &str, raw: raw::File) -> Result<Policy, Vec<Diagnostic>> {
    let mut c = Compiler { file, text, findings: Vec::new() };
    let downscope = match raw.downscope {
        Some(raw::Downscope::None) => Downscope::None,
        Some(raw::Downscope::Setuid) | None => Downscope::Setuid,
    };
    let policy = Policy {
        file: file.to_path_buf(),
        downscope,
        keys_dir: c.path(raw.keys_dir, DEFAULT_KEYS_DIR),
        gitlab: c.servers(raw.gitlab),
        identity: c.identity(raw.identity),
        accounts: c.accounts(raw.accounts),
        directories: c.directories(raw.directories),
        job: c.job(raw.job),
        audit: c.audit(raw.audit, downscope),
        validation: None,
        authorized_projects: AuthorizedProjects::Off,
        rules: c.rules(raw.rule),
    };
    if c.findings.is_empty() {
        return Ok(policy);
    }
    c.findings.sort_by_key(|f| (f.place.line, f.place.column));
    Err(c.findings)
}

impl Compiler<'_> {
    fn find(&mut self, offset: usize, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::at(self.file, self.text, offset, message, Some(help.into())));
    }

    fn servers(&mut self, raw: Vec<Spanned<raw::GitLab>>) -> Vec<GitLabServer> {
        if raw.is_empty() {
            self.find(
                0,
                "no GitLab server is configured",
                "add a `[[gitlab]]` table with `name`, `url` and `audience`",
            );
        }
        let mut names = BTreeSet::new();
        raw.into_iter()
            .map(|entry| {
                let server = entry.into_inner();
                let name = server.name.get_ref().clone();
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) || name.starts_with('-') {
                    let help = "use lower-case letters, digits and `-`; it names the keys file";
                    self.find(server.name.span().start, "this is no name for a server", help);
                }
                if !names.insert(name.clone()) {
                    self.find(
                        server.name.span().start,
                        "two servers have this name",
                        "give each server its own name",
                    );
                }
                let url = self.url(&server.url);
                GitLabServer {
                    name,
                    issuer: server.issuer.map_or_else(|| url.clone(), |i| i.into_inner()),
                    url,
                    audience: self.audience(server.audience),
                    ca_file: server.ca_file.map(|path| self.path(Some(path), "/")),
                    algorithms: self.algorithms(server.algorithms),
                    runner_ids: server.runner_ids,
                    keys_max_age: self.seconds(server.keys_max_age, 30 * 24 * HOUR, HOUR..=3650 * 24 * HOUR),
                }
            })
            .collect()
    }

    fn url(&mut self, url: &Spanned<String>) -> String {
        let text = url.get_ref().trim_end_matches('/');
        if let Err(help) = check_url(text) {
            self.find(url.span().start, "this is no URL of a GitLab server", help);
        }
        text.to_owned()
    }

    fn audience(&mut self, audience: Spanned<OneOrMany<String>>) -> Vec<String> {
        let start = audience.span().start;
        let values = audience.into_inner().into_vec();
        if values.is_empty() || values.iter().any(String::is_empty) {
            self.find(
                start,
                "a server without an audience accepts nobody",
                "name the `aud` of the jobs' `id_tokens:`",
            );
        }
        values
    }

    fn algorithms(&mut self, raw: Option<Spanned<Vec<raw::Algorithm>>>) -> Vec<Algorithm> {
        let Some(raw) = raw else { return vec![Algorithm::Rs256] };
        if raw.get_ref().is_empty() {
            self.find(
                raw.span().start,
                "a server without an algorithm accepts nobody",
                "GitLab signs with `RS256`",
            );
        }
        let convert = |a: raw::Algorithm| match a {
            raw::Algorithm::Rs256 => Algorithm::Rs256,
            raw::Algorithm::Es256 => Algorithm::Es256,
            raw::Algorithm::Es384 => Algorithm::Es384,
        };
        raw.into_inner().into_iter().map(convert).collect()
    }

    fn identity(&mut self, raw: raw::Identity) -> IdentitySettings {
        let token_variables = match raw.token_variables {
            None => DEFAULT_TOKEN_VARIABLES.map(str::to_owned).to_vec(),
            Some(names) => {
                let ok =
                    |n: &String| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if names.get_ref().is_empty() || !names.get_ref().iter().all(ok) {
                    let help =
                        "list the names used under `id_tokens:` in .gitlab-ci.yml: letters, digits and `_`";
                    self.find(names.span().start, "these are no names of id tokens", help);
                }
                names.into_inner()
            }
        };
        IdentitySettings {
            token_variables,
            clock_skew: self.seconds(raw.clock_skew, 60, 0..=300),
            late_stages: self.seconds(raw.late_stages, HOUR / 4, 0..=HOUR),
        }
    }

    fn accounts(&mut self, raw: raw::Accounts) -> Accounts {
        let min_uid = raw.min_uid.map_or(1000, |min_uid| {
            if *min_uid.get_ref() < 100 {
                let help = "uids below 100 belong to the system; sites start at 500 or 1000";
                self.find(min_uid.span().start, "`min_uid` lets system accounts run jobs", help);
            }
            min_uid.into_inner()
        });
        Accounts { min_uid, deny: raw.deny, allow_bots: raw.allow_bots }
    }

    fn directories(&mut self, raw: raw::Directories) -> Directories {
        let Some(data_dir) = raw.data_dir else {
            return Directories { data_dir: "$HOME/.nunbird".to_owned() };
        };
        let text = data_dir.get_ref();
        let plain = text.replace("$HOME", "").replace("$USER", "");
        let absolute = text.starts_with('/') || text == "$HOME" || text.starts_with("$HOME/");
        let shared = !text.contains("$HOME") && !text.contains("$USER");
        if !absolute || plain.contains('$') || has_dots(text) || plain.contains(['"', '`', '\\', '\n', '\0'])
        {
            let help = "write an absolute path; `$HOME` and `$USER` stand for the account's";
            self.find(data_dir.span().start, "this is no data directory", help);
        } else if shared {
            let help = "put `$USER` or `$HOME` into the path, so that each account has its own";
            self.find(data_dir.span().start, "all accounts would share this directory", help);
        }
        Directories { data_dir: data_dir.into_inner() }
    }

    fn job(&mut self, raw: raw::Job) -> Job {
        let mut environment = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        for (key, value) in raw.environment {
            self.variable(&key, &value);
            environment.insert(key.into_inner(), value.into_inner());
        }
        let isolation = Isolation {
            no_new_privileges: raw.no_new_privileges,
            block_tty_injection: self.filter(raw.block_tty_injection, raw.no_new_privileges),
            limit_setuid: self.filter(raw.limit_setuid, raw.no_new_privileges),
        };
        Job {
            isolation,
            launcher: self.path(raw.launcher, DEFAULT_LAUNCHER),
            shell: self.path(raw.shell, "/bin/bash"),
            login_shell: raw.login_shell.unwrap_or(true),
            environment,
        }
    }

    /// The kernel takes a filter from a process without privilege only together with no_new_privs (seccomp(2)).
    fn filter(&mut self, wanted: Option<Spanned<bool>>, no_new_privileges: bool) -> bool {
        let Some(wanted) = wanted else { return false };
        if *wanted.get_ref() && !no_new_privileges {
            let help = "add `no_new_privileges = true`; setuid programs (sudo, ping, fusermount) are then inert in jobs";
            self.find(wanted.span().start, "a filter of system calls needs no_new_privileges", help);
        }
        wanted.into_inner()
    }

    fn variable(&mut self, key: &Spanned<String>, value: &Spanned<String>) {
        let name = key.get_ref();
        let start = key.span().start;
        let shape = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(shape) || name.starts_with(|c: char| c.is_ascii_digit()) {
            self.find(start, "this is no name of a variable", "use letters, digits and `_`");
        } else if ["HOME", "USER", "LOGNAME", "SHELL"].contains(&name.as_str()) {
            self.find(start, "this variable comes from the account", "remove the line");
        } else if name.starts_with("LD_")
            || ["BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PS4"].contains(&name.as_str())
        {
            self.find(
                start,
                "this variable changes how programs are loaded or scripts are read",
                "remove the line",
            );
        }
        if value.get_ref().contains('\0') {
            self.find(value.span().start, "a variable cannot hold a NUL character", "remove it");
        }
    }

    fn audit(&mut self, raw: raw::Audit, downscope: Downscope) -> Audit {
        let default = (downscope == Downscope::Setuid).then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
        let file = raw.file.map(|file| self.path(Some(file), "/")).or(default);
        Audit { file, required: true, ..Audit::default() }
    }

    fn rules(&mut self, raw: Vec<Spanned<raw::Rule>>) -> Vec<Rule> {
        if raw.is_empty() {
            let help = "add a `[[rule]]` with `name` and `run_as`; without one every job is denied";
            self.find(0, "there is no rule", help);
        }
        let mut names = BTreeSet::new();
        raw.into_iter()
            .filter_map(|entry| {
                let start = entry.span().start;
                let rule = entry.into_inner();
                let name_at = rule.name.span().start;
                let name = rule.name.into_inner();
                if name.is_empty()
                    || name.len() > 64
                    || name.chars().any(nunbird_handover::Untrusted::is_deceptive)
                {
                    self.find(name_at, "this is no name for a rule", "use 1 to 64 printable characters");
                }
                if !names.insert(name.clone()) {
                    self.find(name_at, "two rules have this name", "give each rule its own name");
                }
                let outcome = self.outcome(start, rule.run_as, rule.deny)?;
                let place = Place::of(self.file, self.text, start);
                Some(Rule { name, place, conditions: self.conditions(rule.when), outcome })
            })
            .collect()
    }

    fn outcome(
        &mut self,
        start: usize,
        run_as: Option<Spanned<String>>,
        deny: Option<Spanned<String>>,
    ) -> Option<Outcome> {
        match (run_as, deny) {
            (Some(run_as), None) if run_as.get_ref() == "$user_login" => {
                Some(Outcome::RunAs(RunAs::UserLogin))
            }
            (Some(run_as), None) => {
                if let Err(violation) = check_name(run_as.get_ref()) {
                    let help = "write the name of a local account, or `$user_login` for the GitLab login";
                    self.find(
                        run_as.span().start,
                        format!("no job can run as this account: {violation}"),
                        help,
                    );
                }
                Some(Outcome::RunAs(RunAs::Account(run_as.into_inner())))
            }
            (None, Some(deny)) => Some(Outcome::Deny(deny.into_inner())),
            (Some(_), Some(deny)) => {
                self.find(
                    deny.span().start,
                    "a rule cannot both run and deny a job",
                    "keep `run_as` or `deny`",
                );
                None
            }
            (None, None) => {
                self.find(
                    start,
                    "this rule has no outcome",
                    "add `run_as = \"$user_login\"` or `deny = \"why\"`",
                );
                None
            }
        }
    }

    fn conditions(&mut self, when: raw::When) -> Vec<Condition> {
        let mut all = Vec::new();
        all.extend(when.server.map(|v| Condition::Server(self.patterns(v))));
        all.extend(when.project.map(|v| Condition::Project(self.patterns(v))));
        all.extend(when.namespace.map(|v| Condition::Namespace(self.patterns(v))));
        all.extend(when.user.map(|v| Condition::User(self.patterns(v))));
        all.extend(when.user_id.map(|v| Condition::UserId(self.numbers(v))));
        all.extend(when.git_ref.map(|v| Condition::Ref(self.patterns(v))));
        all.extend(when.ref_protected.map(Condition::RefProtected));
        all.extend(when.pipeline_source.map(|v| Condition::PipelineSource(self.patterns(v))));
        all.extend(when.environment.map(|v| Condition::Environment(self.patterns(v))));
        all.extend(when.runner_id.map(|v| Condition::RunnerId(self.numbers(v))));
        all
    }

    fn patterns(&mut self, raw: Spanned<OneOrMany<String>>) -> Vec<Pattern> {
        let start = raw.span().start;
        let sources = raw.into_inner().into_vec();
        if sources.is_empty() {
            self.find(start, "an empty list matches nothing", "name a value, or remove the condition");
        }
        let mut patterns = Vec::new();
        for source in sources {
            match Pattern::new(&source) {
                Ok(pattern) => patterns.push(pattern),
                Err(help) => self.find(start, format!("`{source}` is no pattern"), help),
            }
        }
        patterns
    }

    fn numbers(&mut self, raw: Spanned<OneOrMany<u64>>) -> Vec<u64> {
        let start = raw.span().start;
        let numbers = raw.into_inner().into_vec();
        if numbers.is_empty() {
            self.find(start, "an empty list matches nothing", "name a value, or remove the condition");
        }
        numbers
    }

    fn path(&mut self, raw: Option<Spanned<String>>, default: &str) -> PathBuf {
        let Some(path) = raw else { return PathBuf::from(default) };
        let text = path.get_ref();
        if !text.starts_with('/') || text.contains('\0') || has_dots(text) {
            self.find(path.span().start, "this is no absolute path", "start with `/`, without `.` and `..`");
        }
        PathBuf::from(path.into_inner())
    }

    fn seconds(
        &mut self,
        raw: Option<Spanned<String>>,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(raw) = raw else { return default };
        match Seconds::parse(raw.get_ref()) {
            Some(Seconds(n)) if range.contains(&n) => n,
            _ => {
                let help = format!(
                    "write a number with `s`, `m`, `h` or `d`, from {} to {}",
                    Seconds(*range.start()),
                    Seconds(*range.end())
                );
                self.find(raw.span().start, "this is no duration for this key", help);
                default
            }
        }
    }
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
