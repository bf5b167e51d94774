//! `nunbirdctl runner-config`: what gitlab-runner's `config.toml` needs for a configuration, or whether an existing one has it.

use crate::arguments::RunnerConfig;
use crate::finding::Finding;
use crate::output::{CtlError, Format, INVALID, OK, print, print_json};
use crate::runner_config::STAGES;
use crate::runner_timeouts::Timeouts;
use crate::{check, files, programs, runner_config};
use nunbird_handover::Untrusted;
use nunbird_policy::{Policy, toml_string};

use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn run(options: &RunnerConfig, format: Format) -> Result<u8, CtlError> {
    let policy = files::read(&options.configuration.configuration, format)?.policy;
    match &options.check {
        Some(file) => inspect(&policy, file, options.strict, format),
        None => {
            let text = table(&policy);
            match format {
                Format::Text => print(&text)?,
                Format::Json => print_json(&json!({ "toml": text }))?,
            }
            Ok(OK)
        }
    }
}

fn inspect(policy: &Policy, file: &Path, strict: bool, format: Format) -> Result<u8, CtlError> {
    // A file that cannot be read has no findings: `doctor` goes on without it, this command has nothing else.
    let text = files::text(file)?;
    let file = files::named(file);
    let mut findings = Vec::new();
    runner_config::inspect_text(policy, file, &text, &mut findings);
    // For `doctor`, another file may have the runners; here there is no other.
    let judged = |found: Finding| if found.code() == "no-runner" { found.into_error() } else { found };
    let findings: Vec<Finding> = findings.into_iter().map(judged).collect();
    let errors = findings.iter().filter(|finding| finding.is_error() || strict).count();
    match format {
        Format::Text => {
            let mut shown: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
            shown.push_str(&format!(
                "{}: {}, {}\n",
                Untrusted(&file.to_string_lossy()),
                check::counted(errors, "error"),
                check::counted(findings.len() - errors, "remark")
            ));
            print(&shown)?;
        }
        Format::Json => {
            let all: Vec<Value> = findings.iter().map(Finding::machine).collect();
            print_json(&json!({ "valid": errors == 0, "findings": all }))?;
        }
    }
    Ok(if errors == 0 { OK } else { INVALID })
}

/// The part of `config.toml`, each line with its reason.
pub(crate) fn table(policy: &Policy) -> String {
    let file = std::path::absolute(&policy.file).unwrap_or_else(|_| policy.file.clone());
    let file = file.to_string_lossy();
    let mut out = Lines::default();
    out.note(&format!("For gitlab-runner's config.toml, by the configuration {}.", Untrusted(&file)));
    out.note(
        "`gitlab-runner register --executor custom` writes the table with URL and token, and in it an empty",
    );
    out.note("[runners.custom], which this one replaces.");
    out.note("A stopped runner waits so long for its jobs and their cleanup: above the two kill timeouts together.");
    out.note("Set TimeoutStopSec= of its unit above it.");
    out.key("", "shutdown_timeout", &Timeouts::of(policy).shutdown.to_string());
    let url = policy.gitlab.first().map_or("https://gitlab.example.org", |server| server.url.as_str());
    out.text + &runner(policy, url, "hpc", "glrt-…")
}

/// One `[[runners]]`.
pub(crate) fn runner(policy: &Policy, url: &str, name: &str, token: &str) -> String {
    let timeouts = Timeouts::of(policy);
    let auth = toml_string(&programs::auth(policy).to_string_lossy());
    let file = std::path::absolute(&policy.file).unwrap_or_else(|_| policy.file.clone());
    let file = file.to_string_lossy();
    let mut out = Lines::default();
    out.text.push_str("\n[[runners]]\n");
    out.line("  ", "name", &toml_string(name), "shown in GitLab, and in findings");
    out.line("  ", "url", &toml_string(url), "the server of the jobs: one of the configuration's [[gitlab]]");
    out.line("  ", "token", &toml_string(token), "from `gitlab-runner register`");
    out.line("  ", "executor", &toml_string("custom"), "the executor that calls Nunbird");
    out.text.push_str("  # No builds_dir and no cache_dir: Nunbird answers with directories of each job.\n");
    out.text.push_str("  [runners.custom]\n");
    for stage in STAGES {
        let what = match stage {
            "config" => "decides on the job, and gives its directories",
            "prepare" => "makes the directories; pulls the job's image",
            "run" => "runs one script of the job as its user",
            _ => "ends what is left of the job, and removes its files",
        };
        out.line("    ", &format!("{stage}_exec"), &auth, what);
        let (args, what) = if stage == "config" {
            (
                format!("[\"{stage}\", \"--configuration\", {}]", toml_string(&file)),
                "the stages below get the decision of this one, and need no file",
            )
        } else {
            let what = match stage {
                "run" => "the runner appends the path of the script and its stage",
                _ => "the job's record says which configuration decided",
            };
            (format!("[\"{stage}\"]"), what)
        };
        out.line("    ", &format!("{stage}_args"), &args, what);
        if let Some(timeout) = timeouts.stages.iter().find(|timeout| timeout.key.starts_with(stage)) {
            let why = format!("seconds: {}", timeout.why(policy));
            out.line("    ", timeout.key, &timeout.fitting.to_string(), &why);
        }
    }
    let why = if timeouts.batch {
        "seconds: a batch scheduler may take three minutes to end a cancelled job"
    } else {
        "seconds: the launcher gives the processes of a cancelled job 25"
    };
    out.line("    ", "graceful_kill_timeout", &timeouts.graceful.to_string(), why);
    let why = "seconds after KILL; both together below the five minutes of a cancelled job";
    out.line("    ", "force_kill_timeout", &timeouts.force.to_string(), why);
    out.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn note(&mut self, text: &str) {
        self.text.push_str(&format!("# {text}\n"));
    }

    fn key(&mut self, indent: &str, key: &str, value: &str) {
        self.text.push_str(&format!("{indent}{key} = {value}\n"));
    }

    /// A key, and above it what it is for.
    fn line(&mut self, indent: &str, key: &str, value: &str, why: &str) {
        if !why.is_empty() {
            self.text.push_str(&format!("{indent}# {why}\n"));
        }
        self.key(indent, key, value);
    }
}
