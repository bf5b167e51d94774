//! What the shell of a stage runs, in which directory and in which environment.

use nunbird_handover::Handover;
use std::ffi::OsString;

/// The variable whose value, the decision id, marks each process of a job.
pub const MARK: &str = "NUNBIRD_DECISION_ID";

/// Prevents files that a login shell reads, before the script and after it, from changing the
/// script's exit status.
///
/// Profiles may leave a trap on EXIT or, in bash, on ERR. bash's `exit` reads `~/.bash_logout` in
/// the exiting shell, where the script's `set -e` still applies: the logout file of Debian and
/// Ubuntu fails without a terminal, and with it failed every script of an account that has it.
/// Therefore `exit` switches `set -e` off, and does nothing if the logout file calls it. Without an
/// argument its status is that of the command before or, in a trap, that from before the trap
/// (bash(1), `exit`): the subshell passes the first on, and bash handles the second.
const OWN_STATUS: &str = r#"trap - EXIT; [ -z "${BASH_VERSION-}" ] || { trap - ERR; eval 'exit() {
  local nunbird_status=$?
  case ${BASH_SOURCE[1]-} in */.bash_logout | */bash.bash_logout | */bash_logout) return ;; esac
  set +e
  case $# in
    0) (builtin exit "$nunbird_status") || builtin exit; builtin exit ;;
    *) builtin exit "$@" ;;
  esac
}'; }; "#;

/// What the shell does after its profiles; `script` is the command that runs the script, `login` is
/// set for a login shell. The stages of caches and artifacts call `gitlab-runner` by name and succeed without
/// it, so a warning explains why nothing was stored.
pub fn shell_command(stage: &str, script: &str, login: bool) -> String {
    let needs_runner = matches!(stage, "restore_cache" | "download_artifacts")
        || stage.starts_with("archive_cache")
        || stage.starts_with("upload_artifacts");
    let check = if needs_runner {
        "command -v gitlab-runner >/dev/null 2>&1 || printf '%s\\n' \
         \"nunbird: warning: no program gitlab-runner on the PATH of this job ($PATH): caches and artifacts may be \
         missing. Ask the administrators to add its directory to PATH in the configuration's [job.environment], \
         or set PATH in your login profile.\" >&2; "
    } else {
        ""
    };
    let own_status = if login { OWN_STATUS } else { "" };
    format!("{own_status}{check}{script}")
}

/// The stage's environment: the site's variables, and the variables that identify the user.
pub fn environment(handover: &Handover, stage: &str) -> Vec<(OsString, OsString)> {
    let Handover { account, environment, .. } = handover;
    let configured = environment.iter().map(|(name, value)| (name.into(), value.into()));
    // Later ones win: the variables that identify the user come from the user database.
    let ours: [(&str, OsString); 7] = [
        ("HOME", account.home.clone().into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
        ("NUNBIRD_JOB_ID", handover.job_id.to_string().into()),
        (MARK, handover.decision_id.clone().into()),
        ("NUNBIRD_STAGE", stage.into()),
    ];
    configured.chain(ours.map(|(name, value)| (name.into(), value))).collect()
}

/// The stage's script changes directory itself; until then, profiles run in the home directory.
pub fn enter_directory(handover: &Handover) {
    let candidates = [&handover.workspace.builds_dir, &handover.account.home];
    if !candidates.into_iter().any(|directory| std::env::set_current_dir(directory).is_ok()) {
        // nunbird-auth left this process in `/` as well.
        drop(std::env::set_current_dir("/"));
    }
}

#[cfg(test)]
mod tests {
    use super::shell_command;

    #[test]
    fn only_stages_that_call_gitlab_runner_look_for_it() {
        for stage in
            ["restore_cache", "download_artifacts", "archive_cache_on_failure", "upload_artifacts_on_success"]
        {
            assert!(shell_command(stage, "x", false).starts_with("command -v gitlab-runner"), "{stage}");
        }
        for stage in ["build_script", "step_release", "after_script", "get_sources", "cleanup_file_variables"]
        {
            assert_eq!(shell_command(stage, ". x", false), ". x");
        }
    }
}
