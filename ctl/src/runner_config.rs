//! gitlab-runner's `config.toml`: whether each of its runners that uses Nunbird calls it correctly
//! in every stage.
//!
//! The keys are those of `[runners.custom]`
//! (docs.gitlab.com/runner/configuration/advanced-configuration). The file contains the runners'
//! tokens: only paths, names and numbers are ever copied from it into a finding.
//!
//! `doctor`, `adopt` and `runner-config --check` use it; `runner-config` prints what it accepts.

use crate::files;
use crate::finding::Finding;
use crate::programs;
use crate::runner_timeouts::Timeouts;
use nunbird_policy::{DEFAULT_CONFIGURATION, Policy};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The stages, as the runner's keys and Nunbird's arguments name them.
pub(crate) const STAGES: [&str; 4] = ["config", "prepare", "run", "cleanup"];
/// Seconds that the launcher gives the processes of a cancelled job.
const LAUNCHER_GRACE: u64 = 25;
/// Total seconds that gitlab-runner gives a cancelled job; then it kills what is left.
const RUNNER_CANCEL_TIME: u64 = 300;
/// gitlab-runner's defaults, if the keys are not set or 0 (executors/custom/command).
const DEFAULT_GRACEFUL: u64 = 600;
const DEFAULT_FORCE: u64 = 10;
/// Seconds after which a stopped runner exits, whatever its jobs do (config.toml,
/// `shutdown_timeout`).
const DEFAULT_SHUTDOWN: u64 = 30;
/// Seconds of them that `cleanup` takes at most, if nothing delays it.
const CLEANUP: u64 = 15;
/// gitlab-runner's default for the timeouts of config, prepare and cleanup.
const DEFAULT_STAGE: u64 = 3600;

/// What the runner's configuration states about the whole service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// The number of concurrent jobs: the key `concurrent`, 1 if it is unknown.
    pub(crate) concurrent: u64,
    /// Seconds that a stopped runner waits for its jobs.
    pub(crate) shutdown: u64,
}

const UNKNOWN: Service = Service { concurrent: 1, shutdown: DEFAULT_SHUTDOWN };

/// Inspects the file, and returns what matters for the service's unit.
pub(crate) fn inspect(policy: &Policy, file: &Path, findings: &mut Vec<Finding>) -> Service {
    match files::regular(file).and_then(utf8) {
        Ok(text) => inspect_text(policy, file, &text, findings),
        Err(e) => {
            let help = "name gitlab-runner's config.toml with --runner-config";
            findings.push(Finding::unseen("runner-config", file, &e, help));
            UNKNOWN
        }
    }
}

fn utf8(bytes: Vec<u8>) -> std::io::Result<String> {
    String::from_utf8(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
}

/// As [`inspect`], of a text that the file may not have yet.
pub(crate) fn inspect_text(policy: &Policy, file: &Path, text: &str, findings: &mut Vec<Finding>) -> Service {
    let shown = file.display();
    if let Ok(meta) = file.metadata()
        && meta.mode() & 0o044 != 0
    {
        findings.push(Finding::remark(
            "runner-token",
            format!("{shown}: others may read the runners' tokens (mode {:04o})", meta.mode() & 0o7777),
            "chmod go-rwx",
        ));
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(e) => {
            let found =
                Finding::error("runner-config", format!("not valid TOML: {}", e.message()), "correct it");
            findings.push(found.at(place(file, text, e.span().map_or(0, |span| span.start))));
            return UNKNOWN;
        }
    };
    let mut used = 0;
    let whole = Whole { file, text, table: &table };
    if let Some(DeValue::Array(runners)) = table.get("runners").map(|value| value.get_ref()) {
        for runner in runners.iter() {
            let DeValue::Table(keys) = runner.get_ref() else { continue };
            used += usize::from(one(policy, &whole, keys, runner.span().start, findings));
        }
    }
    if used == 0 {
        let message = format!("{shown}: no runner calls {}", programs::auth(policy).display());
        findings.push(Finding::remark("no-runner", message, "the admin guide lists the needed settings"));
    }
    Service { concurrent: positive(&table, "concurrent").unwrap_or(1), shutdown: whole.shutdown() }
}

/// Every program that one of the runners calls for a stage; empty if the file cannot be read.
pub(crate) fn programs(file: &Path) -> Vec<PathBuf> {
    let text = files::regular(file).and_then(utf8).unwrap_or_default();
    let Ok(table) = DeTable::parse(&text) else { return Vec::new() };
    let Some(DeValue::Array(runners)) = table.get_ref().get("runners").map(|value| value.get_ref()) else {
        return Vec::new();
    };
    let custom = runners.iter().filter_map(|runner| match runner.get_ref().get("custom")?.get_ref() {
        DeValue::Table(custom) => Some(custom),
        _ => None,
    });
    let named = custom.flat_map(|custom| STAGES.map(|stage| text_of(custom, &format!("{stage}_exec"))));
    named.flatten().map(PathBuf::from).collect()
}

/// An integer above 0.
fn positive(table: &DeTable<'_>, key: &str) -> Option<u64> {
    match table.get(key).map(|value| value.get_ref()) {
        Some(DeValue::Integer(number)) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| *n > 0)
        }
        _ => None,
    }
}

