//! The command line, as gitlab-runner's `*_args` and the sites that write them have it.
//!
//! Flags stand in any position: Jacamar's sites put `-u` before the sub-command and `--configuration` behind
//! it, on every stage or on `config` and `cleanup` alone. gitlab-runner appends the script and the stage.

use nunbird_messages::{Record, Untrusted};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the caller wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Say the version.
    Version,
    /// Say how the program is used.
    Help,
    /// Serve a stage.
    Stage(Call),
}

/// One call by gitlab-runner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) stage: Stage,
    /// `--configuration`.
    pub(crate) configuration: Option<PathBuf>,
    /// `-u`: the whole truth about an error goes to the job log.
    pub(crate) unobfuscated: bool,
}

/// The four programs of the custom executor, and what `nunbirdctl sweep` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Config,
    Prepare,
    Run {
        script: PathBuf,
        stage: String,
    },
    Cleanup,
    /// The clean-up of a job that is over and that its runner has forgotten, by the name of its record.
    Reap(String),
    /// The same for a job that may still run.
    End(String),
    /// The removal of this account's old build directories.
    Tidy(String),
}

impl Stage {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Stage::Config => "config",
            Stage::Prepare => "prepare",
            Stage::Run { .. } => "run",
            Stage::Cleanup => "cleanup",
            Stage::Reap(_) => "reap",
            Stage::End(_) => "end",
            Stage::Tidy(_) => "tidy",
        }
    }
}

pub(crate) const USAGE: &str = "\
nunbird-auth: gitlab-runner's custom executor as the user who started the job

usage: nunbird-auth [flags] config | prepare | run SCRIPT STAGE | cleanup

       nunbird-auth reap RECORD | tidy ACCOUNT    by nunbirdctl sweep alone, as root
       nunbird-auth end RECORD                    by nunbirdctl jobs alone, as root

gitlab-runner calls it; people use nunbirdctl. In config.toml of the runner:

  [runners.custom]
    config_exec = \"/opt/nunbird/bin/nunbird-auth\"
    config_args = [\"config\", \"--configuration\", \"/etc/nunbird/config.toml\"]
    prepare_exec = \"/opt/nunbird/bin/nunbird-auth\"
    prepare_args = [\"prepare\"]
    run_exec = \"/opt/nunbird/bin/nunbird-auth\"
    run_args = [\"run\"]
    cleanup_exec = \"/opt/nunbird/bin/nunbird-auth\"
    cleanup_args = [\"cleanup\"]

flags, in any position:
  --configuration FILE  the site's configuration (/etc/nunbird/config.toml)
  -u, --unobfuscated    show the CI user the whole cause of a refusal
  --version             print the version and exit
  --help                print this and exit
";

/// Reads the arguments without the program's name.
///
/// # Errors
/// One sentence on what is wrong.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let mut words = Vec::new();
    let (mut configuration, mut unobfuscated) = (None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version") => return Ok(Request::Version),
            Some("--help" | "-h") => return Ok(Request::Help),
            Some("-u" | "--unobfuscated") => unobfuscated = true,
            Some("--configuration") => {
                let file = arguments.next().ok_or("--configuration needs a file")?;
                set_once(&mut configuration, file)?;
            }
            Some(flag) if flag.starts_with("--configuration=") => {
                // Not trim_start_matches: it would take the flag away twice.
                let file = flag.strip_prefix("--configuration=").unwrap_or_default();
                set_once(&mut configuration, file.into())?;
            }
            Some(flag) if flag.starts_with('-') && words.first().is_none_or(|w| w != "run") => {
                return Err(format!("unknown flag `{}`", Untrusted(flag)));
            }
            _ => words.push(argument),
        }
    }
    let stage = stage(words)?;
    Ok(Request::Stage(Call { stage, configuration: configuration.map(PathBuf::from), unobfuscated }))
}

fn set_once(slot: &mut Option<OsString>, file: OsString) -> Result<(), String> {
    if file.is_empty() {
        return Err("--configuration needs a file".to_owned());
    }
    match slot.replace(file) {
        None => Ok(()),
        Some(_) => Err("--configuration stands twice".to_owned()),
    }
}

fn stage(words: Vec<OsString>) -> Result<Stage, String> {
    let mut words = words.into_iter();
    let name = words.next().ok_or("no stage is given: config, prepare, run or cleanup")?;
    let stage = match name.to_str() {
        Some("config") => Stage::Config,
        Some("prepare") => Stage::Prepare,
        Some("cleanup") => Stage::Cleanup,
        Some("reap") => {
            let record = words.next().ok_or("`reap` needs the name of a record")?;
            Stage::Reap(record_name(&record)?)
        }
        Some("end") => {
            let record = words.next().ok_or("`end` needs the name of a record")?;
            Stage::End(record_name(&record)?)
        }
        Some("tidy") => {
            let account = words.next().ok_or("`tidy` needs the name of an account")?;
            let name = account.to_str().filter(|name| account_name(name));
            let unknown = || format!("`{}` is no name of an account", Untrusted(&account.to_string_lossy()));
            Stage::Tidy(name.ok_or_else(unknown)?.to_owned())
        }
        Some("run") => {
            let script =
                words.next().ok_or("`run` needs a script and a stage; gitlab-runner appends both")?;
            let stage =
                words.next().ok_or("`run` needs a stage behind the script; gitlab-runner appends it")?;
            Stage::Run { script: script.into(), stage: stage_name(&stage)? }
        }
        _ => return Err(format!("unknown stage `{}`", Untrusted(&name.to_string_lossy()))),
    };
    match words.next() {
        None => Ok(stage),
        Some(extra) => Err(format!("unexpected argument `{}`", Untrusted(&extra.to_string_lossy()))),
    }
}

/// A name in the portable form (systemd.io/USER_NAMES); the user database and the policy decide.
fn account_name(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    first && name.len() <= 32 && name.bytes().all(rest)
}

/// As [`Record`] names files: `<uid>-<device>-<inode>.record` or `orphan-<decision>.record`.
fn record_name(name: &OsString) -> Result<String, String> {
    let shape = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    match name.to_str() {
        Some(text)
            if text.len() <= 64
                && text
                    .strip_suffix(Record::SUFFIX)
                    .map(|stem| stem.strip_prefix(Record::ORPHAN).unwrap_or(stem))
                    .is_some_and(|stem| !stem.is_empty() && stem.bytes().all(shape)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{}` is no name of a record", Untrusted(&name.to_string_lossy()))),
    }
}

/// gitlab-runner's names of stages: `build_script`, `step_release`, `upload_artifacts_on_success`, …
fn stage_name(name: &OsString) -> Result<String, String> {
    let shape = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match name.to_str() {
        Some(text) if !text.is_empty() && text.len() <= 128 && text.bytes().all(shape) => Ok(text.to_owned()),
        _ => Err(format!("`{}` is no name of a stage", Untrusted(&name.to_string_lossy()))),
    }
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
