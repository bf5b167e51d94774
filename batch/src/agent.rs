//! The agent: a POSIX shell script, generated for one submission, that the scheduler runs in place
//! of the stage's script.
//!
//! The scheduler copies the agent into its own spool, so the agent holds no secret. The stage's
//! script does; it stays in the account's private directory until the agent removes it.

use super::session_variables::of_host;
use super::words::{is_name, quoted};
use nunbird_handover::{Batch, Handover};
use nunbird_stage::shell::{environment, shell_command};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const TEMPLATE: &str = include_str!("agent.sh");
/// Prepended to the script's first line, so that line numbers do not change: reports that the
/// script has begun.
pub(crate) const BEGIN: &[u8] = b"printf s >&4; exec 4>&-; ";

/// For a scheduler that signals only the first process of a job. timeout(1) from GNU coreutils
/// passes HUP, INT, QUIT and TERM on to its process group. The shell cannot: a command that it
/// starts with `&`, which it needs to stay free for traps, ignores INT and QUIT for its lifetime
/// (POSIX, 2.11).
const FORWARD: &str = r#"
case $1 in
  forwarded) ;;
  *) timeout 0 true 2>/dev/null && exec timeout 0 /bin/sh "$0" forwarded ;;
esac
"#;

/// Names of environment variables inside the job.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgentVariables {
    pub(crate) id: Option<String>,
    pub(crate) nodes: Option<String>,
    /// Prefix of the name of the job's control group; the id follows.
    pub(crate) cgroup: Option<String>,
    /// Whether the scheduler interprets exit codes other than 0 and 1, for instance as "run it
    /// again".
    pub(crate) plain_exit: bool,
    /// Whether the scheduler signals only the job's first process, so that the agent has to forward
    /// signals.
    pub(crate) signals_first_process: bool,
}

/// The agent's text for the stage whose files are in `directory`; `contained` is the script that puts
/// the job's container around the stage.
pub(crate) fn text(
    handover: &Handover,
    batch: &Batch,
    stage: &str,
    directory: &Path,
    nonce: &str,
    variables: &AgentVariables,
    contained: Option<&Path>,
) -> Vec<u8> {
    let mut exports = String::new();
    let of_host: BTreeMap<&str, &str> = of_host(handover, batch).collect();
    for (name, value) in &of_host {
        if is_name(name.as_bytes()) {
            // Some schedulers pass the environment of their commands on to the job; others set the
            // same names anew.
            let value = quoted(OsStr::new(value));
            writeln!(exports, "[ \"${{{name}-}}\" != {value} ] || unset {name}").unwrap_or_default();
        }
    }
    let environment = environment(handover, stage);
    for (name, value) in environment
        .into_iter()
        .filter(|(name, _)| !name.to_str().is_some_and(|name| of_host.contains_key(name)))
    {
        // A name that is not a shell identifier cannot be exported, although execve(2) would have
        // passed it on.
        if is_name(name.as_bytes()) {
            let name = name.to_string_lossy();
            writeln!(exports, "export {name}={}", quoted(&value)).unwrap_or_default();
        }
    }
    let variable = |name: &Option<String>| match name {
        Some(name) if is_name(name.as_bytes()) => format!("${{{name}-}}"),
        _ => "''".to_owned(),
    };
    let cgroup = match &variables.cgroup {
        Some(beginning) => format!("{}\"$job\"", quoted(OsStr::new(beginning))),
        None => "''".to_owned(),
    };
    let exit = if variables.plain_exit { "[ \"$code\" = 0 ] || exit 1" } else { "exit \"$code\"" };
    let values = [
        ("@DIRECTORY@", quoted(directory.as_os_str())),
        ("@JOB@", variable(&variables.id)),
        ("@HOSTS@", variable(&variables.nodes)),
        ("@NONCE@", nonce.to_owned()),
        ("@WORK@", quoted(handover.workspace.builds_dir.as_os_str())),
        (
            "@SHELL@",
            match contained {
                Some(outer) => format!("/bin/sh {} once", quoted(outer.as_os_str())),
                None => shell(handover, stage, directory),
            },
        ),
        (
            "@INPUT@",
            match contained {
                Some(_) => quoted(directory.join("script").as_os_str()),
                None => "/dev/null".to_owned(),
            },
        ),
        (
            "@RESULT@",
            match contained {
                Some(_) => "no; [ -n \"$mark\" ] && result=yes",
                None => "yes",
            }
            .to_owned(),
        ),
        ("@CGROUP@", cgroup),
        // These come from the session, not from the scheduler, whose daemons have an environment of
        // their own.
        ("@UMASK@", format!("{:04o}", handover.umask.unwrap_or(0o022) & 0o777)),
        ("@EXIT@", exit.to_owned()),
        ("@FORWARD@", if variables.signals_first_process { FORWARD } else { "" }.to_owned()),
        ("@EXPORTS@", exports),
    ];
    let mut text = TEMPLATE.to_owned();
    // The exports are substituted last, so that nothing in a value is taken for a placeholder.
    for (name, value) in values {
        text = text.replace(name, &value);
    }
    text.into_bytes()
}

fn shell(handover: &Handover, stage: &str, directory: &Path) -> String {
    let shell = &handover.shell;
    let name = shell.path.file_name().unwrap_or(OsStr::new("sh"));
    let script = format!(". {}", quoted(directory.join("script").as_os_str()));
    let command = shell_command(stage, &script, shell.login);
    let login = if shell.login { "-l " } else { "" };
    format!("{} {login}-c {} {}", quoted(shell.path.as_os_str()), quoted(OsStr::new(&command)), quoted(name))
}