/// `FILE:LINE:COLUMN` of a byte, columns in characters.
fn place(file: &Path, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{}:{line}:{column}", file.display())
}

/// The file.
struct Whole<'t> {
    file: &'t Path,
    text: &'t str,
    table: &'t DeTable<'t>,
}

impl Whole<'_> {
    fn shutdown(&self) -> u64 {
        positive(self.table, "shutdown_timeout").unwrap_or(DEFAULT_SHUTDOWN)
    }
}

/// One runner of it, and where its findings go.
struct Runner<'t, 'f> {
    whole: &'t Whole<'t>,
    name: &'t str,
    keys: &'t DeTable<'t>,
    custom: &'t DeTable<'t>,
    /// The place of its head.
    start: usize,
    findings: &'f mut Vec<Finding>,
}

impl Runner<'_, '_> {
    /// A finding about a key of this runner or of the whole file: at its value, or at the runner's head if it is not set.
    fn say(&mut self, error: bool, code: &'static str, key: &str, message: &str, help: &str) {
        let value = [self.custom, self.keys, self.whole.table].into_iter().find_map(|table| table.get(key));
        let offset = value.map_or(self.start, |value| match value.get_ref() {
            // A table is where its head is, and an empty one nowhere.
            DeValue::Table(_) => self.start,
            _ => value.span().start,
        });
        let made = if error { Finding::error } else { Finding::remark };
        let message = format!("runner `{}`: {message}", self.name);
        self.findings.push(made(code, message, help.to_owned()).at(place(
            self.whole.file,
            self.whole.text,
            offset,
        )));
    }
}

/// Inspects one `[[runners]]`. Returns whether it uses Nunbird.
fn one(
    policy: &Policy,
    whole: &Whole<'_>,
    keys: &DeTable<'_>,
    start: usize,
    findings: &mut Vec<Finding>,
) -> bool {
    let Some(DeValue::Table(custom)) = keys.get("custom").map(|value| value.get_ref()) else {
        return false;
    };
    let named = |stage: &str| text_of(custom, &format!("{stage}_exec"));
    let ours = |path: &str| Path::new(path).file_name().is_some_and(|name| name == "nunbird-auth");
    if !STAGES.iter().any(|stage| named(stage).is_some_and(ours)) {
        return false;
    }
    let name = text_of(keys, "name").unwrap_or("without a name");
    let mut runner = Runner { whole, name, keys, custom, start, findings };
    if text_of(keys, "executor") != Some("custom") {
        runner.say(
            true,
            "runner-executor",
            "executor",
            "its executor is not `custom`",
            "executor = \"custom\"",
        );
    }
    if let Some(url) = text_of(keys, "url")
        && !policy.gitlab.iter().any(|server| server.url.trim_end_matches('/') == url.trim_end_matches('/'))
    {
        let message = format!("no [[gitlab]] of the configuration has its url {url}");
        let help = "add the server, unless the runner reaches it by another name";
        runner.say(false, "runner-server", "url", &message, help);
    }
    for stage in STAGES {
        match program(policy, stage, named(stage)) {
            Ok(()) => {}
            Err((message, help)) => {
                runner.say(true, "runner-stage", &format!("{stage}_exec"), &message, &help);
            }
        }
        let key = format!("{stage}_args");
        match Arguments::read(custom, stage) {
            Ok(arguments) => {
                arguments.judge(policy, stage, &mut |error, code, message, help| {
                    runner.say(error, code, &key, &message, help);
                });
            }
            Err(message) => {
                let help = format!("{stage}_args = [\"{stage}\"]");
                runner.say(true, "runner-stage", &key, &message, &help);
            }
        }
    }
    check_timeouts(policy, &mut runner);
    if is_boot_verified(keys) {
        let message = "experimental.boot_verify is on, but its canary job has no user: it is \
                       refused, and the runner exits";
        let help = "remove [runners.experimental.boot_verify]";
        runner.say(true, "runner-boot-verify", "experimental", message, help);
    }
    true
}

fn program(policy: &Policy, stage: &str, named: Option<&str>) -> Result<(), (String, String)> {
    let auth = programs::auth(policy);
    let help = || format!("{stage}_exec = \"{}\"", auth.display());
    match named {
        None => Err((format!("{stage}_exec is not set"), help())),
        Some(path) if Path::new(path) == auth => Ok(()),
        Some(path) => Err((format!("{stage}_exec is {path}, not the installed nunbird-auth"), help())),
    }
}

/// What `nunbird-auth` would read from `*_args`.
struct Arguments {
    words: Vec<String>,
    configuration: Option<String>,
    unobfuscated: bool,
}

