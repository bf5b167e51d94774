//! The run stage: the stage's script by the configured shell, as the user, and what became of it.
//!
//! The shell's environment is built from nothing: the runner's script exports the job's variables itself. The
//! script's failure is told to the runner with its exact number; success is believed only when the script has
//! begun and nobody cancelled it.

use crate::fled::Mark;
use crate::relay::{Loss, Stream};
use crate::script::in_memory;
use crate::supervise::{End, Signals, Supervisor};
use crate::trouble::shown;
use crate::{Patience, Trouble, Verdict, say};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;
use nunbird_handover::{Handover, Untrusted};
use nunbird_sys::process::set_umask;
use nunbird_sys::{job_command, rlimits};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Runs the script.
pub(crate) fn run(
    handover: &Handover,
    stage: &str,
    script: Option<File>,
    exit_code: Option<File>,
    patience: Patience,
) -> Result<Verdict, Trouble> {
    let internal = |what: &'static str| {
        move |e: io::Error| Trouble::new(what, e, "run the job again, or tell the administrators")
    };
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let script = script.ok_or_else(missing).map_err(internal("cannot read the script"))?;
    let signals = Signals::block().map_err(|e| internal("cannot wait for signals")(e.into()))?;
    let memory = in_memory(&script)?;
    drop(script);
    let (begun, tell_begun) = io::pipe().map_err(internal("cannot make a pipe"))?;
    fcntl(&begun, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|e| internal("cannot make a pipe")(e.into()))?;

    enter_directory(handover);
    set_umask(handover.umask.unwrap_or(0o022));
    if let Some(bytes) = handover.site.stack {
        rlimits::set_soft_stack(bytes).map_err(internal("cannot set the limit of the stack"))?;
    }
    let mut child = job_command::spawn(command(handover, stage), &[memory.as_fd(), tell_begun.as_fd()])
        .map_err(|e| not_started(handover, &e))?;
    drop((memory, tell_begun));

    let (out, err) = (io::stdout(), io::stderr());
    let streams = streams(&mut child, out.as_fd(), err.as_fd());
    let (out, err) = streams.map_err(internal("cannot read the job's output"))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let mark = Mark::of(&handover.decision_id);
    let mut supervisor = Supervisor::new(pid, mark.clone(), signals, out, err, patience);
    let end = supervisor.run()?;
    tell_losses(supervisor.losses());
    if end != End::OfItself {
        let left = mark.kill(patience.abandon);
        if left > 0 {
            say(&format!("{left} processes of the job do not end, not even by KILL"));
        }
    }
    if end == End::Abandoned {
        say(
            "the job's processes do not end, not even by KILL; they may wait for a file system that does not answer",
        );
        return Ok(Verdict::BuildFailure);
    }
    let status = child.wait().map_err(internal("cannot tell how the job ended"))?;
    verdict(handover, status, end, has_begun(begun), exit_code)
}

fn command(handover: &Handover, stage: &str) -> Command {
    let shell = &handover.shell;
    let mut command = Command::new(&shell.path);
    if shell.login {
        command.arg("-l");
    }
    let script = format!("/dev/fd/{}", job_command::FIRST_FD);
    command
        .arg("-c")
        .arg(shell_command(stage, &script, shell.login))
        .arg(shell.path.file_name().unwrap_or(OsStr::new("sh")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().envs(environment(handover, stage));
    command
}

/// Keeps what a login shell reads, before the script and after it, out of the script's status.
///
/// Profiles may leave a trap on EXIT or, in bash, on ERR. bash's `exit` reads `~/.bash_logout` in the shell that ends, with the script's
/// `set -e` in force: Debian's and Ubuntu's fails where there is no terminal, and so did every script of an account with it. Therefore `exit`
/// switches `set -e` off, and does nothing where the logout file calls it. Without an argument its status is that of the command before, or,
/// in a trap, that from before the trap (bash(1), `exit`): the subshell passes the first on, and the second is bash's own.
const OWN_STATUS: &str = r#"trap - EXIT; [ -z "${BASH_VERSION-}" ] || { trap - ERR; eval 'exit() {
  local nunbird_status=$?
  case ${BASH_SOURCE[1]-} in */.bash_logout | */bash.bash_logout | */bash_logout) return ;; esac
  set +e
  case $# in
    0) (builtin exit "$nunbird_status") || builtin exit; builtin exit ;;
    *) builtin exit "$@" ;;
  esac
}'; }; "#;

/// What the shell does after its profiles; `script` is a word of the shell, `login` whether it is a login shell. The stages of caches and
/// artifacts call `gitlab-runner` by name and succeed without it; a warning says why nothing was stored.
pub(crate) fn shell_command(stage: &str, script: &str, login: bool) -> String {
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
    format!("{own_status}{check}. {script}")
}