impl Arguments {
    fn read(custom: &DeTable<'_>, stage: &str) -> Result<Arguments, String> {
        let key = format!("{stage}_args");
        let wrong = || format!("{key} is not an array of strings");
        let all: Vec<String> = match custom.get(key.as_str()).map(|value| value.get_ref()) {
            None => Vec::new(),
            Some(DeValue::Array(array)) => {
                let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
                array.iter().map(|value| text(value.get_ref())).collect::<Option<_>>().ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        let mut read = Arguments { words: Vec::new(), configuration: None, unobfuscated: false };
        let mut all = all.into_iter();
        while let Some(word) = all.next() {
            match word.as_str() {
                "-u" | "--unobfuscated" => read.unobfuscated = true,
                "--configuration" => {
                    read.configuration = Some(all.next().ok_or("--configuration needs a file")?);
                }
                _ => match word.strip_prefix("--configuration=") {
                    Some(file) => read.configuration = Some(file.to_owned()),
                    None => read.words.push(word),
                },
            }
        }
        Ok(read)
    }

    fn judge(&self, policy: &Policy, stage: &str, say: &mut impl FnMut(bool, &'static str, String, &str)) {
        if self.words != [stage] {
            let words = self.words.join(" ");
            let message = format!("{stage}_args are `{words}`, not `{stage}` alone");
            say(true, "runner-stage", message, &format!("{stage}_args = [\"{stage}\"]"));
        }
        // The later stages use the record of the stage that decided.
        let configured = std::path::absolute(&policy.file).unwrap_or_else(|_| policy.file.clone());
        let implied = (stage == "config").then_some(DEFAULT_CONFIGURATION);
        if let Some(named) = self.configuration.as_deref().or(implied)
            && Path::new(named) != configured
        {
            let message = format!("{stage} reads {named}, but this is {}", configured.display());
            say(false, "runner-other", message, "name the intended file with --configuration");
        }
        if self.unobfuscated {
            let message = format!("{stage}_args have -u, so CI users see the full cause of a refusal");
            say(false, "runner-unobfuscated", message, "remove it when you have finished testing");
        }
    }
}

/// gitlab-runner from 19.2 on: a job of the runner's own before all others.
fn is_boot_verified(runner: &DeTable<'_>) -> bool {
    let verify =
        table_of(runner, "experimental").and_then(|experimental| table_of(experimental, "boot_verify"));
    let enabled = verify.and_then(|verify| verify.get("enabled")).map(|value| value.get_ref());
    matches!(enabled, Some(DeValue::Boolean(true)))
}

fn table_of<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
    match table.get(key)?.get_ref() {
        DeValue::Table(below) => Some(below),
        _ => None,
    }
}

/// Whether a cancelled job has the time that its launcher needs, a stage the time that the policy gives
/// its parts, and a stopped runner the time for its jobs and their cleanup: when its time is over it
/// exits, and leaves records, credentials and temporary files of the others.
fn check_timeouts(policy: &Policy, runner: &mut Runner<'_, '_>) {
    let (custom, shutdown) = (runner.custom, runner.whole.shutdown());
    let mut say = |key: &str, message: String, help: String| {
        runner.say(false, "runner-patience", key, &message, &help);
    };
    let seconds = |key: &str, default| positive(custom, key).unwrap_or(default);
    let fitting = Timeouts::of(policy);
    let graceful = seconds("graceful_kill_timeout", DEFAULT_GRACEFUL);
    let force = seconds("force_kill_timeout", DEFAULT_FORCE);
    let jobs = graceful.saturating_add(force);
    if graceful <= LAUNCHER_GRACE {
        let message =
            format!("graceful_kill_timeout is {graceful} s, but the launcher needs up to {LAUNCHER_GRACE} s");
        say("graceful_kill_timeout", message, format!("graceful_kill_timeout = {}", fitting.graceful));
    }
    if jobs >= RUNNER_CANCEL_TIME {
        let message = format!(
            "graceful_kill_timeout and force_kill_timeout are {graceful} s and {force} s; a \
             cancelled job has {RUNNER_CANCEL_TIME} s in total"
        );
        let help = format!(
            "graceful_kill_timeout = {} and force_kill_timeout = {}",
            fitting.graceful, fitting.force
        );
        say("graceful_kill_timeout", message, help);
    }
    if shutdown < jobs.saturating_add(CLEANUP) {
        let message = format!(
            "shutdown_timeout is {shutdown} s; when the runner is stopped, a job may take {jobs} \
             s to end, and its cleanup follows"
        );
        say("shutdown_timeout", message, format!("shutdown_timeout = {}", jobs.saturating_add(50)));
    }
    for stage in fitting.stages {
        let set = seconds(stage.key, DEFAULT_STAGE);
        if set < stage.least {
            let message = format!("{} is {set} s, but {}", stage.key, stage.why(policy));
            say(stage.key, message, format!("{} = {}", stage.key, stage.fitting));
        }
    }
}

fn text_of<'t>(table: &'t DeTable<'_>, key: &str) -> Option<&'t str> {
    table.get(key).and_then(|value| value.get_ref().as_str())
}