/// The stage's environment: the site's, and who the user is.
pub(crate) fn environment(handover: &Handover, stage: &str) -> Vec<(OsString, OsString)> {
    let Handover { account, environment, .. } = handover;
    let configured = environment.iter().map(|(name, value)| (name.into(), value.into()));
    // Later ones win: what says who the user is comes from the user database.
    let ours: [(&str, OsString); 7] = [
        ("HOME", account.home.clone().into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
        ("NUNBIRD_JOB_ID", handover.job_id.to_string().into()),
        (Mark::VARIABLE, handover.decision_id.clone().into()),
        ("NUNBIRD_STAGE", stage.into()),
    ];
    configured.chain(ours.map(|(name, value)| (name.into(), value))).collect()
}

/// The stage's script changes directory itself; until then profiles run where the user would be.
pub(crate) fn enter_directory(handover: &Handover) {
    let candidates = [&handover.workspace.builds_dir, &handover.account.home];
    if !candidates.into_iter().any(|directory| std::env::set_current_dir(directory).is_ok()) {
        // Where nunbird-auth left us is `/` as well.
        drop(std::env::set_current_dir("/"));
    }
}

fn not_started(handover: &Handover, error: &io::Error) -> Trouble {
    let shell = &handover.shell.path;
    let help = match error.kind() {
        io::ErrorKind::NotFound => {
            "install it on this host, or name another `shell` under [job] of the configuration"
        }
        io::ErrorKind::PermissionDenied => {
            "it must be executable for the job's account; tell the administrators"
        }
        _ => "run the job again; if that does not help, tell the administrators",
    };
    Trouble::at("cannot start the shell", shell, error, help)
}

fn streams<'fd>(
    child: &mut Child,
    out: std::os::fd::BorrowedFd<'fd>,
    err: std::os::fd::BorrowedFd<'fd>,
) -> io::Result<(Stream<'fd>, Stream<'fd>)> {
    let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdout = OwnedFd::from(child.stdout.take().ok_or_else(closed)?);
    let stderr = OwnedFd::from(child.stderr.take().ok_or_else(closed)?);
    Ok((Stream::new(stdout, out)?, Stream::new(stderr, err)?))
}

fn has_begun(mut begun: io::PipeReader) -> bool {
    matches!(begun.read(&mut [0]), Ok(1))
}

fn tell_losses(losses: [Option<Loss>; 2]) {
    for (stream, loss) in ["standard output", "standard error"].into_iter().zip(losses) {
        if let Some(Loss { bytes, cause }) = loss {
            say(&format!("the last {bytes} bytes of the job's {stream} are lost: {cause}"));
        }
    }
}

/// What the runner is told.
fn verdict(
    handover: &Handover,
    status: ExitStatus,
    end: End,
    begun: bool,
    exit_code: Option<File>,
) -> Result<Verdict, Trouble> {
    let code = code(status);
    if !begun && end == End::OfItself {
        let account = Untrusted(&handover.account.name);
        say(&format!(
            "the shell {} ended with {code} before the stage's script began: look at the login profile of \
             {account} for `exit`, for `exec`, and for uses of descriptors 3 and 4",
            shown(&handover.shell.path)
        ));
    }
    match code {
        0 if begun && end == End::OfItself => return Ok(Verdict::Success),
        // A cancelled script may well end with 0, and a profile that replaces the shell ends before it.
        0 => {}
        code => tell_code(exit_code.as_ref(), code)?,
    }
    Ok(Verdict::BuildFailure)
}

/// As a shell counts: 128 and the number of the signal.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The exact number goes into the runner's file, which holds `1` from `nunbird-auth`. It is overwritten before
/// it is cut: the runner takes an empty file for a system failure.
pub(crate) fn tell_code(file: Option<&File>, code: i32) -> Result<(), Trouble> {
    let Some(file) = file else { return Ok(()) };
    let line = format!("{code}\n");
    let written = file.write_all_at(line.as_bytes(), 0).and_then(|()| file.set_len(line.len() as u64));
    written.map_err(|e| {
        let what = format!("cannot tell gitlab-runner the script's exit code {code} in");
        Trouble::at(
            &what,
            Path::new("BUILD_EXIT_CODE_FILE"),
            e,
            "tell the administrators: its file system may be full",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{shell_command, tell_code};
    use std::io::{Read, Seek, Write};

    #[test]
    fn only_stages_that_call_gitlab_runner_look_for_it() {
        for stage in
            ["restore_cache", "download_artifacts", "archive_cache_on_failure", "upload_artifacts_on_success"]
        {
            assert!(shell_command(stage, "x", false).starts_with("command -v gitlab-runner"), "{stage}");
        }
        for stage in ["build_script", "step_release", "after_script", "get_sources", "cleanup_file_variables"]
        {
            assert_eq!(shell_command(stage, "x", false), ". x");
        }
    }

    #[test]
    fn a_shorter_code_leaves_nothing_of_a_longer_one() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"255\n").expect("write");
        tell_code(Some(&file), 7).expect("written");
        file.rewind().expect("rewind");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "7\n");
    }
}
